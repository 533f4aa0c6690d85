"""docs/extensions.md: the hooks, from their own signatures and docstrings."""

from __future__ import annotations

import inspect

from webui import hooks
from webui.paths import PROJECT_ROOT
from webui.reference.tables import GENERATED

SPEC_MARK = f"{hooks.PROJECT}_spec"
"""The attribute that pluggy's marker leaves on a declared hook."""


def declared() -> dict[str, inspect.Signature]:
    """Name → signature of every hook, in the order they are declared."""
    return {name: inspect.signature(item) for name, item in vars(hooks).items() if hasattr(item, SPEC_MARK)}


def page() -> str:
    """How to write an extension (extensions/README.md), then each hook."""
    parts = [GENERATED, (PROJECT_ROOT / "extensions" / "README.md").read_text(encoding="utf-8"), "## Hooks\n"]
    # The rest of the module's docstring is the example that the README has shown already.
    parts.append(inspect.cleandoc(hooks.__doc__ or "").rpartition("\n\n")[2].strip() + "\n")
    for name, signature in declared().items():
        parts.append(_declaration(name, signature))
        parts.append(inspect.cleandoc(getattr(hooks, name).__doc__) + "\n")
    for record in (hooks.Tab, hooks.Panel):
        parts.append(_declaration(record.__name__, inspect.signature(record)))
        parts.append(inspect.cleandoc(record.__doc__ or "") + "\n")
    return "\n".join(parts)


def _declaration(name: str, signature: inspect.Signature) -> str:
    return f"### {name}\n\n```text\n{name}{_written(signature)}\n```\n"


def _written(signature: inspect.Signature) -> str:
    """The signature as it stands in the code; `str` would put its annotations, which are texts, in quotes."""
    arguments = []
    for name, parameter in signature.parameters.items():
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        arguments.append(f"{name}: {parameter.annotation}{default}")
    returns = signature.return_annotation
    return f"({', '.join(arguments)})" + (f" -> {returns}" if returns not in (None, signature.empty) else "")
