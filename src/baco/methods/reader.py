"""Follows one row from token ids to text: characters, stop strings, held-back tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from baco.group import TokenText
from baco.methods.ban import Phrases, Watch


@dataclass
class Reader:
    """Reads the tokens of one row as they come.

    Args:
        token_bytes: The bytes of each token id.
        stop: Strings before which the text ends.
        hold: The first tokens are not released before there are this many.
        boundary: The text by which a base model opens another turn; the answer ends before it.
        exempt: Whose words open no turn: the aligned model's, whose answers may hold that text.
        ban: Phrases that the text may not hold; None for none.

    Attributes:
        ids: Token ids that belong to the text.
        strings: Their strings.
        sources: Their sources.
        begins: Whether each began a unit.
        stopped: Whether a stop string or the boundary was met; tokens after it are ignored.
        turned: Whether it was the boundary.
    """

    token_bytes: Sequence[bytes]
    stop: tuple[str, ...] = ()
    hold: int = 0
    boundary: str = ""
    exempt: str | None = None
    ban: Phrases | None = None
    ids: list[int] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    begins: list[bool] = field(default_factory=list)
    stopped: bool = False
    turned: bool = False

    def __post_init__(self) -> None:
        self._decoder = TokenText(self.token_bytes)
        self._released = 0
        self._marks = (*self.stop, self.boundary) if self.boundary else self.stop
        self._tail = ""  # the end of the text, as long as a mark could still span it
        self._keep = max((len(s) for s in self._marks), default=1) - 1
        self._watch = Watch(self.ban) if self.ban else None
        self._open: list[int | None] = []  # after each token: where a phrase may have begun

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.strings)

    def add(self, token: int, source: str, begins: bool) -> None:
        """Reads one token; nothing happens once a stop string was met, or a banned phrase."""
        if self.stopped or self.banned is not None:
            return
        string = self._decoder.add(token)
        self.ids.append(token)
        self.strings.append(string)
        self.sources.append(source)
        self.begins.append(begins)
        self._look(string)
        if self._watch:
            self._watch.add(string)
            self._open.append(self._watch.open)

    def finish(self) -> None:
        """Ends the text: a character that stayed incomplete becomes a replacement character."""
        rest = "" if self.stopped else self._decoder.finish()
        if rest:
            self.strings[-1] += rest
        if self._watch:
            self._watch.add(rest)
            self._watch.finish(sum(map(len, self.strings)))

    @property
    def banned(self) -> int | None:
        """The place of the token with the first character of a banned phrase, or None."""
        at = self._watch.found if self._watch else None
        return None if at is None else self._token_of(at)

    def _token_of(self, at: int) -> int:
        """Returns the place of the token that a character of the text belongs to."""
        place = -1
        while at >= 0:
            place += 1
            at -= len(self.strings[place])
        return place

    def taken_back(self, place: int) -> Reader:
        """Returns a reader that has read only the first tokens; no more than these was shown."""
        assert self._released <= place
        fresh = Reader(self.token_bytes, self.stop, self.hold, self.boundary, self.exempt, self.ban)
        for token in zip(self.ids[:place], self.sources, self.begins, strict=False):
            fresh.add(*token)
        fresh._released = self._released
        return fresh

    def _look(self, string: str) -> None:
        """Looks for a stop string or the boundary that ends inside the newest token."""
        if not self._marks or not string:
            return
        seen = self._tail + string
        places = [at for at in (seen.find(s) for s in self.stop) if at >= 0]
        turn = seen.find(self.boundary) if self.boundary else -1
        if turn >= 0 and self._writer(len(seen) - turn) != self.exempt:
            self.turned = all(turn < at for at in places)
            places.append(turn)
        if places:
            self.stopped = True
            self._cut(len(seen) - min(places))
        else:
            self._tail = seen[len(seen) - self._keep :] if self._keep else ""

    def _writer(self, count: int) -> str:
        """Returns who wrote the character that stands `count` before the end of the text."""
        place = len(self.strings)
        while count > 0:
            place -= 1
            count -= len(self.strings[place])
        return self.sources[place]

    def _cut(self, count: int) -> None:
        """Removes the last `count` characters, and the tokens that are left without any."""
        while count:
            last = self.strings[-1]
            if len(last) > count:
                self.strings[-1] = last[: len(last) - count]
                return
            count -= len(last)
            for column in (self.ids, self.strings, self.sources, self.begins):
                column.pop()

    def release(self, *, final: bool = False) -> list[tuple[str, str]]:
        """Returns the tokens that may be shown now and were not shown before.

        Args:
            final: Whether no token will follow.

        Returns:
            (string, source) of each. What could be the start of a stop string waits, and so do
            the tokens of a character that is still incomplete.
        """
        return [(self.strings[i], self.sources[i]) for i in self.ready(final=final)]

    def ready(self, *, final: bool = False) -> range:
        """As `release`, but returns the places of the tokens."""
        start = end = self._released
        if final or (len(self.strings) >= self.hold and not self._decoder.open):
            end = len(self.strings)
            risky = 0 if final else self._risky()
            while risky > 0 and end > start:
                end -= 1
                risky -= len(self.strings[end])
            if self._watch and not final:
                end = max(start, min(end, self._unbanned()))
        self._released = end
        return range(start, end)

    def end_at(self, place: int) -> None:
        """Ends the text before a token, as a stop string does."""
        self.stopped, self.turned = True, False
        for column in (self.ids, self.strings, self.sources, self.begins):
            del column[place:]

    def _unbanned(self) -> int:
        """Returns how many tokens stay whatever follows.

        What follows may complete a phrase that has begun. Once that is taken back, what stood
        before it may become the beginning of another one, and so on.
        """
        stay = len(self.strings)
        while stay and (at := self._open[stay - 1]) is not None:
            stay = self._token_of(at)
        return stay

    def _risky(self) -> int:
        """Length of the longest end of the text that is the start of a mark."""
        return max(
            (
                size
                for s in self._marks
                for size in range(1, min(len(s) - 1, len(self._tail)) + 1)
                if self._tail.endswith(s[:size])
            ),
            default=0,
        )
