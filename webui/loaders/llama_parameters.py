"""The parameters that llama.cpp's server engine takes, whether it runs in a wheel or as an executable.

`xllamacpp` and `llamafile` add their own to these. Fields that other engines share come from `webui.loaders.shared`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from webui.loaders import shared
from webui.loaders.parameters import Control, Group, Parameters

DEFAULT_SLOTS = 4
"""Jobs at once when nobody chose. With one shared KV cache, slots that nobody uses cost next to nothing."""

Slots = Annotated[
    int,
    Field(ge=0, le=64),
    Control(
        "Parallel jobs",
        "How many replies may be written at once. 0 chooses: 4 where they share one KV cache, otherwise 1.",
        unit="jobs",
        group=Group.BASIC,
        section="Context",
        step=1,
        suggested_max=16,
    ),
]


class LlamaServerParameters(Parameters):
    """What both loaders offer. `context_size` is what one job can use; how slots share it is `shared_cache`."""

    context_size: shared.ContextSize = 4096
    gpu_layers: shared.GpuLayers = -1
    threads: shared.Threads = 0
    slots: Slots = 0

    shared_cache: Annotated[
        bool,
        Control(
            "Shared KV cache",
            "Jobs draw on one cache of the context size. Off reserves the full context for each job, at that many "
            "times the memory.",
            section="Context",
        ),
    ] = True
    cache_type_k: shared.CacheTypeK = "f16"
    cache_type_v: shared.CacheTypeV = "f16"
    flash_attention: shared.FlashAttention = "auto"
    offload_kv_cache: Annotated[
        bool,
        Control("KV cache on the GPU", "Off keeps the KV cache in the machine's memory.", section="Context"),
    ] = True
    full_window_cache: Annotated[
        bool,
        Control(
            "Full sliding-window cache",
            "For models with sliding-window attention: keeps the whole context, so that prompts can be reused, at "
            "the cost of memory.",
            section="Context",
        ),
    ] = False
    context_shift: Annotated[
        bool,
        Control(
            "Context shift",
            "Drops the oldest half of the context and goes on when a reply fills it. Off ends the reply there.",
            section="Context",
        ),
    ] = False
    cache_reuse: Annotated[
        int,
        Field(ge=0, le=65_536),
        Control(
            "Cache reuse",
            "Shortest run of tokens that is moved within the cache instead of computed again. 0 is off.",
            unit="tokens",
            section="Context",
            step=32,
            suggested_max=1024,
        ),
    ] = 0
    cache_ram: Annotated[
        int,
        Field(ge=-1, le=1_048_576),
        Control(
            "Prompt cache in memory",
            "Memory for conversations that lost their place in the KV cache. 0 is off, -1 has no limit.",
            unit="MiB",
            section="Context",
            step=256,
            suggested_max=8192,
        ),
    ] = 1024

    threads_batch: shared.ThreadsBatch = 0
    batch_size: shared.BatchSize = 512
    micro_batch_size: shared.MicroBatchSize = 512
    poll: Annotated[
        int,
        Field(ge=0, le=100),
        Control(
            "Polling",
            "How long threads spin for work before they sleep: 0 never, 100 always. Spinning is faster on an idle "
            "machine and slower on a busy one.",
            unit="%",
            section="Processor",
            step=5,
        ),
    ] = 50
    priority: Annotated[
        Literal["low", "normal", "medium", "high", "realtime"],
        Control("Priority", "Scheduling priority of the engine's threads.", section="Processor"),
    ] = "normal"
    cpu_mask: Annotated[
        str,
        Field(pattern=r"^((0[xX])?[0-9a-fA-F]+)?$"),
        Control(
            "CPU mask",
            "Hexadecimal mask of the cores the threads may use, such as 0xff. Empty for all.",
            section="Processor",
        ),
    ] = ""
    cpu_strict: Annotated[
        bool,
        Control("Strict CPU placement", "Pins each thread to one core of the mask.", section="Processor"),
    ] = False
    numa: shared.Numa = "off"

    use_mmap: shared.UseMmap = True
    use_mlock: shared.UseMlock = False
    check_tensors: Annotated[
        bool,
        Control("Check the tensors", "Looks for invalid values while loading. Slow.", section="Memory"),
    ] = False
    cpu_repacking: Annotated[
        Literal["auto", "on", "off"],
        Control(
            "Weight repacking",
            "Rearranges weights for this CPU's fast instructions while loading. auto leaves it to the engine; off is "
            "the way out if the engine crashes at the first prompt.",
            section="Processor",
        ),
    ] = "auto"
    warmup: Annotated[
        bool,
        Control(
            "Warm-up",
            "Runs once through the model after loading, so that the first reply is not slower.",
            section="Memory",
        ),
    ] = True

    fit_to_memory: Annotated[
        bool,
        Control(
            "Fit to GPU memory",
            "With GPU layers at -1, puts as many layers on the GPU as its memory holds instead of failing.",
            section="Devices",
        ),
    ] = True
    main_gpu: shared.MainGpu = 0
    split_mode: shared.SplitMode = "layer"
    tensor_split: shared.TensorSplit = ""
    offload_operations: Annotated[
        bool,
        Control(
            "Offload operations",
            "Lets the GPU compute for layers whose weights stay in the machine's memory.",
            section="Devices",
        ),
    ] = True
    expert_layers_on_cpu: Annotated[
        int,
        Field(ge=0, le=9999),
        Control(
            "Expert layers on the CPU",
            "For mixture-of-experts models: the experts of this many layers stay in the machine's memory.",
            unit="layers",
            section="Devices",
            step=1,
            suggested_max=100,
        ),
    ] = 0
    override_tensors: Annotated[
        str,
        Control(
            "Tensor placement",
            "Pattern=device pairs, separated by commas, such as ffn_.*_exps=CPU. Overrides the layers above.",
            section="Devices",
        ),
    ] = ""

    rope_scaling: shared.RopeScaling = "model"
    rope_freq_base: shared.RopeFreqBase = 0.0
    rope_freq_scale: shared.RopeFreqScale = 0.0
    yarn_original_context: Annotated[
        int,
        Field(ge=0, le=16_777_216),
        Control("YaRN original context", "Context the model was trained for. 0 follows the file.", section="RoPE"),
    ] = 0
    yarn_ext_factor: Annotated[
        float,
        Field(ge=-1, le=10),
        Control("YaRN extrapolation", "Mix of extrapolation; -1 follows the file.", section="RoPE"),
    ] = -1.0
    yarn_attn_factor: Annotated[
        float,
        Field(ge=-1, le=10),
        Control("YaRN attention factor", "Scale of the attention; -1 follows the file.", section="RoPE"),
    ] = -1.0
    yarn_beta_fast: Annotated[
        float,
        Field(ge=-1, le=1024),
        Control("YaRN beta fast", "High correction dimension; -1 follows the file.", section="RoPE"),
    ] = -1.0
    yarn_beta_slow: Annotated[
        float,
        Field(ge=-1, le=1024),
        Control("YaRN beta slow", "Low correction dimension; -1 follows the file.", section="RoPE"),
    ] = -1.0

    draft_model: Annotated[
        str,
        Control(
            "Draft model",
            "Path of a small GGUF with the same vocabulary that proposes tokens for this one. Empty for none.",
            section="Speculative decoding",
            local=True,
        ),
    ] = ""
    draft_max: Annotated[
        int,
        Field(ge=1, le=64),
        Control("Draft length", "Most tokens proposed at once.", unit="tokens", section="Speculative decoding"),
    ] = 8
    draft_min: Annotated[
        int,
        Field(ge=0, le=64),
        Control("Shortest draft", "Shorter proposals are dropped.", unit="tokens", section="Speculative decoding"),
    ] = 0
    draft_p_min: Annotated[
        float,
        Field(ge=0, le=1),
        Control(
            "Draft certainty", "The draft stops below this probability.", section="Speculative decoding", step=0.05
        ),
    ] = 0.75
    draft_gpu_layers: Annotated[
        int,
        Field(ge=-1, le=9999),
        Control(
            "Draft GPU layers",
            "How many of the draft's layers run on the GPU. -1 is all of them.",
            unit="layers",
            section="Speculative decoding",
        ),
    ] = -1

    lora: shared.Lora = ""
    lora_scale: shared.LoraScale = 1.0
    projector: shared.Projector = ""
    projector_on_gpu: Annotated[
        bool, Control("Projector on the GPU", "Off runs the vision projector on the CPU.", section="Adapters")
    ] = True

    def all_slots(self, *, shares_cache: bool = True) -> int:
        """Jobs at once; `shares_cache` says whether the engine can give the slots one cache."""
        return self.slots or (DEFAULT_SLOTS if shares_cache and self.shared_cache else 1)


def slots_of(parameters: LlamaServerParameters) -> int:
    """What `LoaderSpec.slots` asks, before the engine is known; `LoadedModel.slots` is what it became."""
    return parameters.all_slots()
