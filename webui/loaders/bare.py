"""An engine's own library without this app: the yardstick for what the app costs.

Run as `python -m webui.loaders.bare` by `webui.diagnostics.benchmark`. Reads one JSON object a line from standard
input, the model first and then prompts, and answers each with one line. Uses nothing of the app but the translation of
the parameters, so that both sides run the engine in the same way. Ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from webui.errors import AppError, EngineRefused, UnsupportedFormat

Emit = Callable[[], None]
Complete = Callable[[str, int, Emit], int]
"""Continues a prompt by at most so many tokens, greedily; calls the third argument at each token; gives their number
of prompt tokens."""


def open_xllamacpp(path: Path, values: dict[str, Any]) -> Complete:
    """llama.cpp's server engine, its completion handler called directly."""
    import xllamacpp

    from webui.loaders.xllamacpp import XllamacppParameters, engine_parameters

    server = xllamacpp.Server(engine_parameters(xllamacpp, XllamacppParameters.parse(values), path, None))

    def complete(prompt: str, max_tokens: int, emit: Emit) -> int:
        body = {"prompt": prompt, "n_predict": max_tokens, "temperature": 0.0, "top_k": 1, "stream": True}
        counted = 0

        def on_message(message: dict[str, Any]) -> bool:
            nonlocal counted
            if "error" in message:
                raise EngineRefused("The engine refused the prompt.", cause=str(message["error"])[:500])
            counted = int((message.get("usage") or {}).get("prompt_tokens", counted))
            if any(choice.get("text") for choice in message.get("choices") or ()):
                emit()
            return False

        server.handle_completions(body, on_message)
        return counted

    return complete


def open_llama_cpp_python(path: Path, values: dict[str, Any]) -> Complete:
    """The binding's `Llama` class, as its documentation uses it."""
    import llama_cpp

    from webui.loaders.llama_cpp_python import LlamaCppPythonParameters
    from webui.loaders.threads import choose_threads

    wanted = LlamaCppPythonParameters.parse(values)
    threads = choose_threads(wanted.threads)
    model = llama_cpp.Llama(
        str(path),
        n_ctx=wanted.context_size,
        n_batch=wanted.batch_size,
        n_ubatch=min(wanted.micro_batch_size, wanted.batch_size),
        n_threads=threads,
        n_threads_batch=wanted.threads_batch or threads,
        n_gpu_layers=wanted.gpu_layers,
        flash_attn=wanted.flash_attention != "off",
        verbose=False,
    )

    def complete(prompt: str, max_tokens: int, emit: Emit) -> int:
        tokens = model.tokenize(prompt.encode(), special=True)
        for _ in model.create_completion(tokens, max_tokens=max_tokens, temperature=0.0, stream=True):
            emit()
        return len(tokens)

    return complete


OPENERS: dict[str, Callable[[Path, dict[str, Any]], Complete]] = {
    "xllamacpp": open_xllamacpp,
    "llama-cpp-python": open_llama_cpp_python,
}


def timed(complete: Complete, prompt: str, max_tokens: int) -> dict[str, Any]:
    """One reply with its times, in seconds and tokens per second, by the clock on the wall."""
    times: list[float] = []
    began = time.perf_counter()
    prompt_tokens = complete(prompt, max_tokens, lambda: times.append(time.perf_counter()))
    ended = time.perf_counter()
    if not times:
        raise EngineRefused("The engine produced no token.")
    first = times[0] - began
    return {
        "first_token_seconds": first,
        "prompt_tokens_per_second": prompt_tokens / first if prompt_tokens else None,
        "tokens_per_second": (len(times) - 1) / (ended - times[0]) if len(times) > 1 else None,
        "completion_tokens": len(times),
    }


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer until the input ends."""
    complete: Complete | None = None
    for line in requests:
        message = json.loads(line)
        try:
            if complete is None:
                complete = _open(message)
                answer: dict[str, Any] = {"ready": True}
            else:
                answer = timed(complete, message["prompt"], message["max_tokens"])
        except AppError as error:
            answer = {"error": error.to_dict()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _open(message: dict[str, Any]) -> Complete:
    opener = OPENERS.get(message["loader"])
    if opener is None:
        raise UnsupportedFormat(
            f"{message['loader']} has no bare engine to compare with.", hint="There is one for: " + ", ".join(OPENERS)
        )
    return opener(Path(message["path"]), message["parameters"])


if __name__ == "__main__":
    # Engines write to standard output when they like; the answers go where nothing else is written.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        serve(sys.stdin, channel)
