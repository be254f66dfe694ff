"""Speculation inside vLLM: one side drafts, both check in one pass, and no answer changes.

The side that speaks in most rows writes on by itself, with each row's own noise, into slots behind
the row's end. The next pass feeds the drafts of all rows to both models, but for what the side that
drafted has read already, and THE step runs along them (`rows.Rows.choose`): the first token that
differs ends the run. vLLM carries drafts and takes back what was rejected, as for any speculation;
its method ``ngram`` lends its place (`plugin.CARRIER`).
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.v1.outputs import DraftTokenIds, LogprobsTensors
from vllm.v1.worker.gpu.input_batch import get_num_sampled_and_rejected
from vllm.v1.worker.gpu.sample.output import SamplerOutput
from vllm.v1.worker.gpu.spec_decode.speculator import BaseSpeculator

from baco.engine.costs import slope
from baco.engine.policy import Rate
from baco.engine.request import ALIGNED, BASE
from baco.vllm.inside.ahead import PassAhead
from baco.vllm.inside.rows import Drafted, Rows, places_of

_FREE = 256
"""Tokens of a pass up to which reading the weights takes a card longer than the arithmetic."""

_START = 0.88  # share of drafts that are right, before anything is known


class Drafts(BaseSpeculator):  # type: ignore[misc]
    """Writes drafts, and tells vLLM's scheduler how many each row has.

    Args:
        vllm_config: vLLM's configuration.
        rows: The batch.
    """

    supports_mm_inputs = False
    draft_logits = None

    def __init__(self, vllm_config: VllmConfig, rows: Rows) -> None:
        self._rows = rows
        self._longest: int = vllm_config.num_speculative_tokens
        self._runs_on = (rows.device.type, str(vllm_config.model_config.dtype))
        self.forget()
        self._told = DraftTokenIds([], [])

    def forget(self) -> None:
        """Forgets what was learned: requests make the same passes whatever came before them."""
        self._rates = (Rate(_START), Rate(_START))

    def init_cudagraph_manager(self, cudagraph_mode: Any) -> None:
        """Captures nothing; part of vLLM's interface."""

    def capture(self) -> None:
        """Captures nothing; part of vLLM's interface."""

    def set_draft_tokens(self, input_batch: Any, draft_tokens: torch.Tensor) -> None:
        """Part of vLLM's interface; `propose` has said it already."""

    def get_draft_tokens(self) -> DraftTokenIds:
        """Returns how many drafts each row has; the tokens themselves stay with the runner."""
        return self._told

    def propose(
        self,
        input_batch: Any,
        attn_metadata: Any,
        slot_mappings: Any,
        last_hidden_states: torch.Tensor,
        aux_hidden_states: Any,
        num_sampled: torch.Tensor,
        num_rejected: torch.Tensor,
        last_sampled: torch.Tensor,
        *_: Any,
        dummy_run: bool = False,
        **more: Any,
    ) -> torch.Tensor:
        """Drafts behind what the rows have just kept.

        Args:
            input_batch: vLLM's description of the batch.
            attn_metadata: Not used; `attention.Views` has what is needed, as of all that follows.
            slot_mappings: Not used.
            last_hidden_states: Not used.
            aux_hidden_states: Not used.
            num_sampled: Not used.
            num_rejected: Not used.
            last_sampled: The last token of each of the runner's rows, int64.
            _: Not used.
            dummy_run: Whether it is a trial run.
            more: Not used.

        Returns:
            The drafts, int64 [n, the most drafts]; rows may have fewer.
        """
        n = input_batch.num_reqs
        drafts = torch.zeros(n, self._longest, dtype=torch.int64, device=self._rows.device)
        counts = torch.zeros(n, dtype=torch.int64)
        if not dummy_run and len(self._rows) == n:
            last = last_sampled.view(-1)[input_batch.idx_mapping]
            counts = self._write(drafts, last.to(drafts))
        told = [[-1] * count for count in counts.tolist()]
        self._told = DraftTokenIds(list(input_batch.req_ids), told)
        return drafts

    def _write(self, drafts: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Writes drafts, in place; returns how many each row has, int64 [n] on the CPU."""
        rows = self._rows
        assert isinstance(rows.ahead, PassAhead)
        self._learn()
        t, state, source = rows.standing
        going = rows.drafting.to(last.device) & ~rows.vocabulary.is_end[last]
        room = rows.limits.to(last.device) - t - 1  # the pass that checks adds one token by itself
        counts = torch.zeros(len(last), dtype=torch.int64)
        going = (going & (room > 0)).nonzero().flatten()
        side = BASE if 2 * int((source[going] == BASE).sum()) > len(going) else ALIGNED
        first = rows.lengths + t.cpu() - 1
        own = (first - rows.pads[side]).to(last.device)
        logits: torch.Tensor | None = None
        most = self._worth(side, len(rows))
        for k in range(most):
            going = going[room[going] > k]
            if not len(going):
                break
            read = rows.ahead.feed(side, going, last[going], own[going] + k)
            if logits is None:
                logits = read.new_empty(len(last), most, read.shape[-1])
            logits[going, k] = read
            token, state[going] = rows.draft(side, going, read, t[going] + k, state[going])
            drafts[going, k] = last[going] = token
            counts[going.cpu()] += 1
            going = going[~rows.vocabulary.is_end[token]]
        if logits is not None:
            rows.drafted = Drafted(side, rows.here, first, counts, logits)
        return counts

    def _learn(self) -> None:
        """Counts which drafts of the pass were right."""
        lead, drafts = self._rows.lead, self._rows.drafts
        if lead is None:
            for rate in self._rates:
                rate.fade()
            return
        kept = self._rows.kept
        mine = (lead.counts > 0) & self._rows.chosen
        self._rates[lead.side].add(
            int((kept - 1)[mine].sum()), int(kept.minimum(drafts)[mine].sum())
        )

    def _worth(self, side: int, n: int) -> int:
        """Returns how many drafts yield most tokens for their cost, in passes of one side."""
        right = self._rates[side].value

        def rate(k: int) -> float:
            tokens = sum(right**i for i in range(k + 1))
            return tokens / (k + 1 + self._cost(n, k + 1))

        return max(range(self._longest + 1), key=rate)

    def _cost(self, n: int, width: int) -> float:
        """What a pass of so many tokens per row costs, 1 for one token."""
        if self._runs_on[0] == "cpu":
            return 1 + slope(self._runs_on, n) * (width - 1)
        return max(1.0, n * width / _FREE) / max(1.0, n / _FREE)


class Checker:
    """Checks drafts: part of vLLM's interface, in the place of its rejection sampler.

    Args:
        rows: The batch.
        sampler: vLLM's sampler.
    """

    enable_adaptive_verification = False

    def __init__(self, rows: Rows, sampler: Any) -> None:
        self._rows = rows
        self._filled = sampler.req_states.prefill_len

    def __call__(self, logits: torch.Tensor, input_batch: Any, *_: Any) -> SamplerOutput:
        """Chooses along the drafts.

        Args:
            logits: The aligned side's, float [lines, v]: for each row one, and one for each draft.
            input_batch: vLLM's description of the batch.
            _: Not used.

        Returns:
            What each row keeps. A token's "log-probability" is its code, as in `processor`.
        """
        counts = torch.from_numpy(input_batch.cu_num_logits_np).long().diff()
        if len(self._rows) == len(counts):
            fed = input_batch.input_ids[input_batch.logits_indices]
            tokens, codes, kept = self._rows.choose(logits, fed)
        else:  # vLLM warms up
            tokens, kept = logits.argmax(-1), torch.ones_like(counts).to(logits.device)
            codes = torch.zeros_like(tokens)
        row, within = places_of(counts)
        sampled = tokens.new_zeros(len(kept), int(within.max()) + 1)
        sampled[row.to(tokens.device), within.to(tokens.device)] = tokens
        num_sampled, num_rejected = get_num_sampled_and_rejected(
            kept.int(),
            input_batch.seq_lens,
            input_batch.cu_num_logits,
            input_batch.idx_mapping,
            self._filled.gpu,
        )
        told = LogprobsTensors(
            tokens[:, None].int(),
            codes[:, None].float(),
            torch.zeros_like(tokens, dtype=torch.int32),
            input_batch.cu_num_logits_np.tolist(),
        )
        return SamplerOutput(sampled, told, None, num_sampled, num_rejected)
