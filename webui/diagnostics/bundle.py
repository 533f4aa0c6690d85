"""The support bundle: one ZIP file that tells somebody else what there is, what failed, and why.

It holds facts, and of what people do as little as can be: no prompts, replies, keys, names or folders of a person,
unless these are asked for. It can be looked at before it is written. What is in it is gathered in `bundle_parts`; with
`bundle_reader` the plans, rankings and ladders in it are decided again on any machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import webui
from webui.errors import InvalidRequest, StorageFailed
from webui.files import write_atomically

FORMAT_VERSION = 1
MANIFEST, REPLAY, ABOUT = "manifest.json", "replay.json", "README.txt"
SHOWABLE = {
    "paths": "folders as they are, your home among them",
    "names": "your name, the machine's name, and addresses",
    "keys": "passwords, keys and tokens",
    "chats": "what you wrote and what was answered",
}
"""What is left out unless it is asked for."""

_ABOUT = """\
A support bundle of GGUF Loader WebUI {version}, made on {date}.

{parts}

Left out: {left_out}.
Decide the plans, rankings and ladders in it again, on any machine:
  python3 app.py plan --from-bundle FILE
"""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the bundle; `about` says in a few words what it is."""

    name: str
    about: str
    text: str

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Bundle:
    """What would be written. `shown` names what it holds of `SHOWABLE`, `at` is when it was made."""

    parts: tuple[Part, ...]
    shown: tuple[str, ...]
    at: float

    @property
    def file_name(self) -> str:
        return f"gguf-loader-support-{time.strftime('%Y%m%d-%H%M%S', time.localtime(self.at))}.zip"

    def to_zip(self) -> bytes:
        parts = (Part(ABOUT, "", _about(self)), Part(MANIFEST, "", _manifest(self)), *self.parts)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
            for part in parts:
                entry = zipfile.ZipInfo(part.name, time.localtime(self.at)[:6])
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o600 << 16
                file.writestr(entry, part.text)
        return stream.getvalue()

    def write(self, path: Path) -> Path:
        """Write it to `path`, or under its own name into the folder `path`; readable by its owner alone."""
        target = path / self.file_name if path.is_dir() else path
        try:
            write_atomically(target, self.to_zip(), private=True)
        except OSError as error:
            raise StorageFailed(f"{target.name} could not be written.", cause=error.strerror or str(error)) from error
        return target


def check_shown(names: Collection[str]) -> tuple[str, ...]:
    """`names` in the order of `SHOWABLE`; raises `InvalidRequest` for one that is not there."""
    for name in names:
        if name not in SHOWABLE:
            raise InvalidRequest(
                f"A bundle cannot hold {name!r}.", hint="It can hold, beside the facts: " + ", ".join(SHOWABLE) + "."
            )
    return tuple(name for name in SHOWABLE if name in names)


def as_text(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n"


def _about(bundle: Bundle) -> str:
    width = max((len(part.name) for part in bundle.parts), default=0)
    return _ABOUT.format(
        version=webui.__version__,
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(bundle.at)),
        parts="\n".join(f"{part.name:<{width}}  {part.about}" for part in bundle.parts),
        left_out="; ".join(SHOWABLE[name] for name in SHOWABLE if name not in bundle.shown) or "nothing",
    )


def _manifest(bundle: Bundle) -> str:
    files = [
        {
            "name": part.name,
            "about": part.about,
            "bytes": part.size,
            "sha256": hashlib.sha256(part.text.encode()).hexdigest(),
        }
        for part in bundle.parts
    ]
    content = {
        "format": FORMAT_VERSION,
        "app_version": webui.__version__,
        "made_at": bundle.at,
        "holds": list(bundle.shown),
        "files": files,
    }
    return as_text(content)
