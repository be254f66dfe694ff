"""Speculation inside vLLM: each side checks what the other would say, and no answer changes.

The aligned side writes on by itself, with each row's own noise, into slots behind the row's end.
The next pass feeds these drafts to the base side, which then says what it would add behind them:
its guess. The aligned side reads its last draft, which it has not read yet, and the guess. THE step
runs along the drafts (`rows.Rows.choose`): the first token that differs ends the run. If it ends
with the guess, the aligned side has read that already, and its next draft is free.

vLLM carries drafts and takes back what was rejected, as for any speculation; its method ``ngram``
lends its place (`plugin.CARRIER`).
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
from baco.engine.request import ALIGNED
from baco.vllm.inside.ahead import PassAhead
from baco.vllm.inside.rows import ReadOn, Rows, places_of

_FREE = 256
"""Tokens of a pass up to which reading the weights takes a card longer than the arithmetic."""

_START = 0.88  # share of guesses and drafts that are right, before anything is known


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
        self._drafts, self._guesses = Rate(_START), Rate(_START)

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
            The drafts, int64 [n, the most drafts]; rows may have fewer, and where the last of a row
            is none it is the place of a guess.
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
        t, state, _ = rows.standing
        room = rows.limits - t.cpu() - 1  # the pass that checks adds one token by itself
        going = rows.drafting & (room > 0) & ~rows.vocabulary.is_end[last].cpu()
        has = rows.rightly_read(last)
        self._learn(has)
        feeds = self._worth(len(rows))
        if feeds is None or not bool(going.any()):
            return torch.zeros_like(rows.drafts)
        counts = torch.where(going, room.clamp(max=feeds + 1), 0)
        read, passes = torch.zeros_like(counts), torch.zeros_like(counts)
        first = rows.lengths + t.cpu() - 1
        own = (first - rows.pads[ALIGNED]).to(last.device)
        at, logits = (has & going).nonzero().flatten(), last.new_empty(0)
        found = rows.behind[at.to(last.device)] if len(at) else None
        for k in range(feeds + 1):
            if found is not None:
                here, behind = at.to(last.device), read[at].to(last.device)
                if not logits.numel():
                    logits = found.new_empty(len(last), feeds + 1, found.shape[-1])
                logits[here, behind] = found
                token, state[here] = rows.draft(ALIGNED, here, found, t[here] + behind, state[here])
                drafts[here, behind] = last[here] = token
                read[at] += 1
                going[at] &= ~rows.vocabulary.is_end[token].cpu()
            at, found = (going & (counts > k + 1)).nonzero().flatten(), None
            if len(at):
                here = at.to(last.device)
                found = rows.ahead.feed(
                    ALIGNED, here, last[here], own[here] + read[at].to(last.device)
                )
                passes[at] += 1
        if logits.numel():
            rows.read_on = ReadOn(rows.here, first, read, logits, state, passes)
        return counts

    def _learn(self, has: torch.Tensor) -> None:
        """Counts which drafts and guesses of the pass were right.

        Args:
            has: Which rows the base side's guess was right for, bool [n] on the CPU.
        """
        lead, kept = self._rows.lead, self._rows.kept
        if lead is None:
            self._drafts.fade()
            self._guesses.fade()
            return
        mine = lead.drafted & self._rows.chosen
        self._drafts.add(int((kept - 1)[mine].sum()), int(kept.minimum(lead.has)[mine].sum()))
        asked = mine & (kept == 1 + lead.has)  # else the guess stood behind a wrong draft
        self._guesses.add(int((has & asked).sum()), int(asked.sum()))

    def _worth(self, n: int) -> int | None:
        """Returns in how many passes of its own the aligned side should draft, or None: not at all.

        A row whose guess was right has one draft more than passes, others as many. A share q of
        rows is of the first kind: with d and g the shares of right drafts and guesses and k passes,
        q = q d^(k+1) g + (1-q) d^k g.
        """
        d, g = self._drafts.value, self._guesses.value

        def rate(k: int) -> float:
            tokens = [sum(d**i for i in range(more + 1)) for more in (k, k + 1)]
            q = d**k * g / (1 + d**k * g * (1 - d))
            return (tokens[0] + q * (tokens[1] - tokens[0])) / (
                k + self._cost(n, k + 2) + self._cost(n, 2)
            )

        best = max(range(self._longest), key=rate)
        return best if rate(best) > 1 / 2 else None

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
