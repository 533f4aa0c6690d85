"""`config`: the settings from a terminal. What a setting is, allows and says comes from its declaration alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from webui.cli import columns, config_archive
from webui.cli.config_archive import Json, Yes, ask
from webui.cli.ending import WrongUsage, command
from webui.cli.session import all_loaders, read_settings
from webui.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from webui.errors import AppError
    from webui.settings import Declared, Settings, SettingsStore

Key = Annotated[str, typer.Argument(metavar="KEY", help="A setting, such as limits.queue_length.")]

application = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@application.callback(invoke_without_command=True)
def config(context: typer.Context) -> None:
    """Show, change, check, export and import the settings; without a command, list those that were changed."""
    if context.invoked_subcommand is None:
        command(listed)(words=None, everything=False, json=False)


def listed(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORD]...", help="Settings that contain these.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All settings, also those at their defaults.")] = False,
    json: Json = False,
) -> int:
    """List settings with their values and where those come from."""
    from webui.settings.words import changed, matching, shown

    _, settings = _all_settings()
    found = matching(settings, words or ()) if words or everything else changed(settings)
    if json:
        columns.write_json([_report(settings, declared) for declared in found])
    elif found:
        rows = [(one.key, shown(settings, one)[:60], settings.source(one.key), one.effect.value) for one in found]
        columns.write_table(("setting", "value", "from", "holds from"), rows)
    else:
        nothing = "No setting contains that." if words else "Every setting has its default."
        sys.stdout.write(f"{nothing} config list --all shows them all.\n")
    return 0


def show(key: Key, json: Json = False) -> int:
    """Tell all about one setting: its meaning, what it allows, its value and where that comes from."""
    _, settings = _all_settings()
    report = _report(settings, settings.declaration(key))
    if json:
        columns.write_json(report)
        return 0
    for name in ("key", "label", "help", "value", "default", "allowed", "source", "holds", "variable"):
        sys.stdout.write(f"{name:<9} {report[name] if isinstance(report[name], str) else _json(report[name])}\n")
    return 0


def get(key: Key, json: Json = False) -> int:
    """Print the value of one setting."""
    from webui.settings.words import written

    _, settings = _all_settings()
    declared = settings.declaration(key)
    if json:
        columns.write_json(settings.shown()[key])
    else:
        value = settings.shown()[key] if declared.secret else written(settings.value(key))
        sys.stdout.write(f"{value}\n")
    return 0


def set_(
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its new value; lists have commas. '' empties it.")],
    json: Json = False,
) -> int:
    """Save one setting in the home's files."""
    from webui.settings.words import typed

    store, settings = _all_settings()
    declared = settings.declaration(key)
    return _told(store.save({key: typed(declared, value)}), [declared], json)


def reset(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="The settings to reset.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Reset all settings of the home's files.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Take settings out of the home's files, so that their defaults hold again."""
    from webui.settings.words import matching

    if bool(keys) == everything:
        raise WrongUsage("Name the settings to reset, or give --all.")
    store, settings = _all_settings()
    wanted = [settings.declaration(key) for key in keys or ()]
    if everything:
        wanted = [declared for declared in matching(settings, ()) if settings.saved(declared.key)]
        if not wanted:
            sys.stdout.write("Nothing is set in the home's files.\n")
            return 0
        ask(f"Reset {len(wanted)} settings?", yes)
        from webui.migration.archive import back_up

        # Onto standard error, so that --json stays JSON.
        sys.stderr.write(f"What there was is kept in {back_up(Paths.from_environment(), settings, 'before-reset')}\n")
    return _told(store.reset([declared.key for declared in wanted]), wanted, json)


def check(json: Json = False) -> int:
    """Name everything in the settings that is wrong, with what would be allowed; status 1 if there is anything."""
    from webui.errors import AppError

    problems: list[AppError] = []
    try:
        problems += _all_settings()[1].problems
    except AppError as error:
        problems.append(error)
    if json:
        columns.write_json([problem.to_dict() for problem in problems])
    elif not problems:
        sys.stdout.write("All settings are understood.\n")
    for problem in () if json else problems:
        cause = f" ({problem.cause})" if problem.cause else ""
        sys.stdout.write(f"{problem.message}{cause}\n  → {problem.hint}\n")
    return 1 if problems else 0


def path(json: Json = False) -> int:
    """Print the files that settings come from, the strongest last."""
    paths = Paths.from_environment()
    files = {
        "checkout": paths.project_settings,
        "settings": paths.settings_file,
        "backends": paths.backend_config,
        "models": paths.model_settings,
    }
    if json:
        columns.write_json({name: str(file) for name, file in files.items()})
    else:
        columns.write_table(
            ("file", "", "holds"),
            [(str(file), "" if file.exists() else "not there", name) for name, file in files.items()],
        )
    return 0


def restore(json: Json = False) -> int:
    """Put the last good copy in the place of a settings file that cannot be understood, and keep that one."""
    from webui.settings import restore_last_good

    restored = restore_last_good(Paths.from_environment())
    if json:
        columns.write_json({str(file): str(copy) for file, copy in restored.items()})
    elif not restored:
        sys.stdout.write("Nothing to restore: the files are good, or have no last good copy.\n")
    for file, copy in {} if json else restored.items():
        sys.stdout.write(f"{file} is the last good one again; the broken one is kept as {copy.name}.\n")
    return 0


application.command("list")(command(listed))
application.command()(command(show))
application.command()(command(get))
# A value may be a negative number, which would be taken for an option.
application.command("set", context_settings={"ignore_unknown_options": True})(command(set_))
application.command()(command(reset))
application.command()(command(check))
application.command()(command(path))
application.command()(command(restore))
application.command()(command(config_archive.export))
application.command("import")(command(config_archive.import_))


def _all_settings() -> tuple[SettingsStore, Settings]:
    """The settings with what extensions add, and their store."""
    from webui.settings import SettingsStore

    paths, settings = read_settings()
    _, settings = all_loaders(paths, settings)
    return SettingsStore(paths, settings), settings


def _report(settings: Settings, declared: Declared) -> dict[str, Any]:
    from webui.settings.declared import plain
    from webui.settings.words import HOLDS

    control = declared.spec.control
    return {
        "key": declared.key,
        "label": control.label,
        "help": control.help,
        "value": settings.shown()[declared.key],
        "default": plain(declared.spec.default),
        "allowed": declared.allowed(),
        "source": settings.source(declared.key),
        "saved": settings.saved(declared.key),
        "effect": declared.effect.value,
        "holds": HOLDS[declared.effect],
        "variable": declared.variable,
        "secret": declared.secret,
    }


def _told(settings: Settings, changed: Iterable[Declared], json: bool) -> int:
    """Say what the settings are now, and when that holds."""
    from webui.settings.words import HOLDS, shown

    if json:
        columns.write_json([_report(settings, declared) for declared in changed])
        return 0
    for declared in changed:
        source = settings.source(declared.key)
        sys.stdout.write(f"{declared.key} is {shown(settings, declared)} ({source}); it {HOLDS[declared.effect]}.\n")
    return 0


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
