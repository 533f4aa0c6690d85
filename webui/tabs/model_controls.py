"""The loaders' controls on the Model tab: one prebuilt group for each loader, of which the chosen one is shown.

Groups are drawn once and only shown or hidden, by a line of script in the browser: what was typed stays, and nothing
waits for the server. Fields that several loaders declare alike are linked, also in the browser: an edit of the context
size is an edit of it in every loader that has one. What each field is, and its bounds, is declared in `webui.loaders`;
drawing one is `webui.tabs.controls`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.components import Component

from webui.errors import InvalidSetting
from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import ControlSpec, Parameters, controls
from webui.tabs.controls import build_group, read_values, show_values

AUTO = "auto"


class LoaderControls:
    """The groups of all loaders, and the way from their components to declared parameters and back."""

    def __init__(self, loaders: Mapping[str, LoaderSpec], configured: Mapping[str, Mapping[str, Any]]) -> None:
        """`configured` holds, for each loader, the values set in the settings, which stand in for the defaults."""
        self._loaders = dict(loaders)
        self._defaults = {
            name: spec.parameters.parse(configured.get(name, {}), where=f"the configured parameters of {name}")
            for name, spec in loaders.items()
        }
        self._groups: dict[str, gr.Column] = {}
        self._drawn: dict[str, dict[str, Component]] = {}

    @property
    def components(self) -> list[Component]:
        """Every control of every loader, in a fixed order."""
        return [component for drawn in self._drawn.values() for component in drawn.values()]

    def build(self, shown: str | None) -> None:
        """Draw all groups where the caller stands, that of `shown` visible."""
        for name, spec in self._loaders.items():
            with gr.Column(visible=name == shown, elem_id=f"model-controls-{name}", elem_classes="controls") as group:
                start = show_values(self.defaults(name))
                self._drawn[name] = build_group(spec.parameters, f"loader-{name}", start)
            self._groups[name] = group
        self._link()

    def defaults(self, loader: str) -> Parameters:
        """The loader's parameters before anybody edits them: the configured values over the declared defaults."""
        return self._defaults[loader]

    def show_on_change(self, choice: gr.Dropdown, best: gr.Textbox) -> None:
        """Show the group of the loader named by `choice`, or by `best` where that says auto, without a round trip."""
        names = list(self._groups)
        script = (
            f"(choice, best) => {{ const shown = choice === {json.dumps(AUTO)} ? best : choice; "
            f"return {json.dumps(names)}.map((name) => ({{__type__: 'update', visible: name === shown}})); }}"
        )
        gr.on(
            [choice.change, best.change],
            None,
            [choice, best],
            list(self._groups.values()),
            js=script,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def reading_script(self, told: str) -> str:
        """A script that calls `told` with something of the caller's and {loader, values} of the loader that is shown.

        For an event whose inputs are the former, the choice of a loader, what auto stands for, and all components.
        """
        places: dict[str, dict[str, int]] = {}
        before = 0
        for name, drawn in self._drawn.items():
            places[name] = {field: before + place for place, field in enumerate(drawn)}
            before += len(drawn)
        return (
            f"(first, choice, best, ...all) => {{ const loader = choice === {json.dumps(AUTO)} ? best : choice; "
            f"const places = Object.entries({json.dumps(places)}[loader] ?? {{}}); "
            "const values = Object.fromEntries(places.map(([name, place]) => [name, all[place]])); "
            f"({told})(first, {{loader, values}}); }}"
        )

    def held(self, loader: str, raw: Mapping[str, Any]) -> dict[Component, Any]:
        """What the page's script found in the controls of `loader`, as an event of Gradio's would bring it.

        A value that a component itself refuses stays as it is: `changed` says what is wrong with it, and with which.
        """
        found: dict[Component, Any] = {}
        for name, component in self._drawn[loader].items():
            value = raw.get(name)
            try:
                found[component] = component.preprocess(value)
            except (gr.Error, ArithmeticError, TypeError, ValueError):
                found[component] = value
        return found

    def values(self, loader: str, held: Mapping[Any, Any]) -> dict[str, Any]:
        """What the page holds for `loader`, as declared types. `held` maps every component to its value."""
        drawn = self._drawn[loader]
        raw = {name: held[component] for name, component in drawn.items()}
        return read_values(self._loaders[loader].parameters, raw)

    def changed(self, loader: str, held: Mapping[Any, Any], also: Container[str] = ()) -> dict[str, Any]:
        """What the page holds for `loader` and differs from its defaults, as JSON types: what a load asks for.

        Parameters named in `also` are among it whatever they hold.
        Raises `InvalidSetting` naming each wrong field.
        """
        spec = self._loaders[loader]
        wanted = spec.parameters.parse(self.values(loader, held), where=spec.title).model_dump(mode="json")
        usual = self.defaults(loader).model_dump(mode="json")
        return {name: value for name, value in wanted.items() if value != usual[name] or name in also}

    def updates(
        self, values: Mapping[str, Any], tuned: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    ) -> dict[Component, Any]:
        """Outputs that put `values` over the defaults of every loader, where a loader has and takes them.

        `tuned` holds values of single loaders, which stand between both.
        """
        outputs: dict[Component, Any] = {}
        for loader, drawn in self._drawn.items():
            cls = self._loaders[loader].parameters
            wanted = {**tuned.get(loader, {}), **values}
            fitting = {name: value for name, value in wanted.items() if not self.refused(loader, {name: value})}
            parameters = cls.parse({**self.defaults(loader).model_dump(), **fitting}, where=loader)
            shown = show_values(parameters)
            outputs |= {component: gr.update(value=shown[name]) for name, component in drawn.items()}
        return outputs

    def put(self, loader: str, values: Mapping[str, Any]) -> dict[Component, Any]:
        """Outputs that put `values` into the controls of `loader` and into those of other loaders that mean the same.

        What `loader` does not have or take is left out.
        """
        cls = self._loaders[loader].parameters
        fitting = {name: value for name, value in values.items() if not self.refused(loader, {name: value})}
        shown = show_values(cls.parse({**self.defaults(loader).model_dump(), **fitting}, where=loader))
        meanings = {_meaning(field): field.name for field in controls(cls) if field.name in fitting}
        return {
            self._drawn[other][field.name]: gr.update(value=shown[field.name])
            for other, spec in self._loaders.items()
            for field in controls(spec.parameters)
            if _meaning(field) in meanings
        }

    def refused(self, loader: str, values: Mapping[str, Any]) -> list[str]:
        """One sentence for each of `values` that `loader` does not take (any more)."""
        cls = self._loaders[loader].parameters
        sentences = []
        for name, value in values.items():
            try:
                cls.parse({name: value})
            except InvalidSetting as error:
                sentences.append(error.message)
        return sentences

    def _link(self) -> None:
        """Let an edit of a field reach the same field of the other loaders."""
        shared: dict[tuple[Any, ...], list[Component]] = defaultdict(list)
        for loader, drawn in self._drawn.items():
            for field in controls(self._loaders[loader].parameters):
                shared[_meaning(field)].append(drawn[field.name])
        for alike in shared.values():
            for component in alike if len(alike) > 1 else ():
                others = [other for other in alike if other is not component]
                events = [component.input]  # type: ignore[attr-defined]
                if isinstance(component, gr.Textbox):
                    # Its `input` is fired for key strokes only, neither for Backspace nor for pasting.
                    events.append(component.blur)
                gr.on(
                    events,
                    None,
                    component,
                    others,
                    js=f"(value) => Array({len(others)}).fill(value)" if len(others) > 1 else "(value) => value",
                    queue=False,
                    show_progress="hidden",
                    api_visibility="private",
                )


def _meaning(field: ControlSpec) -> tuple[Any, ...]:
    """What two fields must have in common for a value of one to be a value of the other."""
    return (field.name, field.kind, field.choices, field.optional, field.minimum, field.maximum)
