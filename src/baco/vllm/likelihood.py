"""Log-probabilities of given texts by vLLM, for perplexity: one plain model, no pair."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from baco.metrics.hf import Likelihood, end_of_turn, load_tokenizer, position_limit
from baco.metrics.models import FoundModel
from baco.metrics.passes import ScoringOptions
from baco.metrics.spec import Item
from baco.vllm.load import environment, keep_alive, memory


class VllmLikelihood(Likelihood):
    """As `baco.metrics.hf.Likelihood`, computed by vLLM.

    Args:
        model: The aligned model, with a chat template.
        options: How to run; the batch size is vLLM's own.
    """

    def __init__(self, model: FoundModel, options: ScoringOptions) -> None:
        environment()
        from vllm import LLM

        self._name = model.name
        self._tokenizer = load_tokenizer(model)
        self._end = end_of_turn(self._tokenizer, model.name)
        kind: dict[str, Any] = memory()
        if options.dtype != "auto":
            kind["dtype"] = options.dtype
        self._engine = LLM(
            model.location,
            revision=None if model.local else model.revision,
            disable_log_stats=True,
            **kind,
        )
        keep_alive(self._engine)
        self._limit = min(
            position_limit(self._engine.model_config.hf_config, self._tokenizer),
            self._engine.model_config.max_model_len - 1,  # vLLM generates one token besides
        )

    def __call__(self, items: Sequence[Item]) -> Iterator[Sequence[float]]:
        """Yields (sum of log-probabilities in nats, number of tokens), as the base class."""
        from vllm import SamplingParams, TokensPrompt

        rows = [self._ids(*item) for item in items]
        fits = [bool(t) and len(p) + len(t) <= self._limit for p, t in rows]
        outputs = iter(
            self._engine.generate(
                [
                    TokensPrompt(prompt_token_ids=[*p, *t])
                    for (p, t), good in zip(rows, fits, strict=True)
                    if good
                ],
                SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0.0, detokenize=False),
                use_tqdm=False,
            )
            if any(fits)
            else ()
        )
        for (prompt, target), good in zip(rows, fits, strict=True):
            if not good:
                yield [math.nan, 0]
                continue
            told = next(outputs).prompt_logprobs[len(prompt) :]
            picked = (at[token].logprob for at, token in zip(told, target, strict=True))
            yield [math.fsum(picked), len(target)]
