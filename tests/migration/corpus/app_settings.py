"""Form a: the older app's own config.json."""

from __future__ import annotations

from tests.migration.corpus.layout import Case

WHOLE = {
    "version": "1.0.0",
    "theme": "dark",
    "window_size": [1200, 800],
    "window_position": [100, 60],
    "window_maximized": False,
    "default_model_dir": "@ROOT@/library",
    "recent_models": ["@ROOT@/library/mistral.gguf", "@ROOT@/elsewhere/phi.gguf", "@ROOT@/gone/old.gguf"],
    "max_recent_models": 10,
    "log_level": "INFO",
    "use_hardware_acceleration": True,
    "max_memory_usage": 0.8,
    "default_temperature": 0.7,
    "default_max_tokens": 512,
    "default_system_prompt": "You are a helpful assistant.",
    "ai_settings": {
        "temperature": 0.3,
        "max_tokens": 2048,
        "system_prompt": "Answer in one paragraph.",
        "top_p": 0.9,
        "top_k": 50,
        "repeat_penalty": 1.1,
    },
    "backend_config_path": None,
    "auto_optimize_backends": True,
    "backend_switching_mode": "automatic",
}
DEFAULTS = {
    "version": "1.0.0",
    "theme": "system",
    "default_model_dir": "",
    "recent_models": [],
    "log_level": "INFO",
    "use_hardware_acceleration": True,
    "default_temperature": 0.7,
    "default_system_prompt": "",
    "ai_settings": {},
}

CASES: dict[str, Case] = {
    "app: whole": {"home/config.json": WHOLE},
    "app: only defaults": {"home/config.json": DEFAULTS},
    "app: with addons": {"home/config.json": {**DEFAULTS, "addon_dir": "@ROOT@/addons"}},
    "app: no GPU": {"home/config.json": {"version": "1.0.0", "use_hardware_acceleration": False}},
    "app: debug log": {"home/config.json": {"theme": "light", "log_level": "DEBUG"}},
    "app: memory in words": {"home/config.json": {"theme": "light", "max_memory_usage": "8 GB"}},
    "app: memory in MiB": {"home/config.json": {"theme": "light", "max_memory_usage": 6144}},
    "app: memory is nonsense": {"home/config.json": {"theme": "light", "max_memory_usage": "plenty"}},
    "app: manual switching": {"home/config.json": {"theme": "light", "backend_switching_mode": "manual"}},
    "app: general sampling alone": {
        "home/config.json": {
            "default_temperature": 1.2,
            "default_max_tokens": 300,
            "default_system_prompt": "Be brief.",
        }
    },
    "app: same value twice": {"home/config.json": {"default_temperature": 0.2, "ai_settings": {"temperature": 0.2}}},
    "app: sampling out of bounds": {
        "home/config.json": {"ai_settings": {"temperature": 9, "top_p": -1, "top_k": "many", "max_tokens": 1e99}}
    },
    "app: wrong types everywhere": {
        "home/config.json": {
            "version": 1,
            "theme": None,
            "window_size": "large",
            "default_model_dir": 7,
            "recent_models": "mistral.gguf",
            "use_hardware_acceleration": "perhaps",
            "max_memory_usage": [1],
            "default_temperature": "hot",
            "default_system_prompt": ["a", "b"],
            "ai_settings": "none",
            "backend_switching_mode": 3,
        }
    },
    "app: numbers as text": {
        "home/config.json": {"use_hardware_acceleration": "false", "ai_settings": {"top_k": "20", "temperature": "0.5"}}
    },
    "app: unknown keys": {
        "home/config.json": {
            "theme": "dark",
            "themes": "dark",
            "plugins": {"voice": {"enabled": True, "rate": 1.5}, "empty": {}},
            "api_key": "sk-0123456789",
            "recent_model": "x.gguf",
        }
    },
    "app: null everywhere": {
        "home/config.json": dict.fromkeys(WHOLE) | {"ai_settings": {"temperature": None, "top_p": None}}
    },
    "app: recent models as objects": {
        "home/config.json": {
            "recent_models": [
                {"path": "@ROOT@/elsewhere/phi.gguf", "last_used": "2025-03-01"},
                {"name": "no path"},
                42,
                "@ROOT@/elsewhere/notes.txt",
                "mistral.gguf",
            ],
            "default_model_dir": "@ROOT@/library",
        }
    },
    "app: models folder is gone": {"home/config.json": {"default_model_dir": "@ROOT@/unplugged", "theme": "dark"}},
    "app: models folder is the usual one": {
        "home/config.json": {"default_model_dir": "@HOME@/models", "theme": "dark"}
    },
    "app: points to its backends": {
        "home/config.json": {"theme": "dark", "backend_config_path": "@ROOT@/elsewhere/engines.json"},
        "elsewhere/engines.json": {"preferences": {"preferred_backend": "llamafile"}},
    },
    "app: points to nothing": {"home/config.json": {"theme": "dark", "backend_config_path": "@ROOT@/nothing.json"}},
    "app: hand-edited names": {
        "home/config.json": {"Theme": "dark", "AI-Settings": {"Temp": 0.4, "repetition_penalty": 1.2, "mood": "calm"}}
    },
}
