"""What vLLM's processes know of a pair: configurations, tokenizers, vocabulary, the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from baco.engine.vocabulary import Vocabulary
from baco.errors import InputError, PairError
from baco.models.checkpoints import Loading
from baco.models.load import Checkpoint, same_tokens
from baco.models.sides import text_encoder
from baco.models.tokens import vocabulary_of, vocabulary_size
from baco.vllm.inside.rows import Rows

ARCHITECTURE = "BacoForCausalLM"
"""The name under which vLLM knows the model that both models make."""

SIDE_NAMES = ("aligned", "base")
"""Both sides, in the order of `ALIGNED` and `BASE`; prefixes of the layers' names."""

_ATTRIBUTE = "baco_inside"


def overrides(base: str, base_revision: str | None) -> dict[str, Any]:
    """Returns vLLM's `hf_overrides` that make a pair out of the aligned checkpoint.

    Args:
        base: The base model's folder or Hub id.
        base_revision: Its revision on the Hub, or None.
    """
    return {
        "architectures": [ARCHITECTURE],
        "baco": {"base": base, "base_revision": base_revision},
    }


@dataclass(frozen=True)
class Checkpoints:
    """Both checkpoints without their weights.

    Attributes:
        base: The base side's.
        aligned: The aligned side's.

    Raises:
        PairError: If the tokenizers differ.
    """

    base: Checkpoint
    aligned: Checkpoint

    def __post_init__(self) -> None:
        if not same_tokens(self.base.tokenizer, self.aligned.tokenizer):
            raise PairError(
                f"the tokenizers of {self.base.label} and {self.aligned.label} differ, "
                "and vLLM has one stream of ids for both",
                hint="use the engine baco, where the sides exchange text",
            )
        size = vocabulary_size(self.aligned.tokenizer)
        for side in (self.base, self.aligned):
            width = side.config.get_text_config().vocab_size
            if width < size:
                raise PairError(
                    f"{side.label} scores {width} token ids, but its tokenizer has {size}",
                    hint="model and tokenizer do not belong together",
                )

    @classmethod
    def find(
        cls,
        base: str,
        aligned: str,
        revisions: tuple[str | None, str | None] = (None, None),
        loading: Loading | None = None,
    ) -> Checkpoints:
        """Finds both; arguments as of `baco.pair.Pair`."""
        how = loading or Loading(device="cpu")
        first, second = (revision or "main" for revision in revisions)
        return cls(
            Checkpoint.find(base, None, first, how), Checkpoint.find(aligned, None, second, how)
        )

    @cached_property
    def ends(self) -> set[int]:
        """The ids that end an answer on either side."""
        return self.base.ends | self.aligned.ends

    def vocabulary(self, device: torch.device | str) -> Vocabulary:
        """Makes the tables over token ids."""
        return vocabulary_of(self.aligned.tokenizer, self.ends, device)


class Inside:
    """One pair inside one of vLLM's processes; every part of vLLM there gets the same object.

    Args:
        vllm_config: vLLM's configuration.
    """

    def __init__(self, vllm_config: Any) -> None:
        model = vllm_config.model_config
        given = model.hf_config.baco
        self.base: str = given["base"]
        self.base_revision: str | None = given.get("base_revision")
        self._aligned, self._aligned_revision = model.model, model.revision
        self._device = torch.device(vllm_config.device_config.device)

    @classmethod
    def of(cls, vllm_config: Any) -> Inside:
        """Returns the object of a configuration, making it when it is first asked for."""
        home = vllm_config.compilation_config
        inside: Inside | None = home.__dict__.get(_ATTRIBUTE)
        if inside is None:
            inside = cls(vllm_config)
            home.__dict__[_ATTRIBUTE] = inside
        return inside

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what each process finds for itself: tokenizers, tables, the batch."""
        found = ("checkpoints", "rows", "ends", "size")
        return {key: value for key, value in self.__dict__.items() if key not in found}

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The two checkpoints."""
        revisions = (self.base_revision, self._aligned_revision)
        return Checkpoints.find(self.base, self._aligned, revisions)

    @property
    def sources(self) -> list[tuple[Checkpoint, str | None]]:
        """Checkpoint and revision of (base, aligned)."""
        both = self.checkpoints
        return [(both.base, self.base_revision), (both.aligned, self._aligned_revision)]

    @property
    def configs(self) -> dict[str, Any]:
        """The models' own configurations by side, without overrides."""
        both = self.checkpoints
        return {"base": both.base.config, "aligned": both.aligned.config}

    @cached_property
    def rows(self) -> Rows:
        """The batch."""
        return Rows(self.checkpoints.vocabulary(self._device), self._device)

    @cached_property
    def ends(self) -> list[int]:
        """The ids that end an answer."""
        return sorted(i for i in self.checkpoints.ends if 0 <= i < self.size)

    @cached_property
    def size(self) -> int:
        """Number of token ids."""
        return vocabulary_size(self.checkpoints.aligned.tokenizer)

    def base_ids(self, text: str) -> Sequence[int]:
        """Returns the ids of a base prompt given as text.

        Raises:
            InputError: If there are none.
        """
        ids = text_encoder(self.checkpoints.base.tokenizer, set(self.ends))(text)
        if not ids:
            raise InputError("the base prompt is empty", hint="give some text")
        return ids
