"""Form c: flat settings, those of one engine and those of a choice of backends."""

from __future__ import annotations

from tests.migration.corpus.layout import Case

CASES: dict[str, Case] = {
    "flat: of one engine": {
        "home/config.json": {
            "model_path": "@ROOT@/library/llama-7b.gguf",
            "n_gpu_layers": 20,
            "n_ctx": 8192,
            "n_batch": 256,
            "n_threads": 6,
            "use_mlock": True,
            "use_gpu": True,
            "args": {"n_ubatch": 128, "seed": 7},
        }
    },
    "flat: of a choice": {
        "home/settings.json": {
            "backend": "ctransformers",
            "gpu_layers": 16,
            "context_size": 2048,
            "backend_preference": ["llamafile", "ctransformers"],
            "model_directory": "@ROOT@/library",
            "addon_settings": {"floating_chat": {"x": 10, "opacity": 0.9}, "summarizer": {}},
        }
    },
    "flat: preferences.json": {
        "home/preferences.json": {"use_gpu": False, "temperature": 0.2, "stop": ["###", "\n\n"]}
    },
    "flat: app_config.json": {"home/app_config.json": {"n_ctx": "4096", "n_gpu_layers": "0", "n_threads": -1}},
    "flat: for one backend by its name": {"home/llamafile.config.json": {"n_ctx": 16384, "n_gpu_layers": 10}},
    "flat: another name": {"home/my.config.json": {"n_ctx": 16384}},
    "flat: the backends' place": {"home/backend_config.json": {"n_ctx": 8192, "backend": "llamafile", "color": "red"}},
    "flat: arguments as a line": {"home/config.json": {"n_ctx": 2048, "args": "--mlock -t 4"}},
    "flat: model by its name": {"home/config.json": {"model_path": "mistral.gguf", "models_dir": "@ROOT@/library"}},
    "flat: model is gone": {"home/config.json": {"model_path": "C:\\models\\gone.gguf", "n_ctx": 2048}},
    "flat: model is no model": {"home/config.json": {"model_path": "@ROOT@/elsewhere/notes.txt", "n_ctx": 2048}},
    "flat: everything wrong": {
        "home/config.json": {
            "model_path": ["a"],
            "n_ctx": "large",
            "n_gpu_layers": None,
            "use_gpu": 7,
            "use_mlock": "sometimes",
            "args": 5,
            "backend": {"name": "x"},
        }
    },
    "flat: empty parts": {"home/config.json": {"n_ctx": 2048, "args": [], "addon_settings": {}, "backend": ""}},
    "flat: a slip of the pen": {"home/config.json": {"n_ctx": 2048, "n_gpu_layer": 20, "modelpath": "x"}},
    "flat: secrets": {
        "home/config.json": {"n_ctx": 2048, "hf_token": "hf_012345", "auth": "me:secret", "max_tokens": 99}
    },
    "flat: arguments go before what stands for all": {
        "home/config.json": {"n_ctx": 2048, "temperature": 0.5, "args": ["--ctx-size 8192", "--temp=0.2"], "top_k": -1}
    },
    "flat: secrets in values": {
        "home/config.json": {
            "n_ctx": 2048,
            "proxy": "http://joe:hunter2@proxy:80",
            "access": "hf_abcdefghijklmnop12345",
            "remote": "https://models.example/x?api_key=hunter2&page=1",
            "pwd": "hunter2",
        }
    },
    "flat: cpu alone": {"home/config.json": {"n_gpu_layers": 0, "n_ctx": 0}},
}
