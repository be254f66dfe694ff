"""Labels: what may share a cache block does, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from baco.vllm.inside.labels import labels

BLOCK = 16
IDS = st.lists(st.integers(0, 5), min_size=1, max_size=70)


def blocks(base: list[int], aligned: list[int], unique: str, kind: str = "baco") -> list[tuple]:
    """The prefixes that vLLM's cache would tell apart: one for each full block."""
    made = labels(base, aligned, block=BLOCK, kind=kind, unique=unique)
    return [tuple(made[: (k + 1) * BLOCK]) for k in range(len(made) // BLOCK)]


@given(IDS, IDS)
def test_as_long_as_the_longer_prompt_and_within_int32(base: list[int], aligned: list[int]) -> None:
    made = labels(base, aligned, block=BLOCK, kind="baco", unique="a")
    assert len(made) == max(len(base), len(aligned))
    assert all(0 <= label < 2**31 for label in made)


@given(IDS, IDS)
def test_siblings_share_what_both_prompts_fill(base: list[int], aligned: list[int]) -> None:
    one, other = blocks(base, aligned, "a"), blocks(base, aligned, "b")
    early = abs(len(base) - len(aligned)) % BLOCK
    shared = (max(len(base), len(aligned)) - early) // BLOCK
    assert shared >= min(len(base), len(aligned)) // BLOCK
    if not early:
        assert one == other
    else:
        assert one[:shared] == other[:shared]
        assert not set(one[shared:]) & set(other[shared:])


@given(IDS, IDS, st.data())
def test_a_changed_id_changes_its_block_and_all_later_ones(
    base: list[int], aligned: list[int], data: st.DataObject
) -> None:
    changed, side = [list(base), list(aligned)], data.draw(st.integers(0, 1))
    at = data.draw(st.integers(0, len(changed[side]) - 1))
    changed[side][at] += 1
    one, other = blocks(base, aligned, "a"), blocks(*changed, "a")
    assert one[: at // BLOCK] == other[: at // BLOCK]
    assert not set(one[at // BLOCK :]) & set(other[at // BLOCK :])


@given(IDS, st.integers(1, 40))
def test_another_lag_or_method_shares_nothing(ids: list[int], more: int) -> None:
    longer = ids + [0] * more
    assert not set(blocks(ids, longer, "a")) & set(blocks(longer, longer, "a"))
    assert not set(blocks(ids, longer, "a")) & set(blocks(longer, ids, "a"))
    assert not set(blocks(ids, ids, "a", "base")) & set(blocks(ids, ids, "a", "aligned"))
