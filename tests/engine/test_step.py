"""The law of one step, against its closed form; the end rule, case by case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from baco.engine import ALIGNED, BASE, Warp, noise
from baco.engine.router import Router, View
from baco.engine.scores import Context, Nucleus, SideScores, Stretch, score
from baco.engine.step import Choice, step
from baco.engine.units import START, State
from baco.routers import CASCADES, ROUTERS, parse
from support.engines import WORDS, words_vocabulary

VOCABULARY = words_vocabulary()
N = 40_000
KEYS = torch.tensor([noise.row_key(0, "law", i) for i in range(N)])
IN_WORD = int(State.LETTER)


def spread(seed: int, scale: float = 1.2, end: float = 0.0) -> torch.Tensor:
    logits = np.random.default_rng(seed).normal(size=len(WORDS)) * scale
    logits[[0, 19]] += end
    return torch.tensor(logits)


def one(logits: torch.Tensor, how: Warp) -> SideScores:
    return score(logits[None], how, VOCABULARY)


def many(scores: SideScores) -> SideScores:
    nucleus = Nucleus(*(x.expand(N, -1) for x in scores.nucleus))
    return SideScores(scores.raw.expand(N, -1), nucleus, scores.ends)


def ahead(side: int, depth: int, asked: torch.Tensor) -> Stretch:
    """What any side would write anywhere: a law of one step is about one step only."""
    width = depth or 3
    n = len(asked)
    top = torch.full((n, width), 0.45, dtype=torch.float64)
    tokens = torch.full((n, width), WORDS.index(" cat"))
    return Stretch(tokens, top, -top.log() * 3, torch.ones(n, width, dtype=torch.bool))


def emit(
    base: SideScores,
    aligned: SideScores,
    router: Router,
    source: int,
    how: Warp,
    state: int = IN_WORD,
    turn_rule: bool = False,
) -> Choice:
    context = Context(KEYS, torch.full((N,), 3), torch.full((N,), state), torch.full((N,), source))
    return step(
        many(base), many(aligned), context, router, (how, how), VOCABULARY, ahead=ahead,
        turn_rule=turn_rule,
    )  # fmt: skip


def law(
    base: SideScores,
    aligned: SideScores,
    p_base: float,
    source: int,
    how: Warp,
    state: int = IN_WORD,
    turn_rule: bool = False,
) -> np.ndarray:
    """P(token, source) by the formula: P~_s(v), or P~_s(B) P~_r(v | B), then end and turn rule."""
    p = {BASE: base.warped[0].exp().numpy(), ALIGNED: aligned.warped[0].exp().numpy()}
    raw = {BASE: base.raw[0].exp().numpy(), ALIGNED: aligned.raw[0].exp().numpy()}
    b = VOCABULARY.units.begins(torch.tensor([state]))[0].numpy()
    is_end = VOCABULARY.is_end.numpy()
    out = np.zeros((len(WORDS), 2))
    out[~b, source] += p[source][~b]
    end_allowed = bool(is_end[raw[ALIGNED].argmax()])
    for r, share in ((BASE, p_base), (ALIGNED, 1 - p_base)):
        weight = p[source][b].sum() * share
        speaker = r if p[r][b].sum() > 0 else source
        begin = np.where(b, p[speaker], 0) / p[speaker][b].sum()
        if end_allowed:
            out[:, speaker] += weight * begin
            continue
        # The second choice shares its noise with the first, which was an end: by the symmetry of
        # Gumbel noise it follows the same law without ends.
        out[~is_end, speaker] += weight * begin[~is_end]
        refused = weight * begin[is_end].sum()
        open_ = b & ~is_end
        second = speaker if p[speaker][open_].sum() > 0 else source
        if p[second][open_].sum() > 0:
            out[:, second] += refused * np.where(open_, p[second], 0) / p[second][open_].sum()
        else:
            bare = torch.tensor(np.where(is_end, 0, raw[source])).log()
            again = score(bare[None], how, VOCABULARY).warped[0].exp().numpy()
            out[:, source] += refused * again
    if turn_rule:
        line = WORDS.index("\n")
        breaks, top = out[line, BASE], int(raw[ALIGNED].argmax())
        open_ = b & ~is_end
        if is_end[top]:
            out[line, BASE], out[top, BASE] = 0, out[top, BASE] + breaks
        elif top != line and p[ALIGNED][open_].sum() > 0:
            out[line, BASE] = 0
            out[:, ALIGNED] += breaks * np.where(open_, p[ALIGNED], 0) / p[ALIGNED][open_].sum()
    return out


def agree(choice: Choice, expected: np.ndarray) -> None:
    counts = np.zeros_like(expected)
    np.add.at(counts, (choice.token.numpy(), choice.source.numpy()), 1)
    assert counts[expected == 0].sum() == 0
    likely = expected * N >= 5
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum()) * N
    keep = wanted > 0
    if keep.sum() > 1:
        assert stats.chisquare(observed[keep], wanted[keep]).pvalue > 1e-4
    np.testing.assert_allclose(expected.sum(), 1)


LEARNED = str(Path(__file__).parents[1] / "routers" / "learned.json")
SPECS = [*sorted({*ROUTERS, *CASCADES} - {"judge"}), f"{LEARNED}@0.5"]
WARPS = [Warp(), Warp(top_p=1.0), Warp(temperature=0.7, top_k=6, min_p=0.05)]


def share_of(router: Router, base: SideScores, aligned: SideScores) -> float:
    """The chance that a router goes to base here: 0 or 1, but for `rand`."""
    if router.name == "rand":
        assert router.gamma is not None
        return router.gamma
    view = View(
        base, aligned, VOCABULARY,
        Context(KEYS[:1], torch.tensor([3]), torch.tensor([IN_WORD]), torch.tensor([0])),
        torch.tensor([True]), ahead=ahead,
    )  # fmt: skip
    return float(router.decide(view)[0])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.rpartition("/")[2])
@pytest.mark.parametrize("how", WARPS, ids=["nucleus", "unwarped", "filters"])
def test_law_of_one_step(spec: str, how: Warp) -> None:
    router = parse(spec)
    for seed, source, end in ((1, BASE, 0.0), (5, ALIGNED, 2.5), (11, BASE, 2.5)):
        base, aligned = one(spread(seed, end=end), how), one(spread(seed + 100, end=end), how)
        p_base = share_of(router, base, aligned)
        agree(emit(base, aligned, router, source, how), law(base, aligned, p_base, source, how))


@pytest.mark.parametrize("how", WARPS, ids=["nucleus", "unwarped", "filters"])
@pytest.mark.parametrize("aligned_likes", ["<end>", "\n", None])
@pytest.mark.parametrize("source", [BASE, ALIGNED])
def test_law_of_the_turn_rule(source: int, aligned_likes: str | None, how: Warp) -> None:
    """A line that the base model breaks is an end: stopped at, shared, or refused."""
    for seed, gamma in ((1, 1.0), (5, 0.6), (11, 0.5)):
        logits = spread(seed), spread(seed + 100)
        logits[0][WORDS.index("\n")] += 5
        if aligned_likes:
            logits[1][WORDS.index(aligned_likes)] += 8
        base, aligned = (one(x, how) for x in logits)
        choice = emit(base, aligned, parse("rand", gamma), source, how, turn_rule=True)
        agree(choice, law(base, aligned, gamma, source, how, turn_rule=True))
        wrote = (choice.token == WORDS.index("\n")) & (choice.source == BASE)
        if aligned_likes:
            assert bool(wrote.any()) == (aligned_likes == "\n")
        assert bool(choice.needs_aligned[choice.source == ALIGNED].all())


def test_a_line_break_stays_where_nobody_has_another_word() -> None:
    how = Warp(temperature=0)
    only = torch.full((len(WORDS),), -9.0, dtype=torch.float64)
    only[WORDS.index("\n")] = 9
    aligned = torch.full((len(WORDS),), -9.0, dtype=torch.float64)
    aligned[WORDS.index("s")] = 9  # goes on with the word, and so has nothing to begin
    choice = emit(one(only, how), one(aligned, how), parse("rand", 1), BASE, how, turn_rule=True)
    assert set(choice.token.tolist()) == {WORDS.index("\n")}
    assert set(choice.source.tolist()) == {BASE}


def test_plain_sampling_when_both_sides_are_one_model() -> None:
    how = Warp()
    same = one(spread(3), how)
    choice = step(
        many(same), many(same),
        Context(KEYS, torch.full((N,), 3), torch.full((N,), IN_WORD), torch.full((N,), ALIGNED)),
        parse("rand", 0.5), (how, how), VOCABULARY, end_rule=False,
    )  # fmt: skip
    counts = np.bincount(choice.token.numpy(), minlength=len(WORDS))
    p = same.warped[0].exp().numpy()
    assert stats.chisquare(counts[p > 0], p[p > 0] / p.sum() * N).pvalue > 1e-4


def test_the_first_token_is_always_aligned() -> None:
    base, aligned = one(spread(1), Warp()), one(spread(2), Warp())
    context = Context(
        KEYS[:500], torch.zeros(500, dtype=torch.int64), torch.full((500,), START),
        torch.full((500,), ALIGNED),
    )  # fmt: skip
    rows = torch.zeros(500, dtype=torch.int64)
    choice = step(
        base.rows(rows), aligned.rows(rows), context, parse("p", 1), (Warp(), Warp()), VOCABULARY
    )
    assert (choice.source == ALIGNED).all()
    assert choice.begins.all()
    assert not choice.needs_base.any()


def peaked(**weights: float) -> torch.Tensor:
    p = torch.full((len(WORDS),), 1e-9, dtype=torch.float64)
    for name, weight in weights.items():
        p[{"end": 0, "the": 1, "cat": 2, "dog": 3, "s": 10, "end2": 19}[name]] = weight
    return (p / p.sum()).log()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_router_that_opens_is_asked_of_the_first_token(temperature: float) -> None:
    """Base opens with what the aligned model finds plausible, in its own proportions."""
    how = Warp(temperature=temperature, top_p=1)
    base = one(peaked(the=0.3, cat=0.1, dog=0.6), how)
    aligned = one(peaked(the=0.5, cat=0.4995, dog=4e-4), how)
    rows = torch.zeros(N, dtype=torch.int64)
    for t, tokens in ((0, {1, 2}), (3, {1, 2, 3})):
        context = Context(KEYS, rows + t, rows + START, rows + ALIGNED)
        choice = step(many(base), many(aligned), context, parse("open>p@1"), (how, how), VOCABULARY)
        spoken = choice.source == BASE
        if t == 0:
            assert spoken.all()
            assert choice.begins.all()
            assert choice.needs_base.all()
            assert choice.needs_aligned.all()
        counts = np.bincount(choice.token[spoken].numpy(), minlength=len(WORDS))
        if temperature == 0:
            assert set(choice.token.tolist()) == {1 if t == 0 else 3}
        else:
            found = dict.fromkeys(np.flatnonzero(counts > N / 1000).tolist())
            assert set(found) == tokens
            assert counts[1] / counts[2] == pytest.approx(3, rel=0.1)


def test_base_opens_as_it_would_where_nothing_is_plausible() -> None:
    """Such as where all that the aligned model would write is barred."""
    how = Warp(top_p=1)
    words = torch.full((len(WORDS),), -torch.inf, dtype=torch.float64)
    words[3] = 0
    base, aligned = one(words, how), one(peaked(the=1), how)
    context = Context(KEYS[:1], torch.tensor([0]), torch.tensor([START]), torch.tensor([ALIGNED]))
    for router, token in (("open>p@1", 3), ("p@1", 1)):
        choice = step(base, aligned, context, parse(router), (how, how), VOCABULARY)
        assert choice.token.tolist() == [token]


@pytest.mark.parametrize("end", ["end", "end2"])
def test_an_end_needs_the_aligned_models_consent(end: str) -> None:
    base = one(peaked(**{end: 0.8, "cat": 0.2}), Warp(top_p=1))
    for aligned_logits, stops in (
        (peaked(the=0.6, end=0.4), False),
        (peaked(the=0.4, end=0.6), True),
    ):
        aligned = one(aligned_logits, Warp(top_p=1))
        choice = emit(base, aligned, parse("p", 1), BASE, Warp(top_p=1))
        ended = VOCABULARY.is_end[choice.token]
        assert bool(ended.any()) is stops
        if not stops:
            assert set(choice.token.tolist()) <= {2, 1, 10, *range(len(WORDS))} - {0, 19}


def test_a_nucleus_that_holds_only_an_end_does_not_break() -> None:
    how = Warp(top_p=0.9)
    only_end = peaked(end=0.99, dog=0.01)
    # The aligned top-1 is no end, and the base nucleus holds nothing else.
    base, aligned = one(only_end, how), one(peaked(the=0.7, cat=0.3), how)
    choice = emit(base, aligned, parse("p", 1), ALIGNED, how)
    assert set(choice.token.tolist()) == {1, 2}  # over P~_s, the aligned side
    assert (choice.source == ALIGNED).all()
    choice = emit(base, aligned, parse("p", 1), BASE, how)
    assert set(choice.token.tolist()) == {3}  # s = base: its raw distribution without ends
    assert (choice.source == BASE).all()


def test_no_token_to_begin_with_falls_back_to_the_source() -> None:
    how = Warp(top_p=0.9)
    base = one(peaked(s=1.0), how)  # only a continuation
    aligned = one(peaked(the=0.5, cat=0.5), how)
    choice = emit(base, aligned, parse("p", 1), ALIGNED, how)
    assert set(choice.token.tolist()) == {1, 2}
    assert (choice.source == ALIGNED).all()


def test_what_a_decision_needs() -> None:
    how = Warp()
    base, aligned = one(peaked(cat=1.0), how), one(peaked(dog=1.0), how)

    def needs(spec: str, source: int) -> tuple[bool, bool]:
        choice = emit(base, aligned, parse(spec), source, how)
        return bool(choice.needs_base.any()), bool(choice.needs_aligned.any())

    assert needs("rand@0", ALIGNED) == (False, True)
    assert needs("rand@1", BASE) == (True, False)
    assert needs("p@0", ALIGNED) == (True, True)
    assert needs("p@1", BASE) == (True, False)
    assert needs("p-a@0", ALIGNED) == (False, True)
    inside = one(peaked(s=1.0), how)
    choice = emit(inside, aligned, parse("pr"), BASE, how)  # inside a word nobody is asked
    assert not choice.needs_aligned.any()
