"""Trains a router on the user's own prompts and reward; `baco router train` calls it.

Training explores: a random routing whose chance of base is the learned one, every decision logged
with its features. Then comes a natural policy gradient: a sample's advantage is what the group's
reward would lose without it, and a step changes the decisions by no more than a given amount
(in nats per answer). With as few weights as there are features this is a linear system, so training
costs nothing beside the samples.

Paper: §6.4 (learned routers as future work; the method is ours).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from baco.engine.lazy import torch
from baco.engine.noise import row_key
from baco.engine.router import BOTH, Router, Rule, View
from baco.errors import BacoError, InputError
from baco.methods.base import Done, Update, tasks_for
from baco.methods.running import run
from baco.methods.settings import make_setting
from baco.prompts import (
    Conversation,
    Prompt,
    as_json,
    conversation_of,
    identity,
    question_of,
)
from baco.registry import load_function, number_of
from baco.routers.learned import FEATURES, QUANTILES, Learned, features

if TYPE_CHECKING:
    from baco.models.sides import Models

Floats = np.ndarray[Any, np.dtype[np.float64]]

Reward = Callable[[str | list[dict[str, str]], list[str]], float]
"""(prompt, texts of a group, at least one) -> how good the group is; larger is better."""

_MIXED = 0.5  # from the start, how much of the old baseline of a prompt stays
_DAMPING = 1e-3
_LAST = 3  # the weights of this last part of the iterations (a third) are averaged


@dataclass(frozen=True)
class TrainingPlan:
    """How to train.

    Attributes:
        iterations: Steps of the gradient.
        n: Samples per prompt and step; at least 2.
        start: The chance of base before anything is learned, in (0, 1).
        step: How far the first step may change the decisions of an answer, in nats; later steps
            change less and less.
        max_new_tokens: Limit per sample.
        temperature: Of sampling.
        top_p: Of sampling.
        seed: Decides all noise.

    Raises:
        InputError: If a value is out of range.
    """

    iterations: int = 30
    n: int = 10
    start: float = 0.3
    step: float = 0.1
    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise InputError(
                f"{self.iterations} iterations are too few", hint="use at least 1; 30 are usual"
            )
        if self.n < 2:
            raise InputError(
                f"n = {self.n} is out of range",
                hint="a reward of different answers needs at least 2 samples per prompt",
            )
        if not 0 < self.start < 1:
            raise InputError(f"start {self.start:g} is out of range", hint="use a value in (0, 1)")
        if not self.step > 0:
            raise InputError(f"step {self.step:g} is out of range", hint="use a positive number")


@dataclass
class TrainingState:
    """Where a training stands; as JSON it lets a killed one go on.

    Attributes:
        settings: What decides the training; another training does not go on from here.
        iteration: Steps done.
        weights: Of the normalised features, the bias last.
        history: All weights so far.
        baselines: What is expected of each prompt, once seen.
        rewards: Mean reward of a group in each step.
        mean: Of the features.
        scale: Of the features.
    """

    settings: str
    iteration: int = 0
    weights: list[float] = field(default_factory=list)
    history: list[list[float]] = field(default_factory=list)
    baselines: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)

    def to_json(self) -> str:
        """Returns it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str, settings: str) -> TrainingState | None:
        """Reads what `to_json` wrote; None if it is damaged or of another training."""
        try:
            state = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        return state if state.settings == settings else None


@dataclass(eq=False)
class Explorer:
    """A random routing that logs what it decided; the rule of training.

    Attributes:
        names: Features.
        mean: Their normalisation.
        scale: The same.
        weights: The bias last.
        log: (features, base?) by (noise key, position).
    """

    names: tuple[str, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    log: dict[tuple[int, int], tuple[Floats, bool]] = field(default_factory=dict)

    def __call__(self, view: View, _: torch.Tensor) -> torch.Tensor:
        """Decides by chance: bool [n]."""
        x = features(view, self.names).cpu().numpy()
        z = (x - self.mean) / self.scale
        logit = torch.from_numpy(z @ self.weights[:-1] + self.weights[-1])
        base = view.u_route.cpu() < logit.sigmoid()
        places = zip(view.context.keys.tolist(), view.context.t.tolist(), strict=True)
        asked, says = view.asked.tolist(), base.tolist()
        for i, place in enumerate(places):
            # A row may be asked again before it goes on; its last answer counts.
            if asked[i]:
                self.log[place] = (x[i], says[i])
            else:
                self.log.pop(place, None)
        return base.to(view.asked.device)

    def router(self) -> Router:
        """Returns it as a router."""
        rule = Rule("explore", "by chance", self, BOTH, in_turn=True)
        return Router("explore", (rule,), (None,))


def settings_of(
    pair: Models,
    conversations: Sequence[Conversation],
    reward: str,
    plan: TrainingPlan,
    names: Sequence[str],
) -> str:
    """Returns a word that changes when anything does that decides a training."""
    parts = [pair.revision, reward, list(names), asdict(plan), [identity(c) for c in conversations]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def train(
    pair: Models,
    prompts: Iterable[Prompt | Conversation],
    reward: Reward,
    *,
    name: str = "",
    plan: TrainingPlan | None = None,
    names: Sequence[str] = tuple(FEATURES),
    state: TrainingState | None = None,
    progress: Callable[[TrainingState], None] = lambda state: None,
    update: Callable[[Update], None] = lambda update: None,
) -> Learned:
    """Trains a router.

    Args:
        pair: The pair.
        prompts: Training prompts, at least one.
        reward: Rates a group of answers to one prompt, of any size from 1; more is better.
        name: What to call the reward in the file.
        plan: How to train.
        names: The features to use, of `FEATURES`.
        state: Where an earlier call stood; None to begin.
        progress: Is told after each step.
        update: Is told of everything that generation tells.

    Returns:
        The router.

    Raises:
        InputError: If there is no prompt, or a prompt does not fit.
        BacoError: If the reward fails or gives something else than a finite number.
    """
    plan = plan or TrainingPlan()
    conversations = [conversation_of(prompt) for prompt in prompts]  # type: ignore[arg-type]
    if not conversations:
        raise InputError("there are no training prompts", hint="give at least one")
    names = tuple(names)
    settings = settings_of(pair, conversations, name, plan, names)
    if state is None:
        start = float(np.log(plan.start / (1 - plan.start)))
        state = TrainingState(settings, weights=[0.0] * len(names) + [start])
    while state.iteration < plan.iterations:
        groups, log = _explore(pair, conversations, plan, names, state, update)
        if not log:
            raise BacoError(
                "the router was never asked: the answers are single words",
                hint="train on prompts with longer answers",
            )
        if not state.mean:  # the first step knows no features yet: its chance is the same for all
            x = np.stack([x for x, _ in log.values()])
            state.mean = x.mean(0).tolist()
            state.scale = np.where(x.std(0) > 1e-6, x.std(0), 1.0).tolist()
        _learn(state, plan, conversations, groups, log, reward)
        progress(state)
    return _finish(pair, conversations, plan, names, state, name, update)


def _explorer(names: tuple[str, ...], weights: Sequence[float], state: TrainingState) -> Explorer:
    mean = np.array(state.mean or [0.0] * len(names))
    scale = np.array(state.scale or [1.0] * len(names))
    return Explorer(names, mean, scale, np.array(weights))


Log = dict[tuple[int, int], tuple[Floats, bool]]


def _explore(
    pair: Models,
    conversations: Sequence[Conversation],
    plan: TrainingPlan,
    names: tuple[str, ...],
    state: TrainingState,
    told: Callable[[Update], None],
    weights: Sequence[float] | None = None,
) -> tuple[list[list[str]], Log]:
    """Makes a group for each prompt; returns its texts and the logged decisions."""
    explorer = _explorer(names, weights or state.weights, state)
    setting = make_setting(
        router=explorer.router(),
        max_new_tokens=plan.max_new_tokens,
        temperature=plan.temperature,
        top_p=plan.top_p,
        seed=_seed(plan, state),
    )
    texts = [[""] * plan.n for _ in conversations]
    for update in run(pair, tasks_for(conversations, plan.n), setting):
        told(update)
        if isinstance(update, Done):
            texts[update.task // plan.n][update.sample.index] = update.sample.text
    return texts, explorer.log


def _seed(plan: TrainingPlan, state: TrainingState) -> int:
    """Each step has noise of its own."""
    return plan.seed + 7919 * (state.iteration + 1)


def _learn(
    state: TrainingState,
    plan: TrainingPlan,
    conversations: Sequence[Conversation],
    groups: Sequence[Sequence[str]],
    log: Log,
    reward: Reward,
) -> None:
    """One step of the natural gradient."""
    by_key: dict[int, list[tuple[Floats, bool]]] = {}
    for (key, _), decision in log.items():
        by_key.setdefault(key, []).append(decision)
    weights = np.array(state.weights)
    gradient = np.zeros_like(weights)
    fisher = np.zeros((len(weights), len(weights)))
    fresh, totals = [], []
    seed = _seed(plan, state)
    for number, (conversation, texts) in enumerate(zip(conversations, groups, strict=True)):
        total, gains = _gains(reward, conversation, texts)
        expected = state.baselines[number] if state.baselines else float(gains.mean())
        for index, gain in enumerate(gains):
            for x, base in by_key.get(row_key(seed, identity(conversation), index), ()):
                z = np.append((x - state.mean) / state.scale, 1.0)
                chance = 1 / (1 + np.exp(-(z @ weights)))
                gradient += (gain - expected) * (base - chance) * z
                fisher += chance * (1 - chance) * np.outer(z, z)
        totals.append(total)
        fresh.append(_MIXED * expected + (1 - _MIXED) * float(gains.mean()))
    count = len(groups) * plan.n
    fisher = fisher / count + _DAMPING * np.eye(len(weights))
    direction = np.linalg.solve(fisher, gradient / count)
    length = float(np.sqrt(direction @ fisher @ direction / 2))
    allowed = float(np.sqrt(plan.step * (1 - state.iteration / plan.iterations)))
    if length > 0:
        state.weights = (weights + direction * allowed / length).tolist()
    state.baselines = fresh
    state.rewards.append(float(np.mean(totals)))
    state.history.append(state.weights)
    state.iteration += 1


def _gains(
    reward: Reward, conversation: Conversation, texts: Sequence[str]
) -> tuple[float, Floats]:
    """Returns a group's reward, and what each answer adds to it: [n]."""
    prompt = as_json(conversation)

    def ask(chosen: list[str]) -> float:
        value = number_of("reward", reward, prompt, chosen)
        if not np.isfinite(value):
            raise BacoError(f"the reward returned {value}", hint="return a finite number")
        return value

    total = ask(list(texts))
    rest = [ask([*texts[:i], *texts[i + 1 :]]) for i in range(len(texts))]
    return total, total - np.array(rest)


def _finish(
    pair: Models,
    conversations: Sequence[Conversation],
    plan: TrainingPlan,
    names: tuple[str, ...],
    state: TrainingState,
    name: str,
    told: Callable[[Update], None],
) -> Learned:
    """Averages the last weights and measures what their scores look like."""
    last = state.history[-max(1, plan.iterations // _LAST) :]
    weights = np.mean(last, 0).tolist()
    _, log = _explore(pair, conversations, plan, names, state, told, weights)
    x = np.stack([x for x, _ in log.values()])
    scores = ((x - state.mean) / state.scale) @ np.array(weights[:-1]) + weights[-1]
    texts = json.dumps([identity(c) for c in conversations])
    return Learned(
        pair=pair.name,
        revision=pair.revision,
        features=names,
        mean=tuple(state.mean),
        scale=tuple(state.scale),
        weights=tuple(weights[:-1]),
        bias=weights[-1],
        quantiles=tuple(np.quantile(scores, np.linspace(0, 1, QUANTILES)).tolist()),
        default=round(float((scores > 0).mean()), 3),
        training=(
            ("reward", name),
            ("prompts", len(conversations)),
            ("fingerprint", hashlib.sha256(texts.encode()).hexdigest()[:16]),
            *asdict(plan).items(),
            ("first_reward", round(state.rewards[0], 4)),
            ("last_reward", round(float(np.mean(state.rewards[-len(last) :])), 4)),
        ),
    )


# --- rewards ----------------------------------------------------------------------------------


def different_good_answers(prompt: str | list[dict[str, str]], texts: list[str]) -> float:
    """The reward of the bundled pair: how many different good answers a group holds.

    Answers of one meaning count once, by the best of them: its quality by the exact judge, from
    0 to 1.
    """
    from baco.tiny.judge import quality, semantic_class

    question = question_of(conversation_of(prompt))
    best: dict[str, float] = {}
    for text in texts:
        meaning = semantic_class(question, text)
        best[meaning] = max(best.get(meaning, 0.0), quality(question, text) / 10)
    return sum(best.values())


BUNDLED_REWARD = "different-good-answers"

REWARDS: dict[str, Reward] = {BUNDLED_REWARD: different_good_answers}
"""Rewards by name."""


def load_reward(spec: str) -> Reward:
    """Finds a reward.

    Args:
        spec: A name of `REWARDS`, or ``module:function``.

    Raises:
        InputError: If there is none.
    """
    if spec in REWARDS:
        return REWARDS[spec]
    loaded: Reward = load_function(spec, "reward")
    return loaded
