"""Saving what can be read of a damaged SQLite database, row by row, into a new one with the same tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from webui.errors import StorageFailed

BESIDE = ("-wal", "-shm")
INNER = ("sqlite_", "search_")
"""Tables that SQLite and its text search keep for themselves, filled from the others."""


def salvage(file: Path, aside: Path) -> int:
    """Move `file` to `aside` and put a sound database with all rows that can be read in its place.

    Returns the number of rows saved. Where not even the tables can be read, nothing takes its place: the app begins
    anew. Nothing may have the database open.
    """
    fresh = file.with_name(f".{file.name}.salvage")
    fresh.unlink(missing_ok=True)
    try:
        rows = _copy(file, fresh)
        file.replace(aside)
        for suffix in BESIDE:
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        if fresh.exists():
            fresh.replace(file)
    except OSError as error:
        raise StorageFailed(f"{file.name} could not be saved.", cause=error.strerror or str(error)) from error
    finally:
        fresh.unlink(missing_ok=True)
    return rows


def _copy(damaged: Path, fresh: Path) -> int:
    with closing(sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)) as source:
        source.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
        try:
            version = source.execute("PRAGMA user_version").fetchone()[0]
            made = source.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        except sqlite3.DatabaseError:  # nothing can be read of it
            return 0
        tables = [(name, sql) for kind, name, sql in made if kind == "table" and not name.startswith(INNER)]
        if not tables:
            return 0
        rest = [sql for kind, name, sql in made if kind != "table" and not name.startswith(INNER)]
        with closing(sqlite3.connect(fresh)) as target:
            saved = _fill(source, target, tables, rest)
            target.execute(f"PRAGMA user_version={int(version)}")
            target.commit()
    return saved


def _fill(
    source: sqlite3.Connection, target: sqlite3.Connection, tables: list[tuple[str, str]], rest: list[str]
) -> int:
    """Tables with their rows first, then what is made of them. Search indexes are filled by their triggers."""
    saved = 0
    virtual = [(name, sql) for name, sql in tables if sql.upper().startswith("CREATE VIRTUAL")]
    for name, sql in tables:
        if (name, sql) in virtual:
            continue
        target.execute(sql)
        for row in _rows(source, name, "rowid" if "WITHOUT ROWID" not in sql.upper() else ""):
            with suppress(sqlite3.IntegrityError):  # a row that damage has made the double of another
                target.execute(f'INSERT INTO "{name}" VALUES ({",".join("?" * len(row))})', row)
                saved += 1
    for sql in [*(sql for _, sql in virtual), *rest]:
        target.execute(sql)
    for name, sql in virtual:
        if "content=" in sql:
            target.execute(f'INSERT INTO "{name}"("{name}") VALUES (\'rebuild\')')
    return saved


def _rows(source: sqlite3.Connection, table: str, number: str) -> Iterator[tuple[object, ...]]:
    """All rows that can be read: forwards up to the damage, then backwards from the end down to it.

    `number` is what its rows are numbered by; a table without is read forwards only.
    """
    if not number:
        with suppress(sqlite3.DatabaseError):
            yield from source.execute(f'SELECT * FROM "{table}"')
        return
    last: int | None = None
    with suppress(sqlite3.DatabaseError):
        for place, *row in source.execute(f'SELECT {number}, * FROM "{table}" ORDER BY {number}'):
            last = place
            yield tuple(row)
        return
    with suppress(sqlite3.DatabaseError):
        for place, *row in source.execute(f'SELECT {number}, * FROM "{table}" ORDER BY {number} DESC'):
            if last is not None and place <= last:
                return
            yield tuple(row)
