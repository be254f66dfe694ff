"""Attention metadata as each side needs it: its own positions, without its padding.

vLLM makes one description of a pass for all layers. The layers of each side get a subclass of
their own attention backend, whose metadata builder first rewrites that description: positions
count from the side's own first token, and padding is dropped (moved behind the last token, where
attention does not look, so that shapes stay as they are). This is how vLLM itself derives its
chunked local attention from any backend.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.v1.attention.backend import (
    AttentionCGSupport,
    CommonAttentionMetadata,
    subclass_attention_backend,
)
from vllm.v1.kv_cache_interface import (
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheSpec,
    SlidingWindowSpec,
    replace_as,
)

from baco.engine.request import ALIGNED
from baco.errors import UnsupportedError
from baco.vllm.inside.rows import Rows, Spans, places_of

_NAMES = ("Aligned", "Base")


class SideView(NamedTuple):
    """How one side reads a pass.

    Attributes:
        positions: Position of each token, int64 [tokens].
        order: The tokens it reads, then those it does not, int64 [tokens]; None: all, as they
            stand.
        reads: How many it reads.
        slots: Where each token's keys and values go, by layer; -1 nowhere, int64 [tokens] and
            more, where graphs of fixed shapes pad the pass.
    """

    positions: torch.Tensor
    order: torch.Tensor | None
    reads: int
    slots: dict[str, torch.Tensor]


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
        self.of: list[SideView | None] = [None, None]
        self.passes: tuple[dict[Any, CommonAttentionMetadata], ...] = ({}, {})
        self._spans: Spans | None = None

    def attach(self, model: torch.nn.Module, side: int) -> None:
        """Gives the attention layers of one side their own backend.

        Raises:
            UnsupportedError: If a layer keeps another state than keys and values by position.
        """
        backends: dict[Any, Any] = {}
        for layer in model.modules():
            if isinstance(layer, Attention):
                plain = layer.attn_backend
                if plain not in backends:
                    backends[plain] = _sided(plain, side, self)
                layer.attn_backend = backends[plain]
                layer.get_kv_cache_spec = partial(_whole, layer.get_kv_cache_spec)
            elif isinstance(layer, AttentionLayerBase):
                raise UnsupportedError(
                    f"pairs in vLLM do not work with layers of the kind {type(layer).__name__}",
                    hint="use models with plain attention, or the engine baco",
                )

    def rewritten(self, side: int, common: CommonAttentionMetadata, builder: Any) -> Any:
        """Returns the description of a pass as one side needs it.

        Args:
            side: `ALIGNED` or `BASE`.
            common: vLLM's description, for one group of layers that share a cache.
            builder: Builds the metadata of these layers.
        """
        spans = self.rows.fed(common.query_start_loc_cpu, common.seq_lens_cpu_upper_bound)
        if spans is None or spans is not self._spans:  # the first group of this pass
            self._spans, self.of = spans, [None, None]
        self.passes[side][builder] = common
        lead = self.rows.lead
        leads = side == ALIGNED and lead is not None and bool(lead.has.any())
        if spans is None or not (self.rows.lag[side] or leads):
            return common
        made, view = self._rewrite(side, common, spans, builder.kv_cache_spec.block_size)
        had = self.of[side]
        slots = dict.fromkeys(builder.layer_names, made.slot_mapping)
        self.of[side] = view._replace(slots=slots | (had.slots if had else {}))
        return made

    def table(self, side: int, common: CommonAttentionMetadata, block: int) -> torch.Tensor:
        """Returns each row's blocks from the side's own first one, int32 [n, blocks].

        Args:
            side: `ALIGNED` or `BASE`.
            common: vLLM's description.
            block: Size of a KV block.
        """
        table: torch.Tensor = common.block_table_tensor
        lead = self.rows.leads[side]
        if not self.rows.led[side]:
            return table
        last = table.shape[1] - 1
        here = torch.arange(last + 1, device=table.device) + (lead // block)[:, None]
        return table.gather(1, here.clamp_(max=last))

    def _rewrite(
        self, side: int, common: CommonAttentionMetadata, spans: Spans, block: int
    ) -> tuple[CommonAttentionMetadata, SideView]:
        device = common.seq_lens.device
        pads = self.rows.pads[side]
        counts = spans.after - spans.first
        dropped = (pads - spans.first).clamp(min=0).minimum(counts)
        seq_lens, lags = spans.after - pads, self.rows.lags[side]
        lead = self.rows.lead
        if side == ALIGNED and lead is not None:  # answers have no padding
            dropped = dropped + lead.dropped
            seq_lens, lags = seq_lens + lead.shift, lags - lead.shift.to(device)
        left, table = counts - dropped, self.table(side, common, block)
        total = int(counts.sum())
        # In the middle of answers all stays on the device: one token for each row.
        if total > len(counts):
            lags = lags.repeat_interleave(counts.to(device), output_size=total)
        positions = common.positions[:total] - lags
        prefilling, order = common.is_prefilling, None
        if bool(dropped.any()):
            rows, within = places_of(counts)
            order = (within < dropped[rows]).int().argsort(stable=True).to(device)
            reading = left > 0
            left, seq_lens, table = left[reading], seq_lens[reading], table[reading.to(device)]
            positions = positions[order].clamp(min=0)
            prefilling = None if prefilling is None else prefilling[reading]
        made = described(
            common, left, seq_lens, table, positions, block, prefilling, len(common.slot_mapping)
        )
        return made, SideView(positions, order, int(left.sum()), {})


def described(
    common: CommonAttentionMetadata,
    left: torch.Tensor,
    seq_lens: torch.Tensor,
    table: torch.Tensor,
    positions: torch.Tensor,
    block: int,
    prefilling: torch.Tensor | None = None,
    length: int = 0,
) -> CommonAttentionMetadata:
    """Describes what one side reads.

    Args:
        common: vLLM's description of the pass.
        left: How many tokens each row reads, int64 [n] on the CPU.
        seq_lens: How many it has read then, int64 [n] on the CPU.
        table: Its blocks, int32 [n, blocks].
        positions: Position of each token, int64 [at least all tokens]; what is beyond them is
            not read.
        block: Size of a KV block.
        prefilling: Which rows read their prompts, bool [n], where vLLM says so.
        length: Number of slots, at least one for each position.
    """
    device = common.seq_lens.device
    total = int(left.sum())
    own = positions[:total]
    if total == len(left) and int(left.max()) == 1:
        blocks = table.gather(1, (own // block)[:, None]).flatten()
    else:
        row = torch.repeat_interleave(torch.arange(len(left)), left).to(device)
        blocks = table[row, own // block]
    slots = common.slot_mapping.new_full((max(length, len(positions)),), -1)
    slots[:total] = blocks.long() * block + own % block
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


def _whole(plain: Callable[[Any], KVCacheSpec | None], vllm_config: Any) -> KVCacheSpec | None:
    """Describes what a layer keeps, with no block given away that has left its window.

    vLLM would give blocks away by the stream's positions, and a side that lags still reads them.
    """
    spec = plain(vllm_config)
    if isinstance(spec, SlidingWindowSpec | ChunkedLocalAttentionSpec):
        return replace_as(
            spec,
            FullAttentionSpec,
            # The layers know their windows; those of one cache may differ.
            drop=("extra_retained_tokens", "sliding_window", "attention_chunk_size"),
            block_size=vllm_config.cache_config.block_size,
            page_size_padded=None,
        )
    return spec


def _sided(plain: Any, side: int, views: Views) -> Any:
    """Makes one side's subclass of an attention backend."""
    builder = plain.get_builder_cls()

    class SidedBuilder(builder):  # type: ignore[misc, valid-type]
        """Builds metadata of one side."""

        supports_update_block_table = False
        """Else vLLM would put its own blocks and slots into another group's metadata."""

        @classmethod
        def get_cudagraph_support(cls, vllm_config: Any, kv_cache_spec: Any) -> Any:
            """Graphs of whole passes would replay another pass's metadata.

            Those between attention layers remain; they read `inputs.Inputs`.
            """
            return AttentionCGSupport.NEVER

        def build(
            self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False
        ) -> Any:
            """Rewrites the description, then builds as ever."""
            made = views.rewritten(side, common_attn_metadata, self)
            return super().build(common_prefix_len, made, fast_build)

        def build_plainly(self, described: CommonAttentionMetadata) -> Any:
            """Builds from a description that is the side's own already."""
            return super().build(0, described)

    return subclass_attention_backend(_NAMES[side], plain, SidedBuilder)
