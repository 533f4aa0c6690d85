"""Parameter types that mean the same in several loaders, and the sampling parameters, which all loaders share.

A loader's parameter class names the ones its engine really offers and gives each its default there:

    class XllamacppParameters(Parameters):
        context_size: ContextSize = 4096
        gpu_layers: GpuLayers = -1
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from webui.loaders.parameters import Control, Group, Parameters

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
        "The GPU that holds the model when it is not split, and the small tensors when it is.",
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
        "Share of the model for each GPU, as 3,1. Empty splits by free memory.",
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
Lora = Annotated[
    str,
    Control(
        "LoRA adapter",
        "Path of an adapter that is applied to the model. Empty for none.",
        section="Adapters",
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


class SamplingParameters(Parameters):
    """How the next token is chosen. Sources of the formulas are named in docs/parameters.md.

    The loaders declare which of these their engine has (`LoaderSpec.samplers`); the others are ignored and reported.
    """

    max_tokens: Annotated[
        int,
        Field(ge=-1, le=1_048_576),
        Control(
            "Reply length",
            "Most tokens of a reply. -1 goes on until the model stops or the context is full.",
            unit="tokens",
            group=Group.BASIC,
            section="Reply",
            step=16,
            suggested_max=8192,
        ),
    ] = 1024
    temperature: Annotated[
        float,
        Field(ge=0, le=5),
        Control(
            "Temperature",
            "0 always takes the likeliest token; higher is more varied.",
            group=Group.BASIC,
            section="Choice",
            step=0.05,
            suggested_max=2,
        ),
    ] = 0.7
    top_p: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Top-p",
            "Keeps the likeliest tokens that together reach this probability. 1 keeps all.",
            group=Group.BASIC,
            section="Choice",
            step=0.01,
        ),
    ] = 0.95
    top_k: Annotated[
        int,
        Field(ge=0, le=1_000_000),
        Control(
            "Top-k",
            "Keeps this many of the likeliest tokens. 0 keeps all.",
            group=Group.BASIC,
            section="Choice",
            step=1,
            suggested_max=200,
        ),
    ] = 40
    min_p: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Min-p",
            "Drops tokens less likely than this share of the likeliest one.",
            group=Group.BASIC,
            section="Choice",
            step=0.01,
        ),
    ] = 0.05
    typical_p: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Typical-p",
            "Keeps tokens whose surprise is near the expected one. 1 is off.",
            section="Choice",
            step=0.01,
        ),
    ] = 1.0
    repeat_penalty: Annotated[
        float,
        Field(ge=0, le=5),
        Control(
            "Repeat penalty",
            "Makes tokens that were used lately less likely. 1 is off.",
            group=Group.BASIC,
            section="Repetition",
            step=0.01,
            suggested_max=2,
        ),
    ] = 1.0
    repeat_last_n: Annotated[
        int,
        Field(ge=-1, le=1_048_576),
        Control(
            "Repeat window",
            "How many tokens back the penalties look. -1 is the whole context.",
            unit="tokens",
            section="Repetition",
            suggested_max=2048,
        ),
    ] = 64
    presence_penalty: Annotated[
        float,
        Field(ge=-2, le=2),
        Control(
            "Presence penalty",
            "Penalty for every token used before, once.",
            section="Repetition",
            step=0.05,
        ),
    ] = 0.0
    frequency_penalty: Annotated[
        float,
        Field(ge=-2, le=2),
        Control(
            "Frequency penalty",
            "Penalty that grows with each use of a token.",
            section="Repetition",
            step=0.05,
        ),
    ] = 0.0
    dry_multiplier: Annotated[
        float,
        Field(ge=0, le=10),
        Control(
            "DRY multiplier",
            "Strength of the penalty on repeated sequences. 0 is off.",
            section="Repetition",
            step=0.05,
        ),
    ] = 0.0
    dry_base: Annotated[
        float,
        Field(ge=1, le=10),
        Control(
            "DRY base",
            "How fast the DRY penalty grows with the length of the repetition.",
            section="Repetition",
            step=0.05,
        ),
    ] = 1.75
    dry_allowed_length: Annotated[
        int,
        Field(ge=0, le=1024),
        Control(
            "DRY allowed length",
            "Repetitions up to this length are free.",
            unit="tokens",
            section="Repetition",
        ),
    ] = 2
    xtc_probability: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "XTC probability",
            "How often the likeliest tokens are left out for variety. 0 is off.",
            section="Variety",
            step=0.01,
        ),
    ] = 0.0
    xtc_threshold: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "XTC threshold",
            "Tokens above this probability may be left out.",
            section="Variety",
            step=0.01,
        ),
    ] = 0.1
    dynatemp_range: Annotated[
        float,
        Field(ge=0, le=5),
        Control(
            "Dynamic temperature range",
            "Temperature varies by this much around its value. 0 is off.",
            section="Variety",
            step=0.05,
        ),
    ] = 0.0
    dynatemp_exponent: Annotated[
        float,
        Field(ge=0, le=10),
        Control(
            "Dynamic temperature exponent",
            "How the temperature follows the model's certainty.",
            section="Variety",
            step=0.05,
        ),
    ] = 1.0
    mirostat: Annotated[
        Literal["off", "v1", "v2"],
        Control(
            "Mirostat",
            "Holds the surprise of the text at a target instead of top-k and top-p.",
            section="Variety",
        ),
    ] = "off"
    mirostat_tau: Annotated[
        float,
        Field(ge=0, le=20),
        Control("Mirostat target", "The surprise that mirostat aims at.", section="Variety", step=0.1),
    ] = 5.0
    mirostat_eta: Annotated[
        float,
        Field(ge=0, le=1),
        Control("Mirostat rate", "How fast mirostat corrects itself.", section="Variety", step=0.01),
    ] = 0.1
    seed: Annotated[
        int,
        Field(ge=-1, le=4_294_967_295),
        Control(
            "Seed",
            "The same seed gives the same choice of tokens. -1 draws a new one each time.",
            section="Reply",
            step=1,
        ),
    ] = -1
    stop: Annotated[
        str,
        Control(
            "Stop strings",
            "The reply ends before any of these; one a line.",
            section="Reply",
            lines=2,
        ),
    ] = ""

    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, one a line, with `\\n` standing for a line break; empty lines do not count."""
        lines = (line.replace("\\n", "\n") for line in self.stop.split("\n"))
        return tuple(line for line in lines if line)
