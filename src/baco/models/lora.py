"""A pair in one set of weights: base = adapter off, aligned = adapter on, and all degrees between.

The degree of a row is the scale of its adapter: 0 is the base model, 1 the aligned one, and between
them lies weight interpolation, as W + degree * BA is linear in the degree. Rows of every degree go
through the model in one batch, so the weights are read once for all of them. Caches stay separate:
the adapter changes keys and values.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from baco.engine.lazy import torch
from baco.engine.partner import Partner, RowCache
from baco.engine.vocabulary import Vocabulary
from baco.errors import PairError, UnsupportedError, missing_extra
from baco.models.checkpoints import refusals
from baco.models.hf import HFCache, HFPartner
from baco.models.load_lock import LOADING

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger("baco")


def load_adapter(bare: Any, adapter: str, revision: str, base: str) -> PeftModel:
    """Puts an adapter on its base model.

    Args:
        bare: The base model; it is changed.
        adapter: The adapter's folder or Hub id.
        revision: Its revision.
        base: Where the base model came from.

    Returns:
        The model with the adapter, in eval mode.

    Raises:
        BacoError: If peft is not installed.
        PairError: If the adapter cannot be had, or its weights are not of this model.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
    except ImportError as error:
        raise missing_extra("peft", "lora") from error
    folder = Path(adapter).expanduser()
    if folder.is_dir() and not any(folder.glob("adapter_model.*")):
        raise PairError(
            f"the folder {adapter} holds no weights of an adapter",
            hint="it must hold adapter_model.safetensors",
        )
    with LOADING, refusals(adapter, revision), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(bare, adapter, revision=revision).eval()
        given = load_peft_weights(adapter, device="cpu", revision=revision)
        known = get_peft_model_state_dict(model)
    lacks = any("missing adapter keys" in str(w.message) for w in said)
    strange = any("lora_" in name and name not in known for name in given)
    if (lacks or strange) and bare.device.type != "meta":
        raise PairError(
            f"the file of the adapter {adapter} lacks weights, or names those of another model "
            f"than {base}",
            hint="download it again, and check its base model",
        )
    trained_on = model.peft_config[model.active_adapter].base_model_name_or_path
    if trained_on and _model_name(trained_on) != _model_name(base):
        logger.warning(
            "the adapter %s was trained on %s and is put on %s: if that is another model, nothing "
            "that it says counts",
            adapter,
            trained_on,
            base,
        )
    return model


def _model_name(source: str) -> str:
    """A model's own name, without whose it is or where: the Hub's cache keeps it in a path."""
    cached = re.search(r"models--(?:.*--)?([^/]+)/snapshots/", source.replace("\\", "/"))
    return (cached[1] if cached else PurePath(source.rstrip("/\\")).name).casefold()


def refuse_kinds(model: PeftModel, adapter: str) -> str:
    """Names an adapter's kind; refuses kinds that cannot be switched off row by row.

    Args:
        model: A PEFT model.
        adapter: What its adapter is called.

    Raises:
        UnsupportedError: If the adapter is no LoRA, or brings biases of the base model's own.
    """
    config: Any = model.peft_config[model.active_adapter]
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    bias = str(getattr(config, "bias", "none"))
    if getattr(config, "use_dora", False):
        kind = "DoRA"
    if getattr(config, "alora_invocation_tokens", None):
        raise cannot_switch(
            f"the adapter {adapter} (activated LoRA)", "it is on after certain tokens only"
        )
    if bias != "none":
        kind += f" with bias={bias!r}"
    if config.__dict__.get("modules_to_save"):
        kind += f" with modules_to_save={sorted(config.modules_to_save)}"
    if config.peft_type != "LORA":
        raise cannot_switch(f"the adapter {adapter} ({kind})", "only LoRA can be switched by row")
    names = [name for name, _ in model.named_parameters() if name.endswith(".bias")]
    own = [n for n in names if bias == "all" or n.endswith(".base_layer.bias")]
    if bias != "none" and any("lora_" not in name for name in own):
        raise cannot_switch(f"the adapter {adapter} ({kind})", "it changes the model's own biases")
    return kind


def lora_partners(model: PeftModel, vocabulary: Vocabulary) -> tuple[LoraPartner, LoraPartner]:
    """Makes the two partners of a model with an adapter.

    Args:
        model: A PEFT model in eval mode whose active adapter is the aligned side.
        vocabulary: Tables of its tokenizer.

    Returns:
        The base partner (degree 0) and the aligned partner (degree 1).

    Raises:
        BacoError: If peft is not installed.
        UnsupportedError: If the model has a recurrent state.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise missing_extra("peft", "lora") from error
    base = LoraPartner(model, vocabulary, 0.0)
    if not base.abilities.rewinds:
        raise UnsupportedError(
            "an adapter on a model with a recurrent state cannot share its weights with the base",
            hint="merge the adapter into a copy of the model, and load both as two checkpoints",
        )
    return base, LoraPartner(model, vocabulary, 1.0)


class LoraPartner(HFPartner):
    """A model whose adapter acts to some degree.

    Args:
        model: The PEFT model.
        vocabulary: Tables of its tokenizer.
        degree: How strongly the adapter acts, in [0, 1]; rows whose request names a degree of
            their own follow that.
    """

    def __init__(self, model: PeftModel, vocabulary: Vocabulary, degree: float) -> None:
        super().__init__(model, vocabulary)  # type: ignore[arg-type]  # it forwards to its model
        self.degree = degree
        self.abilities = self.abilities._replace(slides=True)
        self.stack = model
        """The shared weights; partners with the same object run in one pass."""
        self._dial = _Dial(model)

    def at(self, degree: float) -> LoraPartner:
        """Returns the partner of another degree on the same weights."""
        other = LoraPartner(self.stack, self.vocabulary, degree)
        other.label, other.place, other.device = self.label, self.place, self.device
        return other

    def run(self, **inputs: Any) -> torch.Tensor:
        """Calls the model once; rows without a degree of their own have this partner's.

        Args:
            **inputs: The model's arguments, and `degrees`: each row's, perhaps. None leaves the
                model to PEFT.
        """
        rows = len(inputs["input_ids"])
        degrees = inputs.pop("degrees", [self.degree] * rows)
        if degrees is None:
            return super().run(**inputs)
        with self._dial.at(degrees):
            return super().run(**inputs)

    def new_cache(self) -> LoraCache:
        """Returns an empty cache for this partner alone."""
        return LoraCache(self, (self.degree,))

    @property
    def weights(self) -> object:
        """The model with all its adapters."""
        return self.stack

    def shared_cache(self, other: Partner) -> RowCache | None:
        """Returns a cache of this side's rows (even) and another's (odd).

        None if the other is this side itself, or another set of weights.
        """
        if other is self or not isinstance(other, LoraPartner) or other.stack is not self.stack:
            return None
        return LoraCache(self, (self.degree, other.degree))


class LoraCache(HFCache):
    """Rows with degrees: row i has degree i modulo their count, unless `slide` says otherwise."""

    def __init__(self, partner: LoraPartner, degrees: tuple[float, ...]) -> None:
        super().__init__(partner)
        self._pattern = degrees
        self._degrees: list[float] = []

    def add(self, count: int) -> None:
        """Appends empty rows."""
        super().add(count)
        period, start = len(self._pattern), len(self._degrees)
        self._degrees += [self._pattern[(start + k) % period] for k in range(count)]

    def slide(self, degrees: Sequence[float | None]) -> None:
        """Gives the rows added last degrees of their own; None leaves a row as it is."""
        for place, degree in enumerate(degrees, len(self._degrees) - len(degrees)):
            if degree is not None:
                self._degrees[place] = degree

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order."""
        super().keep(rows)
        self._degrees = [self._degrees[row] for row in rows]

    def kind(self, row: int) -> float:
        """The row's degree."""
        return self._degrees[row]

    def extra(self, kinds: Sequence[float]) -> dict[str, Any]:
        """Each row's degree for the forward pass."""
        return {"degrees": list(kinds)}


class _Dial:
    """Sets how strongly the layers of an adapter act, row by row, for one forward pass.

    PEFT multiplies what a LoRA layer adds by a number; a column with one number for each row does
    the same row by row. Modules that an adapter replaces as a whole (`modules_to_save`: norms,
    embeddings, linear layers) are linear in their weights, so that the mean of both modules'
    outputs is the output of the mean of their weights.

    Args:
        model: The PEFT model.
    """

    def __init__(self, model: PeftModel) -> None:
        from peft.tuners.lora import LoraLayer
        from peft.utils.other import ModulesToSaveWrapper

        self._name = str(model.active_adapter)
        self._layers: list[Any] = [
            m for m in model.modules() if isinstance(m, LoraLayer) and self._name in m.scaling
        ]
        self._usual = [layer.scaling[self._name] for layer in self._layers]
        self._replaced: list[Any] = [
            m
            for m in model.modules()
            if isinstance(m, ModulesToSaveWrapper) and self._name in m.modules_to_save
        ]

    @contextmanager
    def at(self, degrees: Sequence[float]) -> Iterator[None]:
        """Has the adapter act by degrees: one of each row of the batch."""
        column: torch.Tensor | None = None
        if any(degree != degrees[0] for degree in degrees):
            column = torch.tensor(degrees, dtype=torch.float64)[:, None, None]
        elif degrees[0] == 1:
            yield
            return
        known: dict[tuple[float, torch.dtype, torch.device], Any] = {}
        hooks = []
        try:
            for layer, usual in zip(self._layers, self._usual, strict=True):
                layer.scaling[self._name] = self._scale(layer, usual, degrees[0], column, known)
            for module in self._replaced:
                mix = _Mix(module.original_module, degrees[0], column)
                hooks.append(module.register_forward_hook(mix))
            yield
        finally:
            for layer, usual in zip(self._layers, self._usual, strict=True):
                layer.scaling[self._name] = usual
            for hook in hooks:
                hook.remove()

    def _scale(
        self,
        layer: Any,
        usual: float,
        first: float,
        column: torch.Tensor | None,
        known: dict[tuple[float, torch.dtype, torch.device], Any],
    ) -> Any:
        """The scale of one layer: a number, or one for each row; like layers share it."""
        if column is None:
            return first * usual
        weight = next(p for name, p in layer.named_parameters() if "lora_" in name)
        key = (usual, weight.dtype, weight.device)
        if key not in known:
            known[key] = (usual * column).to(weight.device, weight.dtype)
        return known[key]


class _Mix:
    """What a replaced module gives to some degree: the mean of its own and the new output."""

    def __init__(self, original: Any, first: float, column: torch.Tensor | None) -> None:
        self._original = original
        self._degree = first if column is None else column

    def __call__(self, _: Any, arguments: Any, new: torch.Tensor) -> torch.Tensor:
        old: torch.Tensor = self._original(*arguments)
        degree = self._degree
        if isinstance(degree, torch.Tensor):
            shape = (len(degree),) + (1,) * (new.ndim - 1)
            degree = degree.reshape(shape).to(new.device, new.dtype)
        return (1 - degree) * old + degree * new


def cannot_switch(what: str, why: str) -> UnsupportedError:
    """Makes the error for an adapter that cannot be switched off for single rows."""
    return UnsupportedError(
        f"{what} cannot share its weights with the base model: {why}",
        hint="merge it (peft's merge_and_unload), save that with its tokenizer, and load both as "
        "two checkpoints",
    )
