"""docs/parameters.md: what each backend can be told, and how the next token is chosen."""

from __future__ import annotations

from collections.abc import Mapping

from webui.loaders.contract import LoaderSpec
from webui.loaders.parameters import Group, Parameters, controls
from webui.loaders.sampling import SamplingParameters
from webui.reference.tables import GENERATED, code, field_rows, table
from webui.settings.declared import Declared

HEAD = """\
# Parameters

Each backend declares its parameters in its own file in `webui/loaders/`. From there come the controls on the Model tab,
the keys under `loaders.<name>` in `settings.yaml`, `--set name=value` on the command line, and this page. Parameters of
the same name mean the same everywhere, and keep their value when another backend is chosen.
"""

SAMPLING = """\
## Sampling

How the next token is chosen. Presets (`presets/*.yaml`) are made of these. A backend ignores what its engine does not
have and says so; the table further down shows which has what.
"""

SOURCES = """\
### Sources

- `temperature`, `top_k`: Fan, Lewis, Dauphin, *Hierarchical Neural Story Generation*, 2018 (arXiv:1805.04833).
- `top_p`: Holtzman and others, *The Curious Case of Neural Text Degeneration*, 2020 (arXiv:1904.09751).
- `min_p`: Nguyen and others, *Turning Up the Heat: Min-p Sampling*, 2024 (arXiv:2407.01082).
- `typical_p`: Meister and others, *Locally Typical Sampling*, 2022 (arXiv:2202.00666).
- `repeat_penalty`: Keskar and others, *CTRL*, 2019 (arXiv:1909.05858), section 4.1.
- `presence_penalty`, `frequency_penalty`: as the OpenAI API defines them, subtracted from the logits.
- `dry_*`, `xtc_*`: as their author, p-e-w, proposed them to text-generation-webui (2024, pull requests 5677 and 6335).
- `dynatemp_*`: entropy-based temperature as in llama.cpp (pull request 4972).
- `mirostat*`: Basu and others, *Mirostat*, 2021 (arXiv:2007.14966).
"""


def page(loaders: Mapping[str, LoaderSpec]) -> str:
    """The whole page."""
    parts = [GENERATED, HEAD]
    for name, spec in loaders.items():
        parts.append(f"## {name}\n")
        parts.append(f"**{spec.title}.** {spec.summary}\n" if spec.summary else f"**{spec.title}**\n")
        parts += _groups(f"loaders.{name}.", spec.parameters)
    parts.append(SAMPLING)
    parts += _groups("", SamplingParameters)
    if loaders:
        head = ("", *(code(name) for name in loaders))
        rows = [
            (code(field), *("yes" if field in spec.samplers else "–" for spec in loaders.values()))
            for field in SamplingParameters.model_fields
        ]
        parts += ["### Which backend has what\n", table(head, rows)]
    parts.append(SOURCES)
    return "\n".join(parts)


def _groups(prefix: str, owner: type[Parameters]) -> list[str]:
    parts = []
    for group in Group:
        items = [Declared(prefix + spec.name, owner, spec) for spec in controls(owner) if spec.control.group == group]
        if items:
            parts.append(f"### {group.value.capitalize()}\n")
            parts.append(table(("name", "default", "allowed", "meaning"), field_rows(items)))
    return parts
