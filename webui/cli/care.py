"""`setup`, `doctor` and `test`: installing backends, checking health, and running the test suite."""

from __future__ import annotations

from typing import Annotated

import typer

from webui.cli.session import all_loaders, read_settings
from webui.paths import Paths


def setup(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Backends to install, or all.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only report; change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the state as JSON.")] = False,
) -> int:
    """Install or repair backends; without names, report the state of all."""
    from webui.setup.commands import run_setup

    loaders, _ = all_loaders(*read_settings())
    return run_setup(names or (), loaders, only_check=check, as_json=json)


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
