"""Parameter types that mean the same in several loaders.

A loader's parameter class names the ones its engine really offers and gives each its default there:

    class XllamacppParameters(Parameters):
        context_size: ContextSize = 4096
        gpu_layers: GpuLayers = -1
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from webui.loaders.parameters import Control, Group

ContextSize = Annotated[
    int,
    Field(ge=0, le=16_777_216),
    Control(
        "Context size",
        "How many tokens prompt and reply may hold together. 0 takes what the model was trained for.",
        unit="tokens",
        group=Group.BASIC,
        section="Context",
        step=256,
        suggested_max=131_072,
    ),
]
GpuLayers = Annotated[
    int,
    Field(ge=-1, le=9999),
    Control(
        "GPU layers",
        "How many of the model's layers run on the GPU. -1 is all of them, 0 keeps everything on the CPU.",
        unit="layers",
        group=Group.BASIC,
        section="Devices",
        step=1,
        suggested_max=200,
    ),
]
Threads = Annotated[
    int,
    Field(ge=0, le=1024),
    Control(
        "Threads",
        "CPU threads that generate tokens. 0 lets the app choose from the cores it may use.",
        unit="threads",
        group=Group.BASIC,
        section="Processor",
        step=1,
        suggested_max=64,
    ),
]
ThreadsBatch = Annotated[
    int,
    Field(ge=0, le=1024),
    Control(
        "Prompt threads",
        "CPU threads that read the prompt. 0 is the same number as for generation.",
        unit="threads",
        section="Processor",
        step=1,
        suggested_max=64,
    ),
]
BatchSize = Annotated[
    int,
    Field(ge=1, le=65_536),
    Control(
        "Batch size",
        "Most prompt tokens that are handed to the engine at once.",
        unit="tokens",
        section="Processor",
        step=32,
        suggested_max=8192,
    ),
]
MicroBatchSize = Annotated[
    int,
    Field(ge=1, le=65_536),
    Control(
        "Micro-batch size",
        "Prompt tokens computed in one pass. Larger is faster on a GPU and needs more memory.",
        unit="tokens",
        section="Processor",
        step=32,
        suggested_max=8192,
    ),
]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
CacheTypeK = Annotated[
    CacheType,
    Control(
        "Key cache type",
        "How the keys of the KV cache are stored. q8_0 halves the memory of f16.",
        section="Context",
    ),
]
CacheTypeV = Annotated[
    CacheType,
    Control(
        "Value cache type",
        "How the values of the KV cache are stored. Anything but f16 needs flash attention.",
        section="Context",
    ),
]
FlashAttention = Annotated[
    Literal["auto", "on", "off"],
    Control(
        "Flash attention",
        "Computes attention in less memory. auto uses it where the device can.",
        section="Context",
    ),
]
UseMmap = Annotated[
    bool,
    Control(
        "Memory-map the file",
        "Loads faster and lets the system drop unused parts of the file from memory.",
        section="Memory",
    ),
]
UseMlock = Annotated[
    bool,
    Control(
        "Lock in memory",
        "Keeps the model in memory so that it is never swapped out.",
        section="Memory",
    ),
]
MainGpu = Annotated[
    int,
    Field(ge=0, le=63),
    Control(
        "Main GPU",
        "The GPU that holds the model when it is not split, and the small tensors when it is. Counted among the GPUs "
        "that models may use.",
        section="Devices",
    ),
]
SplitMode = Annotated[
    Literal["none", "layer", "row"],
    Control(
        "Split mode",
        "How a model is spread over several GPUs: not at all, by layers, or by rows.",
        section="Devices",
    ),
]
TensorSplit = Annotated[
    str,
    Field(pattern=r"^\s*(\d+(\.\d+)?(\s*,\s*\d+(\.\d+)?)*)?\s*$"),
    Control(
        "Tensor split",
        "Share of the model for each GPU that models may use, as 3,1. Empty splits by free memory.",
        section="Devices",
    ),
]
RopeScaling = Annotated[
    Literal["model", "none", "linear", "yarn"],
    Control(
        "RoPE scaling",
        "How positions are stretched beyond the trained context. model follows the file.",
        section="RoPE",
    ),
]
RopeFreqBase = Annotated[
    float,
    Field(ge=0),
    Control("RoPE frequency base", "0 takes the model's own.", section="RoPE"),
]
RopeFreqScale = Annotated[
    float,
    Field(ge=0),
    Control(
        "RoPE frequency scale",
        "0 takes the model's own; 0.5 doubles the usable context.",
        section="RoPE",
    ),
]
GuessedTokens = Annotated[
    int,
    Field(ge=0, le=64),
    Control(
        "Guessed tokens",
        "Speculative decoding without a second model: tokens guessed from the text so far and checked together. "
        "Helps where a reply repeats its prompt. 0 is off.",
        unit="tokens",
        section="Speculation",
        step=1,
    ),
]
Lora = Annotated[
    str,
    Control(
        "LoRA adapter",
        "Path of an adapter that is applied to the model. Empty for none.",
        section="Adapters",
        local=True,
    ),
]
LoraScale = Annotated[
    float,
    Field(ge=0, le=10),
    Control("LoRA scale", "How strongly the adapter is applied.", section="Adapters", step=0.05),
]
Projector = Annotated[
    str,
    Control(
        "Vision projector",
        "Path of the mmproj file that lets the model see images. Empty for none.",
        section="Adapters",
        local=True,
    ),
]
Numa = Annotated[
    Literal["off", "distribute", "isolate", "numactl"],
    Control(
        "NUMA",
        "How threads and memory are placed on machines with several memory nodes.",
        section="Processor",
    ),
]
