"""Attention metadata as each side needs it: its own positions, without its padding.

vLLM makes one description of a pass for all layers. The layers of each side get a subclass of
their own attention backend, whose metadata builder first rewrites that description: positions
count from the side's own first token, and padding is dropped (moved behind the last token, where
attention does not look, so that shapes stay as they are). This is how vLLM itself derives its
chunked local attention from any backend.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from vllm.model_executor.layers.attention import Attention
from vllm.v1.attention.backend import (
    AttentionCGSupport,
    CommonAttentionMetadata,
    subclass_attention_backend,
)

from baco.vllm.inside.rows import Rows, Spans

_NAMES = ("Aligned", "Base")


class View(NamedTuple):
    """How one side reads a pass.

    Attributes:
        positions: Position of each token, int64 [tokens].
        order: The tokens it reads, then those it does not, int64 [tokens]; None: all, as they
            stand.
        slots: Where each token's keys and values go, by layer; -1 nowhere, int64 [tokens].
    """

    positions: torch.Tensor
    order: torch.Tensor | None
    slots: dict[str, torch.Tensor]

    def stretched(self, length: int) -> View:
        """Returns the view of a pass that is padded to a length, for graphs of fixed shapes."""
        have = len(self.positions)
        if have == length:
            return self
        more = torch.arange(have, length, device=self.positions.device)

        def longer(x: torch.Tensor, fill: int) -> torch.Tensor:
            return torch.cat([x, x.new_full((length - len(x),), fill)])

        return View(
            longer(self.positions, 0),
            None if self.order is None else torch.cat([self.order, more]),
            {name: longer(slots, -1) for name, slots in self.slots.items()},
        )


class Views:
    """The views of the present pass; builders write them, the model reads them.

    Args:
        rows: The batch.

    Attributes:
        of: Each side's view; None if it reads the pass as it stands.
        passes: vLLM's description of the pass, by each side's builders.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.of: list[View | None] = [None, None]
        self.passes: tuple[dict[Any, CommonAttentionMetadata], ...] = ({}, {})

    def attach(self, model: torch.nn.Module, side: int) -> None:
        """Gives the attention layers of one side their own backend."""
        backends: dict[Any, Any] = {}
        for layer in model.modules():
            if isinstance(layer, Attention):
                plain = layer.attn_backend
                if plain not in backends:
                    backends[plain] = _sided(plain, side, self)
                layer.attn_backend = backends[plain]

    def rewritten(
        self, side: int, common: CommonAttentionMetadata, block: int, layers: list[str]
    ) -> CommonAttentionMetadata:
        """Returns the description of a pass as one side needs it.

        Args:
            side: `ALIGNED` or `BASE`.
            common: vLLM's description.
            block: Size of a KV block.
            layers: The layers that it is for.
        """
        self.of[side] = None
        spans = self.rows.fed(common.query_start_loc_cpu, common.seq_lens_cpu_upper_bound)
        if spans is None or not self.rows.lag[side]:
            return common
        made, view = _rewrite(common, spans, self.rows.pads[side], block)
        self.of[side] = view._replace(slots=dict.fromkeys(layers, made.slot_mapping))
        return made


def _rewrite(
    common: CommonAttentionMetadata, spans: Spans, pads: torch.Tensor, block: int
) -> tuple[CommonAttentionMetadata, View]:
    device = common.seq_lens.device
    counts = spans.after - spans.first
    dropped = (pads - spans.first).clamp(min=0).minimum(counts)
    rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
    left, seq_lens, table = counts - dropped, spans.after - pads, common.block_table_tensor
    order = None
    some = bool(dropped.any())
    if some:
        within = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        order = (within < dropped[rows]).int().argsort(stable=True)
        reading = left > 0
        left, seq_lens, table = left[reading], seq_lens[reading], table[reading.to(device)]
        order = order.to(device)
    # Beyond the tokens of the pass there may be padding for graphs of fixed shapes.
    positions = common.positions.clone()
    positions[: len(rows)] -= pads[rows].to(device)
    if order is not None:
        order = torch.cat([order, torch.arange(len(rows), len(positions), device=device)])
        positions = positions[order].clamp(min=0)
    made = described(
        common,
        left,
        seq_lens,
        table,
        positions,
        block,
        None
        if common.is_prefilling is None
        else common.is_prefilling[reading if some else slice(None)],
    )
    return made, View(positions, order, {})


def described(
    common: CommonAttentionMetadata,
    left: torch.Tensor,
    seq_lens: torch.Tensor,
    table: torch.Tensor,
    positions: torch.Tensor,
    block: int,
    prefilling: torch.Tensor | None = None,
) -> CommonAttentionMetadata:
    """Describes what one side reads.

    Args:
        common: vLLM's description of the pass.
        left: How many tokens each row reads, int64 [n] on the CPU.
        seq_lens: How many it has read then, int64 [n] on the CPU.
        table: Its blocks, int32 [n, blocks].
        positions: Position of each token, int64 [at least all tokens]; what is beyond them is
            padding.
        block: Size of a KV block.
        prefilling: Which rows read their prompts, bool [n], where vLLM says so.
    """
    device = common.seq_lens.device
    total = int(left.sum())
    row = torch.repeat_interleave(torch.arange(len(left)), left).to(device)
    own = positions[:total]
    slots = torch.full_like(positions, -1, dtype=common.slot_mapping.dtype)
    slots[:total] = table[row, own // block].long() * block + own % block
    starts = torch.cat([left.new_zeros(1), left.cumsum(0)]).int()
    lengths = seq_lens.int()
    return common.replace(
        query_start_loc=starts.to(device),
        query_start_loc_cpu=starts,
        seq_lens=lengths.to(device),
        seq_lens_cpu_upper_bound=lengths,
        num_reqs=len(left),
        num_actual_tokens=total,
        max_query_len=int(left.max()) if len(left) else 0,
        max_seq_len=int(lengths.max()) if len(left) else 0,
        block_table_tensor=table.contiguous(),
        slot_mapping=slots,
        positions=positions,
        is_prefilling=prefilling,
        _num_computed_tokens_cache=None,
        _token_to_req_indices_cache=None,
    )


def _sided(plain: Any, side: int, views: Views) -> Any:
    """Makes one side's subclass of an attention backend."""
    builder = plain.get_builder_cls()

    class SidedBuilder(builder):  # type: ignore[misc, valid-type]
        """Builds metadata of one side."""

        @classmethod
        def get_cudagraph_support(cls, vllm_config: Any, kv_cache_spec: Any) -> Any:
            """Graphs of whole passes would replay another pass's positions."""
            return AttentionCGSupport.NEVER

        def build(
            self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False
        ) -> Any:
            """Rewrites the description, then builds as ever."""
            views.passes[side][self] = common_attn_metadata
            made = views.rewritten(
                side, common_attn_metadata, self.kv_cache_spec.block_size, self.layer_names
            )
            return super().build(common_prefix_len, made, fast_build)

        def build_plainly(self, described: CommonAttentionMetadata) -> Any:
            """Builds from a description that is the side's own already."""
            return super().build(0, described)

    return subclass_attention_backend(_NAMES[side], plain, SidedBuilder)
