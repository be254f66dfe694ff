"""A thin door for users of transformers: ``model.generate(..., custom_generate=baco.hf.decode)``.

    model.generate(**inputs, max_new_tokens=60, custom_generate=baco.hf.decode, partner=base)

`model` is the aligned side, `partner` the base side; both see the same prompt ids. Two prompts,
one in a chat template and one in plain text, are what the paper uses and what `baco.Pair` does:
prefer that where you can.
"""

from __future__ import annotations

from typing import Any

import torch

from baco.engine import Engine, Request, Warp
from baco.engine.noise import row_key
from baco.errors import InputError
from baco.models.checkpoints import Loading, end_ids, load_tokenizer
from baco.models.hf import HFPartner
from baco.models.load import same_tokens
from baco.models.tokens import vocabulary_of
from baco.routers import Router, parse


def decode(
    model: Any,
    input_ids: torch.Tensor,
    *,
    generation_config: Any,
    partner: Any = None,
    partner_tokenizer: Any = None,
    router: str | Router = "p-punc",
    warp: Warp | None = None,
    seed: int = 0,
    **prepared: Any,
) -> torch.Tensor:
    """Decodes with two models; to be given to `generate` as `custom_generate`.

    Args:
        model: The aligned model.
        input_ids: Prompts, already repeated for `num_return_sequences`, int64 [n, length].
        generation_config: Only its length limit, end tokens and padding token are read.
        partner: The base model, with the same token ids.
        partner_tokenizer: The tokenizer of both; loaded from where the models came from if None.
        router: A router or its spec.
        warp: Temperature and filters; T = 1 and top-p 0.9 by default. Those of the generation
            config are not read: `generate` fills them in with the checkpoint's own.
        seed: Decides all noise; a row depends on it, its prompt, and how often that came before.
        **prepared: What else `generate` prepared; the attention mask says where prompts are
            padded. (As a parameter of its own it would be passed twice.)

    Returns:
        Prompts and answers, padded on the right, int64 [n, any].

    Raises:
        InputError: If there is no partner, or it has another tokenizer.
    """
    if partner is None:
        raise InputError("the base model is missing", hint="generate(..., partner=base_model)")
    models = (model, partner)
    tokenizers = _tokenizers(models, partner_tokenizer)
    ends = set().union(
        *(
            end_ids(tokenizer, m.config, m.generation_config)
            for tokenizer, m in zip(tokenizers, models, strict=True)
        )
    )
    vocabulary = vocabulary_of(tokenizers[0], ends, model.device)
    engine = Engine(HFPartner(partner, vocabulary), HFPartner(model, vocabulary))
    attention_mask: torch.Tensor | None = prepared.get("attention_mask")
    bound = parse(router) if isinstance(router, str) else router
    rows: dict[int, list[int]] = {}
    seen: dict[tuple[int, ...], int] = {}
    stopped: set[int] = set()
    for i, ids in enumerate(input_ids):
        kept = ids if attention_mask is None else ids[attention_mask[i].bool()]
        prompt = tuple(kept.tolist())
        index = seen[prompt] = seen.get(prompt, -1) + 1
        row = engine.submit(
            Request(
                base_prompt=prompt,
                aligned_prompt=prompt,
                router=bound,
                key=row_key(seed, repr(prompt), index),
                warp=warp or Warp(),
                max_new_tokens=generation_config.max_length - input_ids.shape[1],
            )
        )
        rows[row] = []
    while not engine.idle:
        for event in engine.step():
            rows[event.row] += event.tokens
            if event.finish == "stop":
                stopped.add(event.row)
    end = min(vocabulary.end_ids)
    if isinstance(generation_config.eos_token_id, int):
        end = generation_config.eos_token_id
    answers = [tokens + [end] * (row in stopped) for row, tokens in rows.items()]
    padding = generation_config.pad_token_id
    out = input_ids.new_full(
        (len(answers), max(map(len, answers))), end if padding is None else padding
    )
    for i, answer in enumerate(answers):
        out[i, : len(answer)] = torch.tensor(answer, dtype=out.dtype)
    return torch.cat([input_ids, out], dim=1)


def _tokenizers(models: tuple[Any, Any], given: Any) -> tuple[Any, Any]:
    """Returns both models' tokenizers.

    Raises:
        InputError: If they differ.
    """
    if given is not None:
        return given, given
    first, second = (load_tokenizer(m.config.name_or_path, "main", Loading()) for m in models)
    if not same_tokens(first, second):
        raise InputError(
            "the two models have different tokenizers", hint="use baco.Pair for such a pair"
        )
    return first, second
