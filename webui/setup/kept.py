"""The version before: the files of the packages that an installation may change, kept until the next one.

What is there of them is put aside before pip begins, by the record each package has of its files, and put back without
pip and without a network where the new version fails, where the installation is cut off, or when it is asked for. It
lies in the environment itself: in `kept-backends/NAME.changing` while a change is going on, by which one that was cut
off is known, then in `kept-backends/NAME`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path

from webui.errors import NotFound
from webui.files import write_atomically
from webui.setup.lock import environment_lock

FOLDER = "kept-backends"
LINKED_BYTES = 1 << 20
"""Files from this size on are linked and not copied, where the disk can: pip replaces files and never rewrites them."""
CHANGING = ".changing"


@dataclass(frozen=True, slots=True)
class Package:
    """One package as it was: its version, and its files, relative to the environment."""

    version: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """`packages` are those put aside, by name; `planned` all that the change was to touch, and `present` the names of
    everything that there was in the environment.
    """

    folder: Path
    prefix: Path
    packages: Mapping[str, Package]
    planned: tuple[str, ...] = ()
    present: tuple[str, ...] = field(default=(), repr=False)

    def version(self, distribution: str) -> str | None:
        found = self.packages.get(_plain(distribution))
        return found.version if found is not None else None

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file for package in self.packages.values() for file in package.files)


def kept_of(name: str, prefix: Path | None = None) -> Kept | None:
    """The version of backend `name` before the last change; None where there is none, or none that can be read."""
    return _read((prefix or Path(sys.prefix)) / FOLDER / name)


def begun(name: str, prefix: Path | None = None) -> Kept | None:
    """What was there before a change of `name` that has begun and not come to its end; it may still be going on."""
    return _read((prefix or Path(sys.prefix)) / FOLDER / (name + CHANGING))


def was_cut_off(name: str) -> bool:
    """Whether an installation of `name` began, did not come to its end, and is not going on either."""
    if begun(name) is None:
        return False
    lock = environment_lock(Path(sys.prefix))
    if not lock.acquire():
        return False
    lock.release()
    return True


def keep(name: str, distributions: Collection[str], *, copies: bool = True, prefix: Path | None = None) -> Kept:
    """Put aside what is there of `distributions`, before they are changed. Raises `OSError`.

    Without `copies` nothing can be put back (what is there is broken); it is only noted that a change has begun.
    """
    root = prefix or Path(sys.prefix)
    folder = root / FOLDER / (name + CHANGING)
    fresh = root / FOLDER / f".{name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    packages = {}
    for distribution in distributions if copies else ():
        found = next(iter(metadata.distributions(name=distribution, path=[str(_library())])), None)
        if found is None:
            continue
        files = [str(path.relative_to(root)) for path in _files(found, root)]
        for file in files:
            _copy(root / file, fresh / "files" / file)
        packages[_plain(distribution)] = Package(found.version, tuple(files))
    kept = Kept(folder, root, packages, tuple(map(_plain, distributions)), tuple(_names()))
    _write(kept, fresh)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)
    return kept


def settle(kept: Kept, main: Collection[str]) -> None:
    """The change is done and proved. What it changed stays for a roll-back; what it left alone need not be kept.

    Where nothing of the backend's `main` packages was there before, there is nothing to go back to.
    """
    changed = {name: package for name, package in kept.packages.items() if _is_changed(kept, package)}
    if not changed or not any(kept.version(name) for name in main):
        forget(kept)
        return
    for name in kept.packages.keys() - changed.keys():
        for file in kept.packages[name].files:
            (kept.folder / "files" / file).unlink(missing_ok=True)
    _write(replace(kept, packages=changed), kept.folder)
    final = kept.folder.with_name(kept.folder.name.removesuffix(CHANGING))
    shutil.rmtree(final, ignore_errors=True)
    kept.folder.replace(final)


def forget(kept: Kept) -> None:
    """The change is undone, or nothing of it can be."""
    shutil.rmtree(kept.folder, ignore_errors=True)


def restore(kept: Kept, *, at_once: bool = False) -> None:
    """Make the packages what they were: what came since is taken away, what was there is put back. Raises `OSError`.

    Works whatever pip was doing when it was stopped. `at_once` says that nothing else can have been installed since, so
    that also what the packages brought with them is taken away.
    """
    came = [name for name in _names() if name not in kept.present and (at_once or name in kept.planned)]
    for name in (*came, *kept.packages):
        _remove(name, kept.prefix)
    library = _library()
    owned = _top_folders_of_others({*came, *kept.packages})
    for top in {_top_folder(kept.prefix / file, library) for file in kept.files} - owned - {None}:
        shutil.rmtree(library / str(top), ignore_errors=True)
    for file in kept.files:
        _copy(kept.folder / "files" / file, kept.prefix / file)
    _clear_leftovers(library)


def roll_back(name: str, prefix: Path | None = None) -> Kept:
    """Put the version before back, and keep the present one in its place; a change that was cut off is undone instead.

    Raises `NotFound` where nothing is kept.
    """
    if (cut_off := begun(name, prefix)) is not None:
        restore(cut_off)
        forget(cut_off)
        return cut_off
    before = kept_of(name, prefix)
    if before is None:
        raise NotFound(f"No earlier version of {name} is kept.", hint="One is kept whenever a backend is changed.")
    present = keep(name, before.packages, prefix=prefix)
    restore(replace(before, planned=()))
    settle(present, before.packages)
    return before


def _read(folder: Path) -> Kept | None:
    try:
        told = json.loads((folder / "kept.json").read_text("utf-8"))
        packages = {
            str(name): Package(str(package["version"]), tuple(map(str, package["files"])))
            for name, package in told["packages"].items()
        }
        names = (tuple(map(str, told[key])) for key in ("planned", "present"))
        return Kept(folder, folder.parent.parent, packages, *names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(kept: Kept, folder: Path) -> None:
    told = {
        "packages": {name: asdict(package) for name, package in kept.packages.items()},
        "planned": kept.planned,
        "present": kept.present,
    }
    write_atomically(folder / "kept.json", json.dumps(told))


def _is_changed(kept: Kept, package: Package) -> bool:
    """Whether the record of its files, which holds their hashes, is another one now."""
    record = next((file for file in package.files if file.endswith("/RECORD")), None)
    if record is None:
        return True
    try:
        return (kept.prefix / record).read_bytes() != (kept.folder / "files" / record).read_bytes()
    except OSError:
        return True


def _names() -> list[str]:
    """Every package of the environment; what is there only in part, without a record, has no name."""
    return [
        _plain(name)
        for distribution in metadata.distributions(path=[str(_library())])
        if distribution.files is not None and (name := distribution.metadata["Name"])
    ]


def _files(found: metadata.Distribution, root: Path) -> Iterator[Path]:
    """Its files inside the environment, without what Python compiles of them."""
    for file in found.files or ():
        path = Path(os.path.normpath(str(found.locate_file(file))))
        if path.is_relative_to(root) and "__pycache__" not in path.parts and path.is_file():
            yield path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if source.stat().st_size >= LINKED_BYTES:
        try:
            os.link(source, target)
            return
        except OSError:  # a disk without hard links
            pass
    shutil.copy2(source, target)


def _remove(name: str, root: Path) -> None:
    """Take away the files of whatever version of package `name` is there, whole or in part."""
    library = _library()
    for info in library.glob("*.dist-info"):
        if _plain(info.name.removesuffix(".dist-info").rpartition("-")[0]) != name:
            continue
        folders = {info}
        for path in list(_files(metadata.Distribution.at(info), root)):
            path.unlink(missing_ok=True)
            folders |= {folder for folder in path.parents if folder.is_relative_to(library) and folder != library}
        shutil.rmtree(info, ignore_errors=True)
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            shutil.rmtree(folder / "__pycache__", ignore_errors=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _top_folders_of_others(names: Collection[str]) -> set[str | None]:
    """Folders of the library that packages other than `names` have files in."""
    library = _library()
    return {
        _top_folder(Path(str(found.locate_file(file))), library)
        for found in metadata.distributions(path=[str(library)])
        if _plain(found.metadata["Name"] or "") not in names
        for file in found.files or ()
    }


def _top_folder(path: Path, library: Path) -> str | None:
    path = Path(os.path.normpath(path))
    if not path.is_relative_to(library) or path.parent == library:
        return None
    return path.relative_to(library).parts[0]


def _clear_leftovers(library: Path) -> None:
    """pip renames what it replaces to names with a tilde, and leaves them where it is ended by force."""
    for folder in library.glob("~*"):
        shutil.rmtree(folder, ignore_errors=True)


def _library() -> Path:
    return Path(sysconfig.get_path("purelib"))


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
