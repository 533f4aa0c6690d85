"""Benchmarks made up for tests: one loader or several, with the speeds that a test wants."""

from __future__ import annotations

from collections.abc import Sequence

from webui.diagnostics.benchmark_results import BenchmarkRun, DepthResult, Figure, LoaderResult

STEADY = (0.99, 1.0, 1.01)


def depth(
    at: int = 0, speed: float = 50.0, *, prompt: float = 200.0, factors: Sequence[float] = STEADY, tokens: int = 64
) -> DepthResult:
    return DepthResult(
        at,
        tuple(max(at, tokens) for _ in factors),
        tuple(32 for _ in factors),
        Figure(tuple(prompt * factor for factor in factors)),
        Figure(tuple(speed * factor for factor in factors)),
        Figure(tuple(0.4 / factor for factor in factors)),
        200_000_000,
    )


def loader(name: str = "xllamacpp", *depths: DepthResult, version: str = "1") -> LoaderResult:
    return LoaderResult(
        name,
        "CPU",
        "llama.cpp",
        version,
        version,
        4096,
        {"threads": 2},
        Figure((0.5, 0.51, 0.52)),
        depths or (depth(), depth(1024, 40.0)),
        200_000_000,
        210_000_000,
    )


def run(*results: LoaderResult, name: str = "20260102-030405-abcd", **changes: object) -> BenchmarkRun:
    values: dict[str, object] = {
        "id": name,
        "at": 1_767_323_045.0,
        "app_version": "0.1.0",
        "machine": "a processor | 16 GiB",
        "model": "tiny",
        "path": "/models/tiny.gguf",
        "file_bytes": 1000,
        "runs": 3,
        "reply_tokens": 32,
        "depths": (0, 1024),
        "results": results or (loader(),),
        "state": "done",
        **changes,
    }
    return BenchmarkRun(**values)  # type: ignore[arg-type]
