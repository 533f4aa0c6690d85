"""A package index on loopback that serves wheels from a folder, and holds a download back when told to."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class PackageIndex:
    """Use as a context manager. `url` is what pip's `--index-url` takes; `served` names the wheels that were sent.

    While `gate` is cleared, a wheel is sent only up to its middle, and `waiting` is set.
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

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one GET: a project's page, or a wheel."""
        parts = request.path.strip("/").split("/")
        if parts[0] == "simple":
            wheels = sorted(self.folder.glob(f"{parts[-1].replace('-', '_')}-*.whl"))
            page = "".join(f'<a href="/files/{wheel.name}">{wheel.name}</a>\n' for wheel in wheels)
            self._send(request, page.encode(), "text/html")
            return
        data = (self.folder / parts[-1]).read_bytes()
        self.served.append(parts[-1])
        self._send(request, data, "application/octet-stream")

    def _send(self, request: BaseHTTPRequestHandler, data: bytes, kind: str) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        half = len(data) // 2 if kind == "application/octet-stream" else len(data)
        try:
            request.wfile.write(data[:half])
            request.wfile.flush()
            if half < len(data):
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
