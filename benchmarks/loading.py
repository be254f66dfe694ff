"""How far a model's cached scores are from its uncached ones, where our cache serves and where not.

Run: ``python -m benchmarks.loading [FOLDER ...]`` (about two minutes on one core). This is what the
bounds of `baco.models.verify` are drawn from: random small models of many families, and the models
in the folders, each in every dtype. `right` is what rounding alone does. The others are mistakes
that a cache can make, made on purpose: the positions of the longest row for all rows, tokens that
were set back and stay visible, and a row that cannot see its beginning. A family that is wrong by
itself has a mark. Figures are shares of the spread of the scores; 0 says that a mistake means
nothing to a family (without positions, or without a place to see).
"""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import transformers as t

from baco.engine.partner import Abilities
from baco.errors import BacoError
from baco.models.checkpoints import Loading, load_model, load_tokenizer
from baco.models.hf import HFPartner
from baco.models.known import bundled_folder
from baco.models.tokens import vocabulary_of, vocabulary_size
from baco.models.verify import apart, bound, cached_and_uncached

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_FEW = {"bos_token_id": None, "eos_token_id": None, "initializer_range": 0.4}
_FREE = {**_FEW, "tie_word_embeddings": False}
_PAD = {"pad_token_id": 0}
_BODY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
_LLAMA = {**_FREE, **_BODY, "intermediate_size": 48, "num_key_value_heads": 2}
_NEOX = {**_FREE, **_BODY, "intermediate_size": 48}
_GPT2 = {**_FREE, "n_embd": 32, "n_layer": 3, "n_head": 4}
_GEMMA = {**_LLAMA, **_PAD, "tie_word_embeddings": True, "head_dim": 8}
_WINDOW = {"sliding_window": 4}

RIGHT: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _LLAMA),
    "gpt2": ("GPT2Config", _GPT2),
    "opt": ("OPTConfig", {**_FREE, "pad_token_id": 1, "hidden_size": 32, "ffn_dim": 48,
                          "num_hidden_layers": 3, "num_attention_heads": 4,
                          "word_embed_proj_dim": 32, "init_std": 0.4}),
    "falcon": ("FalconConfig", {**_FREE, **_BODY, "alibi": False}),
    "gptj": ("GPTJConfig", {**_GPT2, "rotary_dim": 4}),
    "codegen": ("CodeGenConfig", {**_GPT2, "rotary_dim": 4}),
    "gpt_neox": ("GPTNeoXConfig", _NEOX),
    "gpt_bigcode": ("GPTBigCodeConfig", _GPT2),
    "phi": ("PhiConfig", _NEOX),
    "phi3": ("Phi3Config", {**_LLAMA, **_PAD}),
    "phi3-window": ("Phi3Config", {**_LLAMA, **_PAD, **_WINDOW}),
    "mistral-window": ("MistralConfig", {**_LLAMA, **_WINDOW}),
    "mixtral": ("MixtralConfig", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2-window": ("Qwen2Config", {**_LLAMA, **_WINDOW, "use_sliding_window": True,
                                     "max_window_layers": 1}),
    "qwen3": ("Qwen3Config", {**_LLAMA, "head_dim": 8}),
    "gemma": ("GemmaConfig", _GEMMA),
    "gemma2": ("Gemma2Config", {**_GEMMA, **_WINDOW, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", {**_GEMMA, **_WINDOW, "query_pre_attn_scalar": 8}),
    "cohere2": ("Cohere2Config", {**_LLAMA, **_PAD, **_WINDOW}),
    "olmo2": ("Olmo2Config", _LLAMA),
    "stablelm": ("StableLmConfig", _LLAMA),
    "starcoder2": ("Starcoder2Config", {**_LLAMA, **_WINDOW}),
    "granite": ("GraniteConfig", _LLAMA),
    "mpt": ("MptConfig", {**_FREE, "d_model": 32, "n_heads": 4, "n_layers": 3}),
    "smollm3": ("SmolLM3Config", {**_LLAMA, **_PAD, "no_rope_layers": [1, 1, 0]}),
}  # fmt: skip
"""Families that our cache serves: classes of configurations, and small sizes."""

WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomConfig", {**_FREE, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "falcon-alibi": ("FalconConfig", {**_FREE, **_BODY, "alibi": True}),
    "gpt_neo": ("GPTNeoConfig", {**_FREE, "hidden_size": 32, "num_layers": 4, "num_heads": 4,
                                 "attention_types": [[["global", "local"], 2]],
                                 "window_size": 6}),
}  # fmt: skip
"""Families that find out positions or windows in a way of their own."""


def random_model(family: str, size: int, dtype: torch.dtype) -> Any:
    """Makes a random model of a family, for so many token ids."""
    name, options = (RIGHT | WRONG)[family]
    torch.manual_seed(0)
    config = getattr(t, name)(vocab_size=size, **options)
    return t.AutoModelForCausalLM.from_config(config).to(dtype).eval()


# --- mistakes ---------------------------------------------------------------------------------


@contextlib.contextmanager
def longest_positions() -> Iterator[None]:
    """All rows go on at the place of the longest."""
    forward = HFPartner.run

    def run(self: HFPartner, **inputs: Any) -> torch.Tensor:
        if (positions := inputs.get("position_ids")) is not None and len(positions) > 1:
            inputs["position_ids"] = positions.amax(0, keepdim=True).expand_as(positions)
        return forward(self, **inputs)

    with mock.patch.object(HFPartner, "run", run):
        yield


@contextlib.contextmanager
def _visible(change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    build = HFPartner._mask

    def mask(self: HFPartner, visible: torch.Tensor) -> torch.Tensor:
        return build(self, change(visible) if visible.shape[-2] < visible.shape[-1] else visible)

    with (
        mock.patch.object(HFPartner, "_mask", mask),
        mock.patch.object(HFPartner, "_needs_no_mask", return_value=False),
    ):
        yield


MISTAKES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "positions": longest_positions,
    "set back": lambda: _visible(torch.ones_like),
    "beginning": lambda: _visible(
        lambda visible: visible & (torch.arange(visible.shape[-1]) > 0)
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What was seen of one model in one dtype, as shares of the spread; NaN where it fails."""

    name: str
    dtype: torch.dtype
    right: float
    mistakes: tuple[float, ...]


def _apart(partner: HFPartner) -> float:
    try:
        return apart(partner, *cached_and_uncached(partner))
    except BacoError:
        return math.nan


def measure(name: str, model: Any, tokenizer: Any) -> Line:
    """Compares cached with uncached scores, as it is and with each mistake."""
    partner = HFPartner(model, vocabulary_of(tokenizer, {tokenizer.eos_token_id}))
    partner.abilities = Abilities()  # our cache, also where it is known not to serve
    right = _apart(partner)
    seen = []
    for mistake in MISTAKES.values():
        with mistake():
            seen.append(_apart(partner))
    return Line(name, model.dtype, right, tuple(seen))


def lines(folders: list[str]) -> Iterator[Line]:
    """Measures all families, the bundled pair, and the models in the folders."""
    tokenizer = load_tokenizer(str(bundled_folder("aligned")), "main", Loading())
    size = vocabulary_size(tokenizer)
    for dtype in DTYPES:
        for family in (*RIGHT, *WRONG):
            yield measure(family, random_model(family, size, dtype), tokenizer)
        for folder in (str(bundled_folder("base")), str(bundled_folder("aligned")), *folders):
            how = Loading("cpu", str(dtype).removeprefix("torch."))
            own = load_tokenizer(folder, "main", how)
            yield measure(folder.rpartition("/")[2], load_model(folder, "main", how), own)


def main() -> None:
    """Prints every line, and for each dtype the extremes beside the bound."""
    warnings.filterwarnings("ignore")
    t.utils.logging.set_verbosity_error()
    print(f"{'model':16} {'dtype':9} {'right':>9} " + " ".join(f"{m:>9}" for m in MISTAKES))
    found = list(lines(sys.argv[1:]))
    for line in found:
        dtype = str(line.dtype).removeprefix("torch.")
        figures = " ".join(f"{x:9.2g}" for x in (line.right, *line.mistakes))
        print(f"{line.name:16} {dtype:9} {figures}{'  wrong' if line.name in WRONG else ''}")
    for dtype in DTYPES:
        mine = [line for line in found if line.dtype == dtype]
        right = [line.right for line in mine if line.name not in WRONG]
        wrong = [x for line in mine if line.name not in WRONG for x in line.mistakes]
        wrong += [line.right for line in mine if line.name in WRONG]
        print(
            f"{str(dtype).removeprefix('torch.')}: rounding at most {max(right):.2g}, "
            f"a mistake at least {min(x for x in wrong if x > 2 * max(right)):.2g}, "
            f"{sum(x <= bound(dtype) for x in wrong)} of {len(wrong)} below the bound "
            f"{bound(dtype):.2g}"
        )


if __name__ == "__main__":
    main()
