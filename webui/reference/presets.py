"""docs/presets.md: the shipped sampling presets side by side."""

from __future__ import annotations

from pathlib import Path

from webui.chat.presets import PresetStore
from webui.loaders.sampling import SamplingParameters
from webui.paths import Paths
from webui.reference.tables import GENERATED, code, table, value

HEAD = """\
# Presets

A preset is a YAML file with fields of the [sampling parameters](parameters.md#sampling); what it leaves out has the
default. Shipped ones lie in `presets/`; your own, saved on the Chat tab, in `presets/` of the app's home. One of yours
with the name of a shipped one goes before it. The preset of new conversations is the setting `chat.default_preset`.
"""


def page(folder: Path) -> str:
    """A list of what each is for, and a table of the values that differ from the defaults somewhere."""
    # A home that does not exist has no presets of its own, so these are the shipped ones.
    store = PresetStore(Paths(home=folder / "no-home", project_root=folder.parent))
    presets = {name: store.get(name) for name in store.names()}
    purposes = "".join(f"- {code(name)}: {store.description(name)}\n" for name in presets)
    default = SamplingParameters()
    fields = [
        field
        for field in SamplingParameters.model_fields
        if any(getattr(preset, field) != getattr(default, field) for preset in presets.values())
    ]
    rows = [
        (code(field), value(getattr(default, field)), *(value(getattr(preset, field)) for preset in presets.values()))
        for field in fields
    ]
    return "\n".join([GENERATED, HEAD, purposes, table(("", "default", *map(code, presets)), rows)])
