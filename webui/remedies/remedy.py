"""What a remedy is made of, and what the page can offer for one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_MARKS = re.compile(r"\*\*|`")


class Action(StrEnum):
    """What the page can offer beside a failure."""

    LOAD_AGAIN = "load again"
    OTHER_LOADER = "choose another loader"
    OTHER_MODEL = "choose another model"
    SMALLER_CONTEXT = "load with smaller context"
    LARGER_CONTEXT = "load with larger context"
    FEWER_LAYERS = "load with fewer GPU layers"
    ON_CPU = "load on the CPU"
    INSTALL = "install"
    REPAIR = "repair"
    CONTINUE = "continue the reply"
    RUN_CHECKS = "run the checks"
    SEE_LOG = "see the log"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an action is carried out: the tab's label and the id of the part of the page that does it."""

    tab: str
    elem_id: str


PLACES: Mapping[Action, Place] = {
    Action.LOAD_AGAIN: Place("Model", "model-load"),
    Action.OTHER_LOADER: Place("Model", "model-loader"),
    Action.OTHER_MODEL: Place("Model", "model-catalogue"),
    Action.SMALLER_CONTEXT: Place("Model", "model-controls"),
    Action.LARGER_CONTEXT: Place("Model", "model-controls"),
    Action.FEWER_LAYERS: Place("Model", "model-controls"),
    Action.ON_CPU: Place("Model", "model-controls"),
    Action.INSTALL: Place("Backend", "backend-cards"),
    Action.REPAIR: Place("Backend", "backend-cards"),
    Action.CONTINUE: Place("Chat", "chat-continue"),
    Action.RUN_CHECKS: Place("Diagnostics", "diagnostics-check"),
    Action.SEE_LOG: Place("Diagnostics", "diagnostics-log"),
}


@dataclass(frozen=True, slots=True)
class Remedy:
    """`title` names the failure as a person would, `meaning` is one sentence, `steps` come in the order to try them.

    `hint` is the short form, one or two sentences for beneath a message; empty where only the place that raises the
    error can say what to do.
    """

    title: str
    meaning: str
    steps: tuple[str, ...]
    hint: str = ""
    actions: tuple[Action, ...] = ()


def plain(text: str) -> str:
    """`text` without its marks, for a terminal or a JSON answer."""
    return _MARKS.sub("", text)
