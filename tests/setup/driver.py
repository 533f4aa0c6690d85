"""Does things to the tiny backend with the app's own installer, in the environment it is run in.

python -m tests.setup.driver REQUIREMENTS JSON      JSON is a list of what to do; prints what came of each
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.setup.tiny_backend import SPEC
from webui.errors import AppError
from webui.hardware.facts import CpuFacts, DiskFacts, GpuFacts, HardwareFacts, MemoryFacts, SystemFacts
from webui.setup import backends, installing
from webui.setup.installing import Installer, Work
from webui.setup.published import ANYWHERE, PUBLISHED, Build, Published
from webui.setup.target import this_target

BUILDS = (
    Build("cu128", "cuda", "CUDA 12.8", ANYWHERE, 1, 1, (12, 8)),
    Build("", "cpu", "the processor", ANYWHERE, 1, 1),
)
TINY = Published("tiny-engine", "Tiny", BUILDS, ((3, 8), (3, 99)))
COMPILED = Published("tiny-engine", "Tiny", (), ((3, 8), (3, 99)), compile_options={"cpu": ""})


def hardware(gpu: Mapping[str, Any] | None = None) -> HardwareFacts:
    gpus = (GpuFacts("nvidia", 0, "Test GPU", memory_total=8 << 30, **gpu),) if gpu else ()
    cpu, memory = CpuFacts(None, "x86_64", 1, 1, 1), MemoryFacts(1 << 34, 1 << 33)
    return HardwareFacts(cpu, memory, DiskFacts(Path("/"), 1, 1), SystemFacts("Linux", "6", "3.11"), gpus)


async def do(asked: dict[str, Any], requirements: Path) -> dict[str, Any]:
    if "requirements" in asked:
        (requirements / "tiny.txt").write_text(asked["requirements"])
    PUBLISHED["tiny"] = COMPILED if asked.get("compiled") else TINY  # type: ignore[index]
    target = {"tools": frozenset(asked.get("tools", ())), "free_bytes": asked.get("free", 1 << 40)}
    target |= {name: asked[name] for name in ("writable", "has_pip") if name in asked}
    installing.this_target = lambda: replace(this_target(), **target)  # type: ignore[attr-defined]
    folder = asked.get("folder")
    installer = Installer(
        lambda: hardware(asked.get("gpu")),
        {"tiny": SPEC},
        indexes=lambda: asked.get("indexes", ()),
        folder=lambda: Path(folder) if folder else None,
    )
    steps, said = [], {}
    try:
        if asked["do"] == "plan":
            return {"plan": installer.plan("tiny").to_dict()}
        async with aclosing(installer.do("tiny", Work(asked["do"]))) as lines:
            async for line in lines:
                steps += [line.text] if line.step else []
                if asked.get("leave_at") and line.text.startswith(asked["leave_at"]):
                    break
    except AppError as error:
        said["error"] = error.to_dict()
    importlib.invalidate_caches()
    state = backends.check("tiny", {"tiny": SPEC})
    return {**said, "steps": steps, "version": version(), "before": state.before, "interrupted": state.interrupted}


def version() -> str | None:
    try:
        return metadata.version("tiny-engine")
    except metadata.PackageNotFoundError:
        return None


def main(requirements: Path, asked: list[dict[str, Any]]) -> None:
    backends.REQUIREMENTS = requirements

    async def all_of_it() -> list[dict[str, Any]]:
        return [await do(one, requirements) for one in asked]

    sys.stdout.write("\n" + json.dumps(asyncio.run(all_of_it())) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
