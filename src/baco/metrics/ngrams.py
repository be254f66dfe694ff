"""Lexical measures of token lists: pure functions that know nothing of files or models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations

from baco.errors import missing_extra

Tokens = Sequence[Hashable]

BLEU_ORDER = 4
SMOOTHING = 0.1
"""Count that stands in for no match at all, as in nltk's ``method1``."""


def ngrams(tokens: Tokens, order: int) -> Iterable[tuple[Hashable, ...]]:
    """The n-grams of one output, in order."""
    return zip(*(tokens[k:] for k in range(order)), strict=False)


def distinct(outputs: Sequence[Tokens], order: int) -> float:
    """Unique n-grams over all n-grams of a group; none crosses outputs (Paper: App. C.1).

    Args:
        outputs: Tokens of each output.
        order: n.

    Returns:
        A share in [0, 1]; 0 if no output has n tokens. Up is more diverse.
    """
    counts = Counter(gram for tokens in outputs for gram in ngrams(tokens, order))
    total = sum(counts.values())
    return len(counts) / (total + 1e-12)


def expected_distinct(outputs: Sequence[Tokens], order: int, vocabulary: int) -> float:
    """Expectation-adjusted Distinct: n-grams found over n-grams that chance would find.

    Args:
        outputs: Tokens of each output.
        order: n.
        vocabulary: Size of the tokenizer, added tokens included, padding of the model excluded;
            there are ``vocabulary ** order`` possible n-grams (Paper: App. C.1).

    Returns:
        A ratio in [0, e / (e - 1)], 0 if no output has n tokens. Up is more diverse.
    """
    counts = Counter(gram for tokens in outputs for gram in ngrams(tokens, order))
    total = sum(counts.values())
    if not total:
        return 0.0
    possible = float(vocabulary) ** order
    return len(counts) / (-possible * math.expm1(total * math.log1p(-1 / possible)))


def self_bleu(outputs: Sequence[Tokens]) -> float:
    """Mean BLEU-4 of each output against all others as references (Paper: App. C.1).

    Equals nltk's ``sentence_bleu`` with smoothing ``method1`` and ``auto_reweigh``. An output whose
    tokens equal those of another scores 1, an empty one among empty ones too.

    Args:
        outputs: Tokens of each output, at least two.

    Returns:
        A mean in [0, 1]; down is more diverse. NaN for fewer than two outputs.
    """
    if len(outputs) < 2:
        return math.nan
    lengths = [len(tokens) for tokens in outputs]
    matches = [_clipped(outputs, order) for order in range(1, BLEU_ORDER + 1)]
    same = Counter(tuple(tokens) for tokens in outputs)
    scores = []
    for i, tokens in enumerate(outputs):
        if same[tuple(tokens)] > 1:
            scores.append(1.0)
            continue
        others = (length for j, length in enumerate(lengths) if j != i)
        scores.append(_bleu([m[i] for m in matches], lengths[i], others))
    return math.fsum(scores) / len(scores)


def _clipped(outputs: Sequence[Tokens], order: int) -> list[int]:
    """For each output, how many of its n-grams the others hold, at most as often as one of them."""
    counts = [Counter(ngrams(tokens, order)) for tokens in outputs]
    best: dict[Hashable, tuple[int, int, int]] = {}
    for i, mine in enumerate(counts):
        for gram, number in mine.items():
            old = best.get(gram)
            if old is None:
                best[gram] = (number, i, 0)
            elif number > old[0]:
                best[gram] = (number, i, old[0])
            elif number > old[2]:
                best[gram] = (old[0], old[1], number)
    found = []
    for i, mine in enumerate(counts):
        total = 0
        for gram, number in mine.items():
            first, owner, second = best[gram]
            total += min(number, second if owner == i else first)
        found.append(total)
    return found


def _bleu(matches: Sequence[int], length: int, references: Iterable[int]) -> float:
    if matches[0] == 0:
        return 0.0
    closest = min(references, key=lambda r: (abs(r - length), r))
    penalty = 1.0 if length > closest else math.exp(1 - closest / length)
    orders = min(length, BLEU_ORDER)
    logs = (
        math.log((matches[k] or SMOOTHING) / max(1, length - k)) / orders for k in range(orders)
    )
    return penalty * math.exp(math.fsum(logs))


def self_bleu_pairwise(outputs: Sequence[Tokens]) -> float:
    """Mean BLEU-4 over ordered pairs, one reference each: the reading of the paper's words.

    Args:
        outputs: Tokens of each output, at least two.

    Returns:
        A mean in [0, 1]; down is more diverse. NaN for fewer than two outputs.
    """
    if len(outputs) < 2:
        return math.nan
    scores = []
    for a, b in combinations(outputs, 2):
        if tuple(a) == tuple(b):
            scores += [1.0, 1.0]
            continue
        matches = [_clipped([a, b], order) for order in range(1, BLEU_ORDER + 1)]
        scores.append(_bleu([m[0] for m in matches], len(a), [len(b)]))
        scores.append(_bleu([m[1] for m in matches], len(b), [len(a)]))
    return math.fsum(scores) / len(scores)


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F1 of two encoded texts, one character per token.

    Args:
        a: Tokens of the one text, encoded by `encode`.
        b: Tokens of the other.

    Returns:
        F1 in [0, 1], 0 if either is empty.
    """
    from rapidfuzz.distance import LCSseq

    common = LCSseq.similarity(a, b)
    if not common:
        return 0.0
    precision, recall = common / len(b), common / len(a)
    return 2 * precision * recall / (precision + recall)


def encode(outputs: Sequence[Tokens]) -> list[str]:
    """Writes token lists as strings of one character per token, for fast comparison."""
    ids: dict[Hashable, str] = {}
    return [
        "".join(ids.setdefault(token, _character(len(ids))) for token in tokens)
        for tokens in outputs
    ]


def _character(index: int) -> str:
    return chr(index if index < 0xD800 else index + 0x800)


def self_rouge_l(
    texts: Sequence[str], tokens: Sequence[Tokens], by_tokens: Sequence[bool] = ()
) -> float:
    """Mean ROUGE-L F1 over unordered pairs (Paper: App. C.1), as the ``rouge-score`` package.

    Equal texts score 1, texts without any token too. Where the package's tokenizer (ASCII letters
    and digits) finds nothing in one of two texts, that pair is compared by ``tokens`` instead.

    Args:
        texts: The outputs, at least two.
        tokens: Words of each output.
        by_tokens: Outputs of which that tokenizer would miss too much; pairs with one of them are
            compared by ``tokens`` too.

    Returns:
        A mean in [0, 1]; down is more diverse. NaN for fewer than two outputs.
    """
    if len(texts) < 2:
        return math.nan
    try:
        from rouge_score.tokenize import tokenize
    except ImportError as error:
        raise missing_extra("rouge_score", "metrics") from error
    plain = encode([tokenize(text, None) for text in texts])
    whole = encode(tokens)
    scores = []
    for i, j in combinations(range(len(texts)), 2):
        if texts[i] == texts[j] or not (whole[i] or whole[j]):
            scores.append(1.0)
        elif plain[i] and plain[j] and not (by_tokens and (by_tokens[i] or by_tokens[j])):
            scores.append(rouge_l(plain[i], plain[j]))
        else:
            scores.append(rouge_l(whole[i], whole[j]))
    return math.fsum(scores) / len(scores)


def jaccard(outputs: Sequence[Tokens], order: int = 1) -> list[list[float]]:
    """Jaccard similarity of the outputs' n-gram sets; two empty sets are equal.

    Args:
        outputs: Tokens of each output.
        order: n.

    Returns:
        A symmetric matrix with ones on the diagonal.
    """
    sets = [set(ngrams(tokens, order)) for tokens in outputs]
    return [[len(a & b) / len(a | b) if a or b else 1.0 for b in sets] for a in sets]
