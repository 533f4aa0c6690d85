"""What holds for every test: a home of its own, no network beyond this machine, and no process left behind."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import parallel
from webui.setup.starter import ensure_starter

HOME_VARIABLES = ("GGUF_HOME", "GGUF_TEST_CACHE")
ORPHAN_GRACE_SECONDS = 10.0
_outside: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is collected: no test, fixture or child process sees the settings of whoever runs the suite.

    Bytecode is kept, whatever the environment says: else each of the many processes would compile the app anew.
    """
    for name in [name for name in os.environ if name.startswith("GGUF_") and name not in HOME_VARIABLES]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    home = tempfile.TemporaryDirectory(prefix="gguf-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    os.environ["GGUF_HOME"] = home.name
    _guard_sockets()
    config.pluginmanager.register(parallel)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(item.get_closest_marker("gpu") for item in items) and not _gpu_present():
        skip = pytest.mark.skip(reason="needs a GPU, and there is none here")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)


def _gpu_present() -> bool:
    import pynvml

    try:
        pynvml.nvmlInit()
        count = int(pynvml.nvmlDeviceGetCount())
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return False
    return count > 0


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder apart: pytest looks through all that is in its own whenever a test wants another one there."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def isolation(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder of the test's own; the test fails if this process called out to another machine meanwhile."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=homes))
    monkeypatch.setenv("GGUF_HOME", str(home))
    _outside.clear()
    yield home
    if _outside:
        pytest.fail("the test called out to " + ", ".join(sorted(set(_outside))))


@pytest.fixture(scope="session")
def starter_model() -> Path:
    """The starter model, fetched once into a cache that outlives the run ($GGUF_TEST_CACHE, else in ~/.cache)."""
    return ensure_starter(cache_folder(), lambda text, share: None)


def cache_folder() -> Path:
    named = os.environ.get("GGUF_TEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "gguf-loader-webui-tests"


def _guard_sockets() -> None:
    """Refuse connections to other machines, and remember them in case the refusal is swallowed."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def checked_connect(self: socket.socket, address: Any) -> None:
        _check(self, address)
        connect(self, address)

    def checked_connect_ex(self: socket.socket, address: Any) -> int:
        _check(self, address)
        return connect_ex(self, address)

    socket.socket.connect = checked_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = checked_connect_ex  # type: ignore[method-assign]


def _check(connection: socket.socket, address: Any) -> None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6) or _is_loopback(str(address[0])):
        return
    _outside.append(f"{address[0]}:{address[1]}")
    raise ConnectionRefusedError(f"tests may not call out to {address[0]}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:  # a name
        return host == "localhost"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """No process that a test started may outlive the suite; one that does fails the run and is ended."""
    left = [child for child in psutil.Process().children(recursive=True) if not _belongs_to_python(child)]
    _, left = psutil.wait_procs(left, timeout=ORPHAN_GRACE_SECONDS)
    for process in left:
        try:
            command = " ".join(process.cmdline())
            process.kill()
        except psutil.NoSuchProcess:
            continue
        sys.stderr.write(f"\nleft behind by the tests: {process.pid} {command}\n")
        parallel.tell_what_was_left_behind(session.config, command)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure() -> None:
    """llama-cpp-python opens the null device twice as it is imported, and leaves it open until the interpreter ends."""
    for name in ("outnull_file", "errnull_file"):
        if (file := getattr(sys.modules.get("llama_cpp._utils"), name, None)) is not None:
            file.close()


def _belongs_to_python(process: psutil.Process) -> bool:
    """multiprocessing's resource tracker ends with this process by itself."""
    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return False
