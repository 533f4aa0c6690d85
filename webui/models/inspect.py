"""The one question "what is this file?", whatever it is."""

from __future__ import annotations

import difflib
from pathlib import Path

from webui.errors import CorruptFile, ModelNotFound, UnsupportedFormat
from webui.models import gguf
from webui.models.facts import ModelFacts, ModelFormat
from webui.models.ggml import MAGICS as GGML_MAGICS
from webui.models.ggml import ggml_facts
from webui.models.gguf_facts import gguf_facts, parts_of, set_stem
from webui.models.llamafile import is_executable, llamafile_facts
from webui.models.transformers_dir import CONFIG, is_transformers_dir, transformers_facts

SNIFFED_BYTES = 512
LFS_POINTER = b"version https://git-lfs"
MARKUP = (b"<!doctype", b"<html", b"<?xml")


def inspect_model(path: Path) -> ModelFacts:
    """Facts of the model at `path`: a GGUF file or one of a set, an older ggml file, a transformers directory or a
    llamafile.

    Raises `ModelNotFound` (nothing there, or not readable), `CorruptFile` or `UnsupportedFormat`.
    """
    try:
        if path.is_dir():
            return _directory(path)
        if not path.exists():
            raise _not_found(path)
        return _file(path)
    except OSError as error:
        raise ModelNotFound(
            f"{path.name} cannot be read.", cause=error.strerror or str(error), hint="Check the file's permissions."
        ) from error


def model_id(facts: ModelFacts) -> str:
    """The model's name for API clients: the file's without extension and part number, or the directory's."""
    if facts.format is ModelFormat.TRANSFORMERS:
        return facts.path.name or facts.path.resolve().name
    return set_stem(facts.path)


def _directory(path: Path) -> ModelFacts:
    if is_transformers_dir(path):
        return transformers_facts(path)
    models = {parts_of(file)[0] for file in path.glob("*.gguf")}
    if len(models) == 1:
        return gguf_facts(models.pop())
    if not models and (path / CONFIG).is_file():
        return transformers_facts(path)  # which says what is missing
    raise UnsupportedFormat(
        f"{path.name or path} is a folder and not a model.",
        cause=f"it holds {len(models)} GGUF models" if models else f"it has no {CONFIG} and no GGUF file",
        hint="Name one of the files in it." if models else "A transformers directory has a config.json.",
    )


def _file(path: Path) -> ModelFacts:
    with path.open("rb") as file:
        start = file.read(SNIFFED_BYTES)
    if start.startswith(gguf.MAGIC):
        return gguf_facts(path)
    if start[:4] in GGML_MAGICS:
        return ggml_facts(path)
    if path.suffix.lower() == ".safetensors" or path.name == CONFIG:
        return _of_parent(path)
    if is_executable(start):
        return llamafile_facts(path)
    raise _no_model(path, start)


def _of_parent(path: Path) -> ModelFacts:
    """A file of a transformers directory was named: the directory is meant."""
    if is_transformers_dir(path.parent):
        return transformers_facts(path.parent)
    raise UnsupportedFormat(
        f"{path.name} holds weights without their configuration.",
        cause=f"there is no {CONFIG} beside it",
        hint="Download the model's whole folder and name that.",
    )


def _no_model(path: Path, start: bytes) -> CorruptFile | UnsupportedFormat:
    """Say what the file is instead, for the things people really end up with."""
    if not start:
        return CorruptFile(f"{path.name} is empty.")
    if start.startswith(LFS_POINTER):
        return CorruptFile(
            f"{path.name} is a Git LFS pointer, not the model itself.",
            hint="Fetch the file with: git lfs pull",
        )
    if start.lstrip().lower().startswith(MARKUP):
        return CorruptFile(
            f"{path.name} is a web page, not a model.",
            cause="the download saved the page that describes the file",
            hint="Download the file itself.",
        )
    if not start.strip(b"\0"):
        return CorruptFile(f"{path.name} begins with zeros.", cause="the download reserved its space and stopped")
    return UnsupportedFormat(f"{path.name} is no known model format.", cause=f"it begins with {start[:8]!r}")


def _not_found(path: Path) -> ModelNotFound:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if not names and not folder.is_dir():
        return ModelNotFound(f"{path} does not exist.", cause=f"the folder {folder} does not exist either")
    return ModelNotFound(f"{path} does not exist.", hint="Did you mean " + " or ".join(near) + "?" if near else "")
