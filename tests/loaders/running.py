"""What tests of several loaders need: facts of a file, a collected reply, a conversation of two turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webui.loaders.contract import Chunk, Finished
from webui.models.facts import ModelFacts, ModelFormat

TWO_TURNS = (
    "<|im_start|>user\nTell me about the sea.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|>\n<|im_start|>user\nAnd the wind?<|im_end|>\n<|im_start|>assistant\n",
)


def gguf_facts(path: Path, kind: ModelFormat = ModelFormat.GGUF) -> ModelFacts:
    """Just enough facts for a loader; the starter model's where they matter."""
    return ModelFacts(
        path=path,
        format=kind,
        files=(path,),
        file_bytes=path.stat().st_size if path.exists() else 0,
        name=path.stem,
        architecture="llama",
        block_count=30,
        context_length=8192,
        tokenizer="gpt2",
        add_bos_token=False,
        metadata={"tokenizer.ggml.bos_token_id": 1},
    )


@dataclass(frozen=True)
class Collected:
    """A whole reply: its text, the tokens its chunks counted, and how it ended."""

    text: str
    tokens: int
    finished: Finished


def collect(events: Iterator[Chunk | Finished]) -> Collected:
    *chunks, finished = events
    assert isinstance(finished, Finished)
    parts = [chunk for chunk in chunks if isinstance(chunk, Chunk)]
    assert len(parts) == len(chunks), "Finished comes last and once"
    return Collected("".join(part.text for part in parts), sum(part.tokens for part in parts), finished)
