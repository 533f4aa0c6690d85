"""The controls of the transformers backend: what `from_pretrained` and `generate` offer for one local model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from webui.loaders.parameters import Control, Group, Parameters
from webui.loaders.shared import BatchSize, ContextSize, GuessedTokens, Lora, LoraScale, MainGpu, Threads

DType = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal[
    "none",
    "bitsandbytes-8bit",
    "bitsandbytes-4bit",
    "torchao-int8",
    "torchao-int4",
    "hqq-8bit",
    "hqq-4bit",
]

_LIMIT = r"(\d+|cpu)\s*=\s*\d+(\.\d+)?\s*[KMG]i?B\s*"


class TransformersParameters(Parameters):
    """All but the first few are for people who know what they want; the defaults run on any machine."""

    context_size: ContextSize = 0
    dtype: Annotated[
        DType,
        Control(
            "Number format",
            "How weights are held. auto takes the model's own on a GPU, and on the CPU float32 up to a billion "
            "parameters and bfloat16 beyond.",
            group=Group.BASIC,
            section="Weights",
        ),
    ] = "auto"
    device_map: Annotated[
        Literal["auto", "balanced", "balanced_low_0", "sequential", "single", "cpu"],
        Control(
            "Device map",
            "Where layers go. auto fills the GPUs, then the machine's memory, then the disk; single uses the main GPU; "
            "cpu uses no GPU.",
            group=Group.BASIC,
            section="Devices",
        ),
    ] = "auto"
    quantization: Annotated[
        Quantization,
        Control(
            "Quantise while loading",
            "Shrinks the weights of a directory while they are loaded. Needs the package of that name.",
            group=Group.BASIC,
            section="Weights",
        ),
    ] = "none"
    threads: Threads = 0
    main_gpu: MainGpu = 0
    max_memory: Annotated[
        str,
        Field(pattern=rf"^\s*({_LIMIT}(,\s*{_LIMIT})*)?$"),
        Control(
            "Memory limits",
            "Most memory for each device, as 0=10GiB, cpu=24GiB. Empty takes what is free.",
            section="Devices",
        ),
    ] = ""
    offload_folder: Annotated[
        str,
        Control(
            "Offload folder",
            "Folder for layers that fit neither GPU nor memory. Empty allows none.",
            section="Devices",
            local=True,
        ),
    ] = ""
    offload_buffers: Annotated[
        bool, Control("Offload buffers", "Moves buffers with offloaded layers as well.", section="Devices")
    ] = False
    bnb_4bit_type: Annotated[
        Literal["nf4", "fp4"],
        Control("4-bit format", "bitsandbytes: nf4 is the better one for trained weights.", section="Quantisation"),
    ] = "nf4"
    bnb_double_quantization: Annotated[
        bool,
        Control("Double quantisation", "bitsandbytes: quantises the scales as well.", section="Quantisation"),
    ] = True
    bnb_compute_dtype: Annotated[
        DType,
        Control("Compute format", "bitsandbytes: number format of 4-bit arithmetic.", section="Quantisation"),
    ] = "auto"
    bnb_outlier_threshold: Annotated[
        float,
        Field(ge=0, le=100),
        Control(
            "Outlier threshold",
            "bitsandbytes: 8-bit values beyond this are computed in 16 bits.",
            section="Quantisation",
            step=0.5,
        ),
    ] = 6.0
    bnb_cpu_offload: Annotated[
        bool,
        Control("Layers on the CPU", "bitsandbytes: keeps layers on the CPU in 32 bits.", section="Quantisation"),
    ] = False
    quantization_group_size: Annotated[
        int,
        Field(ge=8, le=1024),
        Control("Group size", "torchao 4-bit and hqq: weights that share a scale.", section="Quantisation", step=8),
    ] = 64
    attention: Annotated[
        Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"],
        Control("Attention", "Implementation of attention. auto takes the best that is installed.", section="Context"),
    ] = "auto"
    cache: Annotated[
        Literal["dynamic", "offloaded", "static", "offloaded_static", "quantized"],
        Control(
            "KV cache",
            "dynamic grows and is kept for a conversation's next turn; the others are made anew for every reply.",
            section="Context",
        ),
    ] = "dynamic"
    batch_size: BatchSize = 2048
    compile: Annotated[
        bool,
        Control(
            "Compile",
            "torch.compile of the model. The first replies are slow, later ones faster. Needs a C compiler, and works "
            "best with a static cache.",
            section="Processor",
        ),
    ] = False
    compile_mode: Annotated[
        Literal["default", "reduce-overhead", "max-autotune"],
        Control("Compile mode", "What the compiler aims at.", section="Processor"),
    ] = "default"
    assistant_model: Annotated[
        str,
        Control(
            "Draft model",
            "Folder of a small model with the same tokenizer that guesses tokens for this one. Empty for none.",
            section="Speculation",
            local=True,
        ),
    ] = ""
    assistant_tokens: Annotated[
        int,
        Field(ge=1, le=64),
        Control("Draft tokens", "How many tokens the draft model guesses at once.", section="Speculation", step=1),
    ] = 5
    draft_tokens: GuessedTokens = 0
    lora: Lora = ""
    lora_scale: LoraScale = 1.0
    allow_pickle: Annotated[
        bool,
        Control(
            "Allow pickled weights",
            "Opens pytorch_model.bin files where there are no safetensors. Only for sources you trust.",
            section="Trust",
            local=True,
        ),
    ] = False
    trust_remote_code: Annotated[
        bool,
        Control(
            "Trust the model's code",
            "Runs Python code that comes with the model. Only for sources you trust.",
            section="Trust",
            local=True,
        ),
    ] = False


def parse_max_memory(text: str) -> dict[int | str, str]:
    """`0=10GiB, cpu=24GiB` as the mapping transformers takes; empty for an empty text."""
    limits: dict[int | str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        device, _, amount = part.partition("=")
        name = device.strip()
        limits[int(name) if name.isdigit() else name] = amount.replace(" ", "")
    return limits
