"""Groups of samples for the figures, drawn with the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from baco.engine import Engine, Request, Warp
from baco.engine.noise import row_key
from baco.models.hf import HFPartner
from baco.models.tokens import vocabulary_of
from baco.prompts import PlainTemplate
from baco.routers import parse
from baco.tiny.world import WorldPrompt
from recipes.tiny import lm
from recipes.tiny.tokenizer import chat_ids, plain_ids
from recipes.tiny.tokenizer import load as load_tokenizer

MODELS = ("base", "sft", "aligned", "aligned2", "lora")


@dataclass(frozen=True)
class Answer:
    """One decoded answer.

    Args:
        text: The answer.
        tokens: Its length in tokens, the end excluded.
        base_share: Share of its tokens that came from the base side.
    """

    text: str
    tokens: int
    base_share: float


class Family:
    """The checkpoints of one training run, and how to decode with them.

    Args:
        weights: Folder of the checkpoints.
        turn_rule: Whether answers end where the base model goes on to another question.
    """

    def __init__(self, weights: Path, *, turn_rule: bool = True) -> None:
        self.weights = weights
        self.turn_rule = turn_rule
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(weights / "base")
        self.vocabulary = vocabulary_of(self.tokenizer, [self.tokenizer.eos_token_id])
        self._models: dict[str, lm.Model] = {}

    def has(self, name: str) -> bool:
        """Tell whether a checkpoint is there.

        Args:
            name: One of ``MODELS``.

        Returns:
            Whether its folder exists.
        """
        return (self.weights / name).is_dir()

    def model(self, name: str) -> lm.Model:
        """Load a checkpoint, once.

        Args:
            name: One of ``MODELS``.

        Returns:
            The model; the adapter merged into its base.
        """
        if name not in self._models:
            if name == "lora":
                from peft import PeftModel

                merged: Any = PeftModel.from_pretrained(
                    lm.load(self.weights / "base"), str(self.weights / "lora")
                )
                self._models[name] = merged.merge_and_unload().eval()
            else:
                self._models[name] = lm.load(self.weights / name)
        return self._models[name]

    def prompt_ids(self, name: str, text: str) -> tuple[int, ...]:
        """Encode a prompt the way a checkpoint reads it.

        Args:
            name: One of ``MODELS``.
            text: The prompt.

        Returns:
            Token ids.
        """
        encode = plain_ids if name == "base" else chat_ids
        return tuple(encode(self.tokenizer, text))

    def answers(
        self,
        prompts: Sequence[WorldPrompt],
        *,
        base: str,
        aligned: str,
        router: str,
        warp: Warp,
        n: int,
        seed: int,
        limit: int,
        rows: int = 512,
    ) -> list[list[Answer]]:
        """Decode groups.

        Args:
            prompts: The prompts.
            base: The base side's checkpoint.
            aligned: The aligned side's; the same for one model alone.
            router: Router spec.
            warp: Temperature and filters.
            n: Answers to each prompt.
            seed: Decides the noise.
            limit: Most tokens of an answer.
            rows: Rows decoded at once.

        Returns:
            For each prompt its answers.
        """
        second = HFPartner(self.model(aligned), self.vocabulary)
        first = second if base == aligned else HFPartner(self.model(base), self.vocabulary)
        engine = Engine(first, second, max_rows=rows)
        bound = parse(router)
        where: dict[int, tuple[int, int]] = {}
        for number, prompt in enumerate(prompts):
            for index in range(n):
                request = Request(
                    base_prompt=self.prompt_ids(base, prompt.text),
                    aligned_prompt=self.prompt_ids(aligned, prompt.text),
                    router=bound,
                    key=row_key(seed, prompt.text, index),
                    warp=warp,
                    max_new_tokens=limit,
                    end_rule=base != aligned,
                    turn_rule=self.turn_rule and base == "base",
                )
                where[engine.submit(request)] = (number, index)
        tokens: dict[int, list[int]] = {row: [] for row in where}
        sources: dict[int, list[int]] = {row: [] for row in where}
        while not engine.idle:
            for event in engine.step():
                tokens[event.row] += event.tokens
                sources[event.row] += event.sources
        out: list[list[Answer]] = [[] for _ in prompts]
        for row, (number, _) in where.items():
            text = str(self.tokenizer.decode(tokens[row], skip_special_tokens=True))
            if base == aligned == "base" and self.turn_rule:
                text = text.partition(PlainTemplate().boundary)[0]
            share = sum(sources[row]) / max(1, len(sources[row]))
            out[number].append(Answer(text.strip(), len(tokens[row]), share))
        return out
