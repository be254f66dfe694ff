"""What vLLM's model runner V2 keeps of a pair: the rows of its requests."""

from __future__ import annotations

from typing import Any

from vllm.v1.worker.gpu.model_runner import GPUModelRunner
from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from baco.errors import BacoError
from baco.vllm.inside import requests
from baco.vllm.inside.drafts import Checker, Drafts
from baco.vllm.inside.rows import RequestRow


class PairState(DefaultModelState):  # type: ignore[misc]
    """Follows the requests of a pair, preempted or not, and the order of each pass.

    Args:
        vllm_config: vLLM's configuration.
        model: The pair.
        rest: As of vLLM's own.
    """

    def __init__(self, vllm_config: Any, model: Any, *rest: Any) -> None:
        super().__init__(vllm_config, model, *rest)
        self._batch = model.rows
        self._rows: dict[str, RequestRow] = {}
        self.drafts: Drafts | None = None
        if vllm_config.speculative_config is not None:
            self.drafts = Drafts(vllm_config, model.rows)
        _follow_the_end()

    def add_request(self, req_index: int, new_req_data: Any) -> None:
        """Makes the row of a request, or takes that of one that was preempted.

        Requests by which vLLM warms up on a card are nobody's, and get none.
        """
        super().add_request(req_index, new_req_data)
        name, given = new_req_data.req_id, new_req_data.sampling_params.extra_args
        if not given:
            return
        if name in self._rows:
            self._batch.write_down()
        else:
            self._rows[name] = RequestRow(requests.resolved(given), [])
        row = self._rows[name]
        row.filled = len(new_req_data.prefill_token_ids)
        row.limit = new_req_data.sampling_params.max_tokens
        if row.t != row.filled - row.ask.length:
            raise BacoError(
                f"vLLM goes on with {row.filled - row.ask.length} tokens of an answer, "
                f"and the step has chosen {row.t}"
            )

    def forget(self, names: Any) -> None:
        """Drops the rows of requests that have ended."""
        for name in names:
            self._rows.pop(name, None)
        if not self._rows:
            self._batch.arrange([])
            if self.drafts is not None:
                self.drafts.forget()

    def prepare_attn(self, input_batch: Any, *args: Any, **more: Any) -> dict[str, Any]:
        """Lets the batch know what the pass to come feeds, then describes it as ever."""
        rows = [self._rows.get(name) for name in input_batch.req_ids]
        self._batch.arrange(
            [row for row in rows if row is not None],  # none in a trial run
            input_batch.num_draft_tokens_per_req,
        )
        metadata: dict[str, Any] = super().prepare_attn(input_batch, *args, **more)
        return metadata

    def custom_sampler(self, sampler: Any) -> tuple[Any, Any] | None:
        """Returns what checks drafts, beside vLLM's own sampler for passes without any."""
        if self.drafts is None:
            return None
        return sampler, Checker(self._batch, sampler)


def _follow_the_end() -> None:
    """Tells the state which requests have ended: the runner removes preempted ones likewise.

    And puts a pair's own drafts in the place of the carrier's, which no interface lets one choose.
    """
    plain = GPUModelRunner.finish_requests
    if getattr(plain, "baco", False):
        return

    def finish_requests(self: Any, scheduler_output: Any) -> None:
        plain(self, scheduler_output)
        if isinstance(self.model_state, PairState):
            self.model_state.forget(scheduler_output.finished_req_ids)
            if self.model_state.drafts is not None:
                self.speculator = self.draft_tokens_handler = self.model_state.drafts

    finish_requests.baco = True  # type: ignore[attr-defined]
    GPUModelRunner.finish_requests = finish_requests
