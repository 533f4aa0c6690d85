"""What to do about a failure: one table, from an error's code to what it means and how a person gets out of it.

From it come the hint an error carries when nothing better is known where it is raised, the buttons beside a failure on
the page, and `docs/troubleshooting.md`. In the texts, `**…**` holds what is written on the page (a tab, a button, a
control) and backticks hold what is typed: a command, a setting or parameter, a file. A test looks each of them up.
"""

from webui.remedies.remedy import PLACES, Action, Place, Remedy, plain
from webui.remedies.table import REMEDIES

__all__ = ["PLACES", "REMEDIES", "Action", "Place", "Remedy", "hint_of", "plain"]


def hint_of(code: str) -> str:
    """The short form of the remedy for `code` in plain text; empty where there is none."""
    remedy = REMEDIES.get(code)
    return plain(remedy.hint) if remedy else ""
