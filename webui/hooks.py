"""The hooks: all that an extension can do. One function of these names in `extensions/<name>/__init__.py` is enough:

    from webui.hooks import hook

    @hook
    def change_reply(text: str) -> str:
        return text.replace("utilize", "use")

Functions may be left out, and so may their arguments. A function that changes something gets what the extension before
it returned (extensions go by name); `None` means "as it was". What raises or returns the wrong type is reported on the
page, and the app goes on without it. Hooks are called in the server, between tokens of everybody's replies: be quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from webui.loaders.contract import LoaderSpec
from webui.loaders.sampling import SamplingParameters

if TYPE_CHECKING:
    from fastapi import APIRouter

PROJECT = "gguf_loader"
hook = pluggy.HookimplMarker(PROJECT)
_declared = pluggy.HookspecMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab of its own. `build(context)` is called inside its `gr.Tab`; `context` is the `webui.context.AppContext`."""

    title: str
    build: Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Panel:
    """A folded part at the end of a tab that is there already."""

    title: str
    build: Callable[[Any], None]
    place: Literal["chat", "model", "backend", "hardware", "diagnostics"] = "chat"


@_declared
def add_loaders() -> Iterable[LoaderSpec]:  # type: ignore[empty-body]
    """Further backends, as `webui.loaders.contract` describes them. The class must be importable: no inner classes."""


@_declared
def add_tabs() -> Iterable[Tab]:  # type: ignore[empty-body]
    """Further tabs, behind the app's own."""


@_declared
def add_panels() -> Iterable[Panel]:  # type: ignore[empty-body]
    """Further panels in the app's own tabs."""


@_declared
def change_prompt(prompt: str) -> str | None:
    """The rendered text just before the model reads it. It must keep the template's special tokens as they are."""


@_declared
def change_reply(text: str) -> str | None:
    """The whole reply when it is complete and before it is stored; not one that was stopped or failed."""


@_declared
def change_sampling(sampling: SamplingParameters) -> SamplingParameters | None:
    """The sampling of one generation; make a changed one with `sampling.model_copy(update={…})`."""


@_declared
def add_routes(router: APIRouter, context: Any) -> None:
    """Routes of one's own, served under `/extensions/<name>/` behind the same host check and API key."""
