"""The plan from the files that were read: who goes first where several ask for the same, and what is left to write.

Pure: `Present` says what holds now, `World` what can be set. `unaccounted` is the proof that nothing was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from webui.migration.forms import Form, form_of, version_of
from webui.migration.meanings import World, left
from webui.migration.older_chats import chats_in
from webui.migration.older_records import models_in, speeds_in
from webui.migration.places import Found
from webui.migration.plan import Effects, Entry, Key, Line, Outcome, Plan, Source, Target, Wish, key_text, shown_value
from webui.migration.reading import Document
from webui.migration.sections import interpret

PRESET = "older app"
ORDER, SWITCHED_OFF, FILES = "backends.fallback_order", "backends.disabled", "models.files"
CONTESTED = "the default, written out since another file says otherwise"
PROMPT = "chat.system_prompt"
"""Its text stands in its own line and is quoted in no other."""
UNKNOWN_FILE = "It is no configuration, chat or record that is known."


@dataclass(frozen=True, slots=True)
class Present:
    """What holds before the migration, without the environment and the command line.

    `chosen` are the keys that the person has set here. `order` names all backends in the order they are tried now.
    `sampling` are the values of the preset in force, `preset` those of the preset of an earlier migration. `chats` and
    `speeds` are what was carried before.
    """

    values: Mapping[str, Any]
    chosen: frozenset[str] = frozenset()
    order: tuple[str, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Any] | None = None
    chats: frozenset[str] = frozenset()
    speeds: frozenset[str] = frozenset()
    models_folder: Path = Path()


def make_plan(documents: Sequence[tuple[Found, Document]], world: World, present: Present, now: float) -> Plan:
    """The plan for files in the order of precedence. `documents` hold no file of the app's own in its present form."""
    sources, entries = [], []
    for found, document in documents:
        source, its = _read(found, document, world, now)
        if source is not None:
            sources.append(source)
            entries += its
    lines, effects = _Resolution(entries, present).resolve()
    return Plan(tuple(sources), lines, effects)


def unaccounted(documents: Iterable[Document], plan: Plan) -> list[str]:
    """Values that appear in no line of the plan, or in more than one: always empty."""
    wrong = []
    keys: dict[Path, list[Key]] = {}
    for line in plan.lines:
        keys.setdefault(line.file, []).append(line.key)
    for document in documents:
        counts = Counter(keys.get(document.file, []))
        repeated = Counter(leaf.key for leaf in document.repeated)
        for leaf in document.leaves():
            prefixes = (leaf.key[:length] for length in range(len(leaf.key) + 1))
            covering = sum(counts[prefix] for prefix in prefixes)
            if covering != 1 + repeated[leaf.key]:
                wrong.append(f"{document.file}: {key_text(leaf.key)} is in {covering} lines")
        if document.problem and counts[()] != 1:
            wrong.append(f"{document.file}: what is wrong with it is not told")
    return wrong


def _read(found: Found, document: Document, world: World, now: float) -> tuple[Source | None, list[Entry]]:
    """What a file is, and its entries."""
    if document.problem:
        reason = f"{document.problem} It is left alone."
        return Source(found.file, Form.UNKNOWN, document.problem), [Entry(found.file, (), None, left(reason))]
    content = document.content
    form = form_of(content)
    if form is not Form.UNKNOWN:
        version = version_of(content)
        return Source(found.file, f"{form} {version}".strip()), list(interpret(document, world))
    chats = chats_in(content, found.file, now)
    if chats is not None:
        return Source(found.file, Form.CHATS), chats + _repeated(document)
    for name, read in ((Form.MODELS, models_in), (Form.SPEEDS, speeds_in)):
        entries = read(content, found.file, world)
        if entries is not None:
            return Source(found.file, name), entries + _repeated(document)
    if not found.data and isinstance(content, dict) and content:
        return Source(found.file, Form.UNKNOWN), list(interpret(document, world))
    return Source(found.file, Form.UNKNOWN, UNKNOWN_FILE), [Entry(found.file, (), content, left(UNKNOWN_FILE))]


def _repeated(document: Document) -> list[Entry]:
    reason = left("a later value of the same name in this file goes before it")
    return [Entry(document.file, leaf.key, leaf.value, reason) for leaf in document.repeated]


@dataclass(slots=True)
class _Claim:
    """A wish with its entry. `outcome` and `note` are told once all claims are known.

    `contested`: another file asks for something else. What wins is then written even where it is the default, so that
    it wins again when its own file is written anew or gone.
    """

    entry: int
    wish: Wish
    outcome: Outcome = Outcome.LEFT
    note: str = ""
    contested: bool = False


class _Resolution:
    """Decides between the wishes of all files."""

    def __init__(self, entries: Sequence[Entry], present: Present) -> None:
        self._entries = entries
        self._present = present
        self._claims = [_Claim(place, wish) for place, entry in enumerate(entries) for wish in entry.finding.wishes]
        self._winners: dict[tuple[str, str], _Claim] = {}
        files = dict.fromkeys(entry.file for entry in entries)
        self._places = {file: place for place, file in enumerate(files)}

    def _place(self, claim: _Claim) -> int:
        """The place of its file in the order of precedence."""
        return self._places[self._entries[claim.entry].file]

    def resolve(self) -> tuple[tuple[Line, ...], Effects]:
        ordered = sorted(self._claims, key=lambda claim: (self._place(claim), claim.wish.rank))
        for claim in ordered:
            winner = self._winners.setdefault((claim.wish.key, claim.wish.item), claim)
            if winner is not claim:
                self._lose(claim, winner)
        self._order()
        # What lies in the models folder depends on which folder that becomes.
        for claim in sorted(self._winners.values(), key=lambda claim: claim.wish.key == FILES):
            if not claim.note:
                self._compare(claim)
        for claim in ordered:
            self._stays(claim)
        return tuple(self._lines()), self._effects()

    def _stays(self, claim: _Claim) -> None:
        """Tell of one that lost to a wish that itself lost to what was set here."""
        key = claim.wish.key
        winner = self._winners[key, claim.wish.item]
        if winner is claim or winner.outcome is not Outcome.LEFT or key not in self._present.chosen:
            return
        claim.note = winner.note
        if not claim.wish.item:
            claim.outcome = Outcome.LEFT
            now = self._present.values.get(key)
            self._judge(claim, now == claim.wish.value, True, "" if key == PROMPT else shown_value(key, now))

    def _lose(self, claim: _Claim, winner: _Claim) -> None:
        where = self._where(winner)
        if claim.wish.value == winner.wish.value:
            claim.outcome, claim.note = Outcome.SAME, f"{where} says the same"
        else:
            winner.contested |= self._entries[claim.entry].file != self._entries[winner.entry].file
            quoted = "" if winner.wish.item or winner.wish.key == PROMPT else f" with {_shown(winner.wish)}"
            claim.note = f"{where} goes before it{quoted}"

    def _where(self, claim: _Claim) -> str:
        entry = self._entries[claim.entry]
        return f"{key_text(entry.key) or 'the whole'} in {entry.file.name}"

    def _order(self) -> None:
        """Priorities make an order together, unless an order is given, in the same file or an earlier one."""
        places = [claim for (key, item), claim in self._winners.items() if key == ORDER and item]
        given = self._winners.get((ORDER, ""))
        if not places:
            return
        earliest = min(places, key=self._place)
        if given is not None and self._place(given) <= self._place(earliest):
            for claim in places:
                claim.note = f"{self._where(given)} gives the order"
            given.contested |= any(self._place(claim) != self._place(given) for claim in places)
            return
        if given is not None:
            given.note = f"the priorities in {self._entries[earliest.entry].file.name} go before it"
        order = tuple(dict.fromkeys([*ordered_by(places), *self._present.order]))
        contested = given is not None or len({self._place(claim) for claim in places}) > 1
        for claim in places:
            if ORDER in self._present.chosen:
                claim.note = "the order set here stays"
            elif order == self._present.order and not contested:
                claim.outcome, claim.note = Outcome.SAME, "it is the order here as it is"

    def _compare(self, claim: _Claim) -> None:
        """Whether a winner changes anything, and may."""
        key, value, item = claim.wish.key, claim.wish.value, claim.wish.item
        present = self._present
        claim.outcome = Outcome.CARRIED
        if key == "chats":
            self._known(claim, value.id in present.chats)
        elif key == "speeds":
            self._known(claim, item in present.speeds)
        elif key == FILES:
            self._listed(claim, Path(item))
        elif key.startswith("sampling."):
            self._sampled(claim, key.removeprefix("sampling."), value)
        elif key == SWITCHED_OFF:
            off = tuple(present.values.get(key, ()))
            self._judge(claim, value == (item in off), key in present.chosen, "yes" if item not in off else "no")
        elif not (key == ORDER and item):
            now = present.values.get(key)
            now = list(now) if isinstance(now, tuple) else str(now) if isinstance(now, Path) else now
            same = now == value or (key == ORDER and tuple(dict.fromkeys([*value, *present.order])) == present.order)
            self._judge(claim, same, key in present.chosen, "" if key == PROMPT else shown_value(key, now))

    def _judge(self, claim: _Claim, same: bool, chosen: bool, now: str) -> None:
        if same and claim.contested and not chosen:
            claim.wish = replace(claim.wish, how=CONTESTED)
        elif same:
            claim.outcome, claim.note = Outcome.SAME, "it is set so here" if chosen else "it is the default here"
        elif chosen:
            claim.outcome, claim.note = Outcome.LEFT, "what was set here stays" + (f": {now}" if now else "")

    def _known(self, claim: _Claim, known: bool) -> None:
        if known:
            claim.outcome, claim.note = Outcome.SAME, "it was carried over before"

    def _listed(self, claim: _Claim, path: Path) -> None:
        folder = self._winners.get(("models.directory", ""))
        chosen = Path(folder.wish.value) if folder is not None and folder.outcome is Outcome.CARRIED else None
        if path.is_relative_to(chosen or self._present.models_folder):
            claim.outcome, claim.note = Outcome.SAME, "it lies in the models folder and is listed anyway"
        elif str(path) in self._present.values.get(FILES, ()):
            claim.outcome, claim.note = Outcome.SAME, "it is listed already"

    def _sampled(self, claim: _Claim, name: str, value: Any) -> None:
        preset = self._present.preset
        now = self._present.sampling.get(name) if preset is None else preset.get(name)
        if now == value and claim.contested and preset is None:
            claim.wish = replace(claim.wish, how=CONTESTED)
        elif now == value:
            claim.outcome = Outcome.SAME
            claim.note = "it is so in the preset in force" if preset is None else f"it is so in the preset {PRESET}"
        elif preset is not None:
            claim.outcome, claim.note = Outcome.LEFT, f"the preset {PRESET} says {now}, which stays"

    def _lines(self) -> Iterator[Line]:
        claims: dict[int, list[_Claim]] = {}
        for claim in self._claims:
            claims.setdefault(claim.entry, []).append(claim)
        for place, entry in enumerate(self._entries):
            yield _line(entry, claims.get(place, []))

    def _effects(self) -> Effects:
        carried = [claim for claim in self._winners.values() if claim.outcome is Outcome.CARRIED]
        settings: dict[str, Any] = {}
        for claim in carried:
            key, item, value = claim.wish.key, claim.wish.item, claim.wish.value
            if not item and not key.startswith("sampling."):
                settings[key] = value
        wishes = [claim.wish for claim in carried]
        places = [claim for claim in carried if claim.wish.key == ORDER and claim.wish.item]
        if places:
            settings[ORDER] = list(dict.fromkeys([*ordered_by(places), *self._present.order]))
        switched = {wish.item: wish.value for wish in wishes if wish.key == SWITCHED_OFF}
        if switched:
            before = tuple(self._present.values.get(SWITCHED_OFF, ()))
            kept = [name for name in before if switched.get(name, True)]
            settings[SWITCHED_OFF] = list(dict.fromkeys([*kept, *(name for name, off in switched.items() if off)]))
        files = [wish.item for wish in wishes if wish.key == FILES]
        if files:
            settings[FILES] = list(dict.fromkeys([*self._present.values.get(FILES, ()), *files]))
        sampling = {
            wish.key.removeprefix("sampling."): wish.value for wish in wishes if wish.key.startswith("sampling.")
        }
        if sampling and "chat.default_preset" not in self._present.chosen:
            settings["chat.default_preset"] = PRESET
        chats = tuple(wish.value for wish in wishes if wish.key == "chats")
        speeds = tuple(wish.value for wish in wishes if wish.key == "speeds")
        return Effects(settings, sampling, PRESET if sampling else "", chats, speeds)


def ordered_by(places: Sequence[_Claim]) -> list[str]:
    """Backends by their priorities, the smallest first."""
    return [claim.wish.item for claim in sorted(places, key=lambda claim: claim.wish.value)]


def _line(entry: Entry, claims: Sequence[_Claim]) -> Line:
    carried = [claim for claim in claims if claim.outcome is Outcome.CARRIED]
    others = [claim for claim in claims if claim.outcome is not Outcome.CARRIED]
    outcome = Outcome.CARRIED if carried else Outcome.LEFT
    if not carried and claims and all(claim.outcome is Outcome.SAME for claim in claims):
        outcome = Outcome.SAME
    notes: dict[str, list[str]] = {}
    for claim in others:
        notes.setdefault(claim.note, []).append(_short(claim.wish))
    single = len(claims) == 1 or (len(notes) == 1 and not carried)
    said = [note if single else f"{', '.join(whom)}: {note}" for note, whom in notes.items()]
    # Of a value that is so already, too, one may want to know how it was read.
    meant = carried or [claim for claim in claims if claim.outcome is Outcome.SAME]
    how = "; ".join(dict.fromkeys(claim.wish.how for claim in meant if claim.wish.how))
    reason = "; ".join(filter(None, (entry.finding.reason, *said)))
    targets = tuple(_target(claim.wish) for claim in carried)
    return Line(entry.file, entry.key, entry.value, outcome, targets, how, reason)


def _target(wish: Wish) -> Target:
    """Where a wish leads, as it is shown."""
    if wish.key == "chats":
        return Target("conversation", wish.value.title, item=wish.item)
    if wish.key == "speeds":
        return Target("measured speed", wish.value["tokens_per_second"], item=wish.value["model"])
    if wish.key.startswith("sampling."):
        return Target(f"preset {PRESET}: {wish.key.removeprefix('sampling.')}", wish.value)
    if wish.key == FILES:
        return Target(FILES, wish.value)
    if wish.key == ORDER and wish.item:
        return Target(ORDER, f"{wish.item} by its priority {wish.value}", item=wish.item)
    if wish.key == SWITCHED_OFF:
        return Target(SWITCHED_OFF, f"{wish.item} is switched {'off' if wish.value else 'on'}", item=wish.item)
    return Target(wish.key, wish.value)


def _shown(wish: Wish) -> str:
    return shown_value(wish.key, wish.value)


def _short(wish: Wish) -> str:
    parts = wish.key.split(".")
    return parts[1] if parts[0] == "loaders" else wish.item if wish.key == SWITCHED_OFF else wish.key
