"""Pages written by hand that hold generated parts: between two marks stands what the code says, the rest is prose.

<!-- facts: written by python3 -m webui.reference -->
…
<!-- end of facts -->
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

BEGIN = "<!-- {name}: written by python3 -m webui.reference -->"
END = "<!-- end of {name} -->"


def filled(page: Path, parts: Mapping[str, str]) -> str:
    """The page with each of `parts` between its marks. Raises `ValueError` where a mark is missing."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = BEGIN.format(name=name), END.format(name=name)
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{page} needs one place for {name}: {begin} … {end}")
        text = pattern.sub(lambda found, new=f"{begin}\n\n{part}\n{end}": new, text)  # type: ignore[misc]
    return text
