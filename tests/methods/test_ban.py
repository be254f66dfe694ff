"""Banned phrases: what is found, fast == slow, the law, what streams show, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import baco
from baco.cli import run as command
from baco.engine import Request, reference
from baco.engine.noise import row_key
from baco.engine.partner import Abilities, Partner
from baco.engine.reference_rules import SlowBan
from baco.errors import InputError, UnsupportedError
from baco.methods import METHODS
from baco.methods.ban import MOST_PHRASES, MOST_REWINDS, Phrases, Watch
from baco.methods.base import Chunk, Done, Setting, Task
from baco.methods.settings import make_setting
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.prompts import conversation_of, identity
from support import bridged
from support.engines import WORDS, fake_pair

ASK = conversation_of("?")


def bytes_of(tokens: Sequence[str]) -> list[bytes]:
    return [b"" if t.startswith("<") else t.encode() for t in tokens]


def pair_of(
    base: Partner, aligned: Partner, tokens: Sequence[bytes], prompts: tuple[Sequence[int], ...]
) -> Pair:
    def side(partner: Partner, prompt: Sequence[int]) -> Side:
        return Side("fake", partner, lambda _: prompt, lambda _: prompt, tokens)

    return Pair.from_sides("fake", side(base, prompts[0]), side(aligned, prompts[1]))


def fast(pair: Pair, tasks: Sequence[Task], setting: Setting) -> list[tuple]:
    """Samples as (ids, sources, finish, rewinds); what was shown before is their beginning."""
    shown: dict[int, list[int | None]] = {}
    out: dict[int, tuple] = {}
    for update in pair.run(tasks, setting):
        if isinstance(update, Chunk):
            shown.setdefault(update.task, []).append(update.id)
        elif isinstance(update, Done):
            s = update.sample
            assert shown.get(update.task, []) == list(s.token_ids)
            rewinds = (s.details or {}).get("rewinds", 0)
            out[update.task] = (list(s.token_ids), list(s.sources), s.finish_reason, rewinds)
            assert s.cost is not None
            assert s.cost.tokens >= len(s.token_ids) + rewinds
    return [out[i] for i in range(len(tasks))]


def slow(
    pair: Pair, tasks: Sequence[Task], setting: Setting, most: int = MOST_REWINDS
) -> list[tuple]:
    """The same by the oracle."""
    base, aligned = pair.sides
    sampling = setting.sampling
    ban = SlowBan(sampling.ban, aligned.token_bytes, most)
    out = []
    for task in tasks:
        key = row_key(sampling.seed, identity(task.prompt), task.index)
        assert setting.router is not None
        request = Request(
            base.ids(task.prompt), aligned.ids(task.prompt), setting.router, key, sampling.warp,
            max_new_tokens=sampling.max_new_tokens, turn_rule=False,
        )  # fmt: skip
        trace = reference.decode(base.partner, aligned.partner, request, ban)
        sources = ["base" if s else "aligned" for s in trace.sources]
        out.append((trace.tokens, sources, trace.finish))
    return out


# --- finding -------------------------------------------------------------------------------------


def found(phrase: str | Sequence[str], text: str, *, final: bool = True) -> int | None:
    phrases = (phrase,) if isinstance(phrase, str) else tuple(phrase)
    results = set()
    for size in (1, 2, 5, 100):  # however it comes
        watch = Watch(Phrases.of(phrases))
        for i in range(0, len(text), size):
            watch.add(text[i : i + size])
        if final:
            watch.finish(len(text))
        results.add(watch.found)
    (result,) = results
    slowly = SlowBan(phrases, [c.encode() for c in text], 0).began(range(len(text)), final)
    assert result == slowly
    return result


@pytest.mark.parametrize(
    ("phrase", "text", "place"),
    [
        ("art", "the art of", 4),
        ("art", "a party, an ART", 12),
        ("art", "artful", None),
        ("old town", "an Old\n  towN!", 3),
        ("old town", "an old towns", None),
        ("a caf\u00e9", "in a cafe\u0301.", 3),
        ("a cafe\u0301", "in a caf\u00e9.", 3),
        ("cafe", "a cafe\u0301", None),
        ("stra\u00dfe", "die STRASSE da", 4),
        ("!", "what!?", 4),
        ("not just", "it's not just", 5),
        ("\u6771\u4eac", "\u6771\u4eac\u90fd", 0),
        ("3.5", "x 3.5 y", 2),
        (("bb cc", "a bb"), "a bb cc", 0),
        (("bb cc dd", "cc"), "a bb cc ee", 5),
    ],
)
def test_what_is_a_match(phrase: str, text: str, place: int | None) -> None:
    assert found(phrase, text) == place


def test_a_word_may_go_on() -> None:
    assert found("old town", "the old town", final=False) is None
    assert found("old town", "the old town", final=True) == 4
    assert found("old town", "the old town ", final=False) == 4
    assert found("oh!", "oh!", final=False) == 0


@settings(max_examples=200)
@given(
    text=st.text("ab \n'.\u00c9e\u0301\u6771", max_size=12),
    phrases=st.lists(st.text("ab \u00e9\u6771.", min_size=1, max_size=4), min_size=1, max_size=3),
    final=st.booleans(),
)
def test_finding_equals_the_oracle(text: str, phrases: list[str], final: bool) -> None:
    if kept := [phrase for phrase in phrases if phrase.strip()]:
        one_by_one = Watch(Phrases(kept))
        slowly = SlowBan(tuple(kept), [c.encode() for c in text], 0)
        for n, char in enumerate(text, 1):
            one_by_one.add(char)
            assert one_by_one.found == slowly.began(range(n), False)
            if one_by_one.found is not None:
                return
        if final:
            one_by_one.finish(len(text))
            assert one_by_one.found == slowly.began(range(len(text)), True)


# --- fast == slow --------------------------------------------------------------------------------

CHOICES = ["the", "cat", "cats", "dog sat", "the cat sat", "mat.", "a a", "s", ",", "sat on", "7"]


@settings(max_examples=40)
@given(
    phrases=st.lists(st.sampled_from(CHOICES), min_size=1, max_size=5, unique=True),
    spec=st.sampled_from(["p@0.5", "rand@0.5", "h-punc@1", "p-ahead3@0.4"]),
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.0, 0.7, 1.0]),
    end=st.sampled_from([-3.0, 0.0]),
    lookahead=st.sampled_from(["off", "auto", 1, 5]),
    rows=st.integers(1, 5),
    count=st.integers(1, 5),
    limit=st.integers(1, 20),
)
def test_any_ban_equals_the_oracle(
    phrases: list[str], spec: str, seed: int, temperature: float, end: float,
    lookahead: str | int, rows: int, count: int, limit: int,
) -> None:  # fmt: skip
    pair = pair_of(*fake_pair(end), bytes_of(WORDS), ((1,), (3, 4)))
    setting = make_setting(
        router=spec, seed=seed, temperature=temperature, ban=phrases, max_rows=rows,
        max_new_tokens=limit, lookahead=lookahead, turn_rule=False,
    )  # fmt: skip
    tasks = [Task(ASK, i) for i in range(count)]
    made = fast(pair, tasks, setting)
    assert [x[:3] for x in made] == slow(pair, tasks, setting)
    for ids, *_ in made:
        text = b"".join(bytes_of(WORDS)[i] for i in ids).decode()
        assert found(phrases, text) is None


def test_it_happens_and_a_row_does_not_depend_on_others() -> None:
    pair = pair_of(*fake_pair(-3.0), bytes_of(WORDS), ((1,), (3, 4)))
    how = {"router": "p@0.5", "ban": ["the", "cat", "sat on"], "max_new_tokens": 30, "seed": 1}
    tasks = [Task(ASK, i) for i in range(8)]
    made = fast(pair, tasks, make_setting(**how))
    assert sum(rewinds for *_, rewinds in made) > 10
    alone = [fast(pair, [task], make_setting(**how, lookahead="off"))[0] for task in tasks]
    assert made == alone
    penalised = make_setting(**how, presence_penalty=1.0, draft="prompt-lookup")
    assert [x[:3] for x in fast(pair, tasks, penalised)] == slow(pair, tasks, penalised)


def test_other_methods_obey_it_too() -> None:
    pair = pair_of(*fake_pair(-3.0), bytes_of(WORDS), ((1,), (3, 4)))
    for method in ("base", "aligned", "logit-ensemble", "dynamic-ensemble", "contrastive", "xtc"):
        setting = make_setting(method=method, ban=["the", "cat"], max_new_tokens=30, n=4)
        made = fast(pair, [Task(ASK, i) for i in range(4)], setting)
        assert sum(rewinds for *_, rewinds in made) > 0, method
        for ids, *_ in made:
            text = b"".join(bytes_of(WORDS)[i] for i in ids).decode()
            assert found(["the", "cat"], text) is None, method


def test_two_tokenizers() -> None:
    """The side that speaks next may spell the same word in its own tokens: that is barred, too."""
    base, aligned = bridged.pair()
    tokens = bytes_of([*bridged.ALIGNED, *bridged.BASE])
    pair = pair_of(base, aligned, tokens, (base.to_shared((1,)), aligned.to_shared((2, 3))))
    setting = make_setting(router="rand@0.5", ban=["cat", "it is"], max_new_tokens=24)
    tasks = [Task(ASK, i) for i in range(6)]
    made = fast(pair, tasks, setting)
    assert [x[:3] for x in made] == slow(pair, tasks, setting)
    assert sum(rewinds for *_, rewinds in made) > 0


# --- the law -------------------------------------------------------------------------------------


def test_the_law_is_that_of_the_step_without_the_tokens() -> None:
    """Every text of a tiny language, by summing over all ways to be taken back."""
    words = ["<end>", " a", " b", " c"]
    vocabulary = fake_vocabulary(words)
    after = {1: [0.1, 0.3, 0.4, 0.2], 2: [0.2, 0.3, 0.1, 0.4], 3: [0.1, 0.5, 0.2, 0.2]}
    one = FakePartner(vocabulary, lambda ids: after[ids[-1]])
    pair = pair_of(one, one, bytes_of(words), ((1,), (1,)))
    limit, banned = 3, ((1, 2), (2, 3, 1))

    def began(text: tuple[int, ...]) -> int | None:
        # All tokens are words, so a phrase is complete with the token after it, or at the end.
        return next((i for i, p in itertools.product(range(len(text)), banned)
                     if text[i : i + len(p)] == p), None)  # fmt: skip

    law: Counter[tuple[int, ...]] = Counter()

    def walk(text: tuple[int, ...], barred: dict[int, set[int]], mass: float) -> None:
        if mass < 1e-9:
            return
        probs = after[text[-1] if text else 1]
        out = barred.get(len(text), set())
        left = sum(p for v, p in enumerate(probs) if v not in out)
        for v, p in enumerate(probs):
            if v in out:
                continue
            new = text if v == 0 else (*text, v)
            over = v == 0 or len(new) == limit
            # The word written last may still go on.
            at = began(new) if over else began(new[:-1])
            if at is not None:
                kept = {k: s for k, s in barred.items() if k <= at}
                walk(new[:at], kept | {at: kept.get(at, set()) | {new[at]}}, mass * p / left)
            elif over:
                law[new] += mass * p / left
            else:
                walk(new, barred, mass * p / left)

    walk((), {}, 1.0)
    assert sum(law.values()) == pytest.approx(1, abs=1e-6)
    count = 1500
    setting = make_setting(method="aligned", top_p=1, ban=["a b", "b c a"], max_new_tokens=limit)
    made = fast(pair, [Task(ASK, i) for i in range(count)], setting)
    seen = Counter(tuple(ids) for ids, *_ in made)
    assert set(seen) <= set(law)
    texts = [text for text, mass in law.items() if mass * count > 5]
    rest = [count - sum(seen[t] for t in texts)], [count - sum(law[t] * count for t in texts)]
    observed = [seen[t] for t in texts] + rest[0]
    expected = [law[t] * count for t in texts] + rest[1]
    if expected[-1] < 5:
        observed, expected = observed[:-1], [x * sum(observed[:-1]) / sum(expected[:-1])
                                             for x in expected[:-1]]  # fmt: skip
    assert stats.chisquare(observed, expected).pvalue > 1e-3


# --- bounds --------------------------------------------------------------------------------------


def test_where_nothing_else_can_be_said_the_answer_ends() -> None:
    words = ["<end>", " a", " b"]
    vocabulary = fake_vocabulary(words)
    only = {1: [0, 0, 1.0], 2: [0, 1.0, 0]}  # a b a b ...
    sides = (FakePartner(vocabulary, lambda ids: only[ids[-1]]) for _ in range(2))
    pair = pair_of(*sides, bytes_of(words), ((1,), (1,)))
    setting = make_setting(router="rand@0.5", ban="a b", max_new_tokens=8)
    made = fast(pair, [Task(ASK, 0)], setting)
    assert made == [([2], ["aligned"], "stop_string", 1)]
    assert slow(pair, [Task(ASK, 0)], setting) == [made[0][:3]]
    setting = make_setting(router="rand@0.5", ban="b", max_new_tokens=8)
    assert fast(pair, [Task(ASK, 0)], setting) == [([], [], "stop_string", 1)]


def test_it_is_taken_back_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pair_of(*fake_pair(-9.0), bytes_of(WORDS), ((1,), (3, 4)))
    tasks = [Task(ASK, i) for i in range(4)]
    setting = make_setting(router="rand@0.5", ban=["the", "cat", "dog", "."], max_new_tokens=40)
    monkeypatch.setattr("baco.methods.run.MOST_REWINDS", 3)
    made = fast(pair, tasks, setting)
    assert {(finish, rewinds) for *_, finish, rewinds in made} == {("stop_string", 3)}
    assert [x[:3] for x in made] == slow(pair, tasks, setting, most=3)


def test_stop_strings_and_short_stops_go_with_it() -> None:
    pair = pair_of(*fake_pair(0.0), bytes_of(WORDS), ((1,), (3, 4)))
    tasks = [Task(ASK, i) for i in range(12)]
    how = {"router": "rand@0.5", "ban": ["the", "cat"], "max_new_tokens": 20}
    for ids, *_ in fast(pair, tasks, make_setting(**how, stop=[".", " cat sat"])):
        text = b"".join(bytes_of(WORDS)[i] for i in ids).decode()
        assert "." not in text
        assert found(["the", "cat"], text) is None
    made = fast(pair, tasks, make_setting(**how, restart_shorter_than=4))
    assert sum(finish == "stop" and len(ids) < 4 for ids, _, finish, _ in made) <= 2


# --- refusals ------------------------------------------------------------------------------------


def test_bad_phrases_are_named() -> None:
    for ban, words in (
        ([""], "is empty"),
        ([" \n"], "is empty"),
        (["x" * 201], "201 characters"),
        (["x"] * (MOST_PHRASES + 1), "1001 phrases"),
    ):
        with pytest.raises(InputError, match=words):
            make_setting(ban=ban)
    for method in ("diverse-beam", "nudging"):
        assert not METHODS[method].bans
        with pytest.raises(InputError, match="takes nothing back"):
            make_setting(method=method, ban="x", n=4)


def test_what_cannot_be_done_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base, aligned = fake_pair()
    pair = pair_of(base, aligned, bytes_of(WORDS), ((1,), (2,)))
    setting = make_setting(router="rand@0.5", ban="x")
    for able, words in (
        (Abilities(gives="top-k", top=5), "ban needs aligned logits"),
        (Abilities(brings_engine=True), "takes nothing back"),
    ):
        monkeypatch.setattr(aligned, "abilities", able)
        with pytest.raises(InputError, match=words):
            list(pair.run([Task(ASK, 0)], setting))
    with pytest.raises(UnsupportedError, match="taken back"):
        list(baco.load("tiny").rollouts("Name a fruit.", n=1, ban="x"))


# --- the doors -----------------------------------------------------------------------------------

PROMPT = "Name a city in Italy for my quiz."


def test_the_bundled_pair_and_the_oracle() -> None:
    pair = baco.load("tiny")
    prompt = conversation_of(PROMPT)
    plain = pair.generate(PROMPT, n=8, seed=1, max_new_tokens=24)
    words = Counter(word for text in plain.texts for word in text.split())
    common = [word.strip(".,") for word, _ in words.most_common(3)]
    setting = make_setting(ban=common, seed=1, max_new_tokens=24, turn_rule=False, n=4)
    tasks = [Task(prompt, i) for i in range(4)]
    made = fast(pair, tasks, setting)
    assert sum(rewinds for *_, rewinds in made) > 0
    assert [x[:3] for x in made] == slow(pair, tasks, setting)
    group = pair.generate(PROMPT, n=8, seed=1, max_new_tokens=24, ban=common)
    assert all(found(common, text) is None for text in group.texts)


def test_the_command_line(tmp_path, capsys) -> None:
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("my pick\nin Italy\n\n")
    asked = ["generate", PROMPT, "-n", "4", "--max-new-tokens", "24", "--seed", "1", "--json"]
    assert command([*asked, "--ban", str(phrases)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4
    assert all(found(["my pick", "in Italy"], row["text"]) is None for row in rows)
    phrases.write_text("x" * 300)
    assert command([*asked, "--ban", str(phrases)]) == 2
    assert "300 characters" in capsys.readouterr().err
    assert command([*asked, "--ban", str(tmp_path / "none.txt")]) == 2


def test_plans_take_it_and_cells_without_it_stay_known() -> None:
    from baco.bench.plan import SamplingPlan

    assert "ban" not in SamplingPlan().model_dump()
    assert SamplingPlan(ban=["x"]).model_dump()["ban"] == ["x"]
