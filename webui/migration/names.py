"""What backends, parameters and sampling values were called by older files, engines and their command lines."""

from __future__ import annotations

from collections.abc import Iterable

from webui.migration.forms import plain_name

BACKENDS = {
    "ctransformers": ("ctransformer", "c_transformers"),
    "transformers": ("huggingface", "hf", "transformers_accelerate", "accelerate", "hf_transformers"),
    "llamafile": ("llama_file", "llamafiles", "llama_server", "llama.cpp_server"),
    "xllamacpp": ("xllama_cpp", "xllama"),
    "llama-cpp-python": ("llama_cpp_python", "llamacpp", "llama_cpp", "llama.cpp", "llamacpp_python", "llamacpppython"),
}

PARAMETERS = {
    "n_ctx": "context_size",
    "ctx_size": "context_size",
    "ctx_len": "context_size",
    "context_length": "context_size",
    "context_window": "context_size",
    "max_context": "context_size",
    "max_seq_len": "context_size",
    "c": "context_size",
    "n_gpu_layers": "gpu_layers",
    "ngl": "gpu_layers",
    "num_gpu_layers": "gpu_layers",
    "n_batch": "batch_size",
    "b": "batch_size",
    "n_ubatch": "micro_batch_size",
    "ubatch_size": "micro_batch_size",
    "ub": "micro_batch_size",
    "n_threads": "threads",
    "num_threads": "threads",
    "cpu_threads": "threads",
    "t": "threads",
    "n_threads_batch": "threads_batch",
    "tb": "threads_batch",
    "mmap": "use_mmap",
    "mlock": "use_mlock",
    "flash_attn": "flash_attention",
    "use_flash_attention": "flash_attention",
    "fa": "flash_attention",
    "offload_kqv": "offload_kv_cache",
    "kv_offload": "offload_kv_cache",
    "op_offload": "offload_operations",
    "swa_full": "full_window_cache",
    "mg": "main_gpu",
    "sm": "split_mode",
    "ts": "tensor_split",
    "type_k": "cache_type_k",
    "ctk": "cache_type_k",
    "type_v": "cache_type_v",
    "ctv": "cache_type_v",
    "rope_scaling_type": "rope_scaling",
    "rope_freq_base_value": "rope_freq_base",
    "yarn_orig_ctx": "yarn_original_context",
    "lora_path": "lora",
    "lora_adapter": "lora",
    "mmproj": "projector",
    "clip_model_path": "projector",
    "model_draft": "draft_model",
    "md": "draft_model",
    "ngld": "draft_gpu_layers",
    "gpu_layers_draft": "draft_gpu_layers",
    "np": "slots",
    "parallel": "slots",
    "n_parallel": "slots",
    "ot": "override_tensors",
    "override_tensor": "override_tensors",
    "n_cpu_moe": "expert_layers_on_cpu",
    "ncmoe": "expert_layers_on_cpu",
    "repack": "cpu_repacking",
    "prio": "priority",
    "lib": "library",
    "torch_dtype": "dtype",
    "attn_implementation": "attention",
    "cache_implementation": "cache",
    "torch_compile": "compile",
    "dev": "device",
    "executable_path": "executable",
    "llamafile_path": "executable",
    "binary_path": "executable",
    "llamafile_executable": "executable",
}
"""Older name → the parameter's name. Names that are the same need no entry."""

OPPOSITES = {
    "no_mmap": "use_mmap",
    "no_kv_offload": "offload_kv_cache",
    "nkvo": "offload_kv_cache",
    "no_op_offload": "offload_operations",
    "no_warmup": "warmup",
    "no_repack": "cpu_repacking",
    "no_context_shift": "context_shift",
    "no_mmproj_offload": "projector_on_gpu",
}
"""Names that switch off what the parameter switches on."""

SAMPLING = {
    "temp": "temperature",
    "n_predict": "max_tokens",
    "max_new_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "max_length": "max_tokens",
    "repetition_penalty": "repeat_penalty",
    "penalty_repeat": "repeat_penalty",
    "rep_pen": "repeat_penalty",
    "last_n_tokens": "repeat_last_n",
    "repeat_last_n_tokens": "repeat_last_n",
    "penalty_last_n": "repeat_last_n",
    "typical": "typical_p",
    "tfs_typical": "typical_p",
    "mirostat_mode": "mirostat",
    "mirostat_ent": "mirostat_tau",
    "mirostat_lr": "mirostat_eta",
    "stop_sequences": "stop",
    "stop_words": "stop",
}
"""Older name → the sampling value's name."""

LEFT_ARGUMENTS = {
    "server": "the app starts its servers by itself",
    "nobrowser": "the app starts its servers by itself",
    "host": "engines listen on this machine alone, on a port that the app chooses",
    "port": "engines listen on this machine alone, on a port that the app chooses",
    "listen": "engines listen on this machine alone, on a port that the app chooses",
    "l": "engines listen on this machine alone, on a port that the app chooses",
    "model": "the model is chosen on the Model tab",
    "model_path": "the model is chosen on the Model tab",
    "m": "the model is chosen on the Model tab",
    "model_file": "the model is chosen on the Model tab",
    "verbose": "the log keeps what engines say; nothing is to be switched on",
    "low_cpu_mem_usage": "weights are always loaded that way",
    "stream": "replies always come as they are written",
    "streaming": "replies always come as they are written",
    "hf": "transformers opens the folder of a model by itself",
    "embedding": "embeddings are asked for with a request, not with a setting",
    "embeddings": "embeddings are asked for with a request, not with a setting",
    "local_files_only": "nothing is fetched without being asked for",
    "trust_remote_code": "it lets a model run code of its own; switch it on yourself on the Model tab if you trust it",
    "allow_pickle": "it lets a file run code of its own; switch it on yourself on the Model tab if you trust it",
}
"""Free arguments that are left on purpose, and why."""


def backend_named(text: str, known: Iterable[str]) -> str | None:
    """The backend of today that `text` named, as `BackendType.LLAMA_CPP`, `llamacpp` or by its own name."""
    wanted = plain_name(text).removeprefix("backendtype.").removeprefix("backend.").removesuffix("_backend")
    for name in known:
        if wanted in (plain_name(name), *BACKENDS.get(name, ())):
            return name
    return None


def parameter_named(name: str) -> tuple[str, bool]:
    """The parameter's name of today, and whether the older one said the opposite."""
    wanted = plain_name(name)
    if wanted in OPPOSITES:
        return OPPOSITES[wanted], True
    return PARAMETERS.get(wanted, wanted), False


def sampling_named(name: str) -> str:
    """The sampling value's name of today."""
    return SAMPLING.get(plain_name(name), plain_name(name))
