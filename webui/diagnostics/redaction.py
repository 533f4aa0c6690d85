"""Taking out of texts what is nobody else's business: secrets, names, folders of a person, and what was written.

Two kinds of rules: values that are known here (a password from the settings, the user's name, the home folder), and
shapes that are secret anywhere (`Bearer …`, `HF_TOKEN=…`, somebody's home). Redacting twice is the same as once.
"""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

SECRET, USER, HOST, WRITTEN, ADDRESS, EMAIL = "<secret>", "<user>", "<host>", "<written>", "<address>", "<email>"
LEAST_SECRET = 4
LEAST_NAME = 2
ANYWHERE = 6
"""A name of so many letters is taken out of longer words as well."""
LEAST_WRITTEN = 12
"""A shorter line of a conversation says nothing, and stands in texts of its own."""
MOST_WRITTEN = 1500
SHORT = 400
"""Texts up to this length come again and again."""

SECRET_NAME = re.compile(
    r"(?i:(?:api|access|private|secret|signing|encryption)[_-]?key|passw(?:or)?d|passphrase|secret|credential|"
    r"authorization|cookie|(?:access|auth|api|bearer|hf|refresh|session|github|gitlab)[_-]?token)|(?:^|_)TOKEN$"
)
"""Names of settings and variables whose values are secrets."""
_COMMON = """
root user users admin administrator guest home nobody ubuntu debian runner app localhost localdomain local vm host
server desktop laptop computer model models test memory context cache layers weights file files loader loaders load
linux windows darwin macos python engine worker device gpu cpu plan default auto none true false
"""
COMMON = frozenset(_COMMON.split())
"""Words that name nobody, even where an account or a machine is called so."""

_SHAPES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", SECRET),
        (r"(?i)\b(bearer\s+)(?!<)[A-Za-z0-9._~+/=-]{6,}", rf"\1{SECRET}"),
        (r"\b([Bb]asic\s+)(?=\S+[A-Z0-9=+/])[A-Za-z0-9+/=]{6,}", rf"\1{SECRET}"),
        (
            r"(?i)((?:api[_-]?key|access[_-]?key|private[_-]?key|password|passwd|passphrase|secret|credentials?|"
            r"authorization|(?:access|auth|api|bearer|hf|refresh|session|github|gitlab)[_-]?token)"
            r"[\\\"']{0,4}\s*[:=]\s*[\\\"']{0,4})(?!<|•|bearer\b|basic\b|\*{8})[^\s\"',;&\\]{3,}",
            rf"\1{SECRET}",
        ),
        (
            r"\b([A-Z][A-Z0-9_]*(?:TOKEN|_KEY|SECRET|PASSWORD|PASSWD)\s*[=:]\s*[\"']?)(?!<|•)[^\s\"',;&]{3,}",
            rf"\1{SECRET}",
        ),
        (r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})", SECRET),
        (r"\b(?:glpat-[\w-]{16,}|xox[abpr]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,})", SECRET),
        (r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}", SECRET),
        (r"(\b[a-z][a-z0-9+.-]*://)(?!<)[^/\s@\"']+@", rf"\1{SECRET}@"),
        (r"(?i)([?&](?:key|token|sig|signature|auth|access_token)=)(?!<)[^&\s\"']+", rf"\1{SECRET}"),
        (r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b", EMAIL),
    )
)
_HOMES = re.compile(r"(?i)(?<![\w.])((?:[a-z]:)?[\\/]+(?:home|users)[\\/]+)([^\\/\s\"'<>:|,;)\]]+)")
_NETWORK = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){4,7}[0-9A-Fa-f]{1,4}(?![\w:])"
)
_UUID = re.compile(r"\b((?:GPU|MIG)-)[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
_SEPARATORS = re.compile(r"[\\/]+")
_HEX = re.compile(r"%[0-9A-F]{2}")
BETWEEN = r"(?:[\\/]+|%2F|%5C)"
"""What stands between the parts of a path, also in an address."""


@dataclass(frozen=True, slots=True)
class Private:
    """What is known of the person and the machine. `folders` are paths with what stands for each.

    `written` are lines that somebody wrote or was answered, the newest first. `spared` are words of the app itself,
    which are left alone where they happen to be somebody's name.
    """

    folders: Sequence[tuple[str, str]] = ()
    users: Collection[str] = ()
    hosts: Collection[str] = ()
    secrets: Collection[str] = ()
    written: Sequence[str] = ()
    spared: Collection[str] = field(default_factory=frozenset)


class Redactor:
    """Redacts by `private`. What `shown` names is left as it is: "paths", "names", "keys", "chats"."""

    def __init__(self, private: Private, shown: Collection[str] = ()) -> None:
        spared = COMMON | {word.casefold() for word in private.spared}
        self._names: list[tuple[re.Pattern[str], str]] = []
        self._folders: list[tuple[re.Pattern[str], str]] = []
        self._secrets: list[str] = []
        self._written: list[str] = []
        self._shapes = () if "keys" in shown else _SHAPES
        self._homes = "paths" not in shown
        self._network = "names" not in shown
        self._gpus: dict[str, str] = {}
        self._known: dict[str, str] = {}
        if "keys" not in shown:
            known = [secret for secret in private.secrets if len(secret.strip()) >= LEAST_SECRET]
            hidden = [secret for secret in known if secret.casefold() not in spared]
            self._secrets = _spellings(form for secret in hidden for form in _forms(secret))
        if "paths" not in shown:
            longest = sorted(private.folders, key=lambda one: len(one[0]), reverse=True)
            self._folders = [(_folder(path), word) for path, word in longest if len(path.strip("\\/")) > 1]
        if "names" not in shown:
            for names, word in ((private.hosts, HOST), (private.users, USER)):
                for name in sorted({name for name in names if len(name) >= LEAST_NAME}, key=len, reverse=True):
                    self._names.append((_name(name, only_in_paths=name.casefold() in spared), word))
        if "chats" not in shown:
            lines = [line.strip() for text in private.written for line in text.splitlines()]
            wanted = (line for line in lines if len(line) >= LEAST_WRITTEN and line.casefold() not in spared)
            self._written = _spellings(list(dict.fromkeys(wanted))[:MOST_WRITTEN])

    def text(self, text: str) -> str:
        """`text` without any of it."""
        if len(text) > SHORT:
            return self._redacted(text)
        if text not in self._known:
            self._known[text] = self._redacted(text)
        return self._known[text]

    def _redacted(self, text: str) -> str:
        for line in self._written if len(text) >= LEAST_WRITTEN else ():
            if line in text:
                text = text.replace(line, WRITTEN)
        for secret in self._secrets:
            text = text.replace(secret, SECRET)
        for pattern, replacement in self._shapes:
            text = pattern.sub(replacement, text)
        for folder, word in self._folders:
            text = folder.sub(word, text)
        if self._homes:
            text = _HOMES.sub(rf"\1{USER}", text)
        for name, word in self._names:
            text = name.sub(word, text)
        if self._network:
            text = _NETWORK.sub(_address, text)
            text = _UUID.sub(self._gpu, text)
        return text

    def value(self, content: Any) -> Any:
        """JSON types with every text in them redacted, and values hidden whose name says that they are secret."""
        if isinstance(content, str):
            return self.text(content)
        if isinstance(content, Mapping):
            return {self.text(str(name)): self._named(str(name), item) for name, item in content.items()}
        if isinstance(content, list | tuple):
            return [self.value(item) for item in content]
        return content

    def _named(self, name: str, content: Any) -> Any:
        if self._shapes and isinstance(content, str) and content and SECRET_NAME.search(name):
            return SECRET
        return self.value(content)

    def _gpu(self, found: re.Match[str]) -> str:
        """The same card by the same word wherever it is named."""
        return self._gpus.setdefault(found[0].casefold(), f"{found[1]}{len(self._gpus) + 1:04d}")


def looks_secret(name: str) -> bool:
    """Whether a variable or setting of this name holds a secret."""
    return bool(SECRET_NAME.search(name)) or name.endswith(("_KEY", "_TOKEN", "_PASS", "_PWD"))


def _spellings(values: Iterable[str]) -> list[str]:
    """Each value as it is, as it stands in JSON and in an address; the longest first."""
    found = {
        spelling
        for value in values
        for spelling in (
            value,
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
            quote(value, safe=""),
            quote_plus(value),
        )
    }
    return sorted(found, key=len, reverse=True)


def _forms(text: str) -> set[str]:
    """`text` with its accents in one character and apart, as file systems write them, and in the forms of addresses."""
    same = {text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))}
    quoted = {write(one) for one in same for write in (quote, quote_plus)} | {quote(one, safe="") for one in same}
    return same | quoted | {_HEX.sub(lambda found: found[0].lower(), one) for one in quoted}


def _any_form(text: str) -> str:
    """A pattern for a name or a part of a path in whichever way it is written. Letters match either case."""
    same = {text, text.upper(), *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))}
    found = same | {json.dumps(one)[1:-1] for one in same} | {quote(one, safe="") for one in same}
    distinct = {one.lower(): one for one in sorted(found)}
    patterns = [re.escape(one).replace(r"\ ", r"(?: |%20|\ |\+)") for one in distinct.values()]
    return rf"(?:{'|'.join(sorted(patterns, key=len, reverse=True))})"


def _folder(path: str) -> re.Pattern[str]:
    """`path` with either kind of separators, also doubled as in JSON, each part in any form."""
    first, *others = _SEPARATORS.split(path.rstrip("\\/"))
    begin = re.escape(first) + (BETWEEN if first else r"(?:[\\/]|%2F|%5C)")
    parts = BETWEEN.join(map(_any_form, others))
    return re.compile(r"(?<![\w.~>-])" + begin + parts + r"(?![\w-])", re.IGNORECASE)


def _name(name: str, *, only_in_paths: bool) -> re.Pattern[str]:
    word = _any_form(name)
    if only_in_paths:
        return re.compile(rf"(?<=home[\\/]){word}(?=[\\/])|(?<=users[\\/]){word}(?=[\\/])|\b{word}(?=@)", re.IGNORECASE)
    if len(name) >= ANYWHERE:
        return re.compile(word, re.IGNORECASE)
    return re.compile(rf"(?<![A-Za-z0-9]){word}(?![A-Za-z0-9])", re.IGNORECASE)


def _address(found: re.Match[str]) -> str:
    """Addresses of this machine for itself tell nothing."""
    try:
        address = ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return found[0] if address.is_loopback or address.is_unspecified else ADDRESS
