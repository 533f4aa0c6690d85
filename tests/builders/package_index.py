"""A package index on loopback that serves wheels from a folder, and holds back, cuts or falsifies them when told to."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

FAULTS = ("cut", "false", "closed")


class PackageIndex:
    """Use as a context manager. `url` is what pip's `--index-url` takes; `served` names the wheels that were sent.

    Wheels in a folder `NAME` stand on an index of their own, `builds` with NAME for {build}. While `gate` is cleared, a
    wheel is sent only up to its middle, and `waiting` is set. `faulty` is the address of the same index with a fault:
    "cut" ends the connection within a wheel, "false" names hashes that no wheel has, "closed" refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self.served: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.answer(self)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def faulty(self, fault: str) -> str:
        return self.url.replace("/simple", f"/{fault}/simple")

    @property
    def builds(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/whl/{{build}}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one GET: a project's page, or a wheel."""
        kind, *rest = unquote(request.path).strip("/").split("/")
        fault = kind if kind in FAULTS else ""
        if fault:
            kind, *rest = rest
        if fault == "closed":
            request.send_error(503)
            return
        if kind == "files":
            data = self.folder.joinpath(*rest).read_bytes()
            self.served.append(rest[-1])
            self._send(request, data, "application/octet-stream", cut=fault == "cut")
            return
        folder = self.folder if kind == "simple" else self.folder / rest[0]
        wheels = sorted(folder.glob(f"{rest[-1].replace('-', '_')}-*.whl"))
        mark = f"#sha256={'0' * 64}" if fault == "false" else ""
        start = f"/{fault}" if fault else ""
        links = [(wheel.relative_to(self.folder).as_posix(), wheel.name) for wheel in wheels]
        page = "".join(f'<a href="{start}/files/{place}{mark}">{name}</a>\n' for place, name in links)
        self._send(request, page.encode(), "text/html")

    def _send(self, request: BaseHTTPRequestHandler, data: bytes, kind: str, *, cut: bool = False) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        half = len(data) // 2 if kind == "application/octet-stream" else len(data)
        try:
            request.wfile.write(data[:half])
            request.wfile.flush()
            if half < len(data):
                if cut:
                    request.close_connection = True
                    return
                if not self.gate.is_set():
                    self.waiting.set()
                self.gate.wait()
                request.wfile.write(data[half:])
        except ConnectionError:  # the client was killed, which is what some tests do
            request.close_connection = True

    def __enter__(self) -> PackageIndex:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
