"""The ways in which model files are injured: each one a function from a sound file to a damaged one.

Half of them damage bytes, as broken downloads, disks and transfers do. The others write a well-formed file that says
something wrong, as faulty converters and people with bad intent do. All are drawn from a `random.Random`, so that a
seed gives the same file everywhere.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

import gguf

from tests.builders.gguf import architecture_file, split_llama, tiny_llama_bpe, tiny_llama_spm
from tests.builders.gguf_document import ALIGNMENT, ARRAY, SCALARS, STRING, Document, Region, Span, Tensor, parse
from tests.builders.llama import Shape

UINT8, INT8, UINT32, INT32, FLOAT32, BOOL, UINT64 = 0, 1, 4, 5, 6, 7, 10
F32, F16, Q4_K = 0, 1, 12
BLOCK_BYTES = 4096
TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class Source:
    """A sound model file. `parts` are the other files of its set, by name; `name` carries the set's part number."""

    name: str
    data: bytes
    order: str = "<"
    parts: Mapping[str, bytes] = field(default_factory=dict)
    document: Document = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "document", parse(self.data, self.order))

    def spans(self, *regions: Region) -> list[Span]:
        """The fields of `regions`, or all where there are none: later parts of a set have no vocabulary."""
        spans = [span for span in self.document.spans if span.end > span.start]
        return [span for span in spans if span.region in regions] or spans

    def fields(self, *names: str) -> list[Span]:
        """The fields that are called one of `names`, or all, likewise."""
        spans = [span for span in self.document.spans if span.end > span.start and span.region != "data"]
        return [span for span in spans if span.what in names] or spans


@dataclass(frozen=True)
class Case:
    """One damaged model: how it was damaged, and its files by their names. `main` is the one that is opened."""

    number: int
    source: str
    way: str
    files: Mapping[str, bytes]
    main: str

    def __str__(self) -> str:
        return f"number {self.number}, {self.source}, {self.way}"

    def write(self, folder: Path) -> Path:
        """The files alone in `folder`/model; returns what to inspect there."""
        place = folder / "model"
        place.mkdir(parents=True, exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        for name, data in self.files.items():
            (place / name).write_bytes(data)
        return place / self.main


class Maker(Protocol):
    """Makes case after case, each from the seed and its number alone."""

    def case(self, seed: int, number: int) -> Case: ...


class GgufMaker:
    """Damaged GGUF files, alone or in sets: every way in turn, over all sources."""

    def __init__(self, folder: Path) -> None:
        self._sources = sources(folder)

    def case(self, seed: int, number: int) -> Case:
        draw = Random(f"{seed} {number}")
        way = list(WAYS)[number % len(WAYS)]
        source = draw.choice(self._sources)
        data = WAYS[way](source, draw)
        return Case(number, source.name, way, {**source.parts, source.name: data}, source.name)


Mutation = Callable[[Source, Random], bytes]
Edit = Callable[[Document, Random], None]


def sources(folder: Path) -> list[Source]:
    """Small real models of every kind that is told apart anywhere: vocabulary, quantisation, architecture, version,
    byte order, number of files. Most of them run in one engine at least.
    """
    made = {
        "spm-f16.gguf": tiny_llama_spm(folder / "1.gguf"),
        "spm-q8_0.gguf": tiny_llama_spm(folder / "2.gguf", quantization="Q8_0"),
        "spm-q4_0.gguf": tiny_llama_spm(folder / "3.gguf", quantization="Q4_0"),
        "bpe-f32.gguf": tiny_llama_bpe(folder / "4.gguf", quantization="F32"),
        "bpe-q8_0.gguf": tiny_llama_bpe(folder / "5.gguf", quantization="Q8_0"),
        "bpe-q4_0.gguf": tiny_llama_bpe(folder / "6.gguf", quantization="Q4_0"),
        "falcon.gguf": architecture_file(folder / "7.gguf", "falcon"),
        "gemma2.gguf": architecture_file(folder / "8.gguf", "gemma2", tokenizer="llama"),
        "qwen2moe.gguf": architecture_file(folder / "9.gguf", "qwen2moe", quantization="Q6_K", experts=8),
    }
    found = [Source(name, path.read_bytes()) for name, path in made.items()]
    spm, bpe = found[0].document, found[4].document
    found.append(Source("spm-v2.gguf", _as_version(spm, 2)))
    found.append(Source("spm-v1.gguf", _as_version(spm, 1)))
    found.append(Source("qwen2-q8_0.gguf", _as_qwen2(bpe)))
    wide = Shape(width=256, heads=8, heads_kv=4, feed_forward=256)
    found.append(Source("spm-q4_k.gguf", _as_q4_k(tiny_llama_spm(folder / "10.gguf", shape=wide).read_bytes())))
    big = tiny_llama_spm(folder / "11.gguf", endianess=gguf.GGUFEndian.BIG)
    found.append(Source("spm-big-endian.gguf", big.read_bytes(), order=">"))
    parts = {path.name: path.read_bytes() for path in split_llama(folder)}
    found += [
        Source(name, data, parts={other: content for other, content in parts.items() if other != name})
        for name, data in parts.items()
    ]
    return found


def _as_version(document: Document, version: int) -> bytes:
    changed = document.copy()
    changed.version = version
    return changed.build()


def _as_qwen2(document: Document) -> bytes:
    """The same model as qwen2: other keys, and a bias for queries, keys and values."""
    changed = document.copy()
    for entry in changed.entries:
        if entry.key.startswith(b"llama."):
            entry.key = b"qwen2." + entry.key.removeprefix(b"llama.")
    changed.put("general.architecture", STRING, b"qwen2")
    for tensor in document.tensors:
        name = tensor.name.decode()
        if name.endswith(("attn_q.weight", "attn_k.weight", "attn_v.weight")):
            rows = tensor.shape[1]
            changed.tensors.append(Tensor(name.replace(".weight", ".bias").encode(), [rows], F32, len(changed.data)))
            changed.data += bytes(-(-rows * 4 // ALIGNMENT) * ALIGNMENT)
    return changed.build()


def _as_q4_k(data: bytes) -> bytes:
    """All matrices in blocks of 256 whose scales are zero, which every engine computes with."""
    changed = parse(data)
    whole, changed.data = changed.data, b""
    for tensor in changed.tensors:
        elements = math.prod(tensor.shape)
        if len(tensor.shape) == 2:
            blob, tensor.kind = bytes(elements // 256 * 144), Q4_K
        else:
            blob = whole[tensor.offset : tensor.offset + elements * 4]
        tensor.offset = len(changed.data)
        changed.data += blob + bytes(-len(blob) % ALIGNMENT)
    return changed.build()


# --- bytes ------------------------------------------------------------------------------------------------------------


def _bits(*regions: Region) -> Mutation:
    def flip(source: Source, draw: Random) -> bytes:
        spans = source.spans(*regions)
        data = bytearray(source.data)
        for _ in range(draw.choice([1, 1, 2, 8, 64])):
            span = draw.choice(spans)
            data[draw.randrange(span.start, span.end)] ^= 1 << draw.randrange(8)
        return bytes(data)

    return flip


def _header_end(source: Source) -> int:
    return len(source.data) - len(source.document.data)


def cut_anywhere(source: Source, draw: Random) -> bytes:
    return source.data[: draw.randrange(len(source.data))]


def cut_in_header(source: Source, draw: Random) -> bytes:
    return source.data[: draw.randrange(_header_end(source) + 1)]


def cut_at_a_field(source: Source, draw: Random) -> bytes:
    return source.data[: draw.choice(source.document.spans).start]


def insert(source: Source, draw: Random) -> bytes:
    at = draw.randrange(len(source.data) if draw.random() < 0.3 else _header_end(source))
    return source.data[:at] + draw.randbytes(draw.choice([1, 4, 8, 32, 4096])) + source.data[at:]


def _stretch(source: Source, draw: Random) -> tuple[int, int]:
    """A range of bytes, three times in four in the header."""
    end = len(source.data) if draw.random() < 0.25 else _header_end(source)
    start = draw.randrange(end)
    return start, min(start + draw.choice([1, 8, 64, 512, BLOCK_BYTES]), len(source.data))


def double_range(source: Source, draw: Random) -> bytes:
    start, end = _stretch(source, draw)
    return source.data[:end] + source.data[start:end] + source.data[end:]


def remove_range(source: Source, draw: Random) -> bytes:
    start, end = _stretch(source, draw)
    return source.data[:start] + source.data[end:]


def blank_range(source: Source, draw: Random) -> bytes:
    """Zeros or ones where a block was never written."""
    start, end = _stretch(source, draw)
    return source.data[:start] + draw.choice([b"\0", b"\xff"]) * (end - start) + source.data[end:]


def swap_ranges(source: Source, draw: Random) -> bytes:
    one, other = sorted(draw.sample(range(0, len(source.data), BLOCK_BYTES), 2))
    data = source.data
    first, second = data[one : one + BLOCK_BYTES], data[other : other + BLOCK_BYTES]
    return data[:one] + second + data[one + BLOCK_BYTES : other] + first + data[other + BLOCK_BYTES :]


def lines_converted(source: Source, draw: Random) -> bytes:
    """A transfer in text mode."""
    if draw.random() < 0.5:
        return source.data.replace(b"\n", b"\r\n")
    return source.data.decode("utf-8", "replace").encode()


# --- fields -----------------------------------------------------------------------------------------------------------


def _overwrite(*names: str) -> Mutation:
    """Numbers that are lengths, counts or sizes, set to what overflows, wraps or asks for everything."""

    def overwrite(source: Source, draw: Random) -> bytes:
        span = draw.choice(source.fields(*names))
        width = span.end - span.start
        old = int.from_bytes(source.data[span.start : span.end], "little" if source.order == "<" else "big")
        new = draw.choice([0, 1, old + 1, old - 1, old * 2, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, 2**64 - old])
        packed = (new % (1 << 8 * width)).to_bytes(width, "little" if source.order == "<" else "big")
        return source.data[: span.start] + packed + source.data[span.end :]

    return overwrite


def type_tags(source: Source, draw: Random) -> bytes:
    """The type of a value, with its bytes as they were."""
    span = draw.choice(source.fields("value type", "element type"))
    kind = struct.pack(source.order + "I", draw.choice([*range(14), 255, 2**31]))
    return source.data[: span.start] + kind + source.data[span.end :]


def invalid_utf8(source: Source, draw: Random) -> bytes:
    texts = source.fields("key", "text", "item", "tensor name")
    data = bytearray(source.data)
    for _ in range(draw.choice([1, 3, 30])):
        span = draw.choice(texts)
        data[draw.randrange(span.start, span.end)] = draw.choice([0x80, 0xC0, 0xED, 0xFF, 0x00, 0x1B])
    return bytes(data)


def version(source: Source, draw: Random) -> bytes:
    word = struct.pack(source.order + "I", draw.choice([0, 1, 2, 3, 4, 99, 3 << 24, 2**32 - 1]))
    return source.data[:4] + word + source.data[8:]


# --- well-formed and wrong --------------------------------------------------------------------------------------------


def _edited(edit: Edit) -> Mutation:
    def mutate(source: Source, draw: Random) -> bytes:
        document = source.document.copy()
        edit(document, draw)
        return document.build()

    return mutate


def _tokens(document: Document) -> list[Any]:
    """The token texts, to be changed in place; later parts of a set have none, and get an empty list."""
    if document.entry(TOKENS) is None:
        document.put(TOKENS, ARRAY, [], STRING)
    entry = document.entry(TOKENS)
    assert entry is not None
    return entry.value


def _own(document: Document, name: str) -> str:
    return f"{document.architecture}.{name}"


def key_removed(document: Document, draw: Random) -> None:
    document.entries.remove(draw.choice(document.entries))


def key_twice(document: Document, draw: Random) -> None:
    document.entries.insert(draw.randrange(len(document.entries)), draw.choice(document.entries))


def key_order(document: Document, draw: Random) -> None:
    draw.shuffle(document.entries)


def value_type(document: Document, draw: Random) -> None:
    """Another type, written as it should be: a text for a number, a list for a text."""
    entry = draw.choice(document.entries)
    kind = draw.choice([*SCALARS, STRING, ARRAY])
    entry.kind, entry.element = kind, draw.choice([*SCALARS, STRING])
    if kind == STRING:
        entry.value = draw.choice([b"", b"32", b"true", b"\0", b"x" * 5000])
    elif kind == ARRAY:
        one: Any = b"1" if entry.element == STRING else 1
        entry.value = [one] * draw.choice([0, 1, 2, 3, 100])
    else:
        entry.value = 1


def alignment(document: Document, draw: Random) -> None:
    document.put("general.alignment", UINT32, draw.choice([0, 1, 2, 8, 31, 33, 64, 4096, 1 << 20, 2**31, 2**32 - 1]))


def offsets(document: Document, draw: Random) -> None:
    """Tensors that lie on each other, outside the file, or askew."""
    tensor, other = draw.choice(document.tensors), draw.choice(document.tensors)
    new = [0, other.offset, other.offset + 32, tensor.offset + 1, tensor.offset + 32, tensor.offset - 32]
    tensor.offset = draw.choice([*new, len(document.data), len(document.data) - 32, 2**40, 2**63, 2**64 - 32]) % 2**64


def dimensions(document: Document, draw: Random) -> None:
    tensor = draw.choice(document.tensors)
    at = draw.randrange(len(tensor.shape))
    old = tensor.shape[at]
    way = draw.randrange(5)
    if way == 0:
        tensor.shape.reverse()
    elif way == 1:
        tensor.shape.append(draw.choice([0, 1, 2, 2**31]))
    elif way == 2:
        tensor.shape.pop()
    else:
        new = draw.choice([0, 1, 32, old - 1, old - 32, old + 32, old // 2, old * 2, 2**31, 2**40, 2**62, 2**63])
        tensor.shape[at] = new % (2**32 if document.version == 1 else 2**64)


def tensor_type(document: Document, draw: Random) -> None:
    draw.choice(document.tensors).kind = draw.choice([*range(45), 200, 255, 256, 2**31])


def tensor_list(document: Document, draw: Random) -> None:
    """A tensor lost, listed twice, renamed, or in another place of the list."""
    tensor = draw.choice(document.tensors)
    way = draw.randrange(5)
    if way == 0:
        document.tensors.remove(tensor)
    elif way == 1:
        document.tensors.append(tensor)
    elif way == 2:
        tensor.name = draw.choice([b"", b"x" * 64, b"y" * 300, b"blk.-1.attn_q.weight", b"\x1b[2J", b"blk.9.x\0y"])
    elif way == 3:
        one, other = draw.choice(document.tensors), draw.choice(document.tensors)
        one.name, other.name = other.name, one.name
    else:
        draw.shuffle(document.tensors)


def sizes(document: Document, draw: Random) -> None:
    """The numbers an engine takes its dimensions from."""
    name = draw.choice(
        [
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "attention.value_length",
            "attention.sliding_window",
            "expert_count",
            "expert_used_count",
            "vocab_size",
        ]
    )
    value = draw.choice([0, 1, 2, 3, 5, 7, 63, 65, 255, 4096, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1])
    if draw.random() < 0.2:
        document.put(_own(document, name), ARRAY, [value] * draw.choice([0, 1, 2, 3, 600]), UINT32)
    else:
        document.put(_own(document, name), UINT32, value)


def floats(document: Document, draw: Random) -> None:
    """Epsilons and scales that make nonsense of every number."""
    name = draw.choice(
        [
            "attention.layer_norm_rms_epsilon",
            "attention.layer_norm_epsilon",
            "attention.scale",
            "logit_scale",
            "residual_scale",
            "embedding_scale",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "rope.freq_base",
            "rope.scaling.factor",
            "rope.scaling.attn_factor",
        ]
    )
    document.put(_own(document, name), FLOAT32, draw.choice([0.0, -1.0, 1e38, 1e-38, math.nan, math.inf, -math.inf]))


def rope(document: Document, draw: Random) -> None:
    way = draw.randrange(4)
    if way == 0:
        value = draw.choice([0, 1, 3, 15, 17, 32, 1024, 2**31, 2**32 - 1])
        document.put(_own(document, "rope.dimension_count"), UINT32, value)
    elif way == 1:
        kind = draw.choice([b"", b"linear", b"yarn", b"longrope", b"nonsense", b"\xff"])
        document.put(_own(document, "rope.scaling.type"), STRING, kind)
        document.put(_own(document, "rope.scaling.original_context_length"), UINT32, draw.choice([0, 1, 2**32 - 1]))
    elif way == 2:
        document.put(_own(document, "rope.dimension_sections"), ARRAY, [draw.choice([-1, 0, 99])] * 4, INT32)
    else:
        document.put(_own(document, "rope.freq_base"), FLOAT32, draw.choice([0.0, -1.0, math.nan, math.inf, 1e-30]))


def vocabulary_size(document: Document, draw: Random) -> None:
    """More or fewer tokens than rows in the embedding."""
    tokens = _tokens(document)
    old = len(tokens)
    count = draw.choice([0, 1, 2, max(old - 1, 0), old + 1, old * 2, 100_000])
    tokens[:] = tokens[:count] + [f"extra {index}".encode() for index in range(count - old)]
    if draw.random() < 0.5:
        for name, one in (("scores", 0.0), ("token_type", 1)):
            beside = document.entry(f"tokenizer.ggml.{name}")
            if beside is not None:
                beside.value = (beside.value + [one] * count)[:count]


def token_lists(document: Document, draw: Random) -> None:
    """Scores and types that are fewer or more than the tokens, or of another type."""
    name = draw.choice(["scores", "token_type"])
    tokens = _tokens(document)
    element = draw.choice([UINT8, INT8, INT32, FLOAT32, BOOL, UINT64])
    one = draw.choice([0, 1, 1, 6, 100, 127])
    count = draw.choice([0, 1, max(len(tokens) - 1, 0), len(tokens), len(tokens) + 1, 100_000])
    document.put(f"tokenizer.ggml.{name}", ARRAY, [bool(one) if element == BOOL else one] * count, element)


def special_ids(document: Document, draw: Random) -> None:
    name = draw.choice(["bos", "eos", "unknown", "padding", "eot", "separator"])
    value = draw.choice([0, 3, 258, 10**6, 2**31 - 1, 2**31, 2**32 - 1])
    document.put(f"tokenizer.ggml.{name}_token_id", UINT32, value)
    if draw.random() < 0.5:
        document.put("tokenizer.ggml.add_bos_token", BOOL, draw.random() < 0.5)
        document.put("tokenizer.ggml.add_eos_token", BOOL, draw.random() < 0.5)


def merges(document: Document, draw: Random) -> None:
    value = draw.choice([[], [b""], [b" "], [b"nospace"], [b"a b c"], [b"\xff \xff"], [b"x y"] * 5000])
    document.put("tokenizer.ggml.merges", ARRAY, value, STRING)


def tokenizer(document: Document, draw: Random) -> None:
    if draw.random() < 0.5:
        model = draw.choice([b"", b"llama", b"gpt2", b"bert", b"t5", b"rwkv", b"plamo2", b"none", b"no_vocab", b"new"])
        document.put("tokenizer.ggml.model", STRING, model)
    else:
        pre = draw.choice([b"", b"default", b"llama-bpe", b"qwen2", b"deepseek-llm", b"tekken", b"new", b"\xff"])
        document.put("tokenizer.ggml.pre", STRING, pre)


def token_texts(document: Document, draw: Random) -> None:
    tokens = _tokens(document)
    text = draw.choice([b"", b"a", b"\0", b"\xff\xfe", b"x" * 100_000, b"</s>", b"<0xZZ>", "\u202e\u0000é".encode()])
    way = draw.randrange(3)
    if way == 0 and len(text) < 100:
        tokens[:] = [text] * len(tokens)
    elif way == 1 and tokens:
        tokens[draw.randrange(len(tokens))] = text
    else:
        draw.shuffle(tokens)


def architecture(document: Document, draw: Random) -> None:
    names = [b"", b"llama", b"llama4", b"falcon", b"gpt2", b"qwen2", b"qwen3", b"gemma3", b"phi3", b"mamba", b"rwkv6"]
    names += [b"bert", b"t5", b"clip", b"deepseek2", b"mistral", b"starcoder2", b"new", b"\xff", b"x" * 9000]
    name = draw.choice(names)
    if draw.random() < 0.7:  # with its keys, so that the engine gets further
        old = document.architecture.encode() + b"."
        for entry in document.entries:
            if entry.key.startswith(old):
                entry.key = name + b"." + entry.key.removeprefix(old)
    document.put("general.architecture", STRING, name)


def labels(document: Document, draw: Random) -> None:
    """What is shown to people, made to mislead a terminal, a page or a log."""
    key = draw.choice(["general.name", "tokenizer.ggml.model", "general.architecture"])
    value = draw.choice(["\x1b[2J\x1b]0;x\x07", "a\r\nb" * 50, "<script>alert(1)</script>", "x" * 900_000, "\u202egpj"])
    document.put(key, STRING, value.encode())


def template(document: Document, draw: Random) -> None:
    document.put("tokenizer.chat_template", STRING, draw.choice(TEMPLATES).encode())


TEMPLATES = [
    "",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "{{ 'a' * 10 ** 10 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ 'x'.center(10 ** 9) }}",
    "{{ messages[0].content.__class__.__mro__ }}",
    "{% include '/etc/passwd' %}",
    "{% if %}",
    "{{",
    "{{ raise_exception('no') }}",
    "{{ messages | map(attribute='content') | join('x' * 100000) }}",
    "{{ strftime_now('%Y' * 100000) }}",
    "{{ '%s' % (range(10 ** 12) | list) }}",
    "{{ range(10 ** 12) | sum }}",
    "{{ ('a' * 100000) | wordwrap(1) | replace('a', 'b' * 100000) }}",
    "{{ messages | tojson(indent=10 ** 9) }}",
    "{% for m in messages %}" * 200 + "x" + "{% endfor %}" * 200,
    "x" * 1_000_000,
    "{{ bos_token }}" * 50_000,
    "{{ (" + "(" * 3000 + "1" + ")" * 3000 + ") }}",
    "{{ messages[0]['content'] | e | urlize | striptags }}",
    "{{ messages | tojson }}" * 3000,
]


def weights(document: Document, draw: Random) -> None:
    """Numbers that are none, or too large: every byte of a tensor 0xff (NaN), 0x7f or 0x00."""
    tensor = draw.choice(document.tensors)
    size = min(draw.choice([64, 4096, 65536]), len(document.data) - tensor.offset)
    blank = draw.choice([b"\xff", b"\x7f", b"\0"]) * max(size, 0)
    document.data = document.data[: tensor.offset] + blank + document.data[tensor.offset + len(blank) :]


def split_keys(document: Document, draw: Random) -> None:
    name = draw.choice(["split.count", "split.no", "split.tensors.count"])
    document.put(name, 2, draw.choice([0, 1, 2, 3, 4, 65_535]))


BYTES: dict[str, Mutation] = {
    "bits of the preamble": _bits("preamble"),
    "bits of the metadata": _bits("metadata"),
    "bits of the vocabulary": _bits("vocabulary"),
    "bits of the tensor list": _bits("tensors"),
    "bits of the weights": _bits("data"),
    "cut anywhere": cut_anywhere,
    "cut in the header": cut_in_header,
    "cut at a field": cut_at_a_field,
    "bytes inserted": insert,
    "range doubled": double_range,
    "range removed": remove_range,
    "range blank": blank_range,
    "ranges swapped": swap_ranges,
    "text-mode transfer": lines_converted,
}
FIELDS: dict[str, Mutation] = {
    "text lengths": _overwrite("key length", "text length", "item length", "tensor name length"),
    "array lengths": _overwrite("array length"),
    "counts": _overwrite("tensor count", "key count", "dimensions"),
    "dimension words": _overwrite("dimension", "offset"),
    "type tags": type_tags,
    "invalid UTF-8": invalid_utf8,
    "version": version,
}
MEANING: dict[str, Mutation] = {
    name: _edited(edit)
    for name, edit in {
        "key removed": key_removed,
        "key twice": key_twice,
        "key order": key_order,
        "value type": value_type,
        "alignment": alignment,
        "tensor offsets": offsets,
        "tensor dimensions": dimensions,
        "tensor type": tensor_type,
        "tensor list": tensor_list,
        "model sizes": sizes,
        "model floats": floats,
        "RoPE": rope,
        "vocabulary size": vocabulary_size,
        "scores and token types": token_lists,
        "special tokens": special_ids,
        "merges": merges,
        "tokenizer": tokenizer,
        "token texts": token_texts,
        "architecture": architecture,
        "labels": labels,
        "chat template": template,
        "weights": weights,
        "split keys": split_keys,
    }.items()
}
WAYS: dict[str, Mutation] = {**BYTES, **FIELDS, **MEANING}
