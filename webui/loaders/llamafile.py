"""An executable that serves a model: a llamafile, with or without weights inside, or llama.cpp's own llama-server.

The worker starts it on a loopback port, waits until it answers, and speaks HTTP with it. Which executable and what it
understands is the business of `llamafile_program`, its command line that of `llamafile_flags`, its life and death that
of `llamafile_process`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from webui.errors import AppError, EngineCrashed, EngineRefused, PortTaken
from webui.loaders.context_budget import ContextBudget
from webui.loaders.contract import (
    Availability,
    Chunk,
    Finished,
    GenerationRequest,
    LoadedModel,
    Loader,
    LoaderSpec,
    ReportProgress,
    Verdict,
)
from webui.loaders.llama_files import judge_gguf
from webui.loaders.llama_log import read_device
from webui.loaders.llama_parameters import slots_of
from webui.loaders.llama_reply import SAMPLERS, Reply, messages, native_piece, openai_piece, request_body
from webui.loaders.llama_server import V2_SAMPLERS, Dialect, LlamaServer
from webui.loaders.llamafile_flags import CommandLine, server_arguments
from webui.loaders.llamafile_parameters import LlamafileParameters
from webui.loaders.llamafile_process import ServerProcess, free_port, new_key
from webui.loaders.llamafile_program import Program, find_program, probe, version_of
from webui.loaders.reply import check_fits
from webui.models.facts import ModelFacts, ModelFormat

PORT_TRIES = 3
"""A free port may be taken by somebody else between our choice and the server's start; rarely, and never thrice."""


class LlamafileLoader(Loader[LlamafileParameters]):
    """One server process."""

    _process: ServerProcess | None = None
    _server: LlamaServer
    _context_size: int
    _budget: ContextBudget

    def load(self, progress: ReportProgress) -> LoadedModel:
        progress("Asking the program what it is", None)
        path = find_program(self.parameters.executable, self.facts)
        program = probe(path, prefer_v2=self.parameters.generation == "v2")
        progress(f"Waiting for {path.name} to load the model", None)
        command = self._start(program)
        told = self._server.context_size()
        self._context_size = told or self.parameters.context_size or self.facts.context_length or 0
        self._budget = ContextBudget(self._context_size * (1 if command.shared_cache else command.slots))
        assert self._process is not None
        device = read_device(self._process.lines())
        self._process.watch(self.died)
        return LoadedModel(
            context_size=self._context_size,
            device=device.text,
            device_kind=device.kind,
            engine="llamafile" if program.is_llamafile else "llama-server",
            engine_version=program.version,
            slots=command.slots,
            gpu_layers=device.layers,
            notes=(*command.notes, *self._notes()),
        )

    def _start(self, program: Program) -> CommandLine:
        """Start the server on a port of its own and wait until it is ready."""
        model = None if self._weights_inside(program) else str(self.facts.path)
        for attempt in range(1, PORT_TRIES + 1):
            port, key = free_port(), new_key(program)
            command = server_arguments(
                program, self.parameters, model=model, port=port, trained_context=self.facts.context_length
            )
            self._server = LlamaServer(f"http://127.0.0.1:{port}", key, program.dialect, self._bos_token())
            self._process = ServerProcess([*program.start, *command.arguments], key)
            try:
                self._process.wait_until(self._server.is_ready)
            except PortTaken:
                self._process.stop()
                if attempt == PORT_TRIES:
                    raise
            except AppError:
                self._process.stop()
                raise
            else:
                return command
        raise AssertionError("the last try returns or raises")

    def _weights_inside(self, program: Program) -> bool:
        return self.facts.format is ModelFormat.LLAMAFILE and program.path == self.facts.path

    def _bos_token(self) -> int | None:
        """The token an old server's tokenizer endpoint leaves to us; None for models that want none."""
        token = self.facts.metadata.get("tokenizer.ggml.bos_token_id")
        adds = self.facts.add_bos_token
        if adds is None:  # llama.cpp's own rule for files that do not say
            adds = self.facts.tokenizer == "llama"
        return int(token) if adds and token is not None else None

    def _notes(self) -> Iterator[str]:
        wanted = self.parameters.context_size
        if wanted > self._context_size:
            yield f"The context was cut from {wanted} to {self._context_size} tokens, the model's own or what fits."

    def tokenize(self, text: str, *, add_bos: bool) -> list[int]:
        with self._explaining():
            return self._server.tokenize(text, add_bos=add_bos)

    def generate(self, request: GenerationRequest, cancelled: threading.Event) -> Iterator[Chunk | Finished]:
        tokens = self.tokenize(request.prompt, add_bos=True)
        # Older servers cut a prompt that is too long without a word; so it is measured here for all of them.
        check_fits(len(tokens), self._context_size)
        second = self._server.dialect is Dialect.V2
        read = openai_piece if second else native_piece
        reply = Reply(request, V2_SAMPLERS if second else SAMPLERS, len(tokens))
        body = request_body(request.sampling, self._context_size)
        with self._budget.reserve(reply.longest(self._context_size), cancelled) as held, self._explaining():
            completion = self._server.completion(body, request.prompt, tokens)
            pieces = (read(message) for message in messages(completion.produce, cancelled, completion.interrupt))
            yield from reply.events(pieces, cancelled) if held else reply.never_started()

    def _explaining(self) -> _Explaining:
        return _Explaining(self._process)

    def close(self) -> None:
        if self._process is not None:
            self._process.stop()


class _Explaining:
    """Turns a broken connection into the account of how the server died, with its last lines."""

    def __init__(self, process: ServerProcess | None) -> None:
        self._process = process

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EngineCrashed | EngineRefused) and self._process is not None:
            account = self._process.death(error)
            if account is not error:
                raise account from error


def _can_open(facts: ModelFacts) -> Verdict:
    if facts.format is ModelFormat.LLAMAFILE:
        return Verdict(True, "The file brings its own engine.")
    return judge_gguf(facts)


def _find(spec: LoaderSpec, facts: ModelFacts | None, parameters: Mapping[str, Any]) -> Availability:
    """Whether there is an executable, and its version where it may be asked for it (see `version_of`)."""
    try:
        path: Path = find_program(str(parameters.get("executable", "")), facts)
    except AppError as error:
        return Availability(False, error.message, hint=error.hint)
    inside = facts is not None and path == facts.path
    return Availability(True, f"uses {path}", None if inside else version_of(path))


SPEC = LoaderSpec(
    name="llamafile",
    title="llamafile",
    summary="A program that serves the model: a llamafile, or llama.cpp's llama-server, built for your GPU.",
    parameters=LlamafileParameters,
    loader=LlamafileLoader,
    formats=frozenset({ModelFormat.GGUF, ModelFormat.LLAMAFILE}),
    devices=("cpu", "cuda", "rocm", "vulkan", "metal"),
    samplers=SAMPLERS,
    can_open=_can_open,
    find=_find,
    slots=slots_of,
    safe_steps=({"cpu_repacking": "off"}, {"flash_attention": "off"}),
    cpu_parameters={"gpu_layers": 0},
)
