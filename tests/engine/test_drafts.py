"""Third-party drafts change the cost, never the result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from baco.engine import Engine, Request, Warp, reference
from baco.engine.drafts import DraftQuery, PromptLookup
from baco.engine.noise import row_key
from baco.errors import InputError
from baco.partners.fake import FakePartner
from baco.routers import parse
from support.engines import WORDS, fake_pair, random_script, run, words_vocabulary

pytestmark = pytest.mark.costs


def requests(spec: str, count: int = 5, how: Warp | None = None) -> list[Request]:
    return [
        Request((1, 2), (3, 4 + i % 2), parse(spec), row_key(0, "p", i), how or Warp(),
                max_new_tokens=25)
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("spec", ["p-punc@0.5", "rand@0.3", "h@1.5", "pr@0.9"])
@pytest.mark.parametrize("kind", ["prompt-lookup", "model"])
def test_results_are_the_oracles(spec: str, kind: str) -> None:
    base, aligned = fake_pair()
    small = FakePartner(aligned.vocabulary, random_script("small", 1.0, 1.5))
    draft = small if kind == "model" else kind
    wanted = [tuple(reference.decode(base, aligned, r)[:4]) for r in requests(spec)]
    for lookahead in (2, "auto"):
        engine = Engine(base, aligned, lookahead=lookahead, max_rows=3, draft=draft)  # type: ignore[arg-type]
        assert run(engine, requests(spec)) == wanted


def looping(ids: tuple[int, ...]) -> list[float]:
    """Says the same six words over and over."""
    p = [1e-6] * len(WORDS)
    p[1 + len(ids) % 6] = 1.0
    return p


def test_repeated_text_costs_less_than_one_pass_a_token(
    wide_passes: Callable[[float], None],
) -> None:
    wide_passes(0)
    vocabulary = words_vocabulary()
    pair = FakePartner(vocabulary, looping), FakePartner(vocabulary, looping)
    request = Request((1,), (1,), parse("p@0.5"), 7, Warp(), max_new_tokens=120)
    engine = Engine(*pair, draft="prompt-lookup")
    [(tokens, *_)] = run(engine, [request])
    stats = engine.stats
    assert len(tokens) == 120
    assert (stats.base_passes + stats.aligned_passes + stats.draft_cost) / 120 < 0.5


def test_a_perfect_small_model_is_counted_at_its_size() -> None:
    base, aligned = fake_pair(end=-9)
    aligned.parameters = base.parameters = 10
    small = FakePartner(aligned.vocabulary, aligned.script)
    engine = Engine(base, aligned, draft=small)
    run(engine, requests("rand@0", 1))
    assert engine.drafter is not None
    assert engine.stats.draft_cost == pytest.approx(engine.drafter.passes / 10)


def ask(*text: int, room: int = 4) -> DraftQuery:
    return DraftQuery(0, text, 0, 0, 0, Warp(), room)


def test_prompt_lookup() -> None:
    look = PromptLookup()
    assert look.guess([ask(5, 6, 7, 8, 9, 5, 6)]) == [[7, 8, 9, 5]]
    assert look.guess([ask(5, 6, 7, 8, 9, 5, 6, room=1)]) == [[7]]
    assert look.guess([ask(1, 2, 3), ask(1)]) == [[], []]


def test_bad_drafts() -> None:
    base, aligned = fake_pair()
    with pytest.raises(InputError, match="unknown draft 'magic'"):
        Engine(base, aligned, draft="magic")
    with pytest.raises(InputError, match="another vocabulary"):
        Engine(base, aligned, draft=fake_pair()[0])
