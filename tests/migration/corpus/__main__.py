"""Write outcomes.txt anew."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.migration.corpus import OUTCOMES, table

with tempfile.TemporaryDirectory() as folder:
    text = table(Path(folder))
if "--write" in sys.argv:
    OUTCOMES.write_text(text, encoding="utf-8")
else:
    sys.stdout.write(text)
