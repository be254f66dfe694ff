"""Order and sides: random, and balanced for each annotator and each prompt."""

from collections import Counter

import pytest

from baco.study.balance import screens

SEEDS = range(60)


def layout(seed, annotators=4, prompts=20, methods=2, responses=3):
    return [
        screens(a, prompts=prompts, methods=methods, responses=responses, seed=seed)
        for a in range(annotators)
    ]


@pytest.mark.parametrize(("prompts", "methods"), [(20, 2), (7, 2), (12, 3)])
def test_sides_are_balanced_for_every_annotator(prompts, methods):
    for seed in SEEDS:
        for own in layout(seed, prompts=prompts, methods=methods):
            for pair in range(len(own[0].sides)):
                left = Counter(screen.sides[pair][0] for screen in own)
                assert max(left.values()) - min(left.values()) <= prompts % 2


def test_sides_are_balanced_for_every_prompt():
    for seed in SEEDS:
        left = Counter(
            (screen.prompt, screen.sides[0][0]) for own in layout(seed) for screen in own
        )
        assert set(left.values()) == {2}


@pytest.mark.parametrize(("prompts", "methods"), [(20, 2), (7, 2), (12, 3)])
def test_positions_are_balanced_for_every_annotator(prompts, methods):
    for seed in SEEDS:
        for own in layout(seed, prompts=prompts, methods=methods):
            for position in range(3 * methods):
                at = Counter(screen.positions[position][0] for screen in own)
                counts = [at[method] for method in range(methods)]
                assert max(counts) - min(counts) <= (1 if prompts % methods else 0)


def test_positions_are_balanced_for_every_prompt_over_annotators():
    for seed in SEEDS:
        for position in range(6):
            at = Counter(
                (screen.prompt, screen.positions[position][0])
                for own in layout(seed)
                for screen in own
            )
            assert set(at.values()) == {2}


def test_every_response_is_shown_once():
    for own in layout(3, methods=3):
        assert sorted(screen.prompt for screen in own) == list(range(20))
        for screen in own:
            assert sorted(screen.positions) == [(m, r) for m in range(3) for r in range(3)]
            assert [tuple(sorted(pair)) for pair in screen.sides] == [(0, 1), (0, 2), (1, 2)]


def test_no_side_position_or_order_is_favoured_over_seeds():
    """Each of these is a fair coin or die over 300 seeds: within four standard deviations."""
    seeds = 300
    left = sum(
        screens(0, prompts=20, methods=2, responses=3, seed=s)[0].sides[0][0] for s in range(seeds)
    )
    assert abs(left - seeds / 2) < 4 * (seeds / 4) ** 0.5
    first = Counter(
        screens(0, prompts=20, methods=2, responses=3, seed=s)[0].prompt for s in range(seeds)
    )
    assert len(first) == 20
    assert max(first.values()) < seeds / 20 + 4 * (seeds * 0.05 * 0.95) ** 0.5
    shown = Counter(
        screens(0, prompts=20, methods=2, responses=3, seed=s)[0].positions[0] for s in range(seeds)
    )
    assert len(shown) == 6
    assert max(shown.values()) < seeds / 6 + 4 * (seeds * 5 / 36) ** 0.5


def test_the_side_does_not_tell_the_position():
    """Knowing where a method stands in step 1 must not tell its side in step 2."""
    same = sum(
        screen.positions[0][0] == screen.sides[0][0]
        for seed in range(100)
        for screen in screens(0, prompts=20, methods=2, responses=3, seed=seed)
    )
    assert abs(same - 1000) < 4 * 500**0.5


def test_annotators_see_different_orders_and_more_can_join():
    four, six = layout(0, annotators=4), layout(0, annotators=6)
    assert six[:4] == four
    assert len({tuple(screen.prompt for screen in own) for own in six}) == 6
