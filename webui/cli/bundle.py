"""`doctor --bundle FILE` writes a support bundle; `plan --from-bundle FILE` decides again what one holds."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.cli import columns
from webui.cli.session import all_loaders, in_app, read_settings
from webui.errors import AppError
from webui.paths import Paths

if TYPE_CHECKING:
    from webui.context import AppContext
    from webui.diagnostics.bundle import Bundle
    from webui.diagnostics.bundle_reader import ReadBundle
    from webui.diagnostics.bundle_replay import Answer
    from webui.loaders.contract import LoaderSpec


PREVIEW = ("", "-")


def write_bundle(target: str, include: str, *, as_json: bool) -> int:
    """Make a bundle, say what is in it, and write it; where `target` is one of `PREVIEW`, only say what would be."""
    bundle = _made([name.strip() for name in include.split(",") if name.strip()])
    written = None if target in PREVIEW else bundle.write(Path(target).expanduser().absolute())
    if as_json:
        columns.write_json(
            {
                "file": str(written) if written is not None else None,
                "holds": list(bundle.shown),
                "parts": [{"name": part.name, "about": part.about, "bytes": part.size} for part in bundle.parts],
            }
        )
        return 0
    columns.write_table(
        ("file", ">size", "what"), [(part.name, columns.size(part.size), part.about) for part in bundle.parts]
    )
    sys.stdout.write(f"\nNot in it: {_left_out(bundle)}.\n")
    if written is not None:
        sys.stdout.write(f"Written: {written} ({columns.size(written.stat().st_size)})\n")
    return 0


def _left_out(bundle: Bundle) -> str:
    from webui.diagnostics.bundle import SHOWABLE

    left = [f"{about} (--include {name})" for name, about in SHOWABLE.items() if name not in bundle.shown]
    return "; ".join(left) or "nothing"


def _made(shown: Sequence[str]) -> Bundle:
    """The bundle of this home; of what can be had where the app cannot be built."""
    from webui.diagnostics.bundle import check_shown
    from webui.diagnostics.bundle_parts import Source, gather_bundle

    check_shown(shown)

    async def work(context: AppContext) -> Bundle:
        return await gather_bundle(Source(context.paths, context.loaders, context), shown)

    try:
        return in_app(work)
    except (AppError, OSError) as error:
        from webui.loaders import LOADERS

        broken = Source(Paths.from_environment(), LOADERS, broken=error)
        return asyncio.run(gather_bundle(broken, shown))


def plan_from_bundle(file: str, *, as_json: bool) -> int:
    """Decide again what the bundle holds, and say whether it comes out as it did; 1 where something does not."""
    from webui.diagnostics.bundle_reader import read_bundle

    bundle = read_bundle(Path(file).expanduser())
    loaders = _loaders()
    answers = bundle.decide_again(loaders)
    if as_json:
        columns.write_json(
            {
                "app_version": bundle.app_version,
                "made_at": bundle.made_at,
                "changed": list(bundle.changed),
                "same": all(one.same for one in answers),
                "answers": [{**asdict(one), "same": one.same} for one in answers],
            }
        )
    else:
        _write(bundle, answers, loaders)
    return 0 if all(one.same for one in answers) else 1


def _loaders() -> Mapping[str, LoaderSpec]:
    """Those of extensions as well, where the settings here can be read."""
    try:
        return all_loaders(*read_settings())[0]
    except AppError:
        from webui.loaders import LOADERS

        return LOADERS


def _write(bundle: ReadBundle, answers: Sequence[Answer], loaders: Mapping[str, LoaderSpec]) -> None:
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(bundle.made_at))
    sys.stdout.write(f"A bundle of version {bundle.app_version}, made on {made}.\n")
    for name in bundle.changed:
        sys.stdout.write(f"warning: {name} was changed after it was made.\n")
    for one in answers:
        sys.stdout.write(f"\n{one.kind} of {one.model}{f', {one.about}' if one.about else ''}{_verdict(one)}\n")
        _WRITERS[one.kind](one.again if one.again is not None else one.recorded)
    same = sum(one.same for one in answers)
    sys.stdout.write(f"\n{same} of {len(answers)} decisions are the same here as where they were made.\n")


def _verdict(one: Answer) -> str:
    if one.problem:
        return f" (as recorded; {one.problem.rstrip('.')})"
    return "" if one.same else " (NOT as recorded)"


def _write_plan(plan: Mapping[str, Any]) -> None:
    verdict = "fits" if plan["fits"] else "does not fit"
    sys.stdout.write(f"{plan['model']} with {plan['loader']} {verdict}. {plan['constraint']}\n")
    columns.write_table(
        ("device", ">weights", ">KV cache", ">compute", ">other", ">total", ">free"),
        [
            (
                str(one["name"]),
                *(
                    columns.size(one[part])
                    for part in ("weights", "kv_cache", "compute", "other", "total", "available")
                ),
            )
            for one in plan["devices"]
        ],
    )


def _write_ranking(candidates: Sequence[Mapping[str, Any]]) -> None:
    columns.write_table(
        ("loader", "opens it", "reason"),
        [
            (
                str(one["loader"]),
                "yes" if one["suitable"] else "not here" if one["opens"] else "no",
                str(one["chosen_because"] or one["reason"]),
            )
            for one in candidates
        ],
    )


def _write_step(chosen: Mapping[str, Any]) -> None:
    if "give_up" in chosen:
        error = chosen["give_up"]
        sys.stdout.write(f"given up: {error['message']} {error['cause']}\n")
        return
    changes = ", ".join(f"{name} = {value}" for name, value in chosen["changes"].items())
    sys.stdout.write(
        f"{chosen['kind']} with {chosen['loader']}{f' ({changes})' if changes else ''}: {chosen['reason']}\n"
    )


_WRITERS: Mapping[str, Callable[[Any], None]] = {"plan": _write_plan, "ranking": _write_ranking, "ladder": _write_step}
