"""Which files the ctransformers engine opens, judged from the header: it ends the process on many that it does not."""

from __future__ import annotations

from typing import Literal, get_args

from webui.errors import UnsupportedArchitecture, UnsupportedQuantization, UnsupportedTokenizer
from webui.loaders.contract import Verdict
from webui.models.facts import ModelFacts, ModelFormat

GgmlType = Literal["auto", "llama", "falcon", "gpt2", "gptj", "gpt_neox", "dolly-v2", "mpt", "replit", "starcoder"]
"""What the package calls the architectures it knows as GGML files; "auto" is our word for the file's own."""

GGML_TYPES = frozenset(get_args(GgmlType)) - {"auto"}
GGUF_ARCHITECTURES = frozenset({"llama", "falcon"})
TENSOR_TYPES = frozenset({"F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"})


def judge(facts: ModelFacts) -> Verdict:
    """Whether the engine can open the file, with the reason in one sentence."""
    if facts.format is ModelFormat.GGML:
        return Verdict(True, "ctransformers opens GGML files of before August 2023.")
    if facts.format is not ModelFormat.GGUF:
        return Verdict(False, f"ctransformers opens GGUF and GGML files, and this is a {facts.format.value} model.")
    return _against(facts) or Verdict(True, "ctransformers opens this file as it is.")


def _against(facts: ModelFacts) -> Verdict | None:
    """Why a GGUF file cannot be opened, or None."""
    if len(facts.files) > 1:
        return Verdict(False, "ctransformers is older than models in several files.")
    if facts.byte_order == "big":
        return Verdict(False, "ctransformers reads little-endian files only.")
    if facts.architecture not in GGUF_ARCHITECTURES:
        known = " and ".join(sorted(GGUF_ARCHITECTURES))
        reason = f"ctransformers knows {known} models as GGUF, and this is {facts.architecture or 'unknown'}."
        return Verdict(False, reason, error=UnsupportedArchitecture)
    if facts.expert_count:
        reason = "ctransformers is older than models made of experts."
        return Verdict(False, reason, error=UnsupportedArchitecture)
    if facts.tokenizer != "llama":
        kind = "BPE" if facts.tokenizer == "gpt2" else facts.tokenizer or "unknown"
        reason = f"ctransformers knows only SentencePiece tokenizers, and this model has a {kind} tokenizer."
        return Verdict(False, reason, error=UnsupportedTokenizer)
    unknown = sorted(set(facts.tensor_types) - TENSOR_TYPES)
    if unknown:
        reason = f"ctransformers does not know the quantisation {unknown[0]}."
        return Verdict(False, reason, error=UnsupportedQuantization)
    return None
