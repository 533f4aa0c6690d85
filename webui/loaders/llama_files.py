"""Which GGUF files today's llama.cpp opens, judged from the header; shared by the loaders built on it.

Only what is surely refused is listed. The engine learns new architectures and tokenizers every week, so a name that is
unknown here is given a try, and the engine's own answer counts.
"""

from __future__ import annotations

import sys

from webui.errors import UnsupportedArchitecture, UnsupportedQuantization
from webui.loaders.contract import Verdict
from webui.models.facts import ModelFacts, ModelFormat

NOT_GENERATORS = frozenset(
    {
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "eurobert",
        "jina-bert-v2",
        "jina-bert-v3",
        "gemma-embedding",
        "t5encoder",
        "clip",
        "wavtokenizer-dec",
        "whisper",
    }
)
"""Architectures that embed, classify, see or hear, and do not continue a text."""

ENCODER_DECODERS = frozenset({"t5"})

REMOVED_TYPES = frozenset(
    {"Q4_2", "Q4_3", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8"}
)
"""Tensor types llama.cpp once wrote and no longer reads (it now repacks while loading)."""

LEAST_ALIGNMENT = 32
"""The engine computes with the file's bytes in place, and ends the process where they begin elsewhere."""


def judge_gguf(facts: ModelFacts) -> Verdict:
    """Whether llama.cpp can open the file and continue text with it, with the reason in one sentence."""
    if facts.format is not ModelFormat.GGUF:
        return Verdict(False, f"llama.cpp opens GGUF files, and this is a {facts.format.value} model.")
    if facts.gguf_version == 1:
        return Verdict(False, "llama.cpp no longer reads version 1 of GGUF.")
    if facts.byte_order is not None and facts.byte_order != sys.byteorder:
        return Verdict(False, f"The file is {facts.byte_order}-endian and this machine is {sys.byteorder}-endian.")
    alignment = facts.metadata.get("general.alignment", LEAST_ALIGNMENT)
    if isinstance(alignment, int) and alignment < LEAST_ALIGNMENT:
        return Verdict(False, f"The file's tensors are aligned to {alignment} bytes, and llama.cpp needs 32.")
    if (refused := judge_task(facts, NOT_GENERATORS, ENCODER_DECODERS)) is not None:
        return refused
    removed = sorted(REMOVED_TYPES.intersection(facts.tensor_types))
    if removed:
        reason = f"llama.cpp no longer reads the quantisation {removed[0]}."
        return Verdict(False, reason, error=UnsupportedQuantization)
    return Verdict(True, "llama.cpp opens this file as it is.")


def judge_task(facts: ModelFacts, others: frozenset[str], encoder_decoders: frozenset[str]) -> Verdict | None:
    """Refuses an architecture that is none of a model which goes on with a text: one of `others`, or one with an
    encoder.
    """
    name = facts.architecture
    if name in others:
        return Verdict(False, f"A {name} model does not generate text.", error=UnsupportedArchitecture)
    if name in encoder_decoders:
        reason = f"{name} is an encoder-decoder model, which this loader does not run."
        return Verdict(False, reason, error=UnsupportedArchitecture)
    return None
