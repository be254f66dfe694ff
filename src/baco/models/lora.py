"""A pair in one set of weights: base = adapter off, aligned = adapter on.

Both sides of a row go through the model as two rows of one batch, so the weights are read once
for both partners. The caches stay separate: the adapter changes keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from baco.engine.partner import Partner, RowCache
from baco.engine.vocabulary import Vocabulary
from baco.errors import UnsupportedError, missing_extra
from baco.models.hf import HFCache, HFPartner

if TYPE_CHECKING:
    from peft import PeftModel

_OFF = "__base__"  # peft's name for rows that no adapter changes


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
        The base partner and the aligned partner.

    Raises:
        BacoError: If peft is not installed.
        UnsupportedError: If the model has a recurrent state.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise missing_extra("peft", "lora") from error
    adapter = model.active_adapter
    base = LoraPartner(model, vocabulary, _OFF)
    if not base.abilities.rewinds:
        raise UnsupportedError(
            "an adapter on a model with a recurrent state cannot share its weights with the base",
            hint="merge the adapter into a copy of the model, and load both as two checkpoints",
        )
    return base, LoraPartner(model, vocabulary, str(adapter))


class LoraPartner(HFPartner):
    """One side of a model with an adapter.

    Args:
        model: The PEFT model.
        vocabulary: Tables of its tokenizer.
        adapter: Name of the adapter that this side uses, or ``__base__`` for none.
    """

    def __init__(self, model: PeftModel, vocabulary: Vocabulary, adapter: str) -> None:
        super().__init__(model, vocabulary)  # type: ignore[arg-type]  # it forwards to its model
        self.adapter = adapter
        self.stack = model
        """The shared weights; partners with the same object run in one pass."""

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits after a whole sequence, without cache: float [vocabulary]."""
        return self.all_logits(ids, keep=1)[-1]

    def run(self, **inputs: Any) -> torch.Tensor:
        """Calls the model once; rows without a named adapter are this side's."""
        rows = len(inputs["input_ids"])
        return super().run(**{"adapter_names": [self.adapter] * rows, **inputs})

    def new_cache(self) -> LoraCache:
        """Returns an empty cache for this side alone."""
        return LoraCache(self, (self.adapter,))

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
        return LoraCache(self, (self.adapter, other.adapter))


class LoraCache(HFCache):
    """Rows whose adapter goes by row number: row i uses adapter i modulo their count."""

    def __init__(self, partner: LoraPartner, adapters: tuple[str, ...]) -> None:
        super().__init__(partner)
        self._adapters = adapters

    def kind(self, row: int) -> int:
        """Which adapter serves a row."""
        return row % len(self._adapters)

    def extra(self, kinds: Sequence[int]) -> dict[str, Any]:
        """Names each row's adapter for the forward pass."""
        return {"adapter_names": [self._adapters[kind] for kind in kinds]}


def cannot_switch(what: str, why: str) -> UnsupportedError:
    """Makes the error for an adapter that cannot be switched off for single rows."""
    return UnsupportedError(
        f"{what} cannot share its weights with the base model: {why}",
        hint="merge it (peft's merge_and_unload), save that with its tokenizer, and load both as "
        "two checkpoints",
    )
