"""The commands put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from webui.cli import (
    bench,
    care,
    compare,
    compat,
    config,
    failures,
    migrate,
    models,
    plan,
    profile,
    run,
    serve,
    stats,
    tune,
)
from webui.cli.ending import FAILED, INTERRUPTED, command

application = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
application.callback(invoke_without_command=True)(serve.start)
application.command()(command(run.run))
application.command()(command(models.models))
application.command()(command(models.inspect))
application.command()(command(plan.plan))
application.command()(command(bench.bench))
application.command()(command(tune.tune))
application.command()(command(compare.compare))
application.command()(command(profile.profile))
application.command()(command(compat.backends))
application.command()(command(compat.recommend))
application.command()(command(compat.compat))
application.command()(command(compat.load))
application.command()(command(compat.test_models))
application.command()(command(failures.failures))
application.command()(command(stats.stats))
application.add_typer(config.application, name="config")
application.command()(command(migrate.migrate))
application.command()(command(care.setup))
application.command()(command(care.doctor))
application.command(add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(
    command(care.test)
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, that of `sys.argv` by default; returns the exit status."""
    try:
        application(args=list(sys.argv[1:] if argv is None else argv), prog_name="python3 app.py")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
