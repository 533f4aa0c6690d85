"""How long the quick health checks take, with the start of Python.

    python -m tests.benchmarks.doctor [RUNS]

Each run is `python3 app.py doctor` in a process of its own, with a home of its own that has one model in it: the first
run knows nothing, the later ones find what the first left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.builders.gguf import tiny_llama_bpe
from webui.paths import PROJECT_ROOT, Paths


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tiny_llama_bpe(Paths(Path(folder)).ensure().models / "tiny.gguf")
        for number in range(1, runs + 1):
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, str(PROJECT_ROOT / "app.py"), "--no-setup", "doctor", "--json"],
                env={**os.environ, "GGUF_HOME": folder},
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - began
            report = json.loads(done.stdout)
            wrong = [check["name"] for check in report["checks"] if check["state"] != "ok"]
            print(
                f"run {number}: {seconds:.2f} s, {len(report['checks'])} checks, not ok: {', '.join(wrong) or 'none'}"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
