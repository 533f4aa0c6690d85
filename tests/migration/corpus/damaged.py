"""Files that programs, people and disks have left behind."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

from tests.migration.corpus.layout import Case

COMMENTED = """\
// the engine
{
  "n_ctx": 8192, /* was 4096 */
  # "n_batch": 1024,
  "n_gpu_layers": 20, // "not": "this",
  "args": {"seed": 7, "note": "// no comment, # nor this, /* nor */ that",},
}
"""
FLAT = {"n_ctx": 8192, "use_gpu": False}
HUGE = {
    "n_ctx": 8192,
    "recent_models": [f"/gone/model-{number}.gguf" for number in range(3000)],
    "x" * 5000: "y" * 5000,
}


def too_large(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"n_ctx": 8192}')
        file.truncate(65 * 1024 * 1024)


def broken_link(path: Path) -> None:
    path.symlink_to("nowhere.json")


def ring(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.mkdir()


CASES: dict[str, Case] = {
    "damaged: byte order mark": {"home/config.json": codecs.BOM_UTF8 + json.dumps(FLAT).encode()},
    "damaged: UTF-16": {"home/config.json": json.dumps(FLAT).encode("utf-16")},
    "damaged: comments and commas": {"home/config.json": COMMENTED},
    "damaged: names twice": {
        "home/config.json": '{"n_ctx": 2048, "n_ctx": 8192, "ai_settings": {"top_k": 1, "top_k": 9}}'
    },
    "damaged: cut off": {"home/config.json": '{"n_ctx": 8192, "use_gpu": fal'},
    "damaged: a line in the middle": {
        "home/config.json": '{\n  "n_ctx": 8192,\n  "n_batch" 512,\n  "use_gpu": true\n}\n'
    },
    "damaged: single quotes": {"home/config.json": "{'n_ctx': 8192}"},
    "damaged: empty": {"home/config.json": ""},
    "damaged: empty object": {"home/config.json": "{}"},
    "damaged: a list": {"home/config.json": "[1, 2, 3]"},
    "damaged: a word": {"home/config.json": '"n_ctx"'},
    "damaged: nothing": {"home/config.json": "null"},
    "damaged: zeros": {"home/config.json": b"\0" * 4096},
    "damaged: Latin-1": {"home/config.json": '{"default_system_prompt": "Größe zählt"}'.encode("latin-1")},
    "damaged: half a character": {"home/config.json": b'{"n_ctx": 8192, "theme": "\xc3'},
    "damaged: not a number": {"home/config.json": '{"n_ctx": NaN, "temperature": Infinity, "top_k": -Infinity}'},
    "damaged: endless number": {"home/config.json": '{"n_ctx": ' + "9" * 6000 + "}"},
    "damaged: nested deeply": {"home/config.json": '{"a":' * 2000 + "1" + "}" * 2000},
    "damaged: nested too deeply to follow": {"home/config.json": "[" * 200_000},
    "damaged: huge": {"home/config.json": HUGE},
    "damaged: too large": {"home/config.json": too_large},
    "damaged: link to nowhere": {"home/config.json": broken_link},
    "damaged: link to itself": {"home/config.json": ring},
    "damaged: a folder": {"home/config.json": folder},
    "damaged: emoji and more": {
        "home/config.json": {"default_system_prompt": "Sei kurz. 👍\u0000\u202e", "théme": "ü"}
    },
    "damaged: broken beside a good one": {"home/config.json": "{", "home/settings.json": FLAT},
}
