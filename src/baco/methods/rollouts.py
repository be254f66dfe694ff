"""Roll-outs: answers with the log-probability of each token under the law that drew it.

For people who train: token ids, who wrote each, and the behaviour's own probabilities, after
temperature and filters, summed over the noise of units and router. A token's probability is given
its prefix and who wrote the token before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from baco.engine.law import check_router, law
from baco.engine.partner import Partner
from baco.engine.request import ALIGNED, BASE
from baco.engine.router import ALONE, Router
from baco.engine.scores import Context, blended, score
from baco.engine.units import START
from baco.errors import InputError, UnsupportedError
from baco.methods.base import Done, Setting, Task
from baco.methods.ensembles import BLENDS, blend_of
from baco.methods.running import run
from baco.prompts import is_raw

if TYPE_CHECKING:
    from baco.group import Sample
    from baco.models.known import KnownPair
    from baco.models.sides import Models

KNOWN = ("baco", "base", "aligned", *BLENDS)
"""Methods whose law is known here."""

_PORTION = 32
"""Positions scored at a time: whole distributions of both sides are held for these."""


@dataclass(frozen=True)
class Rollout:
    """One answer with the law that drew it.

    Attributes:
        prompt: What was asked.
        index: Its place in its group.
        text: The answer.
        finish_reason: As of `baco.group.Sample`.
        base_prompt_ids: What the base model read before the answer; empty where it took no part.
        aligned_prompt_ids: The same for the aligned model.
        token_ids: The answer's tokens.
        sources: ``base`` or ``aligned`` for each.
        logprobs: The log-probability of each under the behaviour's law.
        end_id: The end token that stopped the answer; None where something else did.
        end_logprob: That of the end token.
        method: The method.
        router: Its router's spec, or None.
        control: Its control.
        seed: The seed.
    """

    prompt: str | list[dict[str, str]]
    index: int
    text: str
    finish_reason: str
    base_prompt_ids: list[int]
    aligned_prompt_ids: list[int]
    token_ids: list[int]
    sources: list[str]
    logprobs: list[float]
    end_id: int | None
    end_logprob: float | None
    method: str
    router: str | None
    control: float | str | None
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """The roll-out as one row of JSON Lines."""
        return asdict(self)


def check(models: Models, setting: Setting) -> None:
    """Checks that the law of a setting is known.

    Raises:
        UnsupportedError: If the method, router or a partner has no closed form here.
        InputError: If short stops are drawn again, which changes the law.
    """
    check_setting(setting)
    for side in models.sides:
        able = side.partner.abilities
        if able.gives != "logits" or not able.lends_caches or not models.one_tokenizer:
            raise not_whole(side.label)


def not_whole(what: str) -> UnsupportedError:
    """What is wrong where a pair does not tell the law of its tokens."""
    return UnsupportedError(
        f"{what} does not give whole distributions over one vocabulary",
        hint="load both models here, of one tokenizer",
    )


def check_setting(setting: Setting, known: KnownPair | None = None) -> None:
    """Checks what `check` does before anything is loaded.

    Args:
        setting: How roll-outs are made.
        known: The pair, where it is known and used as it is.
    """
    if known and not known.one_tokenizer:
        raise not_whole(f"the pair {known.name!r}")
    name = setting.method.name
    if name not in KNOWN:
        raise UnsupportedError(
            f"the law of the method {name!r} is not known to roll-outs",
            hint=f"use one of {', '.join(KNOWN)}",
        )
    if setting.router is not None:
        check_router(setting.router)
    if setting.sampling.restart_shorter_than:
        raise InputError(
            "roll-outs whose short stops are drawn again have another law",
            hint="leave out restart-shorter-than",
        )
    if setting.sampling.warp.penalties.on:
        raise UnsupportedError(
            "the law of penalties and biases is not known to roll-outs", hint="leave them out"
        )
    if setting.sampling.ban:
        raise UnsupportedError(
            "the law of answers that are taken back is not known to roll-outs",
            hint="leave out ban",
        )
    if setting.distinct is not None:
        raise InputError(
            "roll-outs that are drawn again for being alike have another law",
            hint="leave out distinct",
        )
    if setting.sampling.warp.temperature == 0:
        raise InputError("greedy roll-outs have no probabilities", hint="use a temperature above 0")


def rollouts(models: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Rollout]:
    """Makes answers and tells the law of each, in the order in which they are finished.

    Args:
        models: The pair.
        tasks: What to make.
        setting: How; see `check`.

    Yields:
        The roll-outs. Each costs one more reading of its answer by every model that took part.
    """
    check(models, setting)
    for update in run(models, tasks, setting):
        if isinstance(update, Done):
            yield _rollout(models, tasks[update.task], update.sample, update.end, setting)


def _rollout(
    models: Models, task: Task, sample: Sample, end: int | None, setting: Setting
) -> Rollout:
    name = setting.method.name
    used = {"base": (0,), "aligned": (1,)}.get(name, (0, 1))
    prompts: list[tuple[int, ...]] = [(), ()]
    for which in used:
        prompts[which] = models.sides[which].ids(task.prompt)
    after = (end,) if end is not None and sample.finish_reason == "stop" else ()
    told = _logprobs(models, task, sample, after, setting, used, prompts)
    return Rollout(
        prompt=sample.prompt,
        index=sample.index,
        text=sample.text,
        finish_reason=sample.finish_reason,
        base_prompt_ids=list(prompts[0]),
        aligned_prompt_ids=list(prompts[1]),
        token_ids=list(sample.token_ids),
        sources=list(sample.sources),
        logprobs=told[: len(sample.token_ids)],
        end_id=end if after else None,
        end_logprob=told[-1] if after else None,
        method=name,
        router=None if setting.router is None else setting.router.spec,
        control=setting.control,
        seed=setting.sampling.seed,
    )


@torch.inference_mode()
def _logprobs(
    models: Models,
    task: Task,
    sample: Sample,
    after: tuple[int, ...],
    setting: Setting,
    used: tuple[int, ...],
    prompts: Sequence[tuple[int, ...]],
) -> list[float]:
    """The log-probabilities of a sample's tokens and of what stopped it."""
    tokens = (*sample.token_ids, *after)
    partners = [models.sides[which].partner for which in used]
    vocabulary, sampling = partners[-1].vocabulary, setting.sampling
    device = vocabulary.is_end.device
    together = setting.method.name == "baco"
    sources = [ALIGNED]  # who wrote the token before
    sources += [BASE if together and s == "base" else ALIGNED for s in sample.sources]
    state, states = torch.tensor([START], device=device), []
    for token in tokens:
        states.append(state)
        state = vocabulary.units.advance(state, torch.tensor([token], device=device))
    router: Router = setting.router or ALONE
    turns = (
        together
        and sampling.turn_rule
        and not is_raw(task.prompt)
        and "\n" in models.sides[0].boundary
    )
    readers = [
        _positions(partner, prompts[which], tokens)
        for which, partner in zip(used, partners, strict=True)
    ]
    told: list[float] = []
    for start in range(0, len(tokens), _PORTION):
        end = min(start + _PORTION, len(tokens))
        scores = [
            score(next(reader), sampling.warp, vocabulary, of=partner.label)
            for reader, partner in zip(readers, partners, strict=True)
        ]
        if setting.method.name in BLENDS:
            scores = [blended(scores[0], scores[1], blend_of(setting), sampling.warp)]
        sentences = None
        if router.counts_sentences:
            prefixes = [list(tokens[:t]) for t in range(start, end)]
            sentences = vocabulary.units.sentences(prefixes)
        context = Context(
            torch.zeros(end - start, dtype=torch.int64, device=device),
            torch.arange(start, end, device=device),
            torch.cat(states[start:end]),
            torch.tensor(sources[start:end], device=device),
        )
        probs = law(
            scores[0], scores[-1], context, router, (sampling.warp,) * 2, vocabulary,
            end_rule=together, turn_rule=turns, sentences=sentences,
        )  # fmt: skip
        wanted = torch.tensor(tokens[start:end], device=device)
        told += probs.gather(1, wanted[:, None])[:, 0].log().tolist()
    return told


def _positions(
    partner: Partner, prompt: tuple[int, ...], tokens: Sequence[int]
) -> Iterator[torch.Tensor]:
    """Yields what a partner says before each token, `_PORTION` positions at a time: [k, v]."""
    cache = partner.new_cache()
    cache.add(1)
    before = cache.open([prompt], [0])
    for start in range(0, len(tokens), _PORTION):
        portion = tokens[start : start + _PORTION]
        feed = torch.tensor([portion])
        logits = cache.feed(feed, torch.tensor([len(portion)]))[0]
        yield torch.cat([before, logits[:-1]])
        before = logits[-1:]
