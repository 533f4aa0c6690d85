"""The cells in which something happens to the model's file: before it is looked at, before it is loaded, afterwards."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from tests.faults.cells import Cell, Phase
from tests.faults.engine_cells import begun, check_error, check_reply, finish, idle_failed, load_failed, next_message
from tests.faults.resource_cells import SHORT_REPLY
from tests.faults.signal_cells import LONG_REPLY, check_text
from tests.faults.stage import Stage
from webui.errors import AppError
from webui.models.inspect import inspect_model

KEPT_SHARE = 0.6
GGUF_EDITS = {
    "unknown-architecture": (b"general.architecture", 32, b"lemma"),
    "unknown-tokenizer": (b"tokenizer.ggml.model", 32, b"lemma"),
    "unknown-quantization": (b"token_embd.weight", 37, b"\xfa"),
    "missing-tensor": (b"output_norm.weight", 0, b"output_nurm"),
}
"""What is searched, how many bytes behind its beginning something is written over, and what."""
DIRECTORY_EDITS = {
    "unknown-architecture": ("config.json", b'ForCausalLM"], "model_type": "llama"', b'"], "model_type": "lemma"'),
    "unknown-tokenizer": ("tokenizer.json", b'"type": "BPE"', b'"type": "QPE"'),
    "missing-tensor": ("model.safetensors", b"model.embed_tokens.weight", b"model.embed_tukens.weight"),
}
"""In which file what is replaced by what."""
AFTER = "-after-inspection"


async def play(stage: Stage, cell: Cell) -> None:
    """The cell from its first step to the next message."""
    stage.configure()
    path = stage.copy_model(cell.loader)
    if cell.phase in (Phase.LOAD, Phase.SWAP):
        await _before_it_is_loaded(stage, cell, path)
    else:
        await _after_it_is_loaded(stage, cell, path)


async def _before_it_is_loaded(stage: Stage, cell: Cell, path: Path) -> None:
    if cell.phase is Phase.SWAP:
        await stage.load_one_before()
        stage.prober.asking.set()
    inspected = cell.fault.name.endswith(AFTER) or cell.fault.name.startswith("removed")
    facts = inspect_model(path) if inspected else None
    spoil(path, cell.fault.name.removesuffix(AFTER))
    try:
        if facts is None:
            # As the page and the API load: by the path, which is looked at first.
            await stage.context.load_model(path, cell.loader, stage.parameters(cell.loader))
        else:
            await stage.load(cell.loader, facts, stage.parameters(cell.loader))
    except AppError as error:
        stage.prober.asking.clear()
        if facts is not None:
            await load_failed(stage, cell, error)
            return
        check_error(stage, cell.fault, cell.fault.expected(cell.phase), error)
        await (stage.expect_answer() if cell.phase is Phase.SWAP else stage.expect_refusal())
        return
    finally:
        stage.prober.asking.clear()
    stage.problems.append("the load worked")


def weights_of(path: Path) -> Path:
    return path / "model.safetensors" if path.is_dir() else path


def spoil(path: Path, how: str) -> None:
    """Damage the model at `path`, as disks, downloads and people do."""
    weights = weights_of(path)
    if how.startswith("removed"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how.startswith("truncated"):
        os.truncate(weights, int(weights.stat().st_size * KEPT_SHARE))
    elif how == "emptied":
        os.truncate(weights, 0)
    elif how == "bit-flipped":
        _flip_a_bit(weights)
    elif path.is_dir():
        name, old, new = DIRECTORY_EDITS[how]
        text = (path / name).read_bytes()
        assert old in text
        (path / name).write_bytes(text.replace(old, new, 1))
    else:
        old, distance, new = GGUF_EDITS[how]
        content = bytearray(path.read_bytes())
        place = content.index(old) + distance
        content[place : place + len(new)] = new
        path.write_bytes(content)


def _flip_a_bit(weights: Path) -> None:
    """In a length of the header: the number of tensors of a GGUF file, the size of a safetensors file's header."""
    position = 4 if weights.suffix == ".safetensors" else 12
    with weights.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


async def _after_it_is_loaded(stage: Stage, cell: Cell, path: Path) -> None:
    await stage.load(cell.loader, inspect_model(path), stage.parameters(cell.loader))
    if cell.phase is Phase.MID_STREAM:
        await _in_a_reply(stage, cell, path)
    else:
        await stage.expect_answer()
        spoil(path, cell.fault.name)
        _kill_if_wanted(stage, cell)
        await idle_failed(stage, cell, unnoticed=cell.fault.name == "emptied")
    await next_message(stage, cell)


async def _in_a_reply(stage: Stage, cell: Cell, path: Path) -> None:
    reply = SHORT_REPLY if not cell.fault.expected(cell.phase) else LONG_REPLY
    job = await begun(stage, reply)
    before = job.text
    spoil(path, cell.fault.name)
    _kill_if_wanted(stage, cell)
    await finish(stage, job)
    await check_reply(stage, cell, job)
    check_text(stage, job, before)
    stage.expect(bool(job.text), "the partial text is lost")


def _kill_if_wanted(stage: Stage, cell: Cell) -> None:
    pid = stage.pool.status.pid
    if cell.fault.name.endswith("killed") and stage.expect(pid is not None, "there is no worker") and pid is not None:
        os.kill(pid, signal.SIGKILL)
