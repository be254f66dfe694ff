"""Answers in the shapes of OpenAI's API, whole or in chunks, with BaCo's part beside each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from baco import __version__
from baco.serve.errors import api_error
from baco.serve.samples import Logprob, Piece, Tally, Update
from baco.serve.service import Prepared, Running, summary

_FINISH = {"stop": "stop", "length": "length", "stop_string": "stop"}
_LEAST = -9999.0  # OpenAI's way to write a log-probability of minus infinity


def dumps(value: object) -> str:
    """Writes JSON without spaces; text stays readable."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass
class Answer:
    """One sample as it is collected.

    Attributes:
        pieces: Its tokens.
        logprobs: Their log-probabilities, if asked for.
        finish: Why it ended.
        tally: Its counts.
    """

    pieces: list[Piece] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    finish: str = ""
    tally: Tally = field(default_factory=Tally)

    @property
    def text(self) -> str:
        """The text."""
        return "".join(piece.text for piece in self.pieces)

    def add(self, update: Update) -> None:
        """Takes news."""
        self.pieces += update.pieces
        self.logprobs += update.logprobs or []
        if update.finish:
            self.finish = update.finish
            self.tally = update.tally or Tally()


def _marks(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Each token's text and source."""
    return {
        "tokens": [piece.text for piece in pieces],
        "sources": [piece.source for piece in pieces],
    }


def _result(finish: str, tally: Tally) -> dict[str, Any]:
    """What is known of a sample at its end."""
    return {
        "finish": finish,
        "base_share": tally.base_share,
        "switches": tally.switches,
        "forwards_per_token": tally.forwards_per_token,
        "attempts": tally.restarts + 1,
    }


class Format(Protocol):
    """The shape of one route's answers."""

    object: str
    chunk_object: str
    prefix: str

    def choice(self, answer: Answer, offset: int) -> dict[str, Any]:
        """Writes a whole answer."""
        ...

    def delta(self, update: Update, offset: int) -> dict[str, Any]:
        """Writes news, `offset` characters into the answer."""
        ...

    def opening(self) -> dict[str, Any] | None:
        """Writes what comes before the first news of a sample."""
        ...


class _Tokens:
    """Writes tokens and log-probabilities."""

    def __init__(self, token_bytes: Sequence[bytes], wanted: bool) -> None:
        self._bytes = token_bytes
        self.wanted = wanted

    def text(self, token: int) -> str:
        """A token on its own."""
        return self._bytes[token].decode(errors="replace")

    def chat(self, token: int, logprob: float) -> dict[str, Any]:
        """One token in the shape of chat completions."""
        return {
            "token": self.text(token),
            "logprob": max(logprob, _LEAST),
            "bytes": list(self._bytes[token]),
        }


class ChatFormat:
    """`/v1/chat/completions`."""

    object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    prefix = "chatcmpl-"

    def __init__(self, token_bytes: Sequence[bytes], logprobs: bool) -> None:
        self._tokens = _Tokens(token_bytes, logprobs)

    def _logprobs(
        self, pieces: Sequence[Piece], scores: Sequence[Logprob]
    ) -> dict[str, Any] | None:
        if not self._tokens.wanted:
            return None
        content = [
            self._tokens.chat(piece.token, score.logprob)
            | {"top_logprobs": [self._tokens.chat(t, p) for t, p in score.top]}
            for piece, score in zip(pieces, scores, strict=True)
        ]
        return {"content": content, "refusal": None}

    def choice(self, answer: Answer, offset: int) -> dict[str, Any]:
        """Writes a whole answer."""
        return {
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer.pieces, answer.logprobs),
            "finish_reason": _FINISH[answer.finish],
        }

    def delta(self, update: Update, offset: int) -> dict[str, Any]:
        """Writes news."""
        text = "".join(piece.text for piece in update.pieces)
        return {
            "delta": {"content": text} if update.pieces else {},
            "logprobs": self._logprobs(update.pieces, update.logprobs or []),
        }

    def opening(self) -> dict[str, Any] | None:
        """Names the role."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"delta": delta, "logprobs": None, "finish_reason": None}


class CompletionFormat:
    """`/v1/completions`."""

    object = "text_completion"
    chunk_object = "text_completion"
    prefix = "cmpl-"

    def __init__(self, token_bytes: Sequence[bytes], logprobs: bool) -> None:
        self._tokens = _Tokens(token_bytes, logprobs)

    def _logprobs(
        self, pieces: Sequence[Piece], scores: Sequence[Logprob], offset: int
    ) -> dict[str, Any] | None:
        if not self._tokens.wanted:
            return None
        offsets = []
        for piece in pieces:
            offsets.append(offset)
            offset += len(piece.text)
        return {
            "tokens": [self._tokens.text(piece.token) for piece in pieces],
            "token_logprobs": [max(score.logprob, _LEAST) for score in scores],
            "top_logprobs": [
                {self._tokens.text(t): max(p, _LEAST) for t, p in score.top} for score in scores
            ],
            "text_offset": offsets,
        }

    def choice(self, answer: Answer, offset: int) -> dict[str, Any]:
        """Writes a whole answer."""
        return {
            "text": answer.text,
            "logprobs": self._logprobs(answer.pieces, answer.logprobs, offset),
            "finish_reason": _FINISH[answer.finish],
        }

    def delta(self, update: Update, offset: int) -> dict[str, Any]:
        """Writes news."""
        return {
            "text": "".join(piece.text for piece in update.pieces),
            "logprobs": self._logprobs(update.pieces, update.logprobs or [], offset),
        }

    def opening(self) -> dict[str, Any] | None:
        """Nothing comes before the text."""
        return None


def _head(prepared: Prepared, kind: str, prefix: str) -> dict[str, Any]:
    return {
        "id": prefix + prepared.id,
        "object": kind,
        "created": prepared.created,
        "model": prepared.model.name,
        "system_fingerprint": f"baco-{__version__}-{prepared.host.revision}",
    }


def _usage(prepared: Prepared, answers: Sequence[int]) -> dict[str, int]:
    completion = sum(answers)
    return {
        "prompt_tokens": prepared.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prepared.prompt_tokens + completion,
    }


async def collect(running: Running, form: Format) -> dict[str, Any]:
    """Waits for the whole answer and writes it."""
    prepared = running.prepared
    answers: dict[int, Answer] = {}
    async for news in running.updates():
        for update in news:
            answers.setdefault(update.index, Answer()).add(update)
    ordered = [answers[index] for index in sorted(answers)]
    choices = [
        {"index": index}
        | form.choice(answer, 0)
        | {"baco": _marks(answer.pieces) | _result(answer.finish, answer.tally)}
        for index, answer in enumerate(ordered)
    ]
    return _head(prepared, form.object, form.prefix) | {
        "choices": choices,
        "usage": _usage(prepared, [len(answer.pieces) for answer in ordered]),
        "baco": prepared.about() | summary([answer.tally for answer in ordered]),
    }


async def stream(running: Running, form: Format, *, include_usage: bool) -> AsyncIterator[str]:
    """Writes the answer in server-sent events, as it comes; an error becomes the last event."""
    prepared = running.prepared
    head = _head(prepared, form.chunk_object, form.prefix)
    if include_usage:
        head["usage"] = None
    lengths: dict[int, int] = {}
    tokens: dict[int, int] = {}
    tallies: list[Tally] = []
    samples = sum(plan.n for plan in prepared.plans)
    about, first = prepared.about(), True
    try:
        async for news in running.updates():
            out: list[dict[str, Any]] = []
            for update in news:
                index = update.index
                if index not in lengths:
                    lengths[index] = tokens[index] = 0
                    opening = form.opening()
                    if opening:
                        out.append({"index": index} | opening)
                choice = {"index": index} | form.delta(update, lengths[index])
                lengths[index] += sum(len(piece.text) for piece in update.pieces)
                tokens[index] += len(update.pieces)
                choice["finish_reason"] = _FINISH[update.finish] if update.finish else None
                choice["baco"] = _marks(update.pieces)
                if update.finish:
                    tally = update.tally or Tally()
                    tallies.append(tally)
                    choice["baco"] |= _result(update.finish, tally)
                out.append(choice)
            text = ""
            for number, choice in enumerate(out):
                chunk = head | {"choices": [choice]}
                last = len(tallies) == samples and number == len(out) - 1
                if last or (first and number == 0):
                    chunk["baco"] = about | (summary(tallies) if last else {})
                text += f"data: {dumps(chunk)}\n\n"
            first = False
            yield text
    except Exception as error:
        yield f"data: {dumps(api_error(error).body)}\n\n"
        return
    if include_usage:
        usage = _usage(prepared, list(tokens.values()))
        yield f"data: {dumps(head | {'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"
