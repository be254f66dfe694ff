"""A Hugging Face causal language model as a partner.

The KV cache is ours: one slot per row, each with its own length. Rows take different numbers of
tokens in one forward pass, forget drafted tokens by having their length set back, and share
their prompt's prefill; positions and attention masks follow from the lengths.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import Cache, PreTrainedModel

from baco.engine.batch import Integers
from baco.engine.lazy import inference_mode, torch
from baco.engine.partner import Abilities, Partner, RowCache, picked, tail_places
from baco.engine.vocabulary import Vocabulary
from baco.errors import BacoError, PairError, first_line
from baco.models.grouped import attend_in_groups, attention_of
from baco.models.recompute import RecomputeCache

_BLOCK = 64  # KV slots grow in steps of this many tokens
PREFILL = 8192
"""Prompts are computed together up to this many tokens, padding included."""

PREFILL_LOGITS = 128
"""Prompts that end at different places are computed from their first token on as long as this
leads to so few logits, most of them of no use; else up to their last token."""

FEW = 8
"""One further token for so many rows counts as few."""

_LAYER_TYPES = {"full_attention", "sliding_attention"}

_OWN_WINDOWS = ("window_size", "attention_window", "local_window")
"""How configurations name windows that a model cuts for itself, by the longest row (GPT-Neo)."""

_CAUSES = {
    "dtype|mat_a|mat1|Half|Double|BFloat16|overflow": "use another --dtype: float32 or bfloat16",
    "index out of range|out of bounds|device-side assert": "a token id or position is beyond the "
    "model's tables: model and tokenizer may not belong together",
    "unexpected keyword": "its code is not of this release of transformers",
    "not on the same device|same device": "name one --device",
    "not enough memory": "use a smaller model, half precision or 8-bit loading",
}
"""Likely causes of an error in a pass, by what it says."""


def grown_capacity(capacity: int, length: int) -> int:
    """How many tokens a row has room for once it must hold `length`: half as many again each time.

    Args:
        capacity: The room there was.
        length: The tokens it must hold.
    """
    if length <= capacity:
        return capacity
    return -(-max(length, capacity * 3 // 2) // _BLOCK) * _BLOCK


class _Slots(Cache):
    """Keys and values of all layers, as [row, position, head, channel], written at any place.

    transformers' attention layers only ever call `update`; what they get back is a view of the
    rows, as long as the longest of them.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[])
        self.keys: list[torch.Tensor | None] = [None] * layers
        self.values: list[torch.Tensor | None] = [None] * layers
        self.rows = 0
        self.capacity = 0
        self._at: tuple[Any, Any] = (slice(0), slice(0))
        self._further: torch.Tensor | None = None
        self._span = (0, 0)
        self._before = 0

    def aim(
        self, positions: torch.Tensor, rows: int, length: int, further: Integers | None = None
    ) -> None:
        """Says where the next forward pass writes, and how far it reads.

        Args:
            positions: int64 [rows, q]; [1, q] where all rows write at the same places, one after
                the other.
            rows: How many rows there are.
            length: How much of them is read.
            further: Whose further tokens stand in the last rows of the pass, int64 [any]; what
                these rows hold is lent to them for the pass.
        """
        self.reserve(rows, length)
        self._further = further if further is None else self._rows(further, positions)
        self._span = (rows, length)
        self._before = length - positions.shape[1]
        if further is not None:
            which = np.concatenate([np.arange(rows - len(further)), further])
            self._at = (self._rows(which, positions)[:, None], positions)
        elif len(positions) < rows or rows == 1:
            self._at = (slice(rows), slice(self._before, length))
        else:
            self._at = (self._rows(np.arange(rows), positions)[:, None], positions)

    @staticmethod
    def _rows(which: Integers, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(which).to(like.device)

    def reserve(self, rows: int, length: int) -> None:
        """Makes room; layers that were never written get theirs when they first are."""
        if rows <= self.rows and length <= self.capacity:
            return
        self.rows = max(self.rows, rows)
        self.capacity = grown_capacity(self.capacity, length)
        for store in (self.keys, self.values):
            for i, old in enumerate(store):
                if old is not None:
                    store[i] = self._grown(old)

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = old.new_zeros(self.rows, self.capacity, *old.shape[2:])
        new[: old.shape[0], : old.shape[1]] = old
        return new

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes [row, head, q, channel] where `aim` said; returns all that may be attended to."""
        rows, length = self._span
        out = []
        for store, new in ((self.keys, key_states), (self.values, value_states)):
            kept = store[layer_idx]
            if kept is None:
                shape = (self.rows, self.capacity, new.shape[1], new.shape[3])
                kept = store[layer_idx] = new.new_zeros(shape)
            kept[self._at] = new.transpose(1, 2)
            if self._further is not None:
                kept[rows - len(self._further) : rows, :length] = kept[self._further, :length]
            out.append(kept[:rows, :length].transpose(1, 2))
        return out[0], out[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """What the longest row held before; positions are always given and do not come from it."""
        return self._before

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """The place of the first new token, for masks that transformers builds: of equal rows."""
        return self._before

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """How many places are read, and the first of them; for the same masks."""
        return self._span[1], 0

    def move(self, source: torch.Tensor, target: torch.Tensor, length: int) -> None:
        """Copies rows onto others (indices [k]), up to a length."""
        for store in (self.keys, self.values):
            for kept in store:
                if kept is not None:
                    kept[target, :length] = kept[source, :length]

    def shrink(self, rows: int) -> None:
        """Gives memory back once less than half of the rows is in use."""
        if 2 * rows >= self.rows:
            return
        self.rows = rows
        for store in (self.keys, self.values):
            for i, kept in enumerate(store):
                if kept is not None:
                    store[i] = kept[:rows].clone()

    def adopt(self, other: _Slots, source: torch.Tensor, target: torch.Tensor, length: int) -> None:
        """Copies rows of another cache into this one."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for i, new in enumerate(theirs):
                assert new is not None
                kept = mine[i]
                if kept is None:
                    kept = mine[i] = new.new_zeros(self.rows, self.capacity, *new.shape[2:])
                kept[target, :length] = new[source, :length]


def _name(model: Any) -> str:
    return str(getattr(model.config, "name_or_path", "")) or type(model).__name__


def cache_argument(model: Any) -> str:
    """What a model calls the cache that it is given: transformers 5.24 renamed it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # PEFT's
    named = inspect.signature(inner.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def keeps_keys(model: Any) -> bool:
    """Whether a model keeps keys and values of a text, and no state that mixes its tokens."""
    types = getattr(model.config.get_text_config(), "layer_types", None)
    return not getattr(model, "_is_stateful", False) and set(types or ()) <= _LAYER_TYPES


def context_window(config: Any) -> int:
    """The longest sequence whose scores do not depend on the other rows of a batch.

    Rotary embeddings of the types ``longrope`` and ``dynamic`` turn by the longest row of a pass,
    once it is longer than the model was first trained for. Beyond, keys that are cached have turned
    otherwise than a pass over the whole text would turn them, and so have those of shorter rows.
    """
    window = longest_text(config) or 1 << 30
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    # Some families have one for each type of layer.
    for each in (rope, *(inner for inner in rope.values() if isinstance(inner, dict))):
        if each.get("rope_type") in ("longrope", "dynamic"):
            first = each.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            window = min(window, int(first or window))
    return window


def longest_text(config: Any) -> int:
    """The longest text that a configuration allows; 0 if it does not say."""
    return int(getattr(config, "max_position_embeddings", 0) or 0)


def _cuts_windows(config: Any, context_window: int) -> bool:
    """Whether some layer attends to a window that the masks here know nothing of."""
    sizes = (v for k, v in config.to_dict().items() if k.endswith(_OWN_WINDOWS))
    return any(isinstance(size, int) and 0 < size < context_window for size in sizes)


class HFPartner(Partner):
    """A causal language model of transformers, loaded by the caller.

    Args:
        model: The model, in eval mode on its device; attention `sdpa` or `eager`.
        vocabulary: Tables of its tokenizer; share the object between partners that share ids.
        device: Where tokens come from and logits go to, if that is not where the model is: the
            partners of a pair may stand on two devices.

    Attributes:
        place: Where the model and its cache are.
        narrow: Whether only the other side of a pair knows the last ids of the vocabulary.
        label: What errors call it.
        recomputes: Why it is read anew at every pass; empty where its cache serves.

    Raises:
        PairError: If the model is not a decoder that this cache can serve.
    """

    def __init__(
        self, model: PreTrainedModel, vocabulary: Vocabulary, device: torch.device | None = None
    ) -> None:
        config = model.config.get_text_config()
        if getattr(model.config, "is_encoder_decoder", False):
            raise PairError(
                f"{type(model).__name__} is an encoder-decoder model",
                hint="BaCo needs decoder-only language models",
            )
        attention = attention_of(config)
        if attention not in ("sdpa", "eager"):
            raise PairError(
                f"attention implementation {attention!r} cannot decode rows of unequal length",
                hint="load the model with attn_implementation='sdpa' or 'eager'",
            )
        if attention == "sdpa":
            attend_in_groups(model)
        self.model = model
        self._cache_argument = cache_argument(model)
        self.vocabulary = vocabulary
        self.narrow = config.vocab_size < vocabulary.size
        self.label = f"{_name(model)} ({str(model.dtype).removeprefix('torch.')})"
        self.context_window = context_window(config)
        self.place: torch.device = model.device
        self.device = device or self.place
        self.parameters = sum(p.numel() for p in model.parameters())
        self.layers = int(config.num_hidden_layers)
        self.additive_mask = attention == "eager"
        self._types: list[str] | None = getattr(config, "layer_types", None)
        self._window: int | None = getattr(config, "sliding_window", None)
        self.recomputes = ""
        # A recurrent state cannot forget a rejected guess.
        self.abilities = Abilities()
        self.runs_on = (self.place.type, model.dtype)
        if not keeps_keys(model):
            self.recompute("its state cannot be set back")
        elif _cuts_windows(config, self.context_window):
            self.recompute("its windows follow the longest row of a batch")

    def recompute(self, why: str) -> None:
        """Has the model read anew at every pass, because our cache cannot serve it."""
        self.recomputes = why
        self.abilities = self.abilities._replace(rewinds=False)

    @property
    def weights(self) -> object:
        """The model: one that plays both sides is there once."""
        return self.model

    def shared_cache(self, other: Partner) -> RowCache | None:
        """Returns a cache of this side's rows (even) and another's (odd) on the same model.

        None if the other is this side itself or another model, or no cache serves.
        """
        if other is self or not isinstance(other, HFPartner) or other.model is not self.model:
            return None
        return HFCache(self) if self.abilities.rewinds and other.abilities.rewinds else None

    def new_cache(self) -> RowCache:
        """Returns an empty cache for a new batch."""
        return HFCache(self) if self.abilities.rewinds else RecomputeCache(self)

    @inference_mode
    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits after a whole sequence, without cache: float [vocabulary]."""
        return self.all_logits(ids, keep=1)[-1]

    @inference_mode
    def all_logits(self, ids: Sequence[int], keep: int = 0) -> torch.Tensor:
        """Logits after each token of a sequence (or the last `keep`), without cache."""
        tokens = torch.tensor([list(ids)], device=self.place)
        out = self.run(input_ids=tokens, use_cache=False, logits_to_keep=keep)
        return self._over_all_ids(out[0]).to(self.device)

    def _over_all_ids(self, logits: torch.Tensor) -> torch.Tensor:
        """Gives no probability to ids that only the other side knows: [..., own] -> [..., all]."""
        missing = self.vocabulary.size - logits.shape[-1]
        if missing <= 0:
            return logits
        return torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)

    def run(self, **inputs: Any) -> torch.Tensor:
        """Calls the model once.

        Args:
            **inputs: Its arguments.

        Returns:
            Its logits.

        Raises:
            PairError: If it fails for any reason but memory on an accelerator.
        """
        try:
            out: torch.Tensor = self.model(**inputs).logits
        except (BacoError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            said = first_line(error)
            causes = (cause for words, cause in _CAUSES.items() if re.search(words, said))
            raise PairError(
                f"{self.label} fails: {said}",
                hint=next(causes, "--debug shows where"),
            ) from error
        return out

    def forward(
        self,
        slots: _Slots,
        tokens: torch.Tensor,
        starts: Integers,
        *,
        shift: Integers | None = None,
        further: Integers | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """One forward pass over rows that each go on at their own place.

        Args:
            slots: Their cache.
            tokens: The next tokens, int64 [n, q], where the model is.
            starts: How many tokens each row holds already, int64 [n], on the host.
            shift: How many columns the tokens of each row were moved to the right, with what does
                not count moved to the left: int64 [n], on the host.
            further: As of `_Slots.aim`, on the host.
            **kwargs: Further arguments of the model.

        Returns:
            Logits, float [n, q, at least the vocabulary].
        """
        n, q = tokens.shape
        first, last = int(starts.min()), int(starts.max())
        length = last + q
        moved = shift is not None or further is not None
        plain = not moved and first == last and self._needs_no_mask(q, length)
        columns = np.arange(q)
        if shift is not None:
            columns = (columns - shift[:, None]) % q
        places = (starts[:1] if plain else starts)[:, None] + columns
        positions = torch.from_numpy(places).to(self.place)
        slots.aim(positions, n, length, further)
        mask = self._no_mask() if plain else self._masks(positions, length)
        if length > self.context_window:
            # Rows that take fewer tokens than others are fed what does not count, perhaps beyond
            # the last position that there is.
            positions = positions.clamp(max=self.context_window - 1)
        out = self.run(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            use_cache=True,
            **{self._cache_argument: slots},
            **kwargs,
        )
        return self._over_all_ids(out)

    def _needs_no_mask(self, q: int, length: int) -> bool:
        """Whether rows of equal length attend to all, or causally from the first token on."""
        if self.additive_mask or (self._window and length >= self._window):
            return False
        return q in (1, length)

    def _no_mask(self) -> dict[str, None] | None:
        """What leaves masks to the attention kernel: faster than any that is given."""
        return None if self._types is None else dict.fromkeys(self._types)

    def _masks(
        self, positions: torch.Tensor, length: int
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Builds what transformers passes through as it is: [n, 1, q, length] per layer type."""
        columns = torch.arange(length, device=positions.device)
        full = (columns <= positions[..., None])[:, None]
        near = full
        if self._window:
            near = full & (columns > positions[..., None] - self._window)[:, None]
        if self._types is None:
            return self._mask(near)
        return {
            kind: self._mask(near if kind == "sliding_attention" else full)
            for kind in set(self._types)
        }

    def _mask(self, visible: torch.Tensor) -> torch.Tensor:
        if not self.additive_mask:
            return visible
        dtype = self.model.dtype
        return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(
            ~visible, torch.finfo(dtype).min
        )


PromptIds = tuple[float, tuple[int, ...]]
"""What decides a prefill: which variant of the model, and the token ids."""


class HFCache:
    """The rows of one batch on one partner; see `baco.engine.partner.RowCache`."""

    def __init__(self, partner: HFPartner) -> None:
        self.partner = partner
        self._slots = _Slots(partner.layers)
        self._lengths = torch.zeros(0, dtype=torch.int64)  # on the host

    def kind(self, row: int) -> float:
        """Which variant of the model serves a row; rows of one kind share equal prompts."""
        return 0

    def extra(self, kinds: Sequence[float]) -> dict[str, Any]:
        """Arguments for a forward pass over rows of these kinds."""
        return {}

    def add(self, count: int) -> None:
        """Appends empty rows."""
        self._lengths = torch.cat([self._lengths, self._lengths.new_zeros(count)])

    @inference_mode
    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Feeds whole prompts into empty rows; equal prompts are computed once."""
        same: dict[PromptIds, list[int]] = {}
        for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
            same.setdefault((self.kind(row), tuple(prompt)), []).append(i)
        self._slots.reserve(len(self._lengths), max(len(prompt) for _, prompt in same))
        out: list[torch.Tensor] = [self._lengths] * len(rows)
        for keys in _portions(sorted(same, key=lambda key: len(key[1]))):
            for key, logits in zip(keys, self._prefill(keys, rows, same), strict=True):
                for i in same[key]:
                    out[i] = logits
        return torch.stack(out).to(self.partner.device)

    def _prefill(
        self,
        keys: Sequence[PromptIds],
        rows: Sequence[int],
        same: Mapping[PromptIds, Sequence[int]],
    ) -> torch.Tensor:
        """Computes some prompts and puts them into their rows; the last tokens' logits [k, v]."""
        place = self.partner.place
        lengths = torch.tensor([len(prompt) for _, prompt in keys])
        longest = int(lengths.max())
        tokens = torch.zeros(len(keys), longest, dtype=torch.int64)
        last, where = torch.unique(lengths - 1, return_inverse=True)
        shift = longest - lengths
        if len(last) * len(keys) <= PREFILL_LOGITS:  # without a mask
            shift = torch.zeros_like(lengths)
        else:
            last, where = last[-1:], torch.zeros_like(where)
        for i, (_, prompt) in enumerate(keys):
            tokens[i, shift[i] : shift[i] + len(prompt)] = torch.tensor(prompt)
        fresh = _Slots(self.partner.layers)
        logits = self.partner.forward(
            fresh,
            tokens.to(place),
            np.zeros(len(keys), dtype=np.int64),
            shift=shift.numpy() if shift.any() else None,
            logits_to_keep=last.to(place),
            **self.extra([kind for kind, _ in keys]),
        )
        pairs = [(i, rows[k]) for i, key in enumerate(keys) for k in same[key]]
        source, target = torch.tensor(pairs).unbind(1)
        self._slots.adopt(fresh, source.to(place), target.to(place), longest)
        self._lengths[target] = lengths[source]
        return logits[torch.arange(len(keys), device=place), where.to(place)]

    @inference_mode
    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Feeds the next tokens of every row in one forward pass."""
        ids = self._known(tokens, counts).numpy()
        logits = self._pass(ids, self._lengths.numpy(), range(len(ids)))
        self._lengths = self._lengths + counts
        return logits

    @inference_mode
    def feed_tail(
        self, tokens: torch.Tensor, counts: torch.Tensor, most: torch.Tensor
    ) -> torch.Tensor:
        """Feeds the next tokens of every row in one pass, that computes little for nothing.

        On a CPU, where only the last tokens' logits are wanted and a few rows have more tokens than
        one, the tokens before go through the model as rows of their own. Else rows are as wide as
        the longest, and the logits of the last columns are computed, as many as are wanted of any.
        """
        n, q = tokens.shape
        ids, had, count = self._known(tokens, counts).numpy(), self._lengths.numpy(), counts.numpy()
        rows, places = tail_places(count, most.numpy())
        before = np.maximum(count - 1, 0)  # how many tokens come before the last one
        few, keep, own = n // FEW, int(most.numpy().clip(1, q).max()), np.arange(n)
        if keep == 1 < q and before.sum() <= few and self.partner.place.type == "cpu":
            # The last token of a row goes into its own row, the others come behind.
            further = np.repeat(own, before)
            at = np.arange(len(further)) - np.repeat(before.cumsum() - before, before)
            index = rows
            self._slots.reserve(n + few, 0)
            logits = self._pass(
                np.concatenate([ids[own, before], ids[further, at]])[:, None],
                np.concatenate([had + before, had[further] + at]),
                [*range(n), *further.tolist()],
                further=further,
            )
        else:
            shift = q - count if keep < q else 0 * count
            index = rows * keep + places + shift[rows] - (q - keep)
            logits = self._pass(
                np.take_along_axis(ids, (np.arange(q) - shift[:, None]) % q, 1),
                had,
                own.tolist(),
                shift=shift if shift.any() else None,
                logits_to_keep=keep,
            )
        self._lengths = self._lengths + counts
        return picked(logits.flatten(0, 1), index)

    def _known(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Tokens to feed, where what does not count may be an id that only the other side knows."""
        if not self.partner.narrow:
            return tokens
        return tokens.masked_fill(torch.arange(tokens.shape[1]) >= counts[:, None], 0)

    def _pass(
        self,
        tokens: Integers,
        starts: Integers,
        rows: Sequence[int],
        **how: Any,
    ) -> torch.Tensor:
        """One pass over rows of these kinds, from these places on; as `HFPartner.forward`."""
        extra = self.extra([self.kind(row) for row in rows])
        fed = torch.from_numpy(tokens).to(self.partner.place)
        logits = self.partner.forward(self._slots, fed, starts, **how, **extra)
        return logits.to(self.partner.device)

    @inference_mode
    def truncate(self, lengths: torch.Tensor) -> None:
        """Sets rows back; what lies beyond is overwritten by the next tokens."""
        self._lengths = torch.minimum(self._lengths, lengths)

    @inference_mode
    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order."""
        moved = [(src, dst) for dst, src in enumerate(rows) if src != dst]
        if moved and self._slots.capacity:
            self._slots.reserve(len(self._lengths), 0)
            source, target = torch.tensor(moved, device=self.partner.place).unbind(1)
            longest = int(self._lengths[list(rows)].max())
            self._slots.move(source, target, longest)
        self._lengths = self._lengths[torch.tensor(list(rows), dtype=torch.int64)]
        self._slots.shrink(len(rows))


def _portions(
    keys: Sequence[PromptIds],
) -> Iterator[list[PromptIds]]:
    """Splits prompts, shortest first, so that memory stays bounded however many there are."""
    portion: list[PromptIds] = []
    for key in keys:
        if portion and (len(portion) + 1) * len(key[1]) > PREFILL:
            yield portion
            portion = []
        portion.append(key)
    if portion:
        yield portion
