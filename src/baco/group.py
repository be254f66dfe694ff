"""What generation gives back: a sample, and the group of samples for one prompt."""

from __future__ import annotations

import codecs
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Literal, overload

from baco.errors import InputError, UnsupportedError
from baco.prompts import Conversation, conversation_of, in_short, question_of

if TYPE_CHECKING:
    from baco.engine.loop import Stats
    from baco.engine.request import Cost

FinishReason = Literal["stop", "length", "stop_string", "withheld", "failed"]
"""Why a sample ended; `withheld` is said of what a moderation filter refused, `failed` of a
method that found no answer in what the model wrote, however often it asked."""

FIELDS = (
    "prompt",
    "index",
    "text",
    "finish_reason",
    "seed",
    "method",
    "router",
    "gamma",
    "control",
    "token_ids",
    "tokens",
    "sources",
    "base_share",
    "switches",
)
"""The keys of a sample's JSON, in this order."""

RARE_FIELDS = {"attempts": 1, "details": None}
"""Keys that stand in a sample's JSON only where they say something: not these values."""

MOST = 100_000
"""The largest group; more is a slip of the hand, and the mere list of it would fill the memory."""


def check_size(n: int) -> None:
    """Checks how many samples of one prompt are asked for.

    Raises:
        InputError: If they are fewer than 1 or more than `MOST`.
    """
    if not 1 <= n <= MOST:
        hint = "ask for at least 1 sample" if n < 1 else f"ask for at most {MOST} samples a prompt"
        raise InputError(f"n = {n} is out of range", hint=hint)


class TokenText:
    """Turns token ids into strings, one by one, so that the strings joined are the text.

    A token may end inside a UTF-8 character: its string then leaves that character to the token
    that completes it, and is perhaps empty.

    Args:
        token_bytes: The bytes of each token id.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """Returns the characters that this token completes."""
        return self._decoder.decode(self._bytes[token])

    @property
    def open(self) -> bool:
        """Whether the last character is still incomplete."""
        return bool(self._decoder.getstate()[0])

    def finish(self) -> str:
        """Returns the replacement character for what was left incomplete, or nothing."""
        return self._decoder.decode(b"", final=True)


def base_share(sources: Sequence[str], begins: Sequence[bool]) -> float:
    """Returns the share of units that the base model began, in [0, 1]; 0 without units.

    Args:
        sources: ``base`` or ``aligned`` for each token.
        begins: Whether each token began a unit.
    """
    owners = _owners(sources, begins)
    return owners.count("base") / len(owners) if owners else 0.0


def switches(sources: Sequence[str], begins: Sequence[bool]) -> int:
    """Returns how often the source changes from one unit to the next. As `base_share`."""
    owners = _owners(sources, begins)
    return sum(a != b for a, b in pairwise(owners))


def _owners(sources: Sequence[str], begins: Sequence[bool]) -> list[str]:
    return [source for source, first in zip(sources, begins, strict=True) if first]


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        prompt: What was asked: a string or a list of messages.
        index: Its place in the group, from 0.
        text: The answer, exactly as the tokens spell it (a leading space may be part of it).
        finish_reason: ``stop``, ``length``, ``stop_string``, ``withheld`` or ``failed``.
        seed: The seed of the group.
        method: Name of the method.
        router: The router's spec without its threshold, or None.
        gamma: The threshold (a schedule or infinity: its text), or None.
        control: The value of what trades diversity for quality in the method: of `baco` the
            threshold, of single models the temperature, of others their own; None if there is
            none.
        token_ids: Emitted ids, the end token excluded.
        tokens: Their strings; joined they are `text`.
        sources: ``base`` or ``aligned`` for each token.
        base_share: Units begun by the base model / units.
        switches: Changes of source between units.
        attempts: How often it was drawn; more than 1 where short stops are drawn again, or
            no answer was found.
        details: What else the method has to tell, ready for JSON: the paraphrase that was asked,
            say; None for nothing.
        cost: What the engine spent on it, all attempts together; None if read from a file.
    """

    prompt: str | list[dict[str, str]]
    index: int
    text: str
    finish_reason: FinishReason
    seed: int
    method: str
    router: str | None = None
    gamma: float | str | None = None
    control: float | str | None = None
    token_ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    base_share: float = 0.0
    switches: int = 0
    attempts: int = 1
    details: dict[str, Any] | None = None
    cost: Cost | None = field(default=None, repr=False, compare=False)

    @property
    def conversation(self) -> Conversation:
        """The prompt as checked messages."""
        return conversation_of(self.prompt)

    def as_dict(self) -> dict[str, Any]:
        """Returns the sample for JSON: the keys of `FIELDS`, and `RARE_FIELDS` where needed."""
        row: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        for name in ("token_ids", "tokens", "sources"):
            row[name] = list(row[name])
        for name, nothing in RARE_FIELDS.items():
            if (value := getattr(self, name)) != nothing:
                row[name] = value
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Sample:
        """Reads what `as_dict` wrote.

        Raises:
            InputError: If a key is missing, unknown, or its value is of a wrong kind.
        """
        missing = [name for name in FIELDS if name not in row]
        unknown = sorted(set(row) - {*FIELDS, *RARE_FIELDS})
        if missing or unknown:
            what = f"lacks {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
            raise InputError(f"a sample {what}", hint="expected a row that BaCo wrote")
        values = dict(row)
        for name in ("token_ids", "tokens", "sources"):
            if not isinstance(row[name], list):
                raise InputError(f"{name!r} of a sample is not a list", hint="repair the row")
            values[name] = tuple(row[name])
        kinds = {"index": int, "seed": int, "switches": int, "text": str, "method": str}
        for name, kind in kinds.items():
            if not isinstance(row[name], kind) or isinstance(row[name], bool):
                raise InputError(f"{name!r} of a sample is not {kind.__name__}", hint="repair it")
        conversation_of(row["prompt"])
        return cls(**values)


@dataclass(frozen=True, repr=False)
class Group(Sequence[Sample]):
    """The samples for one prompt, in the order of their indices.

    Attributes:
        samples: The samples.
        stats: What the engine did in the whole run that made them (prompts that run together
            share passes), or None.
    """

    samples: tuple[Sample, ...]
    stats: Stats | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def prompt(self) -> str | list[dict[str, str]]:
        """What was asked."""
        return self.samples[0].prompt

    @property
    def texts(self) -> list[str]:
        """The answers, without the space that an answer's first word brings along.

        Where the prompt ends with the beginning of the answer, or is raw text, that space is kept:
        it is part of what goes on there. `Sample.text` is always what the tokens spell.
        """
        return [
            sample.text.lstrip() if sample.conversation[-1].role == "user" else sample.text
            for sample in self.samples
        ]

    @property
    def base_share(self) -> float:
        """Mean base share of the samples that have tokens: of the others nobody wrote a share."""
        shares = [sample.base_share for sample in self.samples if sample.sources]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def empty(self) -> int:
        """How many answers are empty: no text, or white space only."""
        return sum(not text.strip() for text in self.texts)

    @property
    def switches(self) -> float:
        """Mean number of switches of the samples."""
        return sum(sample.switches for sample in self.samples) / len(self.samples)

    @property
    def mean_length(self) -> float:
        """Mean number of tokens of the samples."""
        return sum(len(sample.token_ids) for sample in self.samples) / len(self.samples)

    @property
    def distinct(self) -> int:
        """How many texts differ by more than case, punctuation at the ends and white space."""
        return len({normalised(text) for text in self.texts})

    @property
    def alike(self) -> list[int]:
        """Indices of answers that `distinct` was asked of and that are like an earlier one."""
        return [s.index for s in self.samples if s.details and "alike" in s.details]

    @property
    def restarts(self) -> int:
        """How many draws were thrown away: too short, without an answer, or like another."""
        return sum(sample.attempts - 1 for sample in self.samples)

    @property
    def cost(self) -> Cost | None:
        """Sum over the samples' costs, or None where one is not known."""
        from baco.engine.request import Cost

        costs = [sample.cost for sample in self.samples]
        total = Cost()
        for cost in costs:
            if cost is None:
                return None
            total += cost
        return total

    @property
    def forwards_per_token(self) -> float | None:
        """Forward passes of both partners that served a row, per token; None if not known.

        A draft model's passes count by its size. Lock-step decoding of a pair pays 2, a single
        model 1.
        """
        cost, tokens = self.cost, sum(len(sample.token_ids) for sample in self.samples)
        if cost is None or not tokens:
            return None
        return (cost.base_passes + cost.aligned_passes + cost.draft_passes) / tokens

    @property
    def acceptance(self) -> float | None:
        """Share of guessed tokens that were right; None if none was guessed or it is not known."""
        cost = self.cost
        return cost.accepted / cost.drafted if cost and cost.drafted else None

    @property
    def summary(self) -> str:
        """One line: base share, switches, mean length, distinct answers."""
        n = len(self.samples)
        words = [
            f"base share {self.base_share:.2f}",
            f"{self.switches:.1f} switches",
            f"mean length {self.mean_length:.1f} tokens",
            f"{self.distinct} of {n} answers distinct as text",
        ]
        if self.empty:
            words.append(f"{self.empty} empty")
        if self.restarts:
            words.append(f"{self.restarts} draws thrown away")
        if self.alike:
            words.append(f"{len(self.alike)} could not be made distinct")
        return ", ".join(words)

    def to_dict(self) -> dict[str, Any]:
        """Returns the group for JSON: its prompt, its summary figures, and every sample's row."""
        return {
            "prompt": self.prompt,
            "base_share": self.base_share,
            "switches": self.switches,
            "mean_length": self.mean_length,
            "distinct": self.distinct,
            "samples": [sample.as_dict() for sample in self.samples],
        }

    def to_pandas(self) -> Any:
        """Returns a ``pandas.DataFrame`` with one row per sample and the keys of `FIELDS`.

        Raises:
            UnsupportedError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UnsupportedError("pandas is not installed", hint="pip install pandas") from None
        return pandas.DataFrame([sample.as_dict() for sample in self.samples])

    def __repr__(self) -> str:
        if not self.samples:
            return "<Group of 0 answers>"
        question = in_short(self.samples[0].conversation)
        return f"<Group of {len(self)} answers to {question!r}: {self.summary}>"

    def _repr_html_(self) -> str:
        """The group as notebooks show it: the base model's words coloured."""
        if not self.samples:
            return html.escape(repr(self))
        items = "".join(
            "<li style='white-space: pre-wrap'>"
            + "".join(_coloured(*run) for run in runs(sample)).strip()
            + "</li>"
            for sample in self.samples
        )
        question = html.escape(question_of(self.samples[0].conversation))
        return f"<p><b>{question}</b></p><ol>{items}</ol><p>{html.escape(self.summary)}</p>"


def _coloured(text: str, source: str) -> str:
    """A stretch of one source as HTML."""
    text = html.escape(text)
    return f"<b style='color: #b5179e'>{text}</b>" if source == "base" else text


def runs(sample: Sample) -> Iterator[tuple[str, str]]:
    """Yields stretches of one source as (text, source); the space before words is `aligned`."""
    if not sample.tokens:
        yield sample.text, "aligned"
        return
    pieces = zip(sample.tokens, sample.sources, strict=True)
    for source, tokens in groupby(pieces, key=lambda piece: piece[1]):
        text = "".join(token for token, _ in tokens)
        body = text.strip()
        if source == "aligned" or not body:
            yield text, "aligned"
            continue
        start = text.index(body)
        yield text[:start], "aligned"
        yield body, "base"
        yield text[start + len(body) :], "aligned"


def normalised(text: str) -> str:
    """Returns a text for comparison: lower case, single spaces, no punctuation at the ends."""
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'“”‘’()*_-")
