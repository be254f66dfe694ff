"""Both models of a pair as one model of vLLM, with two sets of KV caches over one block table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from vllm.compilation.backends import set_model_tag
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import initialize_model

from baco.engine.request import ALIGNED, BASE
from baco.vllm.inside.ahead import PassAhead, begin_experts
from baco.vllm.inside.attention import Views
from baco.vllm.inside.inputs import Inputs
from baco.vllm.inside.pair import SIDE_NAMES, Inside

_BASE = "base."


@contextlib.contextmanager
def window_of(config: Any, cache_config: Any) -> Iterator[None]:
    """Lets layers of one side that do not say their window have that of their own checkpoint.

    vLLM keeps one window for such layers, the aligned checkpoint's.
    """
    text = config.get_text_config()
    before = cache_config.sliding_window
    kinds = set(getattr(text, "layer_types", None) or ["sliding_attention"])
    own = getattr(text, "sliding_window", None) if kinds == {"sliding_attention"} else None
    cache_config.sliding_window = own or None
    try:
        yield
    finally:
        cache_config.sliding_window = before


def _own_config(vllm_config: VllmConfig, config: Any) -> VllmConfig:
    """Returns vLLM's configuration for one side's model.

    vLLM would leave the text part as the aligned checkpoint's, which some models read.
    """
    own = vllm_config.with_hf_config(config, architectures=config.architectures)
    model = own.model_config
    model.hf_text_config = model.hf_config.get_text_config()
    model.model_arch_config = model.get_model_arch_config()
    return own


class BacoForCausalLM(torch.nn.Module):
    """A base and an aligned model that read their own prompts and one common answer.

    Args:
        vllm_config: vLLM's configuration; `hf_config.baco` says where the base model is.
        prefix: Not used: this is the outermost model.
    """

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        inside = Inside.of(vllm_config)
        self.config = vllm_config.model_config.hf_config
        self.rows = inside.rows
        self.views = Views(self.rows)
        sides = []
        for side, name in zip((ALIGNED, BASE), SIDE_NAMES, strict=True):
            config = inside.configs[name]
            own = _own_config(vllm_config, config)
            with set_model_tag(f"baco_{name}"), window_of(config, vllm_config.cache_config):
                model = initialize_model(vllm_config=own, prefix=name)
            self.views.attach(model, side)
            sides.append(model)
        self.aligned, self.base = sides
        self.secondary_weights = [
            DefaultModelLoader.Source(
                model_or_path=inside.base, revision=inside.base_revision, prefix=_BASE
            )
        ]
        self.make_empty_intermediate_tensors = self.aligned.make_empty_intermediate_tensors
        self.rows.ahead = PassAhead(self.views, sides, vllm_config)
        self._widths = [inside.configs[name].get_text_config().hidden_size for name in SIDE_NAMES]
        self._dtype = vllm_config.model_config.dtype
        most = vllm_config.scheduler_config.max_num_batched_tokens
        self._inputs = tuple(Inputs(most, self.rows.device) for _ in sides)

    @staticmethod
    def get_model_state_cls() -> type:
        """Returns what the runner V2 keeps of this model; part of vLLM's interface."""
        from baco.vllm.inside.state import PairState

        return PairState

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Loads the aligned model's weights, then the base model's, as they come.

        Args:
            weights: Names and tensors; the base model's names are prefixed.

        Returns:
            The parameters that were loaded.
        """
        source = iter(weights)
        held: list[tuple[str, torch.Tensor]] = []

        def first() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in source:
                if name.startswith(_BASE):
                    held.append((name, tensor))
                    return
                yield name, tensor

        loaded = {f"aligned.{name}" for name in self.aligned.load_weights(first())}
        rest = ((name.removeprefix(_BASE), t) for name, t in chain(held, source))
        return loaded | {f"base.{name}" for name in self.base.load_weights(rest)}

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Returns the aligned model's embeddings; part of vLLM's interface."""
        embedded: torch.Tensor = self.aligned.embed_input_ids(input_ids)
        return embedded

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """Runs both models.

        Args:
            input_ids: Labels in prompts, emitted ids after them: int [tokens].
            positions: Stream positions, int64 [tokens].
            intermediate_tensors: Not used: there are no pipeline stages.
            inputs_embeds: Not used.

        Returns:
            The aligned model's hidden states beside the base model's, float [tokens, a + b].
        """
        context = get_forward_context()
        live = bool(context.attn_metadata) and self.rows.spans is not None
        out = input_ids.new_zeros(len(input_ids), sum(self._widths), dtype=self._dtype)
        parts = torch.split(out, self._widths, -1)
        # The base side first: the aligned one reads its guesses.
        for side, model in ((BASE, self.base), (ALIGNED, self.aligned)):
            part = parts[0 if side == ALIGNED else 1]
            if live and not self.rows.runs[side]:
                continue  # no row asks it, and the cache's labels say so
            order, length = None, len(input_ids)
            if live:
                order, length = self._write(side, input_ids, positions, context)
            begin_experts(context, side)
            hidden = model(*self._inputs[side].first(length))
            if order is None:
                part.copy_(hidden)
            else:
                part[order[:length]] = hidden[: len(order)]
            if side == BASE and live and self.rows.lead is not None:
                self.rows.guess(self.base.compute_logits(part[self.rows.lines]))
        return out

    def _write(
        self, side: int, input_ids: torch.Tensor, positions: torch.Tensor, context: Any
    ) -> tuple[torch.Tensor | None, int]:
        """Writes what one side reads of this pass.

        Returns:
            Where its tokens stand among all, int64 [tokens], or None: as they are. How many of
            them to run, those that it does not read left out where no graph has a fixed shape.
        """
        ids = self.rows.ids(side, input_ids)
        view = self.views.of[side]
        if view is None:
            self._inputs[side].write(ids, positions[: len(ids)])
            return None, len(input_ids)
        slots, length = view.slots, len(input_ids)
        if view.order is not None and context.cudagraph_runtime_mode is CUDAGraphMode.NONE:
            length = view.reads
            slots = {name: given[:length] for name, given in slots.items()}
        context.slot_mapping.update(slots)
        self._inputs[side].write(ids if view.order is None else ids[view.order], view.positions)
        return view.order, length

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        """Returns the aligned model's logits and keeps the base model's for the step.

        Args:
            hidden_states: From `forward`, at the last token of each row, float [n, a + b].
        """
        aligned, base = torch.split(hidden_states, self._widths, -1)
        logits: torch.Tensor | None
        if self.rows.lead is None:
            logits = self.aligned.compute_logits(aligned)
            self.rows.base_logits = self.base.compute_logits(base)
        else:  # the base side's are there: it has guessed
            logits = self.rows.lined_up(self.aligned.compute_logits(aligned[self.rows.unread]))
        return logits
