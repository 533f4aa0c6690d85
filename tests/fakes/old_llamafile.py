"""llamafile 0.9 with both its servers, `--server` (v1) and `--server --v2`, and manners to be chosen.

It has no engine: a prompt's tokens are its words, and it answers with the numbers one, two, three … Its help, its
flags, its endpoints and its messages are those of the program. `--manner` (before its own flags) is one of

    good            nothing special
    crash           dies by a signal after three tokens of a reply
    silent          stops in the middle of a reply without closing the connection
    stubborn        ignores SIGTERM, and starts a child that does too
    port-taken      says that the port is taken on its first start, counted in the folder $FAKE_FOLDER
    out-of-memory   fails to allocate while loading
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "0.9.3"
HELP_V1 = """\
usage: llamafile --server [options]

options:
  -h, --help                show this help message and exit
  -t N,  --threads N        number of threads to use during computation (default: 1)
  -tb N, --threads-batch N  number of threads to use during batch and prompt processing
  -c N,  --ctx-size N       size of the prompt context (default: 8192)
  --rope-scaling {none,linear,yarn}
                            RoPE frequency scaling method, defaults to linear unless specified by the model
  --rope-freq-base N        RoPE base frequency (default: loaded from model)
  -b N,  --batch-size N     batch size for prompt processing (default: 2048)
  -ngl N, --n-gpu-layers N  number of layers to store in VRAM
  -fa, --flash-attn         enable flash attention
  --gpu MODE                auto, amd, apple, nvidia or disable
  --mlock                   force system to keep model in RAM rather than swapping or compressing
  --no-mmap                 do not memory-map model (slower load but may reduce pageouts if not using mlock)
  -m FNAME, --model FNAME   model path
  --host                    ip address to listen (default  (default: 127.0.0.1)
  --port PORT               port to listen (default  (default: 8080)
  --lora FNAME              apply LoRA adapter (implies --no-mmap)
  -np N, --parallel N       number of slots for process requests (default: 1)
  --mmproj MMPROJ_FILE      path to a multimodal projector file for LLaVA.
  --nobrowser               Do not attempt to open a web browser tab at startup.
"""
HELP_V2 = """\
LLAMAFILER(1)                General Commands Manual               LLAMAFILER(1)

OPTIONS
     --version
             Print version and exit.

     -m FNAME, --model FNAME
             Path of GGUF model weights.

     -l HOSTPORT, --listen HOSTPORT
             Specifies the local [HOST:]PORT on which the HTTP server should listen.

     -c TOKENS, --ctx-size TOKENS
             Specifies context size, which is shared by nobody: --slots have one each.

     -s COUNT, --slots COUNT
             Specifies how many slots to maintain.

     -t N, --threads N
             Threads.

     -ngl N, --n-gpu-layers N
             Layers on the GPU.
"""

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def as_manual_page(text: str) -> str:
    """Flags in bold, as a manual page prints it: each letter, a backspace, the letter again."""
    return re.sub(r"(?<=\s)--?[a-z][\w-]*", lambda found: "".join(f"{x}\b{x}" for x in found[0]), text)


def tokens_of(text: str) -> list[str]:
    return text.split()


class Handler(BaseHTTPRequestHandler):
    """The endpoints of both servers; each refuses the other's, as the program does."""

    protocol_version = "HTTP/1.1"
    server: OldLlamafile

    def log_message(self, format: str, *arguments: Any) -> None:
        sys.stderr.write(f"{format % arguments}\n")

    def do_GET(self) -> None:
        v2 = self.server.wanted.v2
        if self.path == "/health" and not v2:
            self._json({"status": "ok", "slots_idle": 1, "slots_processing": 0})
        elif self.path == "/props" and not v2:
            self._json({"default_generation_settings": {"n_ctx": self.server.slot_context}, "total_slots": 1})
        elif self.path == "/v1/models" and v2:
            self._json({"object": "list", "data": [{"id": "model", "object": "model"}]})
        else:
            self._json({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        v2 = self.server.wanted.v2
        if self.path == "/tokenize" and v2:
            pieces = ["<s>"] * body["add_special"] + tokens_of(body["prompt"])
            self._json({"add_special": body["add_special"], "parse_special": True, "tokens": pieces})
        elif self.path == "/tokenize":
            self._json({"tokens": [len(token) for token in tokens_of(body["content"])]})
        elif self.path == "/completion" and not v2:
            self._complete_v1(body)
        elif self.path == "/v1/completions" and v2:
            self._complete_v2(body)
        else:
            self._json({"error": "not found"}, 404)

    def _complete_v1(self, body: dict[str, Any]) -> None:
        prompt = body["prompt"]
        if not isinstance(prompt, list):
            self._json({"content": "this fake wants token ids"}, 400)
            return
        limit = body["n_predict"] if body["n_predict"] >= 0 else 1000
        self._stream()
        count = 0
        for word in self._words(limit):
            count += 1
            self._event({"content": word, "multimodal": False, "slot_id": 0, "stop": False})
        timings = {"prompt_n": len(prompt), "prompt_ms": 5.0, "predicted_n": count, "predicted_ms": 10.0 * count}
        self._event(
            {
                "content": "",
                "stop": True,
                "stopped_eos": count < limit,
                "stopped_limit": count >= limit,
                "stopped_word": False,
                "stopping_word": "",
                "tokens_cached": len(prompt) + count,
                "tokens_evaluated": len(prompt),
                "tokens_predicted": count,
                "truncated": False,
                "timings": timings,
            }
        )
        self._end()

    def _complete_v2(self, body: dict[str, Any]) -> None:
        unknown = set(body) - {
            *("model", "prompt", "stream", "stream_options", "max_tokens", "top_p", "temperature", "seed"),
            *("presence_penalty", "frequency_penalty", "user", "stop"),
        }
        if unknown or not 0 <= body["temperature"] <= 2 or not isinstance(body["prompt"], str):
            self._json({"error": f"bad request {unknown}"}, 400)
            return
        limit = body.get("max_tokens", 1000)
        self._stream()
        self._event(self._choice(delta={"role": "assistant", "content": ""}))
        count = 0
        for word in self._words(limit):
            count += 1
            self._event(self._choice(text=word))
        self._event(self._choice(text="", finish_reason="stop" if count < limit else "length"))
        prompt = len(tokens_of(body["prompt"])) + 1
        usage = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
        self._event({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._end()

    def _choice(self, **fields: Any) -> dict[str, Any]:
        choice = {"index": 0, "logprobs": None, "finish_reason": None, **fields}
        return {"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": None}

    def _words(self, limit: int) -> Iterator[str]:
        for count, word in enumerate(itertools.cycle(NUMBERS), 1):
            if count > limit:
                return
            if self.server.manner == "crash" and count == 4:
                os.kill(os.getpid(), signal.SIGSEGV)
            while self.server.manner == "silent" and count == 4:
                time.sleep(0.05)
            time.sleep(0.002)
            yield f" {word}"

    def _json(self, data: dict[str, Any], status: int = 200) -> None:
        raw = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _event(self, data: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _chunk(self, raw: bytes) -> None:
        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.flush()

    def _end(self) -> None:
        self._chunk(b"")


class OldLlamafile(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, wanted: argparse.Namespace, manner: str) -> None:
        host, port = wanted.listen.split(":") if wanted.v2 else (wanted.host, wanted.port)
        self.wanted = wanted
        self.manner = manner
        self.slot_context = wanted.ctx_size // wanted.slots
        super().__init__((host, int(port)), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        sys.stderr.write(f"client {client_address} went away\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--server", action="store_true", required=True)
    parser.add_argument("--v2", action="store_true")
    parser.add_argument("-m", "--model", default="")
    parser.add_argument("-c", "--ctx-size", type=int, default=8192)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("-ngl", "--n-gpu-layers", type=int, default=0)
    if "--v2" in arguments:
        parser.add_argument("-l", "--listen", required=True)
        parser.add_argument("-s", "--slots", type=int, default=1)
    else:
        parser.add_argument("-tb", "--threads-batch", type=int, default=1)
        parser.add_argument("-b", "--batch-size", type=int, default=2048)
        parser.add_argument("-np", "--parallel", type=int, default=1, dest="slots")
        parser.add_argument("-fa", "--flash-attn", action="store_true")
        parser.add_argument("--rope-scaling")
        parser.add_argument("--rope-freq-base")
        parser.add_argument("--gpu")
        parser.add_argument("--mlock", action="store_true")
        parser.add_argument("--no-mmap", action="store_true")
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8080)
        parser.add_argument("--lora")
        parser.add_argument("--mmproj")
        parser.add_argument("--nobrowser", action="store_true", required=True)
    return parser.parse_args(arguments)


def misbehave(manner: str) -> None:
    """What a manner does before the server listens."""
    if manner == "out-of-memory":
        sys.stderr.write("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory\n")
        sys.exit(1)
    if manner == "port-taken":
        seen = Path(os.environ["FAKE_FOLDER"]) / "started"
        if not seen.exists():
            seen.touch()
            sys.stderr.write("couldn't bind to server socket: hostname=127.0.0.1 port=8080\n")
            sys.exit(1)
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.stderr.write(f"child {child.pid}\n")


def main(arguments: list[str]) -> int:
    manner = "good"
    if arguments[:1] == ["--manner"]:
        manner, arguments = arguments[1], arguments[2:]
    if "--version" in arguments:
        sys.stdout.write(f"llamafile v{VERSION}\n")
        return 0
    if "--help" in arguments:
        sys.stdout.write(as_manual_page(HELP_V2) if "--v2" in arguments else HELP_V1)
        return 0
    wanted = parse(arguments)
    misbehave(manner)
    server = OldLlamafile(wanted, manner)
    sys.stderr.write(f"arguments {json.dumps(arguments)}\n")
    sys.stderr.write("llama server listening\n")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
