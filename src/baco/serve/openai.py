"""Answers in the shapes of OpenAI's API, whole or in chunks, with BaCo's part beside each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from baco import __version__
from baco.engine.request import Cost
from baco.group import Sample
from baco.methods.base import Chunk
from baco.serve.admission import QueuePlace
from baco.serve.errors import api_error
from baco.serve.scorer import Logprob
from baco.serve.service import Prepared, Running
from baco.serve.worker import News

_FINISH = {
    "stop": "stop",
    "length": "length",
    "stop_string": "stop",
    "failed": "stop",
    "withheld": "content_filter",
}
_LEAST = -9999.0  # OpenAI's way to write a log-probability of minus infinity


def dumps(value: object) -> str:
    """Writes JSON without spaces; text stays readable."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass
class Answer:
    """One answer as it is collected.

    Attributes:
        chunks: Its tokens.
        logprobs: Their log-probabilities, if asked for.
        sample: The whole answer, at its end.
    """

    chunks: list[Chunk] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    sample: Sample | None = None

    def add(self, news: News) -> None:
        """Takes news."""
        self.chunks += news.chunks
        self.logprobs += news.logprobs
        self.sample = news.sample


def _marks(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """Each token's text and source."""
    return {
        "tokens": [chunk.text for chunk in chunks],
        "sources": [chunk.source for chunk in chunks],
    }


def _result(sample: Sample) -> dict[str, Any]:
    """What is known of an answer at its end."""
    said = sample.details or {}
    return {
        "finish": sample.finish_reason,
        "base_share": sample.base_share,
        "switches": sample.switches,
        "forwards_per_token": _forwards([sample]),
        "attempts": sample.attempts,
        **{name: said[name] for name in ("draws", "alike", "rewinds") if name in said},
    }


def _forwards(samples: Sequence[Sample]) -> float | None:
    """Forward passes of both partners per decoded token; None where that is not known."""
    total = Cost()
    for sample in samples:
        if sample.cost is None:
            return None
        total += sample.cost
    return (total.base_passes + total.aligned_passes) / total.tokens if total.tokens else None


def _summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """What is known of all answers at the end."""
    draws = [s.details["draws"] for s in samples if s.details and "draws" in s.details]
    written = [s.base_share for s in samples if s.sources]  # an empty answer has no share
    return {
        "base_share": sum(written) / max(len(written), 1),
        "empty": len(samples) - len(written),
        "switches": sum(s.switches for s in samples) / len(samples),
        "forwards_per_token": _forwards(samples),
        "restarts": sum(s.attempts - 1 for s in samples),
        **({"draws": sum(draws)} if draws else {}),
    }


class Format(Protocol):
    """The shape of one route's answers."""

    object: str
    chunk_object: str
    prefix: str

    def choice(self, answer: Answer, sample: Sample) -> dict[str, Any]:
        """Writes a whole answer."""
        ...

    def delta(self, news: News, offset: int) -> dict[str, Any]:
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

    def text(self, token: int | None) -> str:
        """A token on its own."""
        assert token is not None  # methods that exchange text have no log-probabilities
        return self._bytes[token].decode(errors="replace")

    def chat(self, token: int | None, logprob: float) -> dict[str, Any]:
        """One token in the shape of chat completions."""
        assert token is not None
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
        self, chunks: Sequence[Chunk], scores: Sequence[Logprob]
    ) -> dict[str, Any] | None:
        if not self._tokens.wanted:
            return None
        content = [
            self._tokens.chat(chunk.id, score.logprob)
            | {"top_logprobs": [self._tokens.chat(t, p) for t, p in score.top]}
            for chunk, score in zip(chunks, scores, strict=True)
        ]
        return {"content": content, "refusal": None}

    def choice(self, answer: Answer, sample: Sample) -> dict[str, Any]:
        """Writes a whole answer."""
        return {
            "message": {"role": "assistant", "content": sample.text, "refusal": None},
            "logprobs": self._logprobs(answer.chunks, answer.logprobs),
            "finish_reason": _FINISH[sample.finish_reason],
        }

    def delta(self, news: News, offset: int) -> dict[str, Any]:
        """Writes news."""
        return {
            "delta": {"content": news.text} if news.chunks or news.text else {},
            "logprobs": self._logprobs(news.chunks, news.logprobs),
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
        self, chunks: Sequence[Chunk], scores: Sequence[Logprob], offset: int
    ) -> dict[str, Any] | None:
        if not self._tokens.wanted:
            return None
        offsets = []
        for chunk in chunks:
            offsets.append(offset)
            offset += len(chunk.text)
        return {
            "tokens": [self._tokens.text(chunk.id) for chunk in chunks],
            "token_logprobs": [max(score.logprob, _LEAST) for score in scores],
            "top_logprobs": [self._top(*pair) for pair in zip(chunks, scores, strict=True)],
            "text_offset": offsets,
        }

    def _top(self, chunk: Chunk, score: Logprob) -> dict[str, float]:
        """The likeliest tokens, and the one that was written."""
        top = {self._tokens.text(token): max(p, _LEAST) for token, p in score.top}
        return top | {self._tokens.text(chunk.id): max(score.logprob, _LEAST)}

    def choice(self, answer: Answer, sample: Sample) -> dict[str, Any]:
        """Writes a whole answer."""
        return {
            "text": sample.text,
            "logprobs": self._logprobs(answer.chunks, answer.logprobs, 0),
            "finish_reason": _FINISH[sample.finish_reason],
        }

    def delta(self, news: News, offset: int) -> dict[str, Any]:
        """Writes news."""
        return {
            "text": news.text,
            "logprobs": self._logprobs(news.chunks, news.logprobs, offset),
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


def _about(prepared: Prepared, warnings: Sequence[str]) -> dict[str, Any]:
    """The `baco` part of an answer that is known before it starts."""
    return prepared.about() | ({"warnings": list(warnings)} if warnings else {})


async def collect(
    running: Running, form: Format, place: QueuePlace, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    """Waits for the whole answer and writes it."""
    prepared = running.prepared
    answers = [Answer() for _ in prepared.tasks]
    async for batch in running.updates():
        for news in batch:
            answers[news.task].add(news)
        place.finished(sum(news.sample is not None for news in batch))
    samples = [answer.sample for answer in answers if answer.sample]
    choices = [
        {"index": index}
        | form.choice(answer, sample)
        | {"baco": _marks(answer.chunks) | _result(sample)}
        for index, (answer, sample) in enumerate(zip(answers, samples, strict=True))
    ]
    return _head(prepared, form.object, form.prefix) | {
        "choices": choices,
        "usage": _usage(prepared, [len(answer.chunks) for answer in answers]),
        "baco": _about(prepared, warnings) | _summary(samples),
    }


async def stream(
    running: Running,
    form: Format,
    place: QueuePlace,
    warnings: Sequence[str] = (),
    *,
    include_usage: bool,
) -> AsyncIterator[str]:
    """Writes the answer in server-sent events, as it comes; an error becomes the last event."""
    prepared = running.prepared
    head = _head(prepared, form.chunk_object, form.prefix)
    if include_usage:
        head["usage"] = None
    lengths: dict[int, int] = {}
    tokens: dict[int, int] = {}
    samples: list[Sample] = []
    about, first = _about(prepared, warnings), True
    try:
        async for batch in running.updates():
            out: list[dict[str, Any]] = []
            place.finished(sum(news.sample is not None for news in batch))
            for news in batch:
                index = news.task
                if index not in lengths:
                    lengths[index] = tokens[index] = 0
                    opening = form.opening()
                    if opening:
                        out.append({"index": index} | opening)
                choice = {"index": index} | form.delta(news, lengths[index])
                lengths[index] += len(news.text)
                tokens[index] += len(news.chunks)
                choice["finish_reason"] = news.sample and _FINISH[news.sample.finish_reason]
                choice["baco"] = _marks(news.chunks)
                if news.sample:
                    samples.append(news.sample)
                    choice["baco"] |= _result(news.sample)
                out.append(choice)
            text = ""
            for number, choice in enumerate(out):
                chunk = head | {"choices": [choice]}
                last = len(samples) == len(prepared.tasks) and number == len(out) - 1
                if last or (first and number == 0):
                    chunk["baco"] = about | (_summary(samples) if last else {})
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
