"""A judge that runs here: an aligned model, asked through its own chat template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from baco.errors import InputError
from baco.metrics import hf, rubrics
from baco.metrics.judge import Judge
from baco.metrics.models import find_model
from baco.metrics.passes import ScoringOptions
from baco.metrics.spec import Item

LONGEST_REPLY = 256
"""Tokens of a reply: enough for five numbers, or for twenty."""

T = TypeVar("T")


class LocalJudge(Judge):
    """Asks a chat model on this machine, one question at a time.

    The first reply to a question is the likeliest one; where it has the wrong form, the next ones
    are drawn at temperature 1, the same ones every time.

    Args:
        model: Folder or hub id of an aligned model.
        options: Device, precision, and whether the hub may be asked.
        retries: How often a question is asked again if the reply has the wrong form.

    Raises:
        InputError: If it cannot be loaded or has no chat template.
    """

    def __init__(
        self, model: str, options: ScoringOptions | None = None, *, retries: int = 4
    ) -> None:
        options = options or ScoringOptions()
        if not model:
            raise InputError("the judge has no model name", hint="--judge-model names it")
        if retries < 0:
            raise InputError("the judge cannot be asked again a negative number of times")
        found = find_model(model, options.offline)
        super().__init__(found.label, retries)
        self.questions = 0
        self._tokenizer = hf.load_tokenizer(found)
        self._model = hf.load_generator(found, options)
        self._limit = hf.position_limit(self._model.config, self._tokenizer)
        self._ends = hf.end_of_turn(self._tokenizer, found.name)

    @property
    def cost(self) -> str:
        """How many questions were answered."""
        return f"{self.questions} questions to a model on this machine"

    def close(self) -> None:
        """Forgets the model."""
        self._model = None

    def over(self, function: Callable[[Item], T], items: Sequence[Item]) -> Iterator[T]:
        """Applies a function to items, one after another."""
        yield from map(function, items)

    def _reply(self, messages: rubrics.Messages, *, turn: int) -> str:
        import torch

        ids = hf.chat_ids(self._tokenizer, self.name, list(messages), ask=True)
        room = min(LONGEST_REPLY, self._limit - len(ids))
        if room < 1:
            return ""  # the story does not fit into the model: no annotation
        self.questions += 1
        asked: Any = torch.tensor([ids], device=self._model.device)
        with torch.inference_mode(), torch.random.fork_rng(devices=_devices(asked)):
            torch.manual_seed(turn)
            made = self._model.generate(
                asked,
                attention_mask=torch.ones_like(asked),
                do_sample=turn > 0,
                **({"temperature": 1.0, "top_p": 1.0, "top_k": 0} if turn else {}),
                max_new_tokens=room,
                eos_token_id=self._ends,
                pad_token_id=self._ends,
            )
        return str(self._tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True))


def _devices(tensor: Any) -> list[Any]:
    """Devices besides the CPU whose random state a reply would change."""
    return [tensor.device] if tensor.device.type == "cuda" else []
