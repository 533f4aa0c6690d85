"""Form b: the set of backends, 1.1.0 and 1.0.0."""

from __future__ import annotations

from typing import Any

from tests.migration.corpus.layout import Case


def backend(name: str, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "enabled": True,
        "priority": 1,
        "gpu_enabled": True,
        "gpu_layers": -1,
        "context_size": 4096,
        "batch_size": 512,
        "threads": -1,
        "custom_args": {},
    } | values


ENTRIES = {
    "ctransformers": backend("ctransformers", priority=3, context_size=2048, threads=6),
    "transformers": backend("transformers", priority=4, enabled=False, custom_args={"torch_dtype": "torch.float16"}),
    "llamafile": backend("llamafile", priority=1, gpu_layers=24, context_size=8192),
    "llamacpp": backend("llamacpp", priority=2, gpu_layers=33, batch_size=1024, custom_args={"flash_attn": True}),
}
PREFERENCES = {
    "preferred_backend": "llamafile",
    "auto_fallback_enabled": False,
    "gpu_preference": "auto",
    "performance_priority": "speed",
    "allow_experimental": False,
    "max_load_time": 300,
    "retry_failed_backends": True,
    "notification_level": "info",
}
SET_110 = {
    "version": "1.1.0",
    "preferences": PREFERENCES,
    "backend_configs": ENTRIES,
    "hardware_overrides": {},
    "custom_fallback_order": None,
    "last_modified": "2025-04-01T10:00:00",
}
SET_100 = {"version": "1.0.0", "preferences": PREFERENCES, "backends": ENTRIES}


def only(**values: Any) -> dict[str, Any]:
    """A set with one backend that says these things alone."""
    return {"version": "1.1.0", "backend_configs": {"llamafile": values}}


def prefers(**values: Any) -> dict[str, Any]:
    return {"version": "1.1.0", "preferences": values}


CASES: dict[str, Case] = {
    "set 1.1.0: whole": {"home/backend_config.json": SET_110},
    "set 1.0.0: whole": {"home/backend_config.json": SET_100},
    "set 1.1.0: in ~/.config": {"config/backend_config.json": SET_110},
    "set: order of its own": {
        "home/backend_config.json": {**SET_110, "custom_fallback_order": ["llamacpp", "exllama", "ctransformers"]}
    },
    "set: order is no list": {"home/backend_config.json": {**SET_110, "custom_fallback_order": "llamacpp"}},
    "set: GPU off for two": {
        "home/backend_config.json": {
            "backend_configs": {
                "llamafile": backend("llamafile", gpu_enabled=False, gpu_layers=20),
                "transformers": backend("transformers", gpu_enabled=False),
            }
        }
    },
    "set: all layers, in several ways": {
        "home/backend_config.json": {
            "backend_configs": {
                "ctransformers": {"name": "ctransformers", "gpu_layers": -1},
                "llamafile": {"name": "llamafile", "gpu_layers": 99999},
                "xllamacpp": {"name": "xllamacpp", "gpu_layers": "all"},
                "transformers": {"name": "transformers", "gpu_layers": 20},
            }
        }
    },
    "set: unknown backends": {
        "home/backend_config.json": {
            "preferences": {"preferred_backend": "exllama"},
            "backend_configs": {"exllama": {"enabled": True, "custom_args": {"cache": "q4"}}, "vllm": {}},
        }
    },
    "set: names of an enumeration": {
        "home/backend_config.json": {
            "preferences": {"preferred_backend": "BackendType.LLAMA_CPP"},
            "backend_configs": {"BackendType.CTRANSFORMERS": backend("ctransformers", threads=4)},
        }
    },
    "set: arguments by name": {
        "home/backend_config.json": only(
            custom_args={
                "n_ctx": 16384,
                "n-ubatch": 256,
                "flash_attn": True,
                "cache_type_k": 8,
                "no_mmap": True,
                "tensor_split": [3, 1],
                "lora_path": "@ROOT@/elsewhere/adapter.gguf",
                "mmproj": "@ROOT@/gone/mmproj.gguf",
                "temperature": 0.1,
                "nobrowser": True,
                "frobnicate": 3,
                "n_threds": 4,
            }
        )
    },
    "set: arguments as a list": {
        "home/backend_config.json": only(custom_args=["--ctx-size", "8192", "-ngl", "20", "--mlock", "--nobrowser", 7])
    },
    "set: arguments as a line": {
        "home/backend_config.json": only(custom_args="-c 8192 --no-mmap --host 0.0.0.0 --api-key sk-012345")
    },
    "set: arguments with an open quote": {"home/backend_config.json": only(custom_args='--ctx-size=8192 --grammar "x')},
    "set: arguments of transformers": {
        "home/backend_config.json": {
            "backend_configs": {
                "transformers": {
                    "name": "transformers",
                    "custom_args": {
                        "load_in_4bit": True,
                        "device_map": "cuda:0",
                        "max_memory": {"0": "10GiB", "cpu": "24GiB"},
                        "trust_remote_code": True,
                        "low_cpu_mem_usage": True,
                        "attn_implementation": "sdpa",
                    },
                }
            }
        }
    },
    "set: arguments of ctransformers": {
        "home/backend_config.json": {
            "backend_configs": {
                "ctransformers": {
                    "name": "ctransformers",
                    "custom_args": {"model_type": "llama", "lib": "avx2", "last_n_tokens": 128, "reset": True},
                }
            }
        }
    },
    "set: executable": {
        "home/backend_config.json": only(custom_args={"executable_path": "@ROOT@/elsewhere/llamafile-0.9"})
    },
    "set: wrong types": {
        "home/backend_config.json": {
            "preferences": {"preferred_backend": 3, "auto_fallback_enabled": "maybe", "max_load_time": -5},
            "backend_configs": {
                "llamafile": {"enabled": "yes", "priority": "first", "gpu_layers": 1.5, "context_size": {"a": 1}},
                "ctransformers": "on",
                "transformers": [1, 2],
            },
            "hardware_overrides": "none",
        }
    },
    "set: out of range": {
        "home/backend_config.json": only(gpu_layers=-7, context_size=10**12, batch_size=0, threads=100000)
    },
    "set: machine overrides": {
        "home/backend_config.json": {
            "version": "1.1.0",
            "hardware_overrides": {"force_cpu": True, "vram_gb": 8, "gpu": {"name": "GTX", "bus": None}, "threads": 4},
        }
    },
    "set: one GPU of several": {
        "home/backend_config.json": {"preferences": {}, "hardware_overrides": {"gpu_device": 1}}
    },
    "set: yes, no and numbers as words": {
        "home/backend_config.json": {
            "backend_configs": {
                "llamafile": {"enabled": "true", "priority": "2", "gpu_enabled": "False", "gpu_layers": 20},
                "llamacpp": {"enabled": 0, "priority": "1.0", "threads": "-1", "context_size": -1, "gpu_enabled": None},
                "ctransformers": {"custom_args": ["--n-gpu-layers 20", "-t -1", "--top_k=-1", "--api-key abc def"]},
            },
            "hardware_overrides": {"force_cpu": "yes", "disable_gpu": "often", "cpu_only": None},
        }
    },
    "set: GPU by vendor": {"home/backend_config.json": prefers(gpu_preference="nvidia")},
    "set: GPU by number": {"home/backend_config.json": prefers(gpu_preference="cuda:1")},
    "set: no GPU preferred": {"home/backend_config.json": prefers(gpu_preference="cpu_only")},
    "set: mixed with the present form": {
        "home/backend_config.json": {**SET_110, "preferred_backend": "ctransformers", "fallback_enabled": True}
    },
    "set: 1.1.0 and 1.0.0 in one": {
        "home/backend_config.json": {
            "preferences": {},
            "backend_configs": {"llamafile": {"context_size": 8192}},
            "backends": {"llamafile": {"context_size": 2048}},
        }
    },
    "present form, ours": {
        "home/backend_config.json": {
            "preferred_backend": "auto",
            "gpu_enabled": False,
            "backends": {"llamafile": {"enabled": True, "priority": 1, "context_size": 2048}},
        }
    },
    "present form in ~/.config": {
        "config/backend_config.json": {
            "version": "2.0",
            "gpu_enabled": False,
            "fallback_order": ["llamafile"],
            "backends": {"llamafile": {"context_size": 2048, "parameters": {"gpu_layers": 5}}},
        }
    },
}
