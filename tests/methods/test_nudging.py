"""NUDGING against a direct transcription of its algorithm, and case by case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from baco.engine import Warp, reference
from baco.engine.noise import row_key
from baco.engine.scores import score
from baco.errors import InputError
from baco.group import Group
from baco.methods.nudging import repeats, split, without_repeats
from baco.methods.writing import WrittenToken, text_of
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, Script, fake_vocabulary
from support.engines import random_script

TOKENS = [
    "<end>", " the", " cat", " dog", " sat", " on", " mat", ".", ",", "The",
    "s", "ing", " a", "!", "<base>", "<aligned>", "t", " cats", " by", " it",
]  # fmt: skip
VOCABULARY = fake_vocabulary(TOKENS, forbidden=("<base>", "<aligned>"))
BYTES = [b"" if t.startswith("<") else t.encode() for t in TOKENS]
PROMPTS = {"base": 14, "aligned": 15}


def encode(text: str) -> list[int]:
    """The longest token first."""
    ids = []
    while text:
        best = max(
            (i for i, data in enumerate(BYTES) if data and text.startswith(data.decode())),
            key=lambda i: len(BYTES[i]),
        )
        ids.append(best)
        text = text[len(BYTES[best]) :]
    return ids


def pair_of(base: Script, aligned: Script, window: int = 1 << 20) -> Pair:
    def side(name: str, script: Script) -> Side:
        partner = FakePartner(VOCABULARY, script, window)
        return Side(name, partner, lambda _: [PROMPTS[name]], encode, BYTES)

    return Pair.from_sides("fake", side("base", base), side("aligned", aligned))


# --- a direct transcription of METRICS.md, section 6 -------------------------------------------


def transcription(
    pair: Pair, gamma: float, limit: int, warp: Warp, key: int
) -> tuple[str, str, list[str]]:
    """Returns (text before its end is looked at, finish, what happened)."""
    asks = 0
    events: list[str] = []

    def sixteen(name: str, text: str) -> tuple[list[tuple[str, float]], bool]:
        """16 tokens (with top-1 probabilities); whether it finished. An end has text ''."""
        nonlocal asks
        partner = pair.sides[0 if name == "base" else 1].partner
        ids = [PROMPTS[name], *encode(text)]
        out: list[tuple[str, float]] = []
        for j in range(16):
            logits = partner.logits(ids).numpy()
            p = np.exp(np.where(VOCABULARY.allowed.numpy(), logits, -np.inf))
            p = p / p.sum()
            with np.errstate(divide="ignore"):
                noisy = np.log(reference.warp(p, warp))
            noisy = noisy + reference.gumbel(key, asks * 16 + j, len(p))
            v = int(noisy.argmax())
            out.append((BYTES[v].decode(), float(p.max())))
            if v == 0:
                asks += 1
                return out, True
            ids.append(v)
        asks += 1
        return out, False

    text, rounds, nudges = "", 0, []
    while len(encode(text)) < limit and rounds < 150:
        rounds += 1
        proposed, stopped = sixteen("aligned", text)
        proposal = "".join(token for token, _ in proposed)
        if stopped:
            return text + proposal, "stop", [*events, "the aligned model ends"]
        words = []
        for place, char in enumerate(proposal):
            if place == 0 or (char == " " and proposal[place - 1] != " "):
                words.append("")
            words[-1] += char
        handed = None
        nudge = words[0]
        for number, word in enumerate(words[1:], 1):
            chunk, ended = sixteen("base", text + "".join(words[:number]))
            first, top = chunk[0]
            match = first.strip() != "" and word.strip().startswith(first.strip())
            if match or top >= gamma:
                events.append("hand-over by match" if match else "hand-over by confidence")
                handed, nudge = (chunk, ended), "".join(words[:number])
                break
        else:
            if len(words) > 1:
                events.append("no trigger")
                nudge = "".join(words[:-1])
            else:
                events.append("one word")
        text += nudge
        nudges.append(nudge)
        if len(nudges) >= 4 and nudges[-1] == nudges[-2] == nudges[-3] == nudges[-4]:
            return text, "length", [*events, "the same nudges"]
        while handed is not None:
            chunk, ended = handed
            handed = None
            sure = [top >= gamma for _, top in chunk]
            end = sure.index(False) if False in sure else len(chunk)
            kept = "".join(token for token, _ in chunk[:end])
            if len(kept.split()) > 5 and kept.strip() in text:
                events.append("a repeated chunk")
                break
            text += kept
            if kept and end == 16 and not ended and len(encode(text)) < limit:
                events.append("another chunk")
                handed = sixteen("base", text)
    return text, "length", events


def test_it_equals_the_transcription() -> None:
    seen: set[str] = set()
    for gamma in (0.0, 0.3, 1.0):
        for warp in (Warp(), Warp(temperature=0), Warp(temperature=0.7, top_p=1.0)):
            for number, end in enumerate((0.5, -4.0)):
                seen |= compared(gamma, warp, number, end)
    assert seen >= {
        "hand-over by match", "hand-over by confidence", "no trigger", "the aligned model ends",
        "another chunk", "a repeated chunk",
    }  # fmt: skip


def compared(gamma: float, warp: Warp, number: int, end: float) -> set[str]:
    """Compares a group with the transcription; returns what happened."""
    pair = pair_of(
        random_script(f"base{number}", 1.0, 2.0, end), random_script(f"al{number}", 1.5, 2.0, end)
    )
    group = pair.generate(
        "x", n=3, method="nudging", control=gamma, max_new_tokens=50, seed=number,
        temperature=warp.temperature, top_p=warp.top_p,
    )  # fmt: skip
    seen: set[str] = set()
    for sample in group:
        key = row_key(number, "x", sample.index)
        text, finish, events = transcription(pair, gamma, 50, warp, key)
        ids = encode(without_repeats(text))
        assert list(sample.token_ids) == ids[:50]
        assert sample.finish_reason == ("length" if len(ids) > 50 else finish)
        seen.update(events)
    return seen


# --- case by case ------------------------------------------------------------------------------

Line = Callable[[str], tuple[str, float]]
"""(answer so far) -> the likeliest next token and its probability."""


def scripted(line: Line) -> Script:
    def script(ids: tuple[int, ...]) -> list[float]:
        token, top = line("".join(BYTES[i].decode() for i in ids[1:]))
        probs = [(1 - top) / (len(TOKENS) - 1)] * len(TOKENS)
        probs[TOKENS.index(token)] = top
        return probs

    return script


def written(
    base: Line, aligned: Line, gamma: float = 0.4, limit: int = 60, window: int = 1 << 20
) -> Group:
    pair = pair_of(scripted(base), scripted(aligned), window)
    return pair.generate(
        "x", n=1, method="nudging", control=gamma, temperature=0, max_new_tokens=limit
    )


def says(text: str, top: float = 0.9) -> Line:
    """Writes one text and then ends; off its path it ends too."""
    tokens = encode(text)

    def line(so_far: str) -> tuple[str, float]:
        for k in range(len(tokens)):
            if so_far == "".join(TOKENS[i] for i in tokens[:k]):
                return TOKENS[tokens[k]], top
        return "<end>", top

    return line


def loops(token: str, top: float = 0.9) -> Line:
    return lambda so_far: (token, top)


def parts(group: Group) -> list[tuple[str, str]]:
    """(source, text) of each stretch of one source."""
    out: list[tuple[str, str]] = []
    for text, source in zip(group[0].tokens, group[0].sources, strict=True):
        if out and out[-1][0] == source:
            out[-1] = (source, out[-1][1] + text)
        else:
            out.append((source, text))
    return out


def test_only_the_aligned_model_ends() -> None:
    group = written(loops("<end>"), says("The cat sat."))
    assert (group[0].text, group[0].finish_reason) == ("The cat sat.", "stop")
    assert parts(group) == [("aligned", "The cat sat.")]


def long_proposal(so_far: str) -> tuple[str, float]:
    """`The cat cat cat ...` for ever, but ends once the base model has written `dog.`"""
    if so_far.endswith("."):
        return "<end>", 0.9
    return ("The" if not so_far else " cat"), 0.9


def test_the_first_word_is_the_aligned_models_and_confidence_hands_over() -> None:
    def base(so_far: str) -> tuple[str, float]:
        return {"The": (" dog", 0.5), "The dog": (".", 0.5)}.get(so_far, (" on", 0.1))

    group = written(base, long_proposal)
    assert parts(group) == [("aligned", "The"), ("base", " dog.")]
    assert group[0].finish_reason == "stop"


def test_the_threshold_is_met_by_equality_and_missed_below() -> None:
    def base(so_far: str) -> tuple[str, float]:
        return {"The": (" dog", 0.5), "The dog": (".", 0.5)}.get(so_far, (" on", 0.1))

    logits = FakePartner(VOCABULARY, scripted(base)).logits([14, *encode("The")])
    top = float(score(logits[None], Warp(), VOCABULARY).top_prob)  # two tokens are forbidden
    assert parts(written(base, long_proposal, gamma=top))[1] == ("base", " dog.")
    above = written(base, long_proposal, gamma=top + 1e-9, limit=20)
    assert set(above[0].sources) == {"aligned"}


def test_hand_over_by_match_though_the_base_model_is_unsure() -> None:
    def base(so_far: str) -> tuple[str, float]:
        # Unsure everywhere; at the third word it would write what is proposed.
        return (" cat" if so_far == "The cat cat" else " on"), 0.1

    def aligned(so_far: str) -> tuple[str, float]:
        if so_far.startswith("The cat cat") and len(so_far) > 11:
            return "<end>", 0.9
        return long_proposal(so_far)

    seen: list[str] = []

    def watched(so_far: str) -> tuple[str, float]:
        seen.append(so_far)
        return base(so_far)

    group = written(watched, aligned, limit=20)
    # The proposal `The cat cat` + end comes first: the aligned model stops there by itself.
    assert group[0].text == "The cat cat cat"
    assert group[0].finish_reason == "stop"
    assert not seen  # an answer that ends within one proposal never asks the base model

    group = written(watched, long_proposal, limit=8)
    assert "The cat cat" in seen
    assert "The cat cat cat" not in seen[: seen.index("The cat cat") + 1]
    # It hands over there, but the first token is unsure: nothing of the base model stays.
    assert parts(group) == [("aligned", group[0].text)]


def test_part_of_a_word_matches_too() -> None:
    def base(so_far: str) -> tuple[str, float]:
        return {"The": (" cat", 0.1)}.get(so_far, ("!", 0.1))

    def aligned(so_far: str) -> tuple[str, float]:
        return ("The" if not so_far else " cats"), 0.9

    pair = pair_of(scripted(base), scripted(aligned))
    group = pair.generate("x", n=1, method="nudging", temperature=0, max_new_tokens=2)
    assert group[0].text == "The cats"  # the first round took `The` alone, the next goes on


def test_without_a_trigger_all_but_the_last_word_is_taken() -> None:
    group = written(loops("!", 0.1), long_proposal, limit=15)
    assert group[0].text == "The" + " cat" * 14
    assert group[0].finish_reason == "length"
    assert set(group[0].sources) == {"aligned"}


def test_a_proposal_of_one_word_is_taken_whole() -> None:
    def aligned(so_far: str) -> tuple[str, float]:
        return ("s", 0.9) if len(so_far) < 20 else ("<end>", 0.9)

    group = written(loops(" dog", 0.99), aligned)
    assert group[0].text == "s" * 20  # 16, never handed over, then 4 and the end
    assert group[0].finish_reason == "stop"


def test_the_same_nudges_four_times_end_it() -> None:
    group = written(loops(" dog", 0.1), loops("s"), limit=500)
    assert group[0].finish_reason == "length"
    assert len("s" * 64) - len(group[0].text) >= 30  # four rounds, their repetition taken off
    assert set(group[0].text) == {"s"}


def test_the_base_model_writes_until_it_is_unsure() -> None:
    def base(so_far: str) -> tuple[str, float]:
        order = ["The", " dog", " sat", " on", " a"]
        for k in range(1, len(order)):
            if so_far == "".join(order[:k]):
                return order[k], 0.3 if k == 4 else 0.6
        return " mat", 0.1

    def aligned(so_far: str) -> tuple[str, float]:
        return ("<end>", 0.9) if so_far.endswith(" on") else long_proposal(so_far)

    assert parts(written(base, aligned)) == [("aligned", "The"), ("base", " dog sat on")]


def test_the_base_model_writes_several_chunks_and_its_end_is_not_the_answers() -> None:
    def base(so_far: str) -> tuple[str, float]:
        words = [" the", " dog", " sat", " on", " a", " mat", " by", " it", ",", "ing", "t", "!"]
        done = len(encode(so_far)) - 1
        return (words[(done + done // 12) % 12], 0.9) if done < 20 else ("<end>", 0.9)

    def aligned(so_far: str) -> tuple[str, float]:
        if len(encode(so_far)) >= 21:
            return ("<end>" if so_far.endswith(".") else "."), 0.9
        return long_proposal(so_far)

    group = written(base, aligned)
    assert [source for source, _ in parts(group)] == ["aligned", "base", "aligned"]
    assert sum(s == "base" for s in group[0].sources) == 20
    assert group[0].text.endswith(".")
    assert group[0].finish_reason == "stop"


def test_a_repeated_chunk_is_not_taken() -> None:
    def aligned(so_far: str) -> tuple[str, float]:
        return (
            ("<end>", 0.9) if so_far.endswith("cat") and " dog" in so_far else long_proposal(so_far)
        )

    group = written(loops(" dog", 0.9), aligned, limit=200)
    # 16 dogs, then 16 more, which the answer holds already.
    assert group[0].sources.count("base") <= 16


def test_a_full_context_window_ends_it() -> None:
    group = written(loops(" dog", 0.1), long_proposal, limit=100, window=9)
    assert group[0].finish_reason == "length"
    assert len(group[0].token_ids) == 8
    with pytest.raises(InputError, match="the prompt has 1 tokens, the context window 1"):
        written(loops(" dog"), long_proposal, window=1)


def test_words() -> None:
    assert split("The cat sat") == ["The", " cat", " sat"]
    assert split(" The  cat ") == [" The", "  cat "]
    assert split("cats") == ["cats"]
    assert split("  ") == ["  "]
    assert split("") == []


def test_repetitions() -> None:
    assert repeats(" one two three four five six", "so: one two three four five six.")
    assert not repeats(" one two three four five", "so: one two three four five six.")
    line = "This is one sentence of words. "
    assert len(line) == 31
    assert without_repeats(f"Start. {line}{line}") == f"Start. {line}"
    assert without_repeats(f"Start. {line}and {line}{line}").count(line) == 1
    assert without_repeats("ab" * 20) == "ab" * 20
    assert without_repeats("short short short") == "short short short"


def test_a_character_that_is_cut_stays_out() -> None:
    euro = "€".encode()

    def token(data: bytes) -> WrittenToken:
        return WrittenToken(0, data, 1.0)

    assert text_of([token(b"a"), token(euro[:2])]) == "a"
    assert text_of([token(b"a"), token(euro[:2]), token(euro[2:])]) == "a€"
    assert text_of([]) == ""
    assert text_of([token(b"a\xffb")]) == "a\ufffdb"


def test_samples_do_not_depend_on_the_batch(random_pair: Pair) -> None:
    options = {"method": "nudging", "max_new_tokens": 24, "seed": 2, "control": 0.05}
    group = random_pair.generate("Hi there", n=5, **options)
    assert random_pair.generate("Hi there", n=2, **options).samples == group.samples[:2]
    assert random_pair.generate("Hi there", n=5, max_rows=2, **options).samples == group.samples
    both = random_pair.generate(["Suggest a trip!", "Hi there"], n=5, **options)
    assert both[1].samples == group.samples
    assert {source for s in group for source in s.sources} == {"base", "aligned"}


def test_costs_add_up(random_pair: Pair) -> None:
    group = random_pair.generate(
        ["Hi there", "Suggest a trip!"], n=3, method="nudging", max_new_tokens=20, control=0.05
    )
    stats = group[0].stats
    assert stats is not None
    samples = [sample for each in group for sample in each]
    for side in ("base", "aligned"):
        fed = sum(getattr(s.cost, f"{side}_token_rows") for s in samples)
        assert fed == getattr(stats, f"{side}_token_rows")
        prompts = sum(getattr(s.cost, f"{side}_prompt_tokens") for s in samples)
        number = {"base": 0, "aligned": 1}[side]
        ids = [random_pair.sides[number].encode(s.conversation) for s in (samples[0], samples[3])]
        assert prompts == sum(map(len, ids))  # each prompt is read once, by its first sample
        assert max(getattr(s.cost, f"{side}_passes") for s in samples) <= getattr(
            stats, f"{side}_passes"
        )
    assert stats.tokens == sum(len(s.token_ids) for s in samples)
    for sample in samples:
        assert sample.details is not None
        assert sample.details["drawn_tokens"] > 0
        assert sample.text == "".join(sample.tokens)
        assert len(sample.token_ids) <= 20


def test_stop_strings_and_short_answers() -> None:
    pair = pair_of(scripted(loops("<end>")), scripted(says("The cat sat.")))
    options = {"method": "nudging", "temperature": 0}
    (sample,) = pair.generate("x", n=1, stop=" sat", **options)
    assert (sample.text, sample.finish_reason) == ("The cat", "stop_string")
    (sample,) = pair.generate("x", n=1, restart_shorter_than=30, **options)
    assert sample.attempts == 4
    streamed = list(pair.stream("x", n=1, **options))
    assert "".join(token.text for token in streamed) == "The cat sat."


@pytest.mark.parametrize("gamma", [-0.1, 1.1])
def test_a_threshold_out_of_range(gamma: float) -> None:
    with pytest.raises(InputError, match="out of range for the method 'nudging'"):
        pair_of(scripted(loops("t")), scripted(loops("t"))).generate(
            "x", method="nudging", control=gamma
        )
