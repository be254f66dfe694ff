"""What a method needs and the pair lacks is said before any work, with methods that would do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baco.errors import InputError
from baco.methods import METHODS, Task
from baco.methods.needs import abilities, check
from baco.methods.settings import make_setting
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.prompts import conversation_of

ASK = conversation_of("Name a fruit.")


def pair_that_gives(base: str, aligned: str) -> Pair:
    """A scripted pair whose partners say what they give, and must not be asked for anything."""
    words = ["a", "<end>"]
    vocabulary = fake_vocabulary(words)
    sides = []
    for gives in (base, aligned):
        partner = FakePartner(vocabulary, lambda _: pytest.fail("work was done"))
        partner.abilities = partner.abilities._replace(gives=gives)
        sides.append(Side("scripted", partner, lambda _: (0,), lambda _: (0,), [b"a", b""]))
    return Pair.from_sides("scripted", *sides)


def test_abilities_include_the_lower_ones(random_pair):
    assert abilities(random_pair) == {
        "one tokenizer",
        *(f"{side} {gift}" for side in ("base", "aligned") for gift in ("text", "top-k", "logits")),
    }
    assert abilities(pair_that_gives("text", "top-k")) == {
        "one tokenizer",
        "base text",
        "aligned text",
        "aligned top-k",
    }


def test_refused_before_any_work_and_methods_that_would_do_are_named():
    pair = pair_that_gives("text", "logits")
    with pytest.raises(InputError, match=r"'p-punc' needs base top-k, which the pair.*punc, fc"):
        pair.generate("Name a fruit.", n=2)
    with pytest.raises(InputError, match=r"'base' needs base top-k, which the pair.*aligned") as e:
        pair.generate("Name a fruit.", n=2, method="base")
    able = e.value.hint.removeprefix("methods that would do: ").split(", ")
    assert "aligned" in able
    assert not {"base", "nudging"} & set(able)
    assert set(able) == {m for m in METHODS if METHODS[m].needs <= abilities(pair)}
    pair = pair_that_gives("text", "text")
    with pytest.raises(InputError, match="needs aligned top-k and base top-k"):
        pair.stream("Name a fruit.")


def test_whole_groups_need_their_size(random_pair):
    setting = make_setting(method="aligned")
    setting = replace(setting, method=replace(setting.method, whole_group=True))
    with pytest.raises(InputError, match=r"makes whole groups and is not told their size.*give n"):
        check(random_pair, setting, [Task(ASK, 0)])
    with pytest.raises(InputError, match="sample 3 is asked of groups of 3"):
        check(random_pair, replace(setting, n=3), [Task(ASK, 0), Task(ASK, 3)])
    check(random_pair, replace(setting, n=4), [Task(ASK, 3)])


def test_a_threshold_that_a_router_needs_and_has_not(random_pair):
    import baco

    def route(view, gamma):
        return view.aligned.top_prob < gamma

    mine = baco.router(route, name="mine")
    with pytest.raises(InputError, match=r"'mine' has a threshold, and none is given.*mine@0\.3"):
        random_pair.generate("Name a fruit.", n=1, router=mine)
    some = {"n": 2, "max_new_tokens": 8}
    given = random_pair.generate("Name a fruit.", router=mine, gamma=0.4, **some)
    assert [sample.gamma for sample in given] == [0.4, 0.4]
    again = random_pair.generate("Name a fruit.", router=baco.router(route, gamma=0.4), **some)
    assert [sample.text for sample in given] == [sample.text for sample in again]


@pytest.mark.parametrize(
    "given", [{"repetition_penalty": 1.2}, {"logit_bias": {0: 1}}, {"xtc_probability": 0.5}]
)
@pytest.mark.parametrize("gives", ["text", "top-k"])
def test_what_needs_all_logits_is_refused_by_name_where_a_side_tells_less(given, gives):
    name = next(iter(given))
    for pair, side in (
        (pair_that_gives(gives, "logits"), "base"), (pair_that_gives("logits", gives), "aligned")
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{name} needs {side} logits.*leave it out"):
            check(pair, make_setting(router="punc", **given), [Task(ASK, 0)])
    check(pair_that_gives(gives, "logits"), make_setting(method="aligned", **given), [Task(ASK, 0)])


def test_biases_name_ids_of_one_vocabulary(random_pair):
    with pytest.raises(InputError, match="not below 2, the vocabulary's size"):
        check(pair_that_gives("logits", "logits"), make_setting(logit_bias={2: 1}), [Task(ASK, 0)])
    with pytest.raises(InputError, match="not below"):
        check(random_pair, make_setting(logit_bias={-1: 1}), [Task(ASK, 0)])
