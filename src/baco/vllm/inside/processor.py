"""The logits processor: the step chooses, and the logits say what it chose.

What vLLM samples from is one-hot on the chosen token. The value there (returned as the token's
"log-probability", because the pair is served with `logprobs_mode="processed_logits"`) is its
source, plus 2 where it begins a unit, and what look-ahead cost (`requests.Fact`): so who wrote what
travels with the tokens, through every process and server, and nothing is kept that would have to be
freed.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as LogitsProcessorV2

from baco.errors import BacoError, InputError
from baco.vllm.inside import requests
from baco.vllm.inside.pair import Inside
from baco.vllm.inside.rows import RequestRow

_ROW = "baco_row"

_REFUSED = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_tokens": 0,
    "ignore_eos": False,
    "logit_bias": None,
    "allowed_token_ids": None,
    "bad_words": None,
    "structured_outputs": None,
    "prompt_logprobs": None,
    "logprob_token_ids": None,
}
"""What would change one side's distribution behind the step's back, and its neutral value."""


class BacoProcessor(LogitsProcessor, LogitsProcessorV2):  # type: ignore[misc]
    """vLLM's door to the step, for both of its model runners.

    Args:
        vllm_config: vLLM's configuration.
        _: What else the runner hands over; not used.
    """

    def __init__(self, vllm_config: VllmConfig, *_: Any) -> None:
        self._rows = Inside.of(vllm_config).rows

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuses what cannot be done, before anything runs.

        Raises:
            ValueError: With one clear line; HTTP 400.
        """
        try:
            for name, neutral in _REFUSED.items():
                value = getattr(sampling_params, name, neutral)
                if value != neutral and value:
                    raise InputError(f"{name} is not supported for pairs", hint=f"leave {name} out")
            if (sampling_params.logprobs or 0) > 0:
                raise InputError(
                    "alternatives are not supported for pairs: log-probabilities carry sources",
                    hint="ask for logprobs without top_logprobs",
                )
            requests.check(sampling_params.extra_args or {})
        except BacoError as error:
            raise ValueError(str(error)) from error

    def is_argmax_invariant(self) -> bool:
        """It changes what is largest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follows the batch of the runner V1; for V2 `state.PairState` does."""
        if batch_update is None:
            return
        self._rows.change(
            batch_update.removed,
            [(place, _row(params, output)) for place, params, _, output in batch_update.added],
            [(a, b, how is MoveDirectionality.SWAP) for a, b, how in batch_update.moved],
        )

    def apply(self, logits: torch.Tensor, _: Any = None) -> torch.Tensor:
        """Chooses.

        Args:
            logits: The aligned side's, float32 [n, v]; overwritten.
            _: The runner V2's description of the batch, which `rows` has already.
        """
        if len(self._rows) != len(logits):
            return logits  # a trial run
        tokens, codes, _ = self._rows.choose(logits)
        logits.fill_(-torch.inf)
        return logits.scatter_(1, tokens[:, None], codes[:, None].to(logits))


def _row(params: Any, output: list[int]) -> RequestRow:
    """Returns the row of a request: a new one, or the one it had before it left the batch.

    vLLM keeps a request's parameters for as long as the request lives, preempted or not.
    """
    row: RequestRow | None = params.__dict__.get(_ROW)
    if row is None or row.output is not output:
        made = RequestRow(requests.resolved(params.extra_args), output)
        if row is not None:
            made.t, made.state, made.source, made.turns = row.t, row.state, row.source, row.turns
        row = params.__dict__[_ROW] = made
    return row
