"""The oracle's own account of rules that are more than a comparison; see `reference.py`.

Plain numpy over one row: the features and the score of a learned router, and what a partner would
write next, without cache or batch.
"""

from __future__ import annotations

import codecs
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from baco.engine.ahead import LONGEST_SENTENCE, SENTENCE
from baco.engine.partner import Partner
from baco.engine.request import ALIGNED, BASE
from baco.engine.router import Router, View
from baco.engine.scores import Stretch
from baco.engine.units import Char, char_class
from baco.engine.vocabulary import Vocabulary
from baco.routers.learned import Learned

Floats = np.ndarray[Any, np.dtype[np.floating]]


def _plogp(p: Floats) -> float:
    kept = p[p > 0]
    return float((kept * np.log(kept)).sum())


def learned_features(raw: Mapping[int, Floats], vocabulary: Vocabulary, t: int) -> dict[str, float]:
    """Works out every feature of a learned router from the two distributions of one row."""
    base, aligned = raw[BASE], raw[ALIGNED]
    tops = {"base": int(base.argmax()), "aligned": int(aligned.argmax())}
    found = {
        "base_top_prob": float(base.max()),
        "aligned_top_prob": float(aligned.max()),
        "log_ratio": math.log(base.max() / aligned.max()),
        "base_entropy": -_plogp(base),
        "aligned_entropy": -_plogp(aligned),
        "agreement": float(tops["base"] == tops["aligned"]),
        "divergence": (_plogp(base) + _plogp(aligned)) / 2 - _plogp((base + aligned) / 2),
        "position": math.log(t + 1),
    }
    for name, top in tops.items():
        found[f"{name}_punctuation"] = float(vocabulary.is_punctuation[top])
        found[f"{name}_function_word"] = float(vocabulary.is_function_word[top])
    return found


def learned_score(
    model: Learned, raw: Mapping[int, Floats], vocabulary: Vocabulary, t: int
) -> float:
    """Works out the score of a learned router for one row."""
    found = learned_features(raw, vocabulary, t)
    total = model.bias
    for name, mean, scale, weight in zip(
        model.features, model.mean, model.scale, model.weights, strict=True
    ):
        total += weight * (found[name] - mean) / scale
    return total


def learned_level(model: Learned, gamma: float) -> float:
    """Works out the score above which base speaks."""
    if gamma <= 0:
        return math.inf
    if gamma >= 1:
        return -math.inf
    shares = np.linspace(0, 1, len(model.quantiles))
    return float(np.interp(1 - gamma, shares, model.quantiles))


def decide(router: Router, view: View, raw: Mapping[int, Floats], t: int) -> bool:
    """Asks a router about one row; learned rules are worked out here."""
    for rule, schedule in zip(router.rules, router.schedules, strict=True):
        if isinstance(rule.decide, Learned):
            assert schedule is not None
            place = view.sentence if schedule.kind == "sentence" else torch.tensor([t])
            level = learned_level(rule.decide, float(schedule.at(place)[0]))
            says = learned_score(rule.decide, raw, view.vocabulary, t) > level
        else:
            says = bool(Router(router.name, (rule,), (schedule,)).decide(view)[0])
        if not says:
            return False
    return True


def margin_of(router: Router, view: View) -> float:
    """Returns how near learned scores are to their thresholds."""
    margin = math.inf
    for rule, gamma in zip(router.rules, _thresholds(router, view), strict=True):
        if isinstance(rule.decide, Learned):
            gap = (rule.decide.score(view) - rule.decide.level(gamma)).abs()
            margin = min(margin, float(gap[0]))
    return margin


def margin_ahead(router: Router, view: View, stretch: Stretch) -> float:
    """Returns how near the means over look-ahead are to any threshold."""
    means = [float(stretch.mean(values)[0]) for values in (stretch.top_prob, stretch.entropy)]
    gammas = [float(gamma[0]) for gamma in _thresholds(router, view)]
    return min(abs(mean - gamma) for mean in means for gamma in gammas)


def _thresholds(router: Router, view: View) -> list[torch.Tensor]:
    """Returns each rule's threshold here, float64 [1]; infinite where it has none."""
    out = []
    for schedule in router.schedules:
        if schedule is None:
            out.append(torch.tensor([math.inf], dtype=torch.float64))
        else:
            out.append(
                schedule.at(view.sentence if schedule.kind == "sentence" else view.context.t)
            )
    return out


def rollout(partner: Partner, ids: list[int], depth: int) -> tuple[Stretch, float]:
    """Lets a partner write its likeliest tokens, reading everything anew for each.

    Returns:
        The tokens, and by how much the least sure of them was likelier than the next one.
    """
    vocabulary = partner.vocabulary
    gap = math.inf
    tokens: list[int] = []
    tops: list[float] = []
    entropies: list[float] = []
    width = LONGEST_SENTENCE if depth == SENTENCE else depth
    while len(tokens) < width and len(ids) <= partner.context_window:
        logits = partner.logits(ids)[: vocabulary.size].double().cpu().numpy()
        logits = np.where(vocabulary.allowed.cpu().numpy(), logits, -np.inf)
        p = np.exp(logits - logits.max())
        p = p / p.sum()
        best = int(p.argmax())
        gap = min(gap, float(p[best] - np.delete(p, best).max()))
        tokens.append(best)
        tops.append(float(p[best]))
        entropies.append(-_plogp(p))
        ids = [*ids, best]
        if bool(vocabulary.is_end[best]):
            break
        if depth == SENTENCE and bool(vocabulary.units.ends_sentence[best]):
            break
    device = vocabulary.is_end.device

    def row(values: list[Any], kind: torch.dtype) -> torch.Tensor:
        return torch.tensor([values], dtype=kind, device=device)

    stretch = Stretch(
        row(tokens, torch.int64),
        row(tops, torch.float64),
        row(entropies, torch.float64),
        torch.ones(1, len(tokens), dtype=torch.bool, device=device),
    )
    return stretch, gap


class SlowBan(NamedTuple):
    """Phrases that a text may not hold, looked for at every place of all that is written.

    Attributes:
        phrases: The phrases.
        token_bytes: The bytes of each token id.
        most: How often a text is taken back at most.
    """

    phrases: tuple[str, ...]
    token_bytes: Sequence[bytes]
    most: int

    def began(self, tokens: Sequence[int], over: bool) -> int | None:
        """Returns the place of the token with the first character of a phrase, or None.

        Args:
            tokens: The text so far.
            over: Whether nothing follows.
        """
        text = self._text(tokens, over)
        wanted = {_caseless(phrase.strip()) for phrase in self.phrases}
        for start in range(len(text)):
            if text[start].isspace() or (start and _joined(text[start - 1], text[start])):
                continue
            for end in range(start + 1, len(text) + 1):
                if _caseless(text[start:end]) not in wanted:
                    continue
                if end < len(text) and _joined(text[end - 1], text[end]):
                    continue
                if end == len(text) and not over and char_class(text[end - 1]) in _WORDS:
                    continue
                return next(
                    k for k in range(len(tokens)) if len(self._text(tokens[: k + 1], over)) > start
                )
        return None

    def _text(self, tokens: Sequence[int], over: bool) -> str:
        """The text of tokens, without a character that is not all there, unless it is over."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return decoder.decode(b"".join(self.token_bytes[t] for t in tokens), final=over)


_WORDS = (Char.LETTER, Char.DIGIT, Char.EXTEND)


def _joined(one: str, other: str) -> bool:
    """Whether two neighbouring characters are of one word."""
    return char_class(one) in _WORDS and char_class(other) in _WORDS


def _caseless(text: str) -> str:
    text = " ".join(text.split()) + (" " if text[-1:].isspace() else "")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
