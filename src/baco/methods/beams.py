"""Diverse beam search: groups of beams, each penalised for the tokens of the groups before.

At every step the groups choose one after another; a token that earlier groups chose at this step
costs the penalty, once for each beam that chose it (Hamming diversity). The result is that of
group beam search in transformers 4, which version 5 no longer has.

Paper: §4 (diverse beam search, arXiv 1610.02424).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from baco.engine import noise
from baco.engine.lazy import inference_mode, torch
from baco.engine.loop import Stats
from baco.engine.partner import Partner
from baco.engine.request import Cost
from baco.engine.scores import score
from baco.engine.session import TURN, Turn, finish
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.group import Sample
from baco.methods.accounting import tell
from baco.methods.base import Method, Setting, Task, Update
from baco.methods.outcome import sample_of
from baco.methods.reader import Reader
from baco.prompts import Conversation, identity

if TYPE_CHECKING:
    from baco.models.sides import Models

_NEVER = -1e9  # the score of beams that only copy the first one before the first step


class Beam(NamedTuple):
    """A finished answer.

    Attributes:
        ids: Its token ids, the end token excluded.
        score: Mean log-probability per token, the end token and all penalties included.
        ended: Whether it ended by itself; else a limit cut it off.
    """

    ids: tuple[int, ...]
    score: float
    ended: bool


@dataclass
class BeamGroup:
    """The beams of one group.

    Attributes:
        drawn: Whether candidates are drawn: the group is then done with as many answers as it has
            beams, as waiting for better ones would undo the draw.
        ids: Each beam's tokens.
        scores: Each beam's summed log-probability, penalties included.
        found: Finished answers, at most as many as there are beams.
        done: Whether no beam can become better than the answers found.
        fed: Tokens fed for this group, prompts aside.
        steps: Steps that it took part in.
    """

    drawn: bool
    ids: list[tuple[int, ...]]
    scores: list[float]
    found: list[Beam] = field(default_factory=list)
    done: bool = False
    fed: int = 0
    steps: int = 0

    @classmethod
    def of(cls, beams: int, drawn: bool) -> BeamGroup:
        """Makes a group before its first step."""
        return cls(drawn, [()] * beams, [0.0] + [_NEVER] * (beams - 1))

    def add(self, beam: Beam) -> None:
        """Keeps a finished answer if it is among the best."""
        self.found.append(beam)
        if len(self.found) > len(self.ids):
            self.found.remove(min(self.found, key=lambda b: b.score))

    def choose(
        self, candidates: Sequence[tuple[float, int, int]], is_end: Sequence[bool]
    ) -> tuple[list[int], list[int]]:
        """Takes the best candidates.

        Args:
            candidates: (score, beam, token), in the order of preference.
            is_end: Which tokens end an answer.

        Returns:
            The beams that live on, one for each place in the group, and their new tokens.
        """
        size = len(self.ids)
        chosen: list[tuple[float, int, int]] = []
        for rank, (value, beam, token) in enumerate(candidates):
            if is_end[token]:
                if rank < size:
                    ids = self.ids[beam]
                    self.add(Beam(ids, value / (len(ids) + 1), True))
            elif len(chosen) < size:
                chosen.append((value, beam, token))
        best = max(value for value, _, _ in candidates) / (len(self.ids[0]) + 1)
        full = len(self.found) == size
        self.done = full and (self.drawn or min(b.score for b in self.found) >= best)
        if not chosen:  # filters have left nothing but the end
            self.done = True
            return list(range(size)), [0] * size
        self.ids = [(*self.ids[beam], token) for _, beam, token in chosen]
        self.scores = [value for value, _, _ in chosen]
        return [beam for _, beam, _ in chosen], [token for _, _, token in chosen]


class Search(NamedTuple):
    """What a search found and cost.

    Attributes:
        groups: The groups, each with its answers in `found`, best first.
        passes: Forward passes.
    """

    groups: list[BeamGroup]
    passes: int


def search(partner: Partner, prompt: Sequence[int], **how: Any) -> Search:
    """Searches at one go; arguments as `searching`."""
    return finish(searching(partner, prompt, **how))


@inference_mode
def searching(
    partner: Partner,
    prompt: Sequence[int],
    *,
    groups: int,
    beams: int,
    penalty: float,
    max_new_tokens: int,
    warp: Warp | None = None,
    keys: Sequence[int] = (),
) -> Generator[Turn, None, Search]:
    """Searches the answers of several groups of beams to one prompt.

    Args:
        partner: The model.
        prompt: Its token ids.
        groups: Number of groups.
        beams: Beams of each.
        penalty: What a token costs for each beam of earlier groups that chose it; at least 0.
        max_new_tokens: Limit on tokens.
        warp: Temperature and filters for candidates; None for the model's own distribution.
        keys: Noise keys of the groups: candidates are then drawn without replacement, by their
            scores and this noise. Empty: the best are taken, nothing is drawn.

    Yields:
        A turn before each pass.

    Returns:
        The groups, each with as many answers as beams; cut off at the limit where need be.
    """
    vocabulary = partner.vocabulary
    is_end = vocabulary.is_end.tolist()
    width = max(2, 1 + sum(is_end)) * beams
    how = warp or Warp(top_p=1)
    state = [BeamGroup.of(beams, bool(keys)) for _ in range(groups)]
    rows = groups * beams
    cache = partner.new_cache()
    cache.add(rows)
    yield TURN
    logits = cache.open([tuple(prompt)] * rows, list(range(rows)))
    passes = 1
    for step in range(max_new_tokens):
        log_probs = score(logits, how, vocabulary, of=partner.label).warped
        counts = torch.zeros_like(log_probs[0])
        order = list(range(rows))
        tokens = [0] * rows
        for g, group in enumerate(state):
            if group.done:
                continue
            group.steps += 1
            first = g * beams
            start = torch.tensor(group.scores, dtype=log_probs.dtype, device=log_probs.device)
            total = start[:, None] + log_probs[first : first + beams] - penalty * counts
            luck = total.flatten()
            if keys:
                luck = luck + _noise(keys[g], step, total).flatten()
            top = luck.topk(min(width, len(luck))).indices
            picked = [
                (value, index // total.shape[1], index % total.shape[1])
                for value, index in zip(total.flatten()[top].tolist(), top.tolist(), strict=True)
                if value > -torch.inf
            ]
            parents, new = group.choose(_filled(picked, beams, is_end), is_end)
            for k, (parent, token) in enumerate(zip(parents, new, strict=True)):
                order[first + k] = first + parent
                tokens[first + k] = token
                counts[token] += 1
        if all(group.done for group in state) or step + 1 == max_new_tokens:
            break
        if order != list(range(rows)):
            cache.keep(order)
        active = torch.tensor([not group.done for group in state], device=partner.device)
        going = active.repeat_interleave(beams).long()
        fed = torch.tensor(tokens, device=partner.device)[:, None]
        yield TURN
        logits = cache.feed(fed, going)[:, 0]
        passes += 1
        for group in state:
            group.fed += 0 if group.done else beams
    for group in state:
        if not group.done:
            for ids, value in zip(group.ids, group.scores, strict=True):
                group.add(Beam(ids, value / len(ids), False))
        group.found.sort(key=lambda beam: beam.score, reverse=True)
    return Search(state, passes)


def _noise(key: int, step: int, like: torch.Tensor) -> torch.Tensor:
    """Gumbel noise for the candidates of one group at one step: [beams, vocabulary]."""
    keys = torch.tensor([key], device=like.device)
    t = torch.tensor([step], device=like.device)
    drawn = noise.gumbel(keys, t, torch.arange(like.numel(), device=like.device)[None])
    return drawn.view(like.shape).to(like.dtype)


def _filled(
    picked: list[tuple[float, int, int]], beams: int, is_end: Sequence[bool]
) -> list[tuple[float, int, int]]:
    """Repeats the last candidate that is no end until every beam has one.

    Filters may leave fewer candidates than beams.
    """
    going = [c for c in picked if not is_end[c[2]]]
    if going and len(going) < beams:
        picked = picked + [(_NEVER, *going[-1][1:])] * (beams - len(going))
    return picked


def run_diverse_beam(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model; the i-th sample is what the i-th group of one beam finds."""
    yield from _run(pair, tasks, setting, drawn=False)


def run_diverse_beam_sample(
    pair: Models, tasks: Sequence[Task], setting: Setting
) -> Iterator[Update]:
    """The same, with tokens drawn: each group draws from what the penalties leave."""
    yield from _run(pair, tasks, setting, drawn=True)


def _run(pair: Models, tasks: Sequence[Task], setting: Setting, *, drawn: bool) -> Iterator[Update]:
    """Searches prompt by prompt."""
    passes = fed = emitted = 0
    for prompt in dict.fromkeys(task.prompt for task in tasks):
        group, search_passes = yield from _group(pair, prompt, setting, drawn)
        passes += search_passes
        for sample in group:
            assert sample.cost is not None
            fed += sample.cost.aligned_token_rows
            emitted += sample.cost.tokens
        for i, task in enumerate(tasks):
            if task.prompt == prompt:
                yield from tell(i, group[task.index])
    yield Stats(0, passes, 0, fed, emitted)


def _group(
    pair: Models, prompt: Conversation, setting: Setting, drawn: bool
) -> Generator[Turn, None, tuple[list[Sample], int]]:
    """Makes a whole group; returns it and the passes it took."""
    assert setting.n is not None
    assert isinstance(setting.control, float)
    side, sampling = pair.sides[1], setting.sampling
    ids = side.ids(prompt)
    room = side.partner.context_window - len(ids)
    if not ids or room < 1:
        raise InputError(
            f"the prompt has {len(ids)} tokens, the context window {side.partner.context_window}",
            hint="shorten the prompt or use a model with a longer context",
        )
    found = yield from searching(
        side.partner,
        ids,
        groups=setting.n,
        beams=1,
        penalty=setting.control,
        max_new_tokens=min(sampling.max_new_tokens, room),
        warp=sampling.warp if drawn else None,
        keys=[noise.row_key(sampling.seed, identity(prompt), i) for i in range(setting.n)]
        if drawn
        else (),
    )
    samples = []
    for index, group in enumerate(found.groups):
        beam, reader = group.found[0], Reader(side.token_bytes, sampling.stop)
        for token in beam.ids:
            reader.add(token, "aligned", begins=True)
        reader.finish()
        read = len(ids) if index == 0 else 0  # once, for all groups
        samples.append(
            sample_of(
                reader,
                "stop" if beam.ended else "length",
                prompt,
                index,
                setting,
                cost=Cost(
                    aligned_passes=group.steps,
                    aligned_token_rows=group.fed + read,
                    aligned_prompt_tokens=read,
                    tokens=len(beam.ids),
                ),
            )
        )
    return samples, found.passes


METHODS = tuple(
    Method(
        name,
        "decoding",
        "penalty on tokens of earlier groups",
        source,
        run,
        default=0.5,
        low=0.0,
        high=100.0,
        needs=frozenset({"aligned logits"}),
        keeps_caches=True,
        whole_group=True,
        restarts=False,
        penalises=False,
        bans=False,
    )
    for name, source, run in (
        ("diverse-beam", "§4, arXiv 1610.02424", run_diverse_beam),
        ("diverse-beam-sample", "the same, drawn", run_diverse_beam_sample),
    )
)
