"""Opening a model with transformers: tokenizer, weights, devices, quantisation, adapters.

Imported in the worker only. Generating is `transformers_generation`'s business.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from webui.errors import CorruptFile, EngineRefused, InvalidSetting, MissingPackage
from webui.loaders.special_tokens import TURN_ENDS
from webui.loaders.transformers_files import LARGE_PARAMETERS, QUANTIZER_PACKAGES
from webui.loaders.transformers_parameters import TransformersParameters, parse_max_memory
from webui.models.facts import ModelFacts, ModelFormat


@dataclass
class OpenModel:
    """A model ready to generate. `ends` are the ids that end a reply, `cache` the kind of KV cache that is possible."""

    model: Any
    tokenizer: Any
    assistant: Any
    cache: str
    ends: frozenset[int]
    device: str
    device_kind: str
    notes: tuple[str, ...]


def open_model(facts: ModelFacts, wanted: TransformersParameters) -> OpenModel:
    """Load everything `wanted` names. Raises our errors for what it can name; transformers' own ones pass through."""
    notes: list[str] = []
    place = _source(facts)
    cache_kind = _cache_kind(wanted, notes)
    with _quick_gguf() if facts.format is ModelFormat.GGUF else nullcontext():
        tokenizer = AutoTokenizer.from_pretrained(
            **place, local_files_only=True, trust_remote_code=wanted.trust_remote_code
        )
        model, account = AutoModelForCausalLM.from_pretrained(
            **place,
            **_options(facts, wanted, notes),
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=wanted.trust_remote_code,
            use_safetensors=None if facts.format is ModelFormat.GGUF else not wanted.allow_pickle or None,
        )
    _require_all_weights(account)
    model.eval()
    if wanted.lora:
        _apply_adapter(model, wanted)
    ends = _reply_ends(model, tokenizer)
    # generate() fills what a request leaves open from here, and a model's own sampling must not slip in.
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends) or None, pad_token_id=min(ends, default=0))
    if wanted.compile:
        _compile(model, wanted, notes)
    device, kind = _device(model)
    return OpenModel(model, tokenizer, _assistant(wanted, model), cache_kind, ends, device, kind, tuple(notes))


def _require_all_weights(account: Mapping[str, Any]) -> None:
    """Refuse a model of which weights are missing: transformers would go on with random numbers in their place."""
    if missing := sorted(account["missing_keys"]):
        raise CorruptFile(
            f"The model's files lack {len(missing)} of its weights.",
            cause=f"there is no {missing[0]}" + (f", {missing[1]} …" if missing[1:] else ""),
        )


def _source(facts: ModelFacts) -> dict[str, Any]:
    if facts.format is ModelFormat.GGUF:
        return {"pretrained_model_name_or_path": str(facts.path.parent), "gguf_file": facts.path.name}
    return {"pretrained_model_name_or_path": str(facts.path)}


def _options(facts: ModelFacts, wanted: TransformersParameters, notes: list[str]) -> dict[str, Any]:
    """Keyword arguments of `from_pretrained` for the weights."""
    gpu = wanted.device_map != "cpu" and _gpu_present()
    options: dict[str, Any] = {"dtype": _dtype(facts, wanted, on_gpu=gpu), "device_map": _device_map(wanted, gpu)}
    if wanted.attention != "auto":
        options["attn_implementation"] = wanted.attention
    if limits := parse_max_memory(wanted.max_memory):
        options["max_memory"] = limits
    if wanted.offload_folder:
        Path(wanted.offload_folder).mkdir(parents=True, exist_ok=True)
        options["offload_folder"] = wanted.offload_folder
        options["offload_buffers"] = wanted.offload_buffers
    if facts.format is ModelFormat.GGUF:
        from transformers.utils.quantization_config import GgufConfig

        options["quantization_config"] = GgufConfig(dequantize=True)
        if wanted.quantization != "none":
            notes.append("The weights are not quantised again: transformers cannot do that to a GGUF file.")
    elif config := _quantization_config(wanted):
        options["quantization_config"] = config
    _require_own_quantizer(facts)
    return options


def _cache_kind(wanted: TransformersParameters, notes: list[str]) -> str:
    """The KV cache as asked for, where its parts are there."""
    if wanted.cache.startswith("offloaded") and not torch.cuda.is_available():
        notes.append("The KV cache is not offloaded: that needs a CUDA GPU.")
        return "static" if wanted.cache.endswith("static") else "dynamic"
    if wanted.cache == "quantized" and importlib.util.find_spec("optimum") is None:
        raise MissingPackage(
            "A quantised KV cache needs the package optimum-quanto, which is not installed.",
            hint="Install it beside transformers, or choose another KV cache.",
            package="optimum-quanto",
        )
    return wanted.cache


def _gpu_present() -> bool:
    return bool(
        torch.cuda.is_available()
        or torch.backends.mps.is_available()
        or (hasattr(torch, "xpu") and torch.xpu.is_available())
    )


def _device_map(wanted: TransformersParameters, gpu: bool) -> Any:
    if not gpu:
        return "cpu"
    if torch.cuda.is_available() or not torch.backends.mps.is_available():
        kind = "cuda" if torch.cuda.is_available() else "xpu"
        return f"{kind}:{wanted.main_gpu}" if wanted.device_map == "single" else wanted.device_map
    return "mps"


def _dtype(facts: ModelFacts, wanted: TransformersParameters, *, on_gpu: bool) -> Any:
    if wanted.dtype != "auto":
        return getattr(torch, wanted.dtype)
    if on_gpu:
        return "auto" if facts.format is ModelFormat.TRANSFORMERS else torch.bfloat16
    return torch.bfloat16 if (facts.parameter_count or 0) > LARGE_PARAMETERS else torch.float32


def _require(package: str, purpose: str) -> None:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        raise MissingPackage(
            f"{purpose} needs the package {package}, which is not installed.",
            hint=f"Install it beside transformers ({sys.executable} -m pip install {package}), or choose otherwise.",
            package=package,
        )


def _require_own_quantizer(facts: ModelFacts) -> None:
    """A directory that was saved quantised needs the package that did it."""
    config = facts.metadata.get("quantization_config")
    method = config.get("quant_method") if isinstance(config, dict) else None
    if method in QUANTIZER_PACKAGES:
        _require(QUANTIZER_PACKAGES[method], f"This model is quantised with {method}, and opening it")


def _quantization_config(wanted: TransformersParameters) -> Any:
    """The configuration of quantising while loading, or None."""
    method, _, width = wanted.quantization.partition("-")
    if method == "none":
        return None
    _require(method, f"Quantising with {method}")
    if method == "bitsandbytes":
        compute = None if wanted.bnb_compute_dtype == "auto" else getattr(torch, wanted.bnb_compute_dtype)
        return transformers.BitsAndBytesConfig(
            load_in_8bit=width == "8bit",
            load_in_4bit=width == "4bit",
            llm_int8_threshold=wanted.bnb_outlier_threshold,
            llm_int8_enable_fp32_cpu_offload=wanted.bnb_cpu_offload,
            bnb_4bit_quant_type=wanted.bnb_4bit_type,
            bnb_4bit_use_double_quant=wanted.bnb_double_quantization,
            bnb_4bit_compute_dtype=compute,
        )
    if method == "torchao":
        from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

        if width == "int8":
            return transformers.TorchAoConfig(Int8WeightOnlyConfig())
        return transformers.TorchAoConfig(Int4WeightOnlyConfig(group_size=wanted.quantization_group_size))
    if not _gpu_present() or wanted.device_map == "cpu":
        raise InvalidSetting("hqq quantises on a GPU only.", hint="Choose torchao or none on the CPU.")
    return transformers.HqqConfig(nbits=int(width.removesuffix("bit")), group_size=wanted.quantization_group_size)


def _apply_adapter(model: Any, wanted: TransformersParameters) -> None:
    _require("peft", "A LoRA adapter")
    if not Path(wanted.lora).is_dir():
        raise InvalidSetting(f"{wanted.lora} is not a folder with a LoRA adapter.")
    model.load_adapter(wanted.lora, adapter_name="adapter")
    for module in model.modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and "adapter" in scaling:
            scaling["adapter"] *= wanted.lora_scale


def _reply_ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a reply: what model and tokenizer name, and the turn ends that the vocabulary has as specials."""
    named = model.generation_config.eos_token_id
    ends = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(ends | {added[text] for text in TURN_ENDS.intersection(added)})


def _assistant(wanted: TransformersParameters, model: Any) -> Any:
    """The draft model, beside the main one's first layers; None for none."""
    if not wanted.assistant_model:
        return None
    folder = Path(wanted.assistant_model)
    if not folder.is_dir():
        raise InvalidSetting(f"{folder} is not a folder with a draft model.")
    assistant = AutoModelForCausalLM.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, dtype=model.dtype, device_map=model.device
    )
    if assistant.config.vocab_size != model.config.vocab_size:
        raise EngineRefused(
            "The draft model has another vocabulary than the model it is to draft for.",
            cause=f"{assistant.config.vocab_size} and {model.config.vocab_size} tokens",
        )
    assistant.generation_config.num_assistant_tokens = wanted.assistant_tokens
    return assistant.eval()


def _compile(model: Any, wanted: TransformersParameters, notes: list[str]) -> None:
    model.forward = torch.compile(model.forward, mode=wanted.compile_mode, dynamic=True)
    notes.append("The model is compiled during the first reply, which is therefore slow.")


def _device(model: Any) -> tuple[str, str]:
    """Where the model is, for a person, and the device kind."""
    placed = getattr(model, "hf_device_map", None) or {"": model.device}
    devices = {str(place) if not isinstance(place, int) else f"cuda:{place}" for place in placed.values()}
    kinds = {name.split(":")[0] for name in devices}
    if kinds <= {"cpu", "disk"}:
        return ("CPU and disk" if "disk" in kinds else "CPU"), "cpu"
    parts = [_name(name) for name in sorted(devices - {"cpu", "disk"})]
    parts += [label for label, kind in (("CPU", "cpu"), ("disk", "disk")) if kind in kinds]
    kind = next(iter(sorted(kinds - {"cpu", "disk"})))
    return " + ".join(parts), "rocm" if kind == "cuda" and torch.version.hip else kind


def _name(device: str) -> str:
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    if device.startswith("xpu"):
        return str(torch.xpu.get_device_name(device))
    return {"mps": "Apple GPU"}.get(device, device)


@contextmanager
def _quick_gguf() -> Iterator[None]:
    """Let transformers do its slow steps with a GGUF once each, while the block lasts.

    It parses the header anew for tokenizer, configuration and weights, which takes seconds for a large vocabulary, and
    builds the table of tensor names anew for each of a model's modules.
    """
    import gguf

    reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = cache(reader), cache(name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, name_map
