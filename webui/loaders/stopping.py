"""Where a reply ends and what of it may be shown already: stop strings and characters that come in pieces.

Engines hand out text token by token; a stop string or a multi-byte character may be spread over several of them. Both
classes hold back exactly what cannot be decided yet, and nothing more, so that text is shown at the earliest moment.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable


class StopFilter:
    """Passes text through until one of `stops` is complete in it.

        stopping = StopFilter(request.stop)
        text = stopping.feed(piece)      # what may be shown now
        if stopping.stopped: ...         # the stop string that ended the text
        rest = stopping.flush()          # at the end: what was held back after all

    The stop string that is completed first ends the text; of several completed by the same character the longest one
    counts. The result therefore does not depend on how the text was cut into pieces.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._held = ""
        self.stopped: str | None = None

    def feed(self, text: str) -> str:
        """The part of everything fed so far that is new and safe to show; empty once `stopped` is set."""
        if self.stopped is not None:
            return ""
        if not self._stops:
            return text
        self._held += text
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if found:
            _, start, self.stopped = min(found)
            ready, self._held = self._held[:start], ""
            return ready
        keep = max(self._partial(stop) for stop in self._stops)
        cut = len(self._held) - keep
        ready, self._held = self._held[:cut], self._held[cut:]
        return ready

    def flush(self) -> str:
        """What was held back as the possible beginning of a stop string; call once the text has ended."""
        rest, self._held = self._held, ""
        return rest

    def _partial(self, stop: str) -> int:
        """Length of the longest beginning of `stop` with which the held text ends."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if self._held.endswith(stop[:size])), 0)


class Utf8Pieces:
    """Decodes UTF-8 that arrives in pieces; an incomplete character waits for its other bytes.

    Bytes that can never become a character come out as U+FFFD, as a model may well produce them.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """The characters that `data` completes."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """U+FFFD if an incomplete character is left over, otherwise nothing. Resets the decoder."""
        rest = self._decoder.decode(b"", True)
        self._decoder.reset()
        return rest
