"""What a model thinks of a text that it is given: `echo` with `logprobs`, and `prompt_logprobs`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from baco.engine.partner import Partner, RowCache
from baco.engine.scores import finite
from baco.errors import UnsupportedError

if TYPE_CHECKING:
    from baco.models.sides import Side

_CHUNK = 128
"""Tokens that are read between two cycles of the engines."""

_LEAST = -9999.0  # OpenAI's way to write a log-probability of minus infinity


class Asks(Protocol):
    """Calls functions between two cycles of the engines."""

    def ask(self, function: Any) -> Future[Any]:
        """Calls a function on the engines' thread."""
        ...


class Score(NamedTuple):
    """One token of a prompt, after all before it.

    Attributes:
        token: Its id.
        logprob: log P, without temperature and filters; None for the first.
        rank: How many tokens are at least as likely, itself included.
        top: The likeliest tokens with their log P, best first.
    """

    token: int
    logprob: float | None
    rank: int
    top: list[tuple[int, float]]


async def read(
    engines: Asks, partner: Partner, prompt: Sequence[int], top: int
) -> tuple[list[Score], Score]:
    """Scores the tokens of a prompt, a few at a time between the engines' cycles.

    Args:
        engines: Where forward passes are made.
        partner: The model.
        prompt: Token ids, at least one, at most the context window.
        top: How many of the likeliest tokens to tell.

    Returns:
        The scores, and that of the likeliest end after them.

    Raises:
        UnsupportedError: If the model tells only its likeliest tokens.
    """
    if partner.abilities.gives != "logits" or not partner.abilities.lends_caches:
        raise UnsupportedError(
            "this model does not tell the probability of every token of a text",
            hint="leave out echo and prompt_logprobs",
        )

    def begin() -> tuple[RowCache, torch.Tensor]:
        cache = partner.new_cache()
        cache.add(1)
        return cache, cache.open([prompt[:1]], [0])[0]

    cache, after = await asyncio.wrap_future(engines.ask(lambda _: begin()))
    scores = [Score(prompt[0], None, 0, [])]

    def go_on(start: int) -> torch.Tensor:
        chunk = torch.tensor([prompt[start : start + _CHUNK]])
        logits = torch.cat([after[None], cache.feed(chunk, torch.tensor([chunk.shape[1]]))[0]])
        raw = finite(logits[:-1].double().log_softmax(-1), partner.label)
        scores.extend(_score(p, int(t), top) for p, t in zip(raw, chunk[0], strict=True))
        return logits[-1]

    for start in range(1, len(prompt), _CHUNK):
        after = await asyncio.wrap_future(engines.ask(lambda _, at=start: go_on(at)))
    raw = finite(after.double().log_softmax(-1), partner.label)
    ends = partner.vocabulary.is_end.to(raw.device)
    return scores, _score(raw, int(raw.masked_fill(~ends, -torch.inf).argmax()), top)


def _score(raw: torch.Tensor, token: int, top: int) -> Score:
    best = raw.topk(min(top, len(raw)))
    likeliest = list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Score(token, float(raw[token]), int((raw >= raw[token]).sum()), likeliest)


class Echo:
    """A prompt and its scores in the shapes of the API.

    Args:
        side: Whose scores they are.
        prompt: The prompt as it was given.
        scores: Its tokens'.
        end: The likeliest end after it.
    """

    def __init__(
        self,
        side: Side,
        prompt: str | Sequence[int],
        scores: Sequence[Score],
        end: Score | None = None,
    ) -> None:
        self._bytes = side.token_bytes
        self._scores = scores
        self._end = end
        joined = b"".join(self._bytes[s.token] for s in scores)
        self.text = prompt if isinstance(prompt, str) else joined.decode(errors="replace")
        # A token that begins every text, and is none of it, has no length.
        self._unseen = max(0, len(joined.decode(errors="replace")) - len(self.text))

    def _text(self, token: int) -> str:
        return self._bytes[token].decode(errors="replace")

    def put_before(self, choice: dict[str, Any], *, logprobs: bool) -> None:
        """Puts the prompt before an answer, and its scores before the answer's.

        An answer that ends at once has no token but its end, which is told: evaluation harnesses
        ask for one token and take the last one off.
        """
        choice["text"] = self.text + choice["text"]
        if not logprobs:
            return
        after = choice["logprobs"] or {}
        if after and not after["tokens"] and choice["baco"].get("finish") == "stop" and self._end:
            assert self._end.logprob is not None
            after = {
                "tokens": [self._text(self._end.token)],
                "token_logprobs": [max(self._end.logprob, _LEAST)],
                "top_logprobs": [self._top(self._end)],
                "text_offset": [0],
            }
        offsets, read = [], b""
        for score in self._scores:
            offsets.append(max(0, len(read.decode(errors="replace")) - self._unseen))
            read += self._bytes[score.token]
        choice["logprobs"] = {
            "tokens": [self._text(s.token) for s in self._scores] + after.get("tokens", []),
            "token_logprobs": [
                None if s.logprob is None else max(s.logprob, _LEAST) for s in self._scores
            ]
            + after.get("token_logprobs", []),
            "top_logprobs": [None if s.logprob is None else self._top(s) for s in self._scores]
            + after.get("top_logprobs", []),
            "text_offset": offsets + [len(self.text) + at for at in after.get("text_offset", [])],
        }

    def _top(self, score: Score) -> dict[str, float]:
        assert score.logprob is not None
        told = [*score.top, (score.token, score.logprob)]
        return {self._text(token): max(p, _LEAST) for token, p in told}

    def prompt_logprobs(self) -> list[dict[str, Any] | None]:
        """As vLLM tells them: by token id, the prompt's own token first."""
        out: list[dict[str, Any] | None] = []
        for score in self._scores:
            if score.logprob is None:
                out.append(None)
                continue
            told = [(score.token, score.logprob, score.rank)]
            told += [(t, p, i) for i, (t, p) in enumerate(score.top, 1) if t != score.token]
            out.append(
                {
                    str(token): {
                        "logprob": max(p, _LEAST), "rank": rank, "decoded_token": self._text(token)
                    }
                    for token, p, rank in told
                }
            )  # fmt: skip
        return out
