"""A partner behind an OpenAI-compatible server: token ids in, the likeliest next tokens out.

Each position costs one request for one token with its likeliest alternatives; the server's prefix
cache keeps that cheap. A position is asked once: samples that begin alike share the answers.

What the server tells is true of the tokens that it names: their probabilities, so every router
that looks at top tokens or their probabilities works exactly. Tokens that it does not name have
no mass in sampling. `beyond` says where that matters.
"""

from __future__ import annotations

import hashlib
import math
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baco.engine.lazy import torch
from baco.engine.partner import Abilities, IdCache, Partner
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp
from baco.errors import InputError, PairError
from baco.models.client import Refusal
from baco.models.endpoint import Endpoint

KEPT = 1 << 22
"""Most log-probabilities that a partner remembers."""

_AS_IDS = "return_tokens_as_token_ids"
_ID = "token_id:"
_WHOLE = 1e-5
"""Mass that may be missing by rounding."""
_MOST = 1.01
"""Mass that named tokens may have together: servers round, some compute in half precision."""


class Top(NamedTuple):
    """The likeliest next tokens of one position, in descending order.

    Attributes:
        ids: Token ids, int64 [k].
        logs: Their log-probabilities, float64 [k].
    """

    ids: NDArray[np.int64]
    logs: NDArray[np.float64]


class RemotePartner(Partner):
    """A model of a server as the engine sees it.

    Args:
        endpoint: Where it is.
        vocabulary: Tables over its tokenizer's ids.
        names: Token ids by what a server may call them: their text, or the names of special ones.
        device: Where logits are wanted.
    """

    parameters = 1  # nobody knows

    def __init__(
        self,
        endpoint: Endpoint,
        vocabulary: Vocabulary,
        names: Mapping[str, int],
        device: torch.device,
    ) -> None:
        ends = int(vocabulary.is_end.sum())
        if endpoint.top_logprobs <= ends:
            raise InputError(
                f"top_logprobs {endpoint.top_logprobs} may leave nothing beside the {ends} end "
                f"tokens of {endpoint.model}",
                hint=f"use at least {ends + 1}",
            )
        self.endpoint = endpoint
        self.vocabulary = vocabulary
        self.device = device
        self.top = endpoint.top_logprobs
        self.abilities = Abilities("top-k", self.top, rewinds=False)
        self.client = endpoint.client()
        self._names = names
        self._as_ids = True
        self._window: int | None = None
        self._kept: OrderedDict[bytes, Top] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def context_window(self) -> int:  # type: ignore[override]  # asked for late
        """The longest sequence in tokens; the server is asked for it when it is first needed."""
        if self._window is None:
            self._window = self.endpoint.window(self.client)
        return self._window

    def tops(self, texts: Sequence[Sequence[int]]) -> list[Top]:
        """Returns the likeliest next tokens after some sequences; each is asked for once."""
        keys = [_key(text) for text in texts]
        known = {key: top for key in keys if (top := self._recall(key)) is not None}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        for key, top in zip(new, self.client.map(self._ask, new.values()), strict=True):
            known[key] = top
            self._keep(key, top)
        return [known[key] for key in keys]

    def account(self, texts: Iterable[Sequence[int]], warp: Warp) -> dict[str, Any] | None:
        """Tells what was known where one answer was written.

        Returns:
            `top_logprobs`; at how many `positions` the server was asked; at how many of them
            sampling went `beyond` what is known, so that tokens were left out that may be in P~;
            and the least known mass.
        """
        asked = [top for text in texts if (top := self.recall(text)) is not None]
        size = self.vocabulary.size
        masses = [float(np.exp(top.logs).sum()) for top in asked]
        return {
            "top_logprobs": self.top,
            "positions": len(asked),
            "beyond": sum(beyond(top, warp, size) for top in asked),
            "least_mass": round(min(masses, default=1.0), 6),
        }

    def recall(self, text: Sequence[int]) -> Top | None:
        """Returns what was said after a sequence, if that was asked and is remembered."""
        return self._recall(_key(text))

    def _recall(self, key: bytes) -> Top | None:
        with self._lock:
            return self._kept.get(key)

    def _keep(self, key: bytes, top: Top) -> None:
        with self._lock:
            self._kept[key] = top
            while len(self._kept) * self.top > KEPT and len(self._kept) > 1:
                self._kept.popitem(last=False)

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """True log-probabilities of the likeliest tokens, -inf for the others: float32 [v]."""
        return self.spread(self.tops([ids]))[0]

    def spread(self, tops: Sequence[Top]) -> torch.Tensor:
        """Lays likeliest tokens over the whole vocabulary: float32 [n, v]."""
        out = torch.full((len(tops), self.vocabulary.size), -torch.inf)
        for row, top in zip(out, tops, strict=True):
            row[torch.from_numpy(top.ids)] = torch.from_numpy(top.logs).float()
        return out.to(self.device)

    def new_cache(self) -> RemoteCache:
        """Returns an empty cache."""
        return RemoteCache(self)

    def _ask(self, ids: Sequence[int]) -> Top:
        body = {
            "model": self.endpoint.model,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": self.top,
        }
        if self._as_ids:
            try:
                return self._read(self.client.post("completions", body | {_AS_IDS: True}))
            except Refusal as error:
                if _AS_IDS not in error.reason:
                    raise
                self._as_ids = False  # a server that wants no fields it does not know
        return self._read(self.client.post("completions", body))

    def _read(self, made: Mapping[str, Any]) -> Top:
        try:
            named = _named(made["choices"][0].get("logprobs"))
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise PairError(
                f"{self.client.who} does not speak the OpenAI format",
                hint="its address usually ends in /v1",
            ) from error
        if not named:
            raise PairError(
                f"{self.client.who} gave no log-probabilities",
                hint="switch them on there, or leave out the tokenizer: the routers punc and fc "
                "need text only",
            )
        mass = math.fsum(math.exp(min(log, 1.0)) for _, log in named)
        if not mass <= _MOST:  # NaN is not
            raise PairError(
                f"{self.client.who} gives log-probabilities that are none: not numbers, or "
                f"{mass:.3g} together where 1 is all",
                hint="its model may overflow in half precision: serve it in bfloat16 or float32",
            )
        named.sort(key=lambda entry: -entry[1])
        known: dict[int, float] = {}
        for token, log in named[: self.top]:
            number = self._number(token)
            if number is None:
                break  # what is less likely than an unknown token is not known to be a top token
            known.setdefault(number, log)
        allowed = self.vocabulary.allowed
        if not any(bool(allowed[i]) for i in known):
            raise PairError(
                f"{self.client.who} finds {str(named[0][0])!r} likeliest, which its tokenizer "
                "does not have or no answer may hold",
                hint=f"check that {self.endpoint.tokenizer} is the model's own tokenizer",
            )
        return Top(np.array(list(known)), np.array(list(known.values()), dtype=np.float64))

    def _number(self, token: str | int) -> int | None:
        """The id of a token as the server names it."""
        if isinstance(token, str):
            number = token.removeprefix(_ID)
            if number == token or not number.isdecimal():
                return self._names.get(token)
            token = int(number)
        return token if 0 <= token < self.vocabulary.size else None


class RemoteCache(IdCache):
    """Rows as id sequences: the server keeps the rest; see `baco.engine.partner.RowCache`."""

    def __init__(self, partner: RemotePartner) -> None:
        super().__init__()
        self.partner = partner

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Takes whole prompts."""
        self._put(prompts, rows)
        return self.partner.spread(self.partner.tops([self._ids[row] for row in rows]))

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Takes the next tokens; only logits after each row's last one are defined."""
        fed = counts.nonzero().flatten().tolist()
        for row in fed:
            self._ids[row] += tuple(tokens[row, : counts[row]].tolist())
        said = self.partner.spread(self.partner.tops([self._ids[row] for row in fed]))
        out = torch.zeros(len(tokens), said.shape[-1], device=said.device)
        out[fed] = said
        return out[:, None].expand(-1, tokens.shape[1], -1)


def beyond(top: Top, how: Warp, size: int) -> bool:
    """Whether P~ may hold tokens that are not among the likeliest ones that are known.

    Where it is False, sampling from the known tokens is exact: the filters end among them, and
    they end at the same token however the unknown mass is spread over unknown tokens, none of
    which is likelier than the last known one.

    Args:
        top: The known tokens.
        how: Temperature and filters.
        size: Number of token ids.
    """
    probs = np.exp(top.logs)
    rest, k, t = 1 - probs.sum(), len(probs), how.temperature
    if t == 0 or rest < _WHOLE or k >= size:
        return False
    if 0 < how.top_k <= k:
        return False
    mass = (probs ** (1 / t)).cumsum()
    likely = int((probs >= probs[0] * how.min_p**t).sum()) if how.min_p else k
    likely_end = math.inf if likely == k else likely
    weights = [rest]
    if t != 1:
        packed = rest * probs[-1] ** (1 / t - 1)  # unknown mass in as few tokens as possible
        spread = (size - k) * (rest / (size - k)) ** (1 / t)  # in all of them
        weights = [0.0, packed, spread]  # 0 is what the step takes it for
    ends = set()
    for weight in weights:
        below = int((mass < how.top_p * (mass[-1] + weight)).sum()) if how.top_p < 1 else k
        ends.add(min(math.inf if below == k else below + 1, likely_end))
    return len(ends) > 1 or math.inf in ends


class Uncertain:
    """Adds up what partners that know only top tokens did for many samples: their accounts."""

    def __init__(self) -> None:
        self._sides: dict[str, dict[str, float]] = {}

    def add(self, details: Mapping[str, Any] | None) -> None:
        """Takes the `details` of a sample."""
        for side, told in ((details or {}).get("remote") or {}).items():
            seen = self._sides.setdefault(side, {"positions": 0, "beyond": 0, "least_mass": 1.0})
            seen["positions"] += told["positions"]
            seen["beyond"] += told["beyond"]
            seen["least_mass"] = min(seen["least_mass"], told["least_mass"])
            seen["top_logprobs"] = told["top_logprobs"]

    def lines(self) -> list[str]:
        """Says for each side how many decisions are uncertain; nothing where none is."""
        return [
            f"{seen['beyond'] / seen['positions']:.1%} of the {side} side's decisions are "
            f"uncertain ({seen['beyond']} of {seen['positions']}): its server tells the "
            f"{seen['top_logprobs']} likeliest tokens, which held as little as "
            f"{seen['least_mass']:.2f} of the probability, and sampling may need more; "
            "ask for more with top_logprobs, or lower top-p"
            for side, seen in self._sides.items()
            if seen["beyond"]
        ]


def names_of(tokenizer: Any, tokens: Sequence[bytes]) -> dict[str, int]:
    """Returns token ids by text, and by the names of special tokens.

    Args:
        tokenizer: A tokenizer of transformers.
        tokens: The bytes of each of its ids.
    """
    names: dict[str, int] = {}
    for number, token in enumerate(tokens):
        try:
            text = token.decode()
        except UnicodeDecodeError:
            continue  # part of a character: only servers that give ids can name it
        if text:
            names.setdefault(text, number)
    return names | {str(token): i for i, token in tokenizer.added_tokens_decoder.items()}


def _named(logprobs: Any) -> list[tuple[str | int, float]]:
    """Reads (token, log-probability) of the first position, in either of the two shapes."""
    if not logprobs:
        return []
    if content := logprobs.get("content"):
        return [
            (entry.get("id", entry["token"]), float(entry["logprob"]))
            for entry in content[0]["top_logprobs"]
        ]
    tops = logprobs.get("top_logprobs")
    return [(token, float(log)) for token, log in tops[0].items()] if tops and tops[0] else []


def _key(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()
