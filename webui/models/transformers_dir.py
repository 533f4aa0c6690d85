"""A model directory as transformers saves it: `config.json`, a tokenizer and safetensors weights.

Reads the configuration and the headers of the weights, never a tensor. Directories with only pickled weights
(`pytorch_model.bin`) are described as far as their configuration goes; whether to open them is the loader's decision.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from webui.errors import CorruptFile, UnsupportedFormat
from webui.models.documents import parse_object, read_object
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.labels import label
from webui.models.weights import WeightBytes, gather

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
PICKLED_INDEX = "pytorch_model.bin.index.json"
LONGEST_HEADER = 64 << 20
KEPT_KEYS = frozenset({"_name_or_path", "auto_map", "architectures", "model_type", "quantization_config", "dtype"})


def is_transformers_dir(path: Path) -> bool:
    """Whether `path` holds a configuration and weights. Folders of GGUF files often have the configuration alone."""
    return (path / CONFIG).is_file() and any(
        file.suffix == ".safetensors" or file.name in (INDEX, PICKLED_INDEX) or file.match("pytorch_model*.bin")
        for file in path.iterdir()
    )


def transformers_facts(path: Path) -> ModelFacts:
    """Facts of the directory `path`; raises `CorruptFile` or `UnsupportedFormat`."""
    config = read_object(path / CONFIG)
    # A model that also sees or hears keeps the language model's sizes one level down.
    nested = config.get("text_config")
    sizes: Mapping[str, Any] = {**config, **nested} if isinstance(nested, dict) else config
    weights = _weights(path)
    tensor_types, elements, places = _safetensors_totals(weights)
    tokenizer = _optional(path / "tokenizer_config.json")
    packed = isinstance(config.get("quantization_config"), dict)
    return ModelFacts(
        path=path,
        format=ModelFormat.TRANSFORMERS,
        files=weights,
        file_bytes=sum(file.stat().st_size for file in weights),
        name=path.name or path.resolve().name,
        architecture=label(config.get("model_type")),
        quantization=_quantization(config, tensor_types),
        # Packed formats keep several weights in one stored number: their count is not in the header.
        parameter_count=None if packed else elements,
        block_count=_integer(sizes, "num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        context_length=_integer(sizes, "max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"),
        embedding_length=_integer(sizes, "hidden_size", "n_embd", "d_model"),
        head_count=_integer(sizes, "num_attention_heads", "n_head", "n_heads"),
        head_count_kv=_integer(sizes, "num_key_value_heads", "num_attention_heads", "n_head", "n_heads"),
        key_length=_integer(sizes, "head_dim"),
        value_length=_integer(sizes, "head_dim"),
        expert_count=_integer(sizes, "num_local_experts", "num_experts", "n_routed_experts"),
        vocabulary_size=_integer(sizes, "vocab_size"),
        tokenizer=label(tokenizer.get("tokenizer_class")),
        chat_template=_chat_template(path, tokenizer),
        bos_token=_token(tokenizer.get("bos_token")),
        eos_token=_token(tokenizer.get("eos_token")),
        add_bos_token=tokenizer["add_bos_token"] if isinstance(tokenizer.get("add_bos_token"), bool) else None,
        tensor_bytes=sum(tensor_types.values()) if tensor_types else None,
        tensor_types=dict(tensor_types),
        weights=places,
        metadata={key: value for key, value in config.items() if _is_scalar(value) or key in KEPT_KEYS},
    )


def _weights(path: Path) -> tuple[Path, ...]:
    """The weight files, in order: those an index names, else all safetensors, else pickled ones."""
    for index, single in ((INDEX, "*.safetensors"), (PICKLED_INDEX, "pytorch_model*.bin")):
        if (path / index).is_file():
            return _indexed(path / index)
        found = tuple(sorted(path.glob(single)))
        if found:
            return found
    raise UnsupportedFormat(
        f"{path.name} has a config.json and no weights.",
        cause="neither *.safetensors nor pytorch_model*.bin is in the folder",
        hint="Download the weights into the same folder.",
    )


def _indexed(index: Path) -> tuple[Path, ...]:
    mapping = read_object(index).get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise CorruptFile(f"{index.name} names no weight files.")
    names = sorted({str(name) for name in mapping.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CorruptFile(f"{index.name} names files outside its folder.", cause=outside[0][:200])
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CorruptFile(
            f"{len(missing)} of the {len(names)} weight files of {index.parent.name} are missing.",
            cause="not found: " + ", ".join(missing[:5]) + (" …" if len(missing) > 5 else ""),
            missing=missing,
        )
    return tuple(index.parent / name for name in names)


def _safetensors_totals(files: tuple[Path, ...]) -> tuple[Counter[str], int | None, WeightBytes | None]:
    """Bytes by dtype, the number of elements, and bytes by layer; nothing is known for pickled weights."""
    types: Counter[str] = Counter()
    if any(file.suffix != ".safetensors" for file in files):
        return types, None, None
    tensors = [tensor for file in files for tensor in _safetensors_header(file)]
    for tensor in tensors:
        types[tensor.dtype] += tensor.bytes
    places = gather((tensor.name, tensor.bytes, tensor.dtype) for tensor in tensors)
    return types, sum(math.prod(tensor.shape) for tensor in tensors), places


class _Tensor(NamedTuple):
    name: str
    dtype: str
    shape: list[int]
    begin: int
    end: int

    @property
    def bytes(self) -> int:
        return self.end - self.begin


def _safetensors_header(path: Path) -> list[_Tensor]:
    """The tensors of one file, all of which must lie within it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size or length > LONGEST_HEADER:
            raise CorruptFile(
                f"{path.name} is damaged or incomplete: its header ends in the middle.",
                cause="the download stopped early, or the header is damaged",
            )
        header = parse_object(file.read(length), label=path.name)
    tensors = [_tensor(name, entry, path) for name, entry in header.items() if name != "__metadata__"]
    needed = 8 + length + max((tensor.end for tensor in tensors), default=0)
    if needed > size:
        raise CorruptFile(
            f"{path.name} is incomplete: its tensors need {needed:,} bytes, the file has {size:,}.",
            cause="the download stopped early, or the header is damaged",
            needed_bytes=needed,
            file_bytes=size,
        )
    return tensors


def _tensor(name: str, entry: Any, path: Path) -> _Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if (
            0 <= begin <= end and all(isinstance(size, int) and size >= 0 for size in shape)
        ):
            return _Tensor(name, dtype, shape, begin, end)
    raise CorruptFile(f"{path.name} is damaged: its entry for {name[:80]!r} cannot be read.")


def _quantization(config: Mapping[str, Any], tensor_types: Mapping[str, int]) -> str | None:
    """The method of a quantised model with its bits, else the dtype most bytes are stored in."""
    packed = config.get("quantization_config")
    if isinstance(packed, dict):
        method = label(packed.get("quant_method"))
        bits = packed.get("bits") or (4 if packed.get("load_in_4bit") else 8 if packed.get("load_in_8bit") else None)
        return f"{method} {bits}-bit" if method and isinstance(bits, int) else method
    dominant = max(tensor_types, key=lambda name: tensor_types[name], default=None)
    return dominant or label(config.get("dtype")) or label(config.get("torch_dtype"))


def _chat_template(path: Path, tokenizer: Mapping[str, Any]) -> str | None:
    """`chat_template.jinja`, else the tokenizer's own, of which there may be several by name."""
    separate = path / "chat_template.jinja"
    if separate.is_file() and separate.stat().st_size < 1 << 20:
        return separate.read_text(encoding="utf-8", errors="replace") or None
    template = tokenizer.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    return _text(template)


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path) if path.is_file() else {}


def _token(value: Any) -> str | None:
    return _text(value.get("content") if isinstance(value, dict) else value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _integer(values: Mapping[str, Any], *names: str) -> int | None:
    """The first of `names` that holds a whole number."""
    for name in names:
        value = values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float, bool))
