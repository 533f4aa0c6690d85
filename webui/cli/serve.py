"""Without a command: start the page and the API."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli.ending import status_of
from webui.cli.session import read_settings
from webui.setup.starter import provide_first_model
from webui.setup.terminal import TerminalProgress, write_error

if TYPE_CHECKING:
    from webui.errors import AppError
    from webui.paths import Paths
    from webui.settings import Settings


def start(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65_535, help="Port to listen on.  [default: 7860]")
    ] = None,
    share: Annotated[bool | None, typer.Option("--share", help="Ask Gradio for a public address.")] = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Login for the page.")] = None,
    api_key: Annotated[str | None, typer.Option(metavar="KEY", help="Key that clients of the API must send.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Model to load at start, by name or path.")] = None,
    loader: Annotated[
        str | None, typer.Option(metavar="NAME", help="Backend to load models with.  [default: auto]")
    ] = None,
    models_dir: Annotated[str | None, typer.Option(metavar="DIR", help="Folder that holds the models.")] = None,
    no_setup: Annotated[bool, typer.Option("--no-setup", help="Use this Python as it is; install nothing.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """GGUF Loader WebUI: run language models on this machine.

    Without a command, starts the page on http://127.0.0.1:7860. Settings given here hold for this start only; they are
    listed in settings.yaml.
    """
    if version:
        typer.echo(_version())
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    given = {
        "server.host": host,
        "server.port": port,
        "server.share": share,
        "server.auth": auth,
        "server.api_key": api_key,
        "models.default_model": _lasting(model),
        "backends.preferred_backend": loader,
        "models.directory": models_dir,
    }
    raise typer.Exit(status_of(lambda: _serve({key: value for key, value in given.items() if value is not None})))


def _serve(command_line: dict[str, Any]) -> None:
    from webui.settings.exposure import check_exposure

    paths, settings = read_settings(command_line)
    server = settings.server
    # Before anything slow or visible happens; the server checks again.
    check_exposure(server.host, share=server.share, auth=server.auth, api_key=server.api_key)
    problem = _provide_first_model(paths, settings)
    from webui.context import AppContext
    from webui.server import serve

    context = AppContext.create(paths, settings)
    if problem is not None:
        context.startup_problems.append(problem)
    serve(context)


def _provide_first_model(paths: Paths, settings: Settings) -> AppError | None:
    """On a first start, fetch the starter model; the app starts without one where that fails, and says why."""
    models = settings.models
    if not models.starter or models.default_model or models.directory:
        return None
    progress = TerminalProgress("Starter model")
    problem = provide_first_model(paths.models, progress)
    progress.stop()
    if problem is not None:
        write_error(problem)
    return problem


def _lasting(model: str | None) -> str | None:
    """A path that still holds when the server has changed its working folder; a name stays a name."""
    if model is not None and Path(model).exists():
        return str(Path(model).absolute())
    return model


def _version() -> str:
    from webui.paths import PROJECT_ROOT

    try:
        return metadata.version("gguf-loader-webui")
    except metadata.PackageNotFoundError:  # started from a checkout, as most are
        import tomllib

        project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        return str(project["project"]["version"])
