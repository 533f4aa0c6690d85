"""What an engine itself would allocate for a load, asked without loading: its dry run.

`plan_of` runs the loader's `dry_run` in a process of its own (`python -m webui.loaders.dry_run`), which lets the engine
make its plans and print its log; what stands there is read by `webui.loaders.llama_log`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from webui.errors import AppError, InvalidRequest, TimedOut
from webui.loaders import processes
from webui.loaders.causes import explain_lines
from webui.loaders.contract import LoaderSpec
from webui.loaders.llama_log import EnginePlan, read_plan
from webui.loaders.references import reference, resolve
from webui.models.facts import ModelFacts, facts_from_dict, facts_to_dict

SECONDS = 60.0
TRIES = 3
"""An engine that crashes when it has planned may lose the end of its log on the way."""


async def plan_of(spec: LoaderSpec, facts: ModelFacts, parameters: Mapping[str, Any]) -> EnginePlan:
    """The engine's own figures for loading `facts` with `parameters` (the loader's full values).

    Raises what its log proves where it would not load the file, `TimedOut`, and `InvalidRequest` where the loader's
    engine cannot say.
    """
    if not spec.has_dry_run:
        raise InvalidRequest(
            f"{spec.title} cannot plan a load without doing it.",
            hint="Ask for the plan that is computed from the file.",
        )
    question = json.dumps(
        {
            "loader": reference(spec.loader),
            "parameters_class": reference(spec.parameters),
            "facts": facts_to_dict(facts),
            "parameters": dict(parameters),
        }
    )
    lines: list[str] = []
    for _ in range(TRIES):
        lines = await _lines(spec, question.encode())
        refusal = next((line for line in reversed(lines) if line.startswith('{"error"')), None)
        if refusal is not None:
            raise AppError.from_dict(json.loads(refusal)["error"])
        plan = read_plan(lines)
        if plan is not None:
            return plan
    raise explain_lines(spec.title, "plan the load", lines)


async def _lines(spec: LoaderSpec, question: bytes) -> list[str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "webui.loaders.dry_run"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONUTF8": "1"},
        **processes.OWN_GROUP,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await child.communicate(question)
    except TimeoutError as error:
        raise TimedOut(f"{spec.title} did not plan the load within {SECONDS:.0f} s.") from error
    finally:
        if child.returncode is None:
            processes.kill_group(child.pid)
            await child.wait()
    return output.decode(errors="replace").splitlines()


def main() -> None:
    """Answer the question on standard input; the engine's log is the answer."""
    asked = json.loads(sys.stdin.buffer.read())
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # some engines crash when they have planned
    parameters = resolve(asked["parameters_class"]).parse(asked["parameters"])
    try:
        resolve(asked["loader"])(facts_from_dict(asked["facts"]), parameters).dry_run()
    except AppError as error:
        sys.stdout.write("\n" + json.dumps({"error": error.to_dict()}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # nothing of a plan is to be tidied up, and engines crash over it


if __name__ == "__main__":
    main()
