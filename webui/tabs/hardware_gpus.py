"""The Hardware tab's choice of GPUs: which of them models may use, and the profiles that name such choices.

On a machine without GPUs nothing of it is drawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from webui.context import AppContext
from webui.errors import AppError, InvalidRequest
from webui.hardware.choice import GpuChoice, environment, name_of
from webui.hardware.facts import GpuFacts
from webui.settings import Settings
from webui.settings.profiles import BUILT_IN, Profile, read_profile, share_text
from webui.tabs.present import failure_html, list_html, size, verdict_html
from webui.tabs.visible import SILENT, when_opened

ALL, QUIET = (profile.name for profile in BUILT_IN)
TICKED = ""
"""The profile that is none: the GPUs that are ticked."""
UNHEARD: dict[str, Any] = {"queue": False, **SILENT}


def build(context: AppContext) -> None:
    """Draw the part where the caller stands."""
    GpuPart(context).build()


class GpuPart:
    """The components of one page. What is shown is read anew when the tab is opened and after each change."""

    def __init__(self, context: AppContext) -> None:
        self.context = context

    def build(self) -> None:
        with gr.Column(visible=False, elem_id="hardware-gpus") as self.part:
            gr.HTML("<h2 class='part'>GPUs for models</h2>")
            self.profile = gr.Radio([], label="Profile", elem_id="hardware-profile")
            self.gpus = gr.CheckboxGroup([], label="GPUs that models may use", elem_id="hardware-gpus-chosen")
            self.status = gr.HTML(elem_id="hardware-gpus-status")
            with gr.Row(elem_id="hardware-profile-new"):
                self.name = gr.Textbox(label="Name", info="To keep this choice as a profile.", max_length=60)
                self.split = gr.Textbox(
                    label="Split", info="Share of each GPU, such as 3:1. Empty leaves it to the engine.", max_length=60
                )
                save = gr.Button("Save as profile", size="sm", scale=0, min_width=160, elem_id="hardware-profile-save")
                self.delete = gr.Button(
                    "Delete profile",
                    size="sm",
                    scale=0,
                    min_width=160,
                    visible=False,
                    elem_id="hardware-profile-delete",
                )
        self.outputs = [self.part, self.profile, self.gpus, self.name, self.split, self.delete, self.status]
        when_opened(self._shown, self.outputs)
        self.profile.input(self._take_profile, self.profile, self.outputs, **UNHEARD)
        self.gpus.input(self._take_gpus, self.gpus, self.outputs, **UNHEARD)
        save.click(self._save, [self.name, self.gpus, self.split], self.outputs, **UNHEARD)
        self.delete.click(self._delete, self.profile, self.outputs, **UNHEARD)

    async def _take_profile(self, name: str) -> list[Any]:
        return await self._change({"hardware.profile": name})

    async def _take_gpus(self, names: Sequence[str]) -> list[Any]:
        known = [name_of(gpu) for gpu in (await self.context.hardware()).gpus]
        if not names:
            return await self._change({"hardware.profile": QUIET})
        chosen = [] if set(known) <= set(names) else list(names)
        return await self._change({"hardware.gpus": chosen, "hardware.profile": TICKED})

    async def _save(self, name: str, names: Sequence[str], split: str) -> list[Any]:
        """Keep what is ticked under a name, in place of a profile of that name, and use it."""
        known = [name_of(gpu) for gpu in (await self.context.hardware()).gpus]
        name = name.strip()
        gpus = () if set(known) <= set(names) else tuple(names)
        line = str(Profile(name, gpus, processor=not names))
        if split.strip():
            line += f" split {split.strip()}"
        others = [one for one in self._lines() if read_profile(one).name != name]
        try:
            if not name or {"=", ","} & set(name):
                raise InvalidRequest(
                    "A profile needs a name without = and commas.", hint="Write one beside the button."
                )
        except AppError as error:
            return await self._shown(failure_html(error, title="Not saved"))
        return await self._change({"hardware.profiles": [*others, line], "hardware.profile": name})

    async def _delete(self, name: str) -> list[Any]:
        """Take the profile out; the GPUs it named stay chosen."""
        lines = self._lines()
        gone = next((read_profile(line) for line in lines if read_profile(line).name == name), None)
        if gone is None:
            return await self._shown()
        kept = [line for line in lines if read_profile(line).name != name]
        after = {"hardware.gpus": list(gone.gpus), "hardware.profile": QUIET if gone.processor else TICKED}
        return await self._change({"hardware.profiles": kept, **after})

    def _lines(self) -> tuple[str, ...]:
        return self.context.settings.hardware.profiles

    async def _change(self, changes: Mapping[str, Any]) -> list[Any]:
        try:
            settings = await asyncio.to_thread(self.context.save_settings, changes)
        except AppError as error:
            return await self._shown(failure_html(error, title="Not saved"))
        return await self._shown(_overruled(settings, changes))

    async def _shown(self, message: str = "") -> list[Any]:
        """The updates of all components; nothing where there is no GPU."""
        gpus = (await self.context.hardware()).gpus
        if not gpus:
            return [gr.update(visible=False), *[gr.skip()] * 6]
        choice = await asyncio.to_thread(self.context.gpu_choice)
        settings = self.context.settings.hardware
        own = [profile.name for profile in settings.known() if profile not in BUILT_IN]
        profiles = [("All GPUs", ALL), ("Processor only (quiet)", QUIET), *((name, name) for name in own)]
        in_use = settings.in_use()
        shown = in_use.name or (TICKED if settings.gpus else ALL)
        split = ":".join(map(share_text, in_use.split))
        return [
            gr.update(visible=True),
            gr.update(choices=[*profiles, ("As ticked below", TICKED)], value=shown),
            gr.update(choices=[(_label(gpu), name_of(gpu)) for gpu in gpus], value=[*map(name_of, choice.gpus)]),
            gr.update(value=shown if shown in own else ""),
            gr.update(value=split),
            gr.update(visible=shown in own),
            message + status_html(choice, switched_off=not self.context.settings.backends.gpu_enabled),
        ]


def status_html(choice: GpuChoice, *, switched_off: bool) -> str:
    """What the choice means, and from when on."""
    remarks = [f"{name} is named in the settings, and there is no such GPU here." for name in choice.unknown]
    if switched_off:
        remarks.append("The use of GPUs is switched off on the Backend tab.")
    if choice.gpus and any(gpu.vulkan for gpu in choice.left_out) and not _keeps_vulkan(choice):
        remarks.append("Engines with a Vulkan build choose among all GPUs here; name theirs on the Model tab.")
    return (
        f'<p role="status">{verdict_html("plain", f"{_meaning(choice)} A change holds from the next load.")}</p>'
        f"{list_html(remarks, tone='warning')}"
    )


def _meaning(choice: GpuChoice) -> str:
    if not choice.gpus:
        return "Models stay on the processor."
    free = [gpu.memory_free for gpu in choice.gpus if gpu.memory_free is not None]
    room = f", with {size(sum(free))} free" if len(free) == len(choice.gpus) else ""
    split = f", split {':'.join(map(share_text, choice.split))}" if choice.split else ""
    return f"Models may use {' and '.join(gpu.name for gpu in choice.gpus)}{room}{split}."


def _keeps_vulkan(choice: GpuChoice) -> bool:
    return "GGML_VK_VISIBLE_DEVICES" in environment(choice)


def _label(gpu: GpuFacts) -> str:
    return f"{gpu.name}, {size(gpu.memory_total)}" if gpu.memory_total else gpu.name


def _overruled(settings: Settings, changes: Mapping[str, Any]) -> str:
    """A remark for each value that was saved and does not hold, since something else goes before it."""
    sources = {settings.source(key) for key, value in changes.items() if _plain(settings.value(key)) != _plain(value)}
    return list_html(
        [f"Saved; {source} says otherwise and goes before it." for source in sorted(sources)], tone="warning"
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
