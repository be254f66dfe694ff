"""What memory a run needs, worked out from shapes before anything runs.

A run holds weights, and per row the keys and values of both sides (slots grow by half as needed,
so there may be half as many again as tokens) and the scores of the last few positions. While a
partner runs, what it computes comes on top: prompts that are read together, activations, logits,
and the score of the next token. The prediction adds these up for the longest texts that the run
can make; `rows_within` turns it round, and says how many rows at a time fit.

Models whose state is not a plain cache of keys and values (recurrent ones) are read anew at every
pass and need no slots. Partners that are not models of transformers are not predicted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from baco.engine.lazy import torch
from baco.engine.loop import longest_draft
from baco.engine.partner import Lookahead, Partner
from baco.engine.side import CATCH_UP, score_window
from baco.models.hf import FEW, PREFILL, PREFILL_LOGITS, HFPartner, grown_capacity

TorchDevice: TypeAlias = "torch.device"

logger = logging.getLogger("baco")

_LISTED, _ALL = 64, 40
"""Bytes per row and vocabulary entry that scoring a token and choosing what to offer need for a
moment: where filters list tokens by their likelihood, at worst all of them, and where none does."""

_ROW = 1024
"""Bytes that a row's keys, positions, states and offers take in a step."""

_HIDDEN = 8
"""Hidden states alive at one time in a layer, as a multiple of the hidden size."""

_INNER = 3
"""Inner states alive at one time in an MLP, as a multiple of the MLP's width."""

_CGROUP = Path("/sys/fs/cgroup")

_SPARE = 0.9
"""Share of what is available that a run may plan with."""


@dataclass(frozen=True)
class Shape:
    """The sizes of one partner that decide its memory.

    Attributes:
        place: Where its weights and slots are.
        device: Where its scores are.
        model: Its model.
        slot: Bytes of keys and values per row and token, all layers.
        layers: Number of layers.
        repeats: How often a key is repeated for the query heads that share it.
        fed: Bytes of activations per token that is fed, a layer at a time.
        logit: Bytes of the logits of one position.
        scores: Entries that a score has: the vocabulary's size.
        number: Bytes of one entry of a score.
        window: The longest text it takes, in tokens.
    """

    place: TorchDevice
    device: TorchDevice
    model: Any
    slot: int
    layers: int
    repeats: int
    fed: int
    logit: int
    scores: int
    number: int
    window: int

    @property
    def weights(self) -> int:
        """Bytes of its weights: a walk over all of them, which a run does not need."""
        return bytes_of(self.model)


class Workload(NamedTuple):
    """What is to be made.

    Attributes:
        prompts: Tokens of each distinct prompt, for (base, aligned).
        rows: Samples in all.
        max_new_tokens: Most tokens per sample.
        lookahead: As the engine's.
        lags: Whether a side may be left behind for long, because the router does not read it.
        filtered: Whether filters such as top-p leave few tokens of the vocabulary.
        penalised: Whether penalties change P, which is kept twice then.
        draft: Who guesses ahead, as the engine's; of a small model the memory counts.
        further: Bytes of weights beside those of the sides that decode, on the aligned side's
            device: of models that these are made from.
    """

    prompts: Sequence[tuple[int, int]]
    rows: int
    max_new_tokens: int
    lookahead: Lookahead = "auto"
    lags: bool = True
    filtered: bool = True
    penalised: bool = False
    draft: str | Partner | None = None
    further: int = 0


def shape_of(partner: Partner) -> Shape | None:
    """Reads a partner's sizes off its model, whose weights may be on the device ``meta``.

    Returns:
        The sizes; None for partners that are not models of transformers.
    """
    inner = partner.inner
    if not isinstance(inner, HFPartner):
        return None
    config = inner.model.config.get_text_config()
    heads = int(getattr(config, "num_attention_heads", None) or 1)  # a recurrent model has none
    kept = int(getattr(config, "num_key_value_heads", None) or heads)
    hidden = int(config.hidden_size)
    width = int(getattr(config, "head_dim", None) or hidden // heads)
    dtype = inner.model.dtype
    size = dtype.itemsize
    head: Any = inner.model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return Shape(
        place=inner.place,
        device=partner.device,
        model=inner.model,
        slot=2 * inner.layers * kept * width * size if inner.abilities.rewinds else 0,
        layers=inner.layers,
        repeats=heads // kept,
        fed=(_HIDDEN * hidden + _INNER * _mlp_width(config)) * size,
        logit=(config.vocab_size if head is None else head.weight.shape[0]) * size,
        scores=partner.own.size,
        number=8 if dtype == torch.float64 else 4,
        window=partner.context_window,
    )


def bytes_of(model: Any) -> int:
    """Bytes of a model's parameters and buffers; of one that is to be quantised, about that."""
    held = {id(t): t for t in (*model.parameters(), *model.buffers())}
    bits = getattr(model, "planned_bits", None)
    if bits is None:
        return sum(t.numel() * t.element_size() for t in held.values())
    head = model.get_output_embeddings()
    linear = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    return sum(
        t.numel() * bits // 8 if i in linear else t.numel() * t.element_size()
        for i, t in held.items()
    )


def _mlp_width(config: Any) -> int:
    """The width of a layer's MLP; of experts, of those that one token visits."""
    width = int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    return width * int(getattr(config, "num_experts_per_tok", None) or 1)


class Need:
    """The memory that a job needs, as a function of the rows decoded at a time.

    Args:
        sides: (base, aligned); the same partner twice for a single model.
        shapes: Their sizes.
        job: What is to be made.
    """

    def __init__(
        self, sides: tuple[Partner, Partner], shapes: tuple[Shape, Shape], job: Workload
    ) -> None:
        self.job = job
        self.one_model = sides[0].weights is sides[1].weights
        # Both sides of one set of weights run as two rows of one batch, without own guesses.
        strands = self.one_model and sides[0] is not sides[1]
        self._rows_per_pass = 2 if strands else 1
        self.longest = 0 if strands and job.draft is None else longest_draft(job.lookahead)
        used = [1] if sides[0] is sides[1] else [0, 1]
        self._sides = [(k, shapes[k]) for k in used]
        small = None if isinstance(job.draft, str) else job.draft
        self._draft = shape_of(small) if small else None
        self.tokens = [self._most_tokens(shapes, prompt) for prompt in job.prompts]

    def _most_tokens(self, shapes: tuple[Shape, Shape], prompt: tuple[int, int]) -> int:
        """Most tokens that an answer to a prompt can have."""
        rooms = [shapes[k].window - prompt[k] for k, _ in self._sides]
        return max(0, min(self.job.max_new_tokens, *rooms))

    @property
    def weights(self) -> int:
        """Bytes of all weights, a draft model's included; an adapter pair's count once."""
        each = [shape.weights for _, shape in self._sides]
        draft = self._draft.weights if self._draft else 0
        return self.job.further + draft + (max(each) if self.one_model else sum(each))

    @property
    def row(self) -> int:
        """Bytes that one row holds at its longest: slots and scores of all sides."""
        draft = self._capacity(1) * self._draft.slot if self._draft else 0
        return draft + sum(self._held(k, shape) for k, shape in self._sides)

    def _capacity(self, k: int) -> int:
        """Slots of a row of one side at its longest."""
        first = max(prompt[k] for prompt in self.job.prompts)
        ends = (p[k] + t + self.longest for p, t in zip(self.job.prompts, self.tokens, strict=True))
        longest, capacity = max(ends), grown_capacity(0, first)
        while capacity < longest:
            capacity = grown_capacity(capacity, capacity + 1)
        return capacity

    def _held(self, k: int, shape: Shape) -> int:
        return self._capacity(k) * shape.slot + self._scores(shape)

    def _scores(self, shape: Shape) -> int:
        """Bytes of the scores of a row's last few positions."""
        entry = (1 + self.job.penalised) * shape.number
        return score_window(self.longest) * entry * shape.scores + _ROW

    def at(self, rows: int, *, weights: bool = True) -> dict[TorchDevice, int]:
        """Bytes on each device, at the worst moment.

        Args:
            rows: Rows decoded at a time.
            weights: Whether weights count; they do not once they are there.
        """
        total: dict[TorchDevice, int] = {}
        for number, (k, shape) in enumerate(self._sides):
            # In lock-step, see `HFCache.feed_tail`.
            lent = rows // FEW if shape.place.type == "cpu" and not self.longest else 0
            slots = (rows + lent) * self._capacity(k) * shape.slot
            if weights and not (self.one_model and number):
                slots += shape.weights
            total[shape.place] = total.get(shape.place, 0) + slots
            total[shape.device] = total.get(shape.device, 0) + rows * self._scores(shape)
        if weights:
            total[self._sides[-1][1].place] += self.job.further
        passes = list(self._sides)
        if self._draft:  # it reads what the aligned side does, and keeps no scores
            slots = rows * self._capacity(1) * self._draft.slot
            held = slots + (self._draft.weights if weights else 0)
            total[self._draft.place] = total.get(self._draft.place, 0) + held
            passes.append((1, self._draft))
        # Sides take turns, so what a pass needs for the moment is needed once per device.
        passing: dict[TorchDevice, int] = {}
        for k, shape in passes:
            for device, size in self._moment(k, shape, rows):
                passing[device] = max(passing.get(device, 0), size)
        return {device: size + passing.get(device, 0) for device, size in total.items()}

    def _moment(self, k: int, shape: Shape, rows: int) -> list[tuple[TorchDevice, int]]:
        """Bytes that a pass of one side needs on top, on either of its devices."""
        batch = rows * self._rows_per_pass
        fed = batch * (self.longest + 1)
        if self.job.lags:
            fed = max(fed, min(max(CATCH_UP, batch), batch * self.job.max_new_tokens))
        capacity = self._capacity(k)
        # Wide passes repeat the keys and values of a layer, others masks, which are no larger;
        # growing holds a layer's twice.
        layer = batch * capacity * shape.slot // shape.layers
        # Masks: of bytes for each of two types of layers; as numbers, twice, where one is in use.
        masks = fed * capacity * (2 + 2 * shape.number)
        logits = batch * (self.longest + 1) * shape.logit
        pass_ = fed * shape.fed + logits + masks + layer * max(1, shape.repeats)
        distinct = min(len(self.job.prompts), rows) * self._rows_per_pass
        first = max(prompt[k] for prompt in self.job.prompts)
        together = max(1, min(distinct, PREFILL // max(1, first)))
        prefill = together * (
            first * shape.fed
            + grown_capacity(0, first) * shape.slot
            + min(together, max(1, PREFILL_LOGITS // together)) * shape.logit
            + first * shape.slot // shape.layers * shape.repeats
        )
        here = max(pass_, prefill)
        offer = _LISTED if self.job.filtered else _ALL
        step = batch * shape.scores * offer * shape.number // 4 + logits
        copies = rows * self._scores(shape)  # when rows join, scores are copied
        if shape.place == shape.device:
            return [(shape.place, max(here, step, copies))]
        return [(shape.place, here), (shape.device, max(step, copies))]

    def rows_within(
        self, available: Mapping[TorchDevice, int], limit: int, *, weights: bool = False
    ) -> int:
        """How many rows at a time fit, 0 to `limit`.

        Args:
            available: Bytes that are free on each device; devices not named have no bound.
            limit: The most that is asked for.
            weights: Whether weights are still to be loaded.
        """
        low, high = 0, limit
        while low < high:
            rows = (low + high + 1) // 2
            need = self.at(rows, weights=weights)
            if all(size <= _SPARE * available.get(d, math.inf) for d, size in need.items()):
                low = rows
            else:
                high = rows - 1
        return low


def need_of(sides: tuple[Partner, Partner], job: Workload) -> Need | None:
    """Predicts what a job needs; None where a partner's sizes are not known or nothing is to do.

    Args:
        sides: (base, aligned); the same partner twice for a single model.
        job: What is to be made.
    """
    aligned = shape_of(sides[1])
    base = aligned if sides[0] is sides[1] else shape_of(sides[0])
    if base is None or aligned is None or not job.prompts:
        return None
    return Need(sides, (base, aligned), job)


def available_memory(device: TorchDevice) -> int | None:
    """Bytes that a program can still have on a device; None where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + idle
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    found = [size for read in (_unused, _left_to_container) if (size := read()) is not None]
    return min(found, default=None)


def available_on(need: Need) -> dict[TorchDevice, int]:
    """The available memory of every device that a job needs, as far as it is known."""
    known = {device: available_memory(device) for device in need.at(1, weights=False)}
    return {device: size for device, size in known.items() if size is not None}


def _unused() -> int | None:
    """What Linux says is available; elsewhere nothing is said."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left_to_container() -> int | None:
    """What a control group of Linux (a container) may still use; None without a limit."""
    folder = _CGROUP
    try:
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        cache = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit.strip() == "max":
        return None
    return max(0, int(limit) - int(used) + int(cache.get("inactive_file", 0)))


Sides = tuple[Partner, Partner]


class Memory:
    """Divides the free memory among engines that live at the same time.

    What is free is read while an engine has no rows: later its rows are in it. What one engine
    may still take is not promised to the next.
    """

    def __init__(self) -> None:
        self._free: dict[Sides, dict[TorchDevice, int]] = {}
        self._promised: dict[Sides, dict[TorchDevice, int]] = {}
        self._told: dict[Sides, int] = {}

    def rows(
        self, sides: Sides, jobs: Sequence[Workload], limit: int, *, busy: bool = False
    ) -> int:
        """Bounds the rows that an engine decodes at a time.

        Args:
            sides: (base, aligned) of the engine, loaded.
            jobs: All that it has to do at present.
            limit: What was asked for.
            busy: Whether it has rows already.

        Returns:
            1 to `limit`. One row is always tried: a prediction is no proof.
        """
        job = together(jobs)
        need, wanted = need_of(sides, job), min(limit, job.rows)
        if need is None:
            return limit
        if not busy or sides not in self._free:
            self._free[sides] = available_on(need)
        free = dict(self._free[sides])
        for other, promised in self._promised.items():
            for device, size in promised.items() if other != sides else ():
                free[device] = free.get(device, size) - size
        fitting = need.rows_within(free, wanted)
        self._promised[sides] = need.at(fitting, weights=False) if fitting else {}
        if fitting == wanted:
            return limit
        if self._told.get(sides) != fitting:
            self._told[sides] = fitting
            logger.warning(
                "memory is enough for %s at a time, of %d that were to be decoded together",
                "hardly one sample" if fitting == 0 else f"{fitting} samples",
                wanted,
            )
        return max(1, fitting)

    def leave(self, sides: Sides) -> None:
        """Gives back what an engine was promised: it has nothing to do."""
        self._promised.pop(sides, None)
        self._told.pop(sides, None)


def together(jobs: Sequence[Workload]) -> Workload:
    """Returns the job that needs, row by row, what the neediest of some jobs does."""
    first = jobs[0]
    return first._replace(
        prompts=[lengths for job in jobs for lengths in job.prompts],
        rows=sum(job.rows for job in jobs),
        max_new_tokens=max(job.max_new_tokens for job in jobs),
        lags=any(job.lags for job in jobs),
        filtered=all(job.filtered for job in jobs),
        penalised=any(job.penalised for job in jobs),
    )


def rows_that_fit(sides: Sides, job: Workload, max_rows: int) -> int:
    """Bounds the rows of one job by the memory that is available now, as `Memory.rows`."""
    return Memory().rows(sides, [job], max_rows)
