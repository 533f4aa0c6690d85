"""A server executable whose port is taken on its first starts: `port_thief.py TIMES COUNTER COMMAND [ARGUMENT …]`.

While it takes the port, it runs the real command, which then fails in its own words. `COUNTER` is a file that counts.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def main(times: int, counter: Path, command: list[str]) -> int:
    if "--port" not in command:
        os.execvp(command[0], command)
    taken = len(counter.read_bytes()) if counter.exists() else 0
    if taken >= times:
        os.execvp(command[0], command)
    counter.write_bytes(b"x" * (taken + 1))
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", int(command[command.index("--port") + 1])))
        thief.listen()
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
