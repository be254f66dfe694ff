"""The prompting baselines: the aligned model alone, asked in ways that call for variety.

Samples carry the user's own prompt; what the model was given instead follows from the method, and
where chance had a part in it, from the sample's `details`.

Paper: §4 (prompting baselines); METRICS of NoveltyBench for in-context, paraphrase, system-prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from baco.engine import noise
from baco.engine.lazy import torch
from baco.group import Sample
from baco.methods import wording
from baco.methods.accounting import Account, shares, tell
from baco.methods.base import HOTTEST, Method, Sampling, Setting, Task, Update
from baco.methods.models import run_alone
from baco.methods.outcome import Found, cut, failed
from baco.prompts import Conversation, Message, as_json, identity

if TYPE_CHECKING:
    from baco.models.sides import Models

STRING_ROOM = 128
"""Tokens that a random string and the tags may take beside the answer."""

TAG_ROOM = 32
"""Tokens that the tags around one answer may take."""

AT_LEAST = 5
"""Verbalized sampling asks for at least so many answers, and draws from them."""


def run_system_prompt(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """A system message asks for unique, novel answers."""
    asked = [
        replace(task, asked=wording.with_system(task.prompt, wording.BE_NOVEL)) for task in tasks
    ]
    yield from run_alone(pair, "aligned", asked, setting)


def run_string_seed(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The model writes a random string first, and lets it choose the answer."""
    asked = []
    for task in tasks:
        request = wording.SEED.format(request=task.prompt[-1].content)
        asked.append(replace(task, asked=wording.with_last(task.prompt, request)))
    yield from run_alone(
        pair, "aligned", asked, setting, find=wording.seeded, room=STRING_ROOM + TAG_ROOM
    )


def run_paraphrase(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The k-th answer is to the k-th paraphrase: one of the data set's, else of the model's."""
    account = Account()
    written: dict[int, Sample] = {}
    missing = [i for i, task in enumerate(tasks) if task.index >= len(task.paraphrases)]
    asks = []
    for task in tasks:
        wording.check_last(task.prompt)
    for i in missing:
        words = wording.REWORD.format(request=tasks[i].prompt[-1].content)
        asks.append(Task((Message("user", words),), tasks[i].index))
    if asks:
        how = replace(setting, sampling=Sampling(seed=setting.sampling.seed))
        found: dict[int, Sample] = {}
        run = run_alone(pair, "aligned", asks, how, find=wording.reworded)
        yield from account.collect(run, found)
        written = {missing[k]: sample for k, sample in found.items()}
    asked, numbers = [], []
    for i, task in enumerate(tasks):
        sample = written.get(i)
        if sample and sample.finish_reason == "failed":
            yield from tell(i, replace(sample, prompt=as_json(task.prompt)))
            continue
        words = sample.text if sample else task.paraphrases[task.index]
        asked.append(
            replace(
                task,
                asked=wording.with_last(task.prompt, words),
                details={"paraphrase": words},
                spent=sample.cost if sample else task.spent,
            )
        )
        numbers.append(i)
    if asked:
        yield from account.pass_on(run_alone(pair, "aligned", asked, setting), numbers)
    yield account.stats


def run_in_context(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """One dialogue: after each answer the user asks for a different one."""
    account = Account()
    wanted: dict[tuple[Conversation, int], list[int]] = {}
    for i, task in enumerate(tasks):
        wanted.setdefault((task.prompt, task.index), []).append(i)
    for prompt, _ in wanted:
        wording.check_last(prompt)
    last = {prompt: max(i for p, i in wanted if p == prompt) for prompt, _ in wanted}
    answers: dict[Conversation, list[str]] = {prompt: [] for prompt in last}
    for index in range(max(last.values(), default=-1) + 1):
        asks = [
            _dialogue(pair, prompt, answers[prompt], index, setting)
            for prompt, end in last.items()
            if index <= end
        ]
        made: dict[int, Sample] = {}
        yield from account.collect(run_alone(pair, "aligned", asks, setting), made)
        for k, ask in enumerate(asks):
            answers[ask.prompt].append(made[k].text.strip())
            for number in wanted.get((ask.prompt, index), ()):
                yield from tell(number, made[k])
    yield account.stats


def _dialogue(
    pair: Models, prompt: Conversation, answers: Sequence[str], index: int, setting: Setting
) -> Task:
    """Makes the next turn; the oldest answers are left out where the context is too short."""
    window = pair.aligned.context_window
    room = min(setting.sampling.max_new_tokens, window // 4)
    for forgotten in range(len(answers) + 1):
        turns = list(prompt)
        for answer in answers[forgotten:]:
            turns += [Message("assistant", answer), Message("user", wording.ANOTHER)]
        details = {"forgotten": forgotten} if forgotten else None
        task = Task(prompt, index, asked=tuple(turns), details=details)
        if len(pair.sides[1].encode(tuple(turns))) + room <= window:
            break
    return task


def run_verbalized(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """One response holds many answers with probabilities; the group is drawn from them.

    Without replacement: the first sample by the probabilities as they are, the next by those of
    the answers that are left. No answer is given twice unless the response says it twice.
    """
    assert setting.n is not None
    account = Account()
    k = max(setting.n, AT_LEAST)
    limit = setting.sampling.max_new_tokens
    prompts = list(dict.fromkeys(task.prompt for task in tasks))
    asks = []
    for prompt in prompts:
        request = wording.VERBALIZE.format(request=prompt[-1].content, k=k)
        asks.append(Task(prompt, 0, asked=wording.with_last(prompt, request)))
    whole = replace(
        setting.sampling, stop=(), max_new_tokens=k * (limit + TAG_ROOM), restart_shorter_than=0
    )
    run = run_alone(
        pair,
        "aligned",
        asks,
        replace(setting, sampling=whole),
        find=lambda text: Found(0, len(text)) if wording.weighed(text, k) else None,
    )
    made: dict[int, Sample] = {}
    yield from account.collect(run, made)
    for number, prompt in enumerate(prompts):
        group = drawn(made[number], prompt, k, setting)
        for i, task in enumerate(tasks):
            if task.prompt == prompt:
                yield from tell(i, group[task.index])
    yield account.stats


def drawn(response: Sample, prompt: Conversation, k: int, setting: Setting) -> list[Sample]:
    """Draws a group from the answers of one response."""
    assert setting.n is not None
    costs = shares(response.cost, setting.n)
    if response.finish_reason == "failed":
        return [replace(failed(response), index=i, cost=cost) for i, cost in enumerate(costs)]
    answers = wording.weighed(response.text, k)
    assert answers is not None
    key = torch.tensor([noise.row_key(setting.sampling.seed, identity(prompt), -1)])
    luck = noise.gumbel(key, torch.zeros(1, dtype=torch.int64), torch.arange(k)[None])[0].tolist()
    order = sorted(
        range(k), key=lambda a: math.log(answers[a][0] or 1e-300) + luck[a], reverse=True
    )
    group = []
    for i, cost in enumerate(costs):
        weight, start, end = answers[order[i]]
        found = Found(start, end, {"probability": weight, "place": order[i]})
        sample = cut(response, found, setting.sampling.stop, setting.sampling.max_new_tokens)
        group.append(replace(sample, index=i, cost=cost))
    return group


def _method(name: str, source: str, run: object, **more: object) -> Method:
    """Makes a method of this family: the aligned model, controlled by its temperature."""
    return Method(
        name,
        "prompting",
        "temperature",
        source,
        run,  # type: ignore[arg-type]
        default=1.0,
        low=0.0,
        high=HOTTEST,
        alias="temperature",
        needs=frozenset({"aligned logits"}),
        rewords=True,
        **more,  # type: ignore[arg-type]
    )


METHODS = (
    _method("in-context", "§4", run_in_context, whole_group=True),
    _method("paraphrase", "§4", run_paraphrase),
    _method("system-prompt", "§4", run_system_prompt),
    _method("verbalized", "arXiv 2510.01171", run_verbalized, whole_group=True, restarts=False),
    _method("string-seed", "arXiv 2510.21150", run_string_seed),
)
