import json

import pytest

from baco.errors import InputError
from baco.study.groups import read_groups, read_scores, with_scores


def write(path, *rows):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_group_rows(tmp_path):
    path = write(
        tmp_path / "mine.jsonl",
        {"prompt": "p", "generations": ["x", "y"], "quality": [1, 2.5], "scores": {"d": 0.5}},
    )
    (group,) = read_groups(path)
    assert (group.method, group.setting, group.prompt) == ("mine", "", "p")
    assert [r.text for r in group.responses] == ["x", "y"]
    assert [r.scores for r in group.responses] == [{"quality": 1.0}, {"quality": 2.5}]
    assert group.scores == {"d": 0.5}


def test_sample_rows_are_gathered_in_order_of_index(tmp_path):
    sample = {"method": "baco", "router": "p-punc", "gamma": 0.3}
    path = write(
        tmp_path / "s.jsonl",
        {"prompt": "p", "index": 1, "text": "b", "quality": 2, **sample},
        "",
        {"prompt": "q", "index": 0, "text": "c", **sample},
        {"prompt": "p", "index": 0, "text": "a", "scores": {"m": 3}, **sample},
    )
    first, second = read_groups(path)
    assert (first.method, first.setting) == ("baco", "p-punc@0.3")
    assert [r.text for r in first.responses] == ["a", "b"]
    assert [r.scores for r in first.responses] == [{"m": 3.0}, {"quality": 2.0}]
    assert second.prompt == "q"


def test_name_and_quality_field(tmp_path):
    path = write(
        tmp_path / "s.jsonl",
        {"prompt": "p", "method": "x", "generations": ["a"], "generation_scores": [7]},
    )
    (group,) = read_groups(path, name="mine", quality="generation_scores")
    assert group.method == "mine"
    assert group.responses[0].scores == {"quality": 7.0}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        (["{"], "line 1: not valid JSON"),
        (["[1]"], "line 1: int instead of an object"),
        ([{"generations": ["a"]}], "'prompt' must be"),
        ([{"prompt": ["p"], "generations": ["a"]}], "'prompt' must be"),
        ([{"prompt": "p"}], "no 'generations' and no 'text'"),
        ([{"prompt": "p", "generations": []}], "a list of texts"),
        ([{"prompt": "p", "generations": ["a", 1]}], "must be a text"),
        ([{"prompt": "p", "generations": ["a"], "quality": [1, 2]}], "2 values for 1 responses"),
        ([{"prompt": "p", "generations": ["a"], "quality": ["x"]}], "finite number"),
        ([{"prompt": "p", "text": "a", "quality": True}], "finite number"),
        (['{"prompt": "p", "text": "a", "quality": NaN}'], "finite number"),
        ([r'{"prompt": "p", "text": "\ud83d"}'], "surrogate"),
        ([{"prompt": "p", "text": "a", "scores": [1]}], "an object of numbers"),
        ([{"prompt": "p", "text": "a", "index": "0"}], "whole number"),
        (
            [{"prompt": "p", "text": "a"}, {"prompt": "p", "text": "b"}],
            "line 2: a second response 0",
        ),
    ],
)
def test_bad_rows_say_where(tmp_path, rows, message):
    with pytest.raises(InputError, match=r"g\.jsonl") as error:
        read_groups(write(tmp_path / "g.jsonl", *rows))
    assert message in error.value.message
    assert "\n" not in str(error.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    for path in (tmp_path / "none.jsonl", tmp_path, tmp_path / "latin.jsonl"):
        with pytest.raises(InputError, match="cannot read"):
            read_groups(path)


def test_scores_of_groups(tmp_path):
    path = write(
        tmp_path / "s.jsonl",
        {"prompt": "p", "method": "m", "scores": {"a": 1}},
        {"prompt": "p", "method": "m", "scores": {"b": 2, "c": None}},
        '{"prompt": "p", "method": "m", "scores": {"d": NaN}}',
    )
    assert read_scores(path) == {("p", "m"): {"a": 1.0, "b": 2.0}}
    with pytest.raises(InputError, match="'prompt' and 'method'"):
        read_scores(write(tmp_path / "t.jsonl", {"prompt": "p", "scores": {}}))


def test_scores_from_elsewhere_join_the_groups(tmp_path):
    path = write(tmp_path / "g.jsonl", {"prompt": "p", "method": "m", "generations": ["a", "b"]})
    groups = read_groups(path)
    (joined,) = with_scores(groups, {("p", "m"): {"reward": 6.5, "dist_1": 0.5}}, "reward")
    assert joined.scores == {"reward": 6.5, "dist_1": 0.5, "quality": 6.5}
    assert joined.quality == 6.5
    with pytest.raises(InputError, match="no scored prompt"):
        with_scores(groups, {("q", "m"): {"reward": 1.0}}, "reward")
    two = read_groups(
        write(
            tmp_path / "two.jsonl",
            {"prompt": "p", "method": "m", "setting": "1", "generations": ["a"]},
            {"prompt": "p", "method": "m", "setting": "2", "generations": ["a"]},
        )
    )
    with pytest.raises(InputError, match="several settings"):
        with_scores(two, {("p", "m"): {"reward": 1.0}}, "reward")


def test_quality_of_a_group_by_responses_or_as_a_whole(tmp_path):
    rows = [
        {"prompt": "a", "generations": ["x", "y"], "quality": [1, 2]},
        {"prompt": "b", "generations": ["x", "y"], "quality": 3},
        {"prompt": "c", "generations": ["x", "y"], "quality": [1, None]},
    ]
    each, whole, none = read_groups(write(tmp_path / "g.jsonl", *rows))
    assert (each.quality, whole.quality) == (1.5, 3)
    assert none.quality != none.quality  # NaN
