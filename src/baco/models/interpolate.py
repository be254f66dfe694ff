"""One model between two: weights (1 - α) base + α aligned.

For a LoRA pair that is the adapter's scale, and rows of every α share one set of weights
(`baco.models.lora`). For two checkpoints a third model is made, once for each α, and kept on a
shelf of bounded size; whoever uses one holds it meanwhile, so that nobody's weights change.

Source: arXiv 2510.17426 (weights before and after alignment, interpolated).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from baco.engine.lazy import torch
from baco.engine.session import TURN, Turn
from baco.errors import BacoError, InputError, UnsupportedError
from baco.models.hf import HFPartner
from baco.models.lora import LoraPartner
from baco.models.memory import available_memory, bytes_of
from baco.models.sides import Place, Shelf, Side

if TYPE_CHECKING:
    from baco.models.sides import Models

logger = logging.getLogger("baco")

SHELF = 2
"""Models of mixed weights that are kept for a pair."""

_SAME = (
    "model_type",
    "hidden_act",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_experts_per_tok",
)
"""What decides how weights are used and does not show in all of their shapes."""

_NEARLY = ("rope_parameters", "rope_scaling", "rope_theta", "rms_norm_eps", "layer_norm_eps")
"""What may differ a little between checkpoints of one family; the mixed model takes one of them."""


def check(models: Models) -> None:
    """Checks that a pair's weights can be mixed; nothing is allocated.

    Raises:
        UnsupportedError: If a side's weights are not at hand.
        InputError: If they do not belong together.
    """
    for name, partner in (("base", models.base), ("aligned", models.aligned)):
        if not isinstance(partner.inner, HFPartner):
            raise UnsupportedError(
                f"the weights of the {name} model of {models.name!r} cannot be mixed: BaCo does "
                "not hold them",
                hint="load both models with --engine baco from folders or the Hub",
            )
        if getattr(partner.inner.model, "is_quantized", False) or hasattr(
            partner.inner.model, "planned_bits"
        ):
            raise UnsupportedError(
                f"the weights of the {name} model of {models.name!r} are quantised and cannot be "
                "mixed",
                hint="leave out --load-in-8bit and --load-in-4bit",
            )
    if not models.one_tokenizer:
        raise InputError(
            f"the models of {models.name!r} have different tokenizers: their weights cannot be "
            "mixed",
            hint="use two checkpoints of one family",
        )
    base, aligned = _model(models, 0), _model(models, 1)
    if not _slides(models):
        check_weights(base, aligned)


def check_weights(base: Any, aligned: Any) -> None:
    """Checks that two models have the same tensors of the same shapes, embeddings perhaps padded.

    Raises:
        InputError: If not; the message names the first that differs.
    """
    hint = "both must be checkpoints of one architecture, such as a model and its tuned sister"
    configs = (base.config.get_text_config(), aligned.config.get_text_config())
    for name in _SAME:
        one, other = (getattr(config, name, None) for config in configs)
        if one != other:
            raise InputError(
                f"weights cannot be mixed: {name} is {one} in the base and {other} in the aligned "
                "model",
                hint=hint,
            )
    mine, theirs = _tensors(base), _tensors(aligned)
    if unmatched := sorted(mine.keys() ^ theirs.keys()):
        where = "base" if unmatched[0] in mine else "aligned"
        raise InputError(
            f"weights cannot be mixed: only the {where} model has {unmatched[0]}", hint=hint
        )
    padded = _by_token(base) | _by_token(aligned)
    for name, one in mine.items():
        other = theirs[name]
        if one.shape != other.shape and (name not in padded or one.shape[1:] != other.shape[1:]):
            raise InputError(
                f"weights cannot be mixed: {name} has the shape {list(one.shape)} in the base and "
                f"{list(other.shape)} in the aligned model",
                hint=hint,
            )


def _tell_differences(base: Any, aligned: Any) -> None:
    """Says, when a model is made, what it has of one of the two only."""
    for name in _NEARLY:
        one, other = (getattr(m.config.get_text_config(), name, None) for m in (base, aligned))
        if one != other:
            logger.warning(
                "%s is %s in the base and %s in the aligned model; the mixed model has one of them",
                name, one, other,
            )  # fmt: skip


def _model(models: Models, side: int) -> Any:
    partner = models.sides[side].partner.inner
    assert isinstance(partner, HFPartner)
    return partner.model


def _slides(models: Models) -> bool:
    """Whether one set of weights serves every α."""
    base, aligned = models.base.inner, models.aligned.inner
    return isinstance(aligned, LoraPartner) and base.weights is aligned.weights


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    """All parameters by name, tied ones under each of their names."""
    return dict(model.named_parameters(remove_duplicate=False))


def _distinct(model: Any) -> int:
    return sum(1 for _ in model.parameters())


def _by_token(model: Any) -> set[str]:
    """Names of parameters with a row for each token id: these may be padded."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    own = {id(p) for module in ends if module is not None for p in module.parameters()}
    return {name for name, p in _tensors(model).items() if id(p) in own}


@torch.no_grad()
def mix(target: Any, base: Any, aligned: Any, alpha: float) -> None:
    """Sets a model's weights to (1 - α) base + α aligned.

    Rows of tokens that only one of the two has stay that one's. Sums are made in float32, or
    float64 where a model has it.

    Args:
        target: The model whose weights are set; may be one of the two.
        base: The base model.
        aligned: The aligned model.
        alpha: Share of the aligned model, in [0, 1].
    """
    mine, theirs = _tensors(base), _tensors(aligned)
    for name, out in target.named_parameters():
        one, other = mine[name], theirs[name]
        exact = torch.float64 in (one.dtype, other.dtype)
        wide = torch.float64 if exact else torch.float32
        rows = min(len(one), len(other)) if one.ndim else None
        a, b = (x[:rows] if rows is not None else x for x in (one, other))
        mixed = (1 - alpha) * a.to(out.device, wide) + alpha * b.to(out.device, wide)
        if rows is None or one.shape == other.shape:
            out.copy_(mixed)
            continue
        longer = one if len(one) > len(other) else other
        out[:rows] = mixed.to(out.dtype)
        if len(out) > rows:
            out[rows:] = longer[rows:].to(out.device, out.dtype)


def template_of(base: Any, aligned: Any) -> Any:
    """The model to copy: the one with more tensors of its own (untied), else with more tokens."""

    def room(model: Any) -> tuple[int, int]:
        return _distinct(model), sum(p.numel() for p in model.parameters())

    return base if room(base) > room(aligned) else aligned


def further_weights(models: Models, alpha: float) -> int:
    """Bytes of weights that a run with mixed weights needs beside those that it decodes with."""
    check(models)
    if _slides(models):
        return 0
    base, aligned = _model(models, 0), _model(models, 1)
    mixed = 0 if alpha in (0, 1) else bytes_of(template_of(base, aligned))
    return bytes_of(base) + mixed


def _named(side: Side, partner: HFPartner) -> Side:
    partner.label = f"a mixture of weights, {partner.label}"
    return replace(side, label="the interpolated model", partner=partner)


def _make(models: Models, shelf: Shelf, alpha: float) -> Place:
    """Makes room for a model of mixed weights and fills it."""
    base, aligned = _model(models, 0), _model(models, 1)
    pattern = template_of(base, aligned)
    size, free = bytes_of(pattern), available_memory(pattern.device)
    if free is not None and size > free:
        raise BacoError(
            f"a model of mixed weights needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            hint="use --dtype bfloat16, a LoRA pair (which needs nothing more), or a smaller pair",
        )
    if not shelf.places:
        _tell_differences(base, aligned)
    made = copy.deepcopy(pattern)
    mix(made, base, aligned, alpha)
    side = models.sides[1]
    partner = HFPartner(made, side.partner.vocabulary, side.partner.device)
    whose = models.sides[0 if pattern is base else 1].partner.inner
    assert isinstance(whose, HFPartner)
    if whose.recomputes:
        partner.recompute(whose.recomputes)
    place = Place(_named(side, partner), alpha)
    shelf.places.append(place)
    return place


def _find(models: Models, shelf: Shelf, alpha: float) -> Place | None:
    """Finds a place with these weights, makes one, or fills one that nobody holds."""
    for place in shelf.places:
        if place.alpha == alpha:
            return place
    if len(shelf.places) < SHELF:
        return _make(models, shelf, alpha)
    idle = [place for place in shelf.places if not place.users]
    if not idle:
        return None
    place = min(idle, key=lambda one: one.last)
    place.alpha = float("nan")  # if mixing fails, these weights are nobody's
    mix(_inner(place), _model(models, 0), _model(models, 1), alpha)
    place.alpha = alpha
    return place


def _inner(place: Place) -> Any:
    partner = place.side.partner
    assert isinstance(partner, HFPartner)
    return partner.model


class Held(NamedTuple):
    """A model of some α, for the time of a run.

    Attributes:
        side: The side to decode with.
        degree: The degree of its rows, where one set of weights serves all; else None.
        place: Its place on the shelf, to be given back; None where it needs none.
    """

    side: Side
    degree: float | None = None
    place: Place | None = None


def hold(models: Models, alpha: float, *, wait: bool) -> Generator[Turn, None, Held]:
    """Takes the model of some α; give its place back with `released`.

    Args:
        models: The pair.
        alpha: Share of the aligned model, in [0, 1].
        wait: Whether to wait, in turns, until others give a model back.

    Returns:
        What to decode with.

    Raises:
        UnsupportedError: As `check`.
        InputError: As `check`, or if all places are held and nobody waits.
    """
    check(models)
    base, aligned = models.sides
    if _slides(models):
        if models.shelf.slider is None:
            assert isinstance(aligned.partner, LoraPartner)
            models.shelf.slider = replace(aligned, partner=aligned.partner.at(1.0))
        return Held(models.shelf.slider, alpha)
    if alpha == 1:
        return Held(aligned)
    narrow = isinstance(base.partner, HFPartner) and base.partner.narrow
    if alpha == 0 and not narrow:  # else it may not even know the tokens of the chat template
        return Held(replace(base, encode=aligned.encode, boundary=aligned.boundary))
    shelf = models.shelf
    while (place := _find(models, shelf, alpha)) is None:
        if not wait:
            raise InputError(
                f"models of {SHELF} other mixtures are in use",
                hint="finish or drop their answers first",
            )
        yield TURN
    shelf.count += 1
    place.users += 1
    place.last = shelf.count
    return Held(place.side, place=place)


@contextmanager
def released(place: Place | None) -> Iterator[None]:
    """Gives a place back at the end."""
    try:
        yield
    finally:
        if place is not None:
            place.users -= 1


def mix_base(base: Any, aligned: Any, alpha: float) -> Any:
    """Returns the base model with its weights moved towards the aligned one's, in place.

    Args:
        base: The base model; not to be used afterwards.
        aligned: The aligned model; stays as it is.
        alpha: Share of the aligned model, in [0, 1].

    Raises:
        InputError: As `check_weights`.
    """
    if getattr(base, "is_quantized", False) or getattr(aligned, "is_quantized", False):
        raise UnsupportedError(
            "quantised weights cannot be mixed", hint="leave out 8-bit and 4-bit loading"
        )
    check_weights(base, aligned)
    _tell_differences(base, aligned)
    if alpha == 0 or base.device.type == "meta":
        return base
    target = base if template_of(base, aligned) is base or _same_room(base, aligned) else None
    if target is None:
        target = copy.deepcopy(aligned)
    mix(target, base, aligned, alpha)
    return target


def _same_room(base: Any, aligned: Any) -> bool:
    """Whether the base model has as many tensors of its own."""
    return _distinct(base) == _distinct(aligned)
