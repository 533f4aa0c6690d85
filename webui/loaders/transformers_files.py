"""Which models the transformers backend opens, judged from their facts."""

from __future__ import annotations

from webui.loaders.contract import Verdict
from webui.models.facts import ModelFacts, ModelFormat

GGUF_ARCHITECTURES = frozenset(
    {
        "bloom",
        "falcon",
        "gemma2",
        "gemma3",
        "gemma4",
        "gpt-oss",
        "gpt2",
        "lfm2",
        "llama",
        "mamba",
        "minimax-m2",
        "mistral",
        "nemotron",
        "phi3",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "stablelm",
        "starcoder2",
    }
)
"""GGUF architectures that transformers 5.23 rebuilds and that continue text, by their names in the file."""

NOT_GENERATORS = frozenset({"bert", "roberta", "distilbert", "xlm-roberta", "deberta-v2", "clip", "vit", "whisper"})
ENCODER_DECODERS = frozenset({"t5", "umt5", "mt5", "bart", "mbart", "marian", "pegasus", "m2m_100"})
QUANTIZER_PACKAGES = {
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "eetq": "eetq",
    "hqq": "hqq",
    "torchao": "torchao",
}
"""The package that a directory's own `quantization_config.quant_method` needs."""


def judge(facts: ModelFacts) -> Verdict:
    """Whether transformers can open the model, with the reason in one sentence."""
    if facts.format is ModelFormat.TRANSFORMERS:
        return _judge_directory(facts)
    if facts.format is not ModelFormat.GGUF:
        return Verdict(False, f"transformers opens model directories and GGUF files, and this is {facts.format.value}.")
    reason = _against_gguf(facts)
    if reason:
        return Verdict(False, reason)
    return Verdict(True, "transformers opens it by unpacking its weights, slower and in more memory.", converts=True)


def _judge_directory(facts: ModelFacts) -> Verdict:
    if facts.architecture in NOT_GENERATORS:
        return Verdict(False, f"A {facts.architecture} model does not generate text.")
    if facts.architecture in ENCODER_DECODERS:
        return Verdict(False, f"{facts.architecture} is an encoder-decoder model, which this loader does not run.")
    if only_pickled(facts):
        return Verdict(True, "transformers opens it if pickled weights are allowed among its controls.")
    return Verdict(True, "transformers opens this directory as it is.")


def only_pickled(facts: ModelFacts) -> bool:
    """Whether all weights are pickle files, which can run code when they are opened."""
    return bool(facts.files) and all(file.suffix in (".bin", ".pt", ".pth") for file in facts.files)


def _against_gguf(facts: ModelFacts) -> str | None:
    """Why a GGUF file cannot be opened, or None."""
    if len(facts.files) > 1:
        return "transformers does not open GGUF models in several files."
    if facts.gguf_version == 1:
        return "transformers does not read version 1 of GGUF."
    if facts.byte_order == "big":
        return "transformers reads little-endian GGUF files only."
    if facts.architecture not in GGUF_ARCHITECTURES:
        return f"transformers cannot rebuild a {facts.architecture or 'nameless'} model from GGUF."
    if facts.architecture == "llama" and facts.expert_count:
        return "transformers cannot rebuild llama models made of experts from GGUF."
    unknown = sorted(name for name in facts.tensor_types if name.startswith("TYPE_"))
    if unknown:
        return f"transformers does not know the quantisation {unknown[0]}."
    return None
