"""Migrations for the page: what is offered, what was decided, and the doing.

Methods read and write files: call them in a thread.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping

from webui.errors import NotFound
from webui.files import write_atomically
from webui.loaders.contract import LoaderSpec
from webui.migration import backup as backups
from webui.migration.backup import Backup, State, sum_of
from webui.migration.carrying import Carried, carry
from webui.migration.plan import Plan
from webui.migration.survey import Survey, survey
from webui.migration.undoing import undo
from webui.paths import Paths
from webui.settings import Settings


class Migrations:
    """One per app. `reload` takes over the settings as the files stand then."""

    def __init__(
        self,
        paths: Paths,
        loaders: Mapping[str, LoaderSpec],
        settings: Callable[[], Settings],
        reload: Callable[[], Settings],
    ) -> None:
        self._paths = paths
        self._loaders = loaders
        self._settings = settings
        self._reload = reload
        self._lock = threading.Lock()
        self._put_off = False

    def look(self) -> Plan:
        """The plan for what lies here now."""
        return survey(self._paths, self._loaders).plan

    def offer(self) -> Plan | None:
        """The plan, where there is something to carry over and nobody has said no or done it before."""
        if self._put_off or not self._may_ask():
            return None
        found = survey(self._paths, self._loaders)
        if found.plan.effects and not self._handled(found):
            return found.plan
        self._put_off = True  # older files do not change while this app runs; pages need not look again
        return None

    def later(self) -> None:
        """Do not ask again before the next start."""
        self._put_off = True

    def never(self) -> None:
        """Do not ask again; the Backend tab still has it."""
        self._put_off = True
        write_atomically(self._paths.migration_choice, json.dumps({"ask": False}) + "\n")

    def carry_over(self) -> Carried:
        """Look again and do it. Raises `NotFound` where there is nothing to carry over, and as `carry`."""
        with self._lock:
            found = survey(self._paths, self._loaders)
            if not found.plan.effects:
                raise NotFound("There is nothing to carry over.", hint="Everything the older files say is so already.")
            done = carry(
                self._paths, found.plan, found.documents, self._loaders, self._settings().reload(), time.time()
            )
            self._reload()
            self._put_off = True
            return done

    def undo(self, *, force: bool = False) -> Backup:
        """Undo the latest; it is not offered again before the next start. Raises as `undoing.undo`."""
        with self._lock:
            undone = undo(self._paths, force=force)
            self._reload()
            self._put_off = True
            return undone

    def latest(self) -> Backup | None:
        """The latest migration that can be undone."""
        return backups.latest_done(self._paths)

    def _may_ask(self) -> bool:
        try:
            content = json.loads(self._paths.migration_choice.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        return not (isinstance(content, dict) and content.get("ask") is False)

    def _handled(self, found: Survey) -> bool:
        """Whether migrations have dealt with all these files as they are now."""
        done = [one for one in backups.all_backups(self._paths) if one.state is State.DONE]
        known = {(path, copy.sha256) for one in done for path, copy in one.sources}
        return all((str(one.file), sum_of(one.raw)) in known for one in found.documents if not one.problem)
