"""What lies beside configurations: chats, lists of models, measured speeds, and what is none of these."""

from __future__ import annotations

from tests.migration.corpus.layout import Case

TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is a tensor?", "timestamp": "2025-02-03T10:00:00"},
    {"role": "assistant", "content": "A grid of numbers.", "timestamp": "2025-02-03T10:00:07"},
]
LINES = '{"role": "user", "text": "One?"}\n\n{"role": "assistant", "text": "Two."}\n'

CASES: dict[str, Case] = {
    "beside: one chat a file": {
        "home/chats/first.json": {"id": 1, "title": "Tensors", "created_at": 1738576800, "messages": TURNS},
        "home/chats/2025/second.json": TURNS,
    },
    "beside: many chats in one": {
        "home/chat_history.json": {
            "version": 2,
            "conversations": [
                {"name": "A", "messages": [{"sender": "You", "text": "Hi"}, {"sender": "AI", "text": "Hello"}]},
                {"name": "Nothing said", "messages": []},
                "not a chat",
            ],
        }
    },
    "beside: pairs": {
        "home/conversations.json": {
            "monday": [["Hi", "Hello"], ["Bye", None]],
            "tuesday": [{"prompt": "2+2?", "response": "4", "tokens": 3}],
        }
    },
    "beside: chat of blocks and gaps": {
        "home/chats/blocks.json": {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image", "url": "x"}]},
                {"role": "assistant", "content": "I see."},
                {"role": "tool", "content": "?"},
                {"is_user": True, "message": "Well"},
            ],
            "model": "mistral",
            "temperature": 0.4,
        }
    },
    "beside: a chat a line": {"home/chat_log.jsonl": LINES},
    "beside: the same chat twice": {
        "home/chats/one.json": {"title": "T", "messages": TURNS},
        "home/chats/copy.json": {"title": "T", "messages": TURNS},
    },
    "beside: list of models": {
        "home/models.json": {
            "updated": "2025",
            "models": [{"path": "@ROOT@/elsewhere/phi.gguf", "size": 4}, "@ROOT@/gone.gguf", "mistral.gguf"],
        }
    },
    "beside: measured speeds": {
        "home/performance_history.json": {
            "machine": "old",
            "records": [
                {"model": "/m/phi.gguf", "backend": "llamacpp", "tokens_per_second": 31.5, "load_time": 2.5, "vram": 3},
                {"model": "phi.gguf", "backend": "exllama", "tokens_per_sec": 80, "timestamp": 1738576800},
                {"model": "phi.gguf", "error": "out of memory"},
            ],
        }
    },
    "beside: none of these": {
        "home/window_state.json": {"x": 1},
        "config/keys.json": ["a", "b"],
        "home/chats/x.json": {},
    },
    "nothing": {},
    "only our own": {"home/model_settings.json": {}, "home/settings.yaml": "debug: false\n", "home/plans.json": {}},
}
