"""`--set name=value`: which parameter is meant, and whose it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from webui.cli.ending import WrongUsage
from webui.errors import InvalidSetting

if TYPE_CHECKING:
    from webui.loaders.contract import LoaderSpec
    from webui.loaders.parameters import Parameters

NOTHING = frozenset({"", "none", "null"})


def read_assignments(pairs: Iterable[str]) -> dict[str, str]:
    """`["a=1", "b=x=y"]` as a dictionary; the last of the same name counts. Raises `WrongUsage`."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise WrongUsage(f"--set {pair!r} is not NAME=VALUE.", hint="For example: --set context_size=8192")
        values[name.strip().replace("-", "_")] = value
    return values


def known_loader(name: str | None, loaders: Mapping[str, LoaderSpec]) -> str | None:
    """`name` if there is such a loader, None for auto; raises `WrongUsage` with the nearest name."""
    if name is None or name == "auto":
        return None
    if name not in loaders:
        raise WrongUsage(f"There is no loader called {name!r}.", hint=_near(name, loaders))
    return name


def sort_out(
    values: Mapping[str, str], loaders: Mapping[str, LoaderSpec], loader: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`values` as (sampling parameters, loader parameters), checked.

    Without a chosen `loader`, a parameter of any loader is taken; the one that is chosen later uses what it knows.
    Raises `WrongUsage` for unknown names and for values outside their bounds.
    """
    from webui.loaders.sampling import SamplingParameters

    chosen = {loader: loaders[loader]} if loader is not None else dict(loaders)
    sampling = {name: value for name, value in values.items() if name in SamplingParameters.model_fields}
    rest = {name: value for name, value in values.items() if name not in sampling}
    declared = {name for spec in chosen.values() for name in spec.parameters.model_fields}
    for name in rest:
        if name not in declared:
            of = f" of {loader}" if loader else ""
            raise WrongUsage(
                f"{name} is no parameter{of}, nor of sampling.",
                hint=_near(name, {*declared, *SamplingParameters.model_fields}, "docs/parameters.md lists them all."),
            )
    parsed = _parse(SamplingParameters, sampling)
    for spec in chosen.values():
        own = {name: value for name, value in rest.items() if name in spec.parameters.model_fields}
        parsed |= _parse(spec.parameters, own)
    return {name: parsed[name] for name in sampling}, {name: parsed[name] for name in rest}


def _parse(declaration: type[Parameters], values: Mapping[str, str]) -> dict[str, Any]:
    """The values as their types: pydantic reads numbers and booleans from text."""
    from webui.loaders.parameters import controls

    optional = {control.name for control in controls(declaration) if control.optional}
    prepared = {
        name: None if name in optional and value.strip().lower() in NOTHING else value for name, value in values.items()
    }
    try:
        parsed = declaration.parse(prepared).model_dump(mode="json")
    except InvalidSetting as error:
        raise WrongUsage(f"--set: {error.message}.", hint=error.hint) from error
    return {name: parsed[name] for name in values}


def _near(name: str, known: Iterable[str], otherwise: str = "") -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3)
    if near:
        return "Did you mean " + " or ".join(near) + "?"
    return otherwise or "There are: " + ", ".join(names)
