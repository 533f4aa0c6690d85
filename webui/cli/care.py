"""`setup`, `doctor` and `test`: installing backends, checking health, and running the test suite."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from webui.cli.ending import WrongUsage
from webui.cli.session import all_loaders, read_settings
from webui.paths import Paths


def setup(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Backends to install, or all.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only report the state; change nothing.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be installed and why; change nothing.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Install the same again over what is there.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Put the version before the last change back.")] = False,
    wheels: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take packages from this folder alone, without a network.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the state, or the plan, as JSON.")] = False,
) -> int:
    """Install, repair or roll back backends; without names, report the state of all."""
    from webui.hardware import detect
    from webui.setup.commands import Asked, run_setup
    from webui.setup.installing import Installer

    switches = {Asked.CHECK: check, Asked.PLAN: plan, Asked.REPAIR: repair, Asked.ROLL_BACK: rollback}
    asked = [name for name, on in switches.items() if on]
    if len(asked) > 1:
        raise WrongUsage("--check, --plan, --repair and --rollback exclude each other.")
    if asked and asked[0] in (Asked.REPAIR, Asked.ROLL_BACK) and not names:
        raise WrongUsage(f"Which backend? --{asked[0].replace(' ', '')} needs a name, or all.")
    paths, settings = read_settings()
    loaders, settings = all_loaders(paths, settings)
    installer = Installer(
        cache(lambda: detect(paths.models)),
        loaders,
        indexes=lambda: settings.setup.indexes,
        folder=lambda: wheels.absolute() if wheels is not None else settings.setup.wheels,
    )
    return run_setup(names or (), installer, asked=asked[0] if asked else Asked.INSTALL, as_json=json)


def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Also run a test model with every backend and look into every model file.")
    ] = False,
    fix: Annotated[
        str, typer.Option("--fix", metavar="ACTION", help="Do what a check proposes, in the words it gives.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
    bundle: Annotated[
        str, typer.Option(metavar="FILE", help="Write a support bundle instead, or only list it where FILE is -.")
    ] = "",
    include: Annotated[
        str, typer.Option(metavar="A,B", help="What the bundle is to hold as well: paths, names, keys, chats.")
    ] = "",
) -> int:
    """Check the installation, the machine and the models, and say how to mend what is wrong."""
    if bundle or include:
        from webui.cli.bundle import write_bundle

        return write_bundle(bundle, include, as_json=json)
    from webui.diagnostics.commands import run_doctor, run_fix
    from webui.errors import AppError
    from webui.loaders import LOADERS

    paths = Paths.from_environment()
    try:
        loaders, _ = all_loaders(*read_settings())
    except AppError:  # one of the things a doctor is asked about: the checks read the settings again and report it
        loaders = LOADERS
    if fix:
        return run_fix(paths, loaders, fix, full=full)
    return run_doctor(paths, loaders, as_json=json, full=full)


def test(context: typer.Context) -> int:
    """Install what the test suite needs, a browser included, and run it; arguments go to pytest."""
    from webui.setup.test_command import run_tests

    return run_tests(context.args)
