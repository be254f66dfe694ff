"""Look-ahead inside vLLM: a side writes its likeliest tokens behind a row's last one.

Keys and values of what it writes go to slots that vLLM gives such a request beyond its end (as to
any speculation, see `plugin.py`): the answer's own tokens overwrite them, and no cached block ever
holds them. Every token is one more pass of that side, over the rows that look.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.forward_context import get_forward_context, set_forward_context

from baco.engine.ahead import follow
from baco.engine.scores import Look, Stretch
from baco.vllm.inside.attention import Views, described
from baco.vllm.inside.pair import SIDE_NAMES


class PassAhead:
    """Lets the sides of the present pass write on.

    Args:
        views: How each side reads the pass.
        models: The (aligned, base) model.
        vllm_config: vLLM's configuration.
    """

    def __init__(self, views: Views, models: Sequence[Any], vllm_config: VllmConfig) -> None:
        self._views = views
        self._models = models
        self._config = vllm_config
        self._window: int = vllm_config.model_config.max_model_len

    def over(self, places: torch.Tensor, logits: Sequence[torch.Tensor]) -> Look:
        """Returns the look from where some rows stand.

        Args:
            places: The rows' places in the batch, int64 [n].
            logits: Of (aligned, base) at these rows, float [n, v].
        """
        seen: dict[tuple[int, int], Stretch] = {}

        def look(side: int, depth: int, asked: torch.Tensor) -> Stretch:
            if (side, depth) not in seen:
                seen[side, depth] = self._follow(places, side, logits[side], depth, asked)
            return seen[side, depth]

        return look

    def _follow(
        self, places: torch.Tensor, side: int, logits: torch.Tensor, depth: int, asked: torch.Tensor
    ) -> Stretch:
        rows = self._views.rows
        after = rows.tip.to(places.device)[places]
        own = after - rows.pads[side].to(places.device)[places]
        # A row that reads itself anew after preemption may not have come to its prompt yet.
        room = torch.where(own > 0, self._window - after + 1, 0)
        fed = itertools.count()

        def read(going: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor:
            if last is None:
                return logits[going]
            rows.looked[side][places[going]] += 1
            return self.feed(side, places[going], last, own[going] + next(fed))

        return follow(asked, depth, room, read, rows.vocabulary)

    def feed(
        self, side: int, places: torch.Tensor, tokens: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """Feeds one token to each of some rows.

        Args:
            side: `ALIGNED` or `BASE`.
            places: The rows' places in the batch, int64 [m].
            tokens: int64 [m].
            positions: The side's own, int64 [m].

        Returns:
            The logits after them, float [m, v].
        """
        metadata: dict[str, Any] = {}
        slots: dict[str, torch.Tensor] = {}
        for builder, common in self._views.passes[side].items():
            made = described(
                common,
                torch.ones(len(places), dtype=torch.int64),
                (positions + 1).cpu(),
                self._views.table(side, common, builder.kv_cache_spec.block_size)[places],
                positions,
                builder.kv_cache_spec.block_size,
            )
            metadata |= dict.fromkeys(builder.layer_names, builder.build_plainly(made))
            slots |= dict.fromkeys(builder.layer_names, made.slot_mapping)
        model = self._models[side]
        with set_forward_context(
            metadata, self._config, num_tokens=len(places), slot_mapping=slots
        ):
            begin_experts(get_forward_context(), side)
            hidden = model(tokens.int(), positions)
        logits: torch.Tensor = model.compute_logits(hidden)
        return logits


def begin_experts(context: Any, side: int) -> None:
    """Tells vLLM whose layers of experts come next: it counts them as if all ran in every pass."""
    prefix = f"{SIDE_NAMES[side]}."
    for place, name in enumerate(context.all_moe_layers or ()):
        if name.startswith(prefix):
            context.moe_layer_index = place
            return
