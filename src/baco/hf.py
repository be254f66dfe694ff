"""An adapter for users of transformers: ``model.generate(..., custom_generate=baco.hf.decode)``.

    model.generate(**inputs, max_new_tokens=60, custom_generate=baco.hf.decode, partner=base)

`model` is the aligned side, `partner` the base side; both see the same prompt ids. Two prompts,
one in a chat template and one in plain text, are what the paper uses and what `baco.Pair` does:
prefer that where you can.

What is passed to `generate` is honoured or refused by name. What the checkpoint's own generation
config says of sampling is not read, as everywhere in BaCo: the default is T = 1, top-p 0.9.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from baco.engine import Vocabulary, Warp
from baco.engine.penalties import Penalties
from baco.errors import InputError
from baco.methods.base import METHODS, Chunk, Done, Sampling, Setting, Task
from baco.methods.run import new_session
from baco.methods.running import seated
from baco.models.checkpoints import Loading, end_ids, load_tokenizer
from baco.models.load import Checkpoint
from baco.models.sides import Models, Side, text_encoder
from baco.models.tokens import cuts_alike, shares_ids, token_bytes, vocabulary_of
from baco.prompts import Conversation, Message
from baco.routers import Router, parse

_SAMPLING = {
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "typical_p": "typical",
}  # fmt: skip
"""Arguments of `generate` that are fields of `Warp`."""

_REPETITION = "repetition_penalty"

HONOURED = frozenset(_SAMPLING) | {
    _REPETITION,
    "self", "custom_generate", "trust_remote_code", "partner", "partner_tokenizer", "router",
    "warp", "seed", "inputs", "input_ids", "attention_mask", "tokenizer", "max_length",
    "max_new_tokens",
    "num_return_sequences", "pad_token_id", "bos_token_id", "eos_token_id", "do_sample",
    "suppress_tokens", "stop_strings", "stopping_criteria", "max_time", "streamer",
    "return_dict_in_generate",
}  # fmt: skip
"""Arguments of `generate` that do what they do in transformers."""

SPEED = frozenset({
    "use_cache", "cache_implementation", "cache_config", "max_cache_len", "compile_config",
    "disable_compile", "prefill_chunk_size", "low_memory", "renormalize_logits",
    "transformers_version",
})  # fmt: skip
"""Arguments that change no result."""

NEUTRAL = {
    "num_beams": 1, "num_beam_groups": 1, "length_penalty": 1,
    "encoder_repetition_penalty": 1, "guidance_scale": 1, "diversity_penalty": 0,
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "min_length": 0,
    "min_new_tokens": 0, "epsilon_cutoff": 0, "eta_cutoff": 0, "early_stopping": False,
    "output_scores": False, "output_logits": False, "output_attentions": False,
    "output_hidden_states": False, "remove_invalid_values": False, "token_healing": False,
    "use_mtp": False, "is_assistant": False, "synced_gpus": False, "logits_processor": [],
}  # fmt: skip
"""The values at which other arguments mean nothing; None means nothing for all of them."""


@dataclass
class _Answer:
    """One row: what it was asked, and what has come of it, its end token included."""

    prompt: torch.Tensor
    tokens: list[int] = field(default_factory=list)


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
    stop_strings: str | list[str] | None = None,
    **prepared: Any,
) -> Any:
    """Decodes with two models; to be given to `generate` as `custom_generate`.

    Of what `generate` takes, `HONOURED` does what it does there, and `SPEED` and `NEUTRAL` change
    nothing; all else is refused by name. With `eos_token_id` these tokens and no others end a row.
    Stopping criteria are asked row by row after every token, with None for the scores; `max_time`
    depends on the clock and is the only thing here that does.

    Args:
        model: The aligned model.
        input_ids: Prompts, already repeated for `num_return_sequences`, int64 [n, length].
        generation_config: Only its length limit, padding token and form of the result are read.
        partner: The base model. Its token ids are the aligned model's, which may have more special
            tokens than it, but not in a prompt.
        partner_tokenizer: The tokenizer of both; loaded from where the models came from if None.
        router: A router or its spec.
        warp: Temperature and filters, instead of `generate`'s own arguments for them.
        seed: Decides all noise; a row depends on it, its prompt, and how often that came before.
        stop_strings: As in `generate`.
        **prepared: What else `generate` prepared; the attention mask says where prompts are
            padded. (As a parameter of its own it would be passed twice.)

    Returns:
        Prompts and answers, padded on the right, int64 [n, any]; as the field `sequences` of a
        `GenerateDecoderOnlyOutput` with `return_dict_in_generate`.

    Raises:
        InputError: If there is no partner, it has another tokenizer, or an argument of `generate`
            cannot be honoured.
        PairError: If a model is not right, see `baco.models.verify`.
    """
    asked = _asked()
    if partner is None:
        raise InputError("the base model is missing", hint="generate(..., partner=base_model)")
    _check(asked, model, partner, len(input_ids))
    tokenizers = _tokenizers((model, partner), partner_tokenizer)
    vocabulary, known = _vocabulary((model, partner), tokenizers, asked)
    setting = Setting(
        METHODS["baco"],
        _router(router),
        Sampling(_warp(warp, asked), generation_config.max_length - input_ids.shape[1], seed=seed),
    )
    criteria = prepared["stopping_criteria"]
    if stop_strings:
        from transformers import StopStringCriteria

        tokenizer = asked.get("tokenizer") or tokenizers[0]
        criteria.append(StopStringCriteria(tokenizer=tokenizer, stop_strings=stop_strings))
    attention_mask: torch.Tensor | None = prepared.get("attention_mask")
    prompts: dict[str, tuple[int, ...]] = {}
    seen: dict[str, int] = {}
    rows: list[tuple[torch.Tensor, Task]] = []
    for i, ids in enumerate(input_ids):
        kept = ids if attention_mask is None else ids[attention_mask[i].bool()]
        prompt = tuple(kept.tolist())
        if any(token >= known for token in prompt):
            raise InputError(
                "the prompt holds tokens that the base model does not know",
                hint="use baco.Pair, which prompts each model in its own way",
            )
        name = repr(prompt)  # stands for the prompt in noise keys
        prompts[name] = prompt
        seen[name] = seen.get(name, -1) + 1
        rows.append((ids, Task((Message("user", name),), seen[name])))
    models = _models((partner, model), tokenizers[::-1], vocabulary, prompts)
    answers = _run(models, rows, setting, criteria, asked.get("streamer"))
    out = _padded(input_ids, answers, _padding(generation_config, asked, vocabulary))
    if generation_config.return_dict_in_generate:
        from transformers.generation.utils import GenerateDecoderOnlyOutput

        return GenerateDecoderOnlyOutput(sequences=out)  # type: ignore[arg-type]
    return out


def _asked() -> dict[str, Any]:
    """Returns what the user passed to the `generate` that is running.

    transformers hands a function the arguments mixed with the checkpoint's own, and neither
    streamer nor processors. So they are read where they were passed: in the frame that called
    `generate` (torch's, which switches gradients off).

    Raises:
        InputError: If no `generate` is running.
    """
    from transformers import GenerationMixin

    generate = inspect.unwrap(GenerationMixin.generate)
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not generate.__code__:
        frame = frame.f_back
    outer = frame.f_back.f_locals if frame is not None and frame.f_back is not None else {}
    if not {"args", "kwargs"} <= outer.keys():
        raise InputError(
            "baco.hf.decode is for generate alone",
            hint="model.generate(..., custom_generate=baco.hf.decode, partner=base_model)",
        )
    asked = dict(inspect.signature(generate).bind(*outer["args"], **outer["kwargs"]).arguments)
    config = asked.pop("generation_config", None)
    more = asked.pop("kwargs", {})
    said = {} if config is None else {k: v for k, v in vars(config).items() if k[0] != "_"}
    return {k: v for k, v in (said | asked | more).items() if v is not None}


def _check(asked: dict[str, Any], model: Any, partner: Any, rows: int) -> None:
    """Raises InputError for what cannot be honoured."""
    for name, value in asked.items():
        if name in HONOURED or name in SPEED or (name in NEUTRAL and value == NEUTRAL[name]):
            continue
        shown = repr(value)
        raise InputError(
            f"baco.hf.decode cannot honour {name}={shown if len(shown) <= 60 else '...'}",
            hint="leave it out",
        )
    if asked.get("streamer") is not None and rows > 1:
        raise InputError("a streamer shows one answer", hint="one prompt, one returned sequence")
    for each in (model, partner):
        if not hasattr(each, "generation_config"):
            raise InputError(
                f"a partner cannot be {type(each).__name__}",
                hint="give a causal language model of transformers",
            )
        if each.training:
            raise InputError("a model is in training mode", hint="call model.eval() before")


def _warp(warp: Warp | None, asked: dict[str, Any]) -> Warp:
    """Returns the warps: given as such, or as arguments of `generate`."""
    given = {name: asked[name] for name in (*_SAMPLING, _REPETITION) if name in asked}
    greedy = asked.get("do_sample") is False
    if warp is None:
        penalties = Penalties(given.pop(_REPETITION, 1.0))
        if greedy:
            return Warp(temperature=0.0, penalties=penalties)
        filters = {_SAMPLING[name]: value for name, value in given.items()}
        return Warp(**filters, penalties=penalties)
    if given or ("do_sample" in asked and greedy != (warp.temperature == 0)):
        other = next(iter(given), "do_sample")
        raise InputError(f"warp and {other} say two things of one", hint="leave one out")
    return warp


def _vocabulary(
    models: tuple[Any, Any], tokenizers: tuple[Any, Any], asked: dict[str, Any]
) -> tuple[Vocabulary, int]:
    """Makes the tables that both models share; returns them and how many ids both know.

    Args:
        models: The aligned and the base model.
        tokenizers: Theirs.
        asked: For the tokens that end a row, and those that are never written.

    Raises:
        InputError: If the tokenizers differ.
    """
    ends: set[int] = set()
    if (eos := asked.get("eos_token_id")) is not None:
        ends |= {eos} if isinstance(eos, int) else set(torch.as_tensor(eos).flatten().tolist())
    else:
        for tokenizer, m in zip(tokenizers, models, strict=True):
            ends |= end_ids(tokenizer, m.config, m.generation_config)
    tokens = [token_bytes(tokenizer) for tokenizer in tokenizers]
    if not (shares_ids(tokens[0], tokens[1], ends) and cuts_alike(*tokenizers)):
        raise InputError(
            "the two models have different tokenizers", hint="use baco.Pair for such a pair"
        )
    longer = tokenizers[len(tokens[1]) > len(tokens[0])]
    vocabulary = vocabulary_of(longer, ends, models[0].device)
    if suppressed := asked.get("suppress_tokens"):
        allowed = vocabulary.allowed.clone()
        allowed[[i for i in suppressed if i < vocabulary.size]] = False
        vocabulary = replace(vocabulary, allowed=allowed)
    return vocabulary, min(map(len, tokens))


def _router(router: str | Router) -> Router:
    """Returns the router.

    Raises:
        InputError: If it judges text: here prompts are nothing but ids.
    """
    bound = parse(router) if isinstance(router, str) else router
    if bound.needs_text:
        raise InputError(
            f"the router {bound.name!r} judges text, and baco.hf.decode knows only token ids",
            hint="use another router, or baco.Pair",
        )
    return bound


def _models(
    models: tuple[Any, Any],
    tokenizers: tuple[Any, Any],
    vocabulary: Vocabulary,
    prompts: dict[str, tuple[int, ...]],
) -> Models:
    """Makes a pair, checked as every other, whose prompts are ids by name.

    Args:
        models: The base and the aligned model.
        tokenizers: Theirs.
        vocabulary: The tables that both share.
        prompts: What each name stands for.
    """

    def encode(conversation: Conversation) -> tuple[int, ...]:
        return prompts[conversation[0].content]

    longer = max(tokenizers, key=lambda tokenizer: len(token_bytes(tokenizer)))
    sides = []
    for name, model, tokenizer in zip(("base", "aligned"), models, tokenizers, strict=True):
        found = Checkpoint.find(model, tokenizer, "main", Loading())
        partner = found.partner(model, vocabulary, model.device, models[1].device, name)
        encode_text = text_encoder(tokenizer, set(vocabulary.end_ids))
        sides.append(
            Side(found.label, partner, encode, encode_text, token_bytes(longer), found.state)
        )
    return Models.from_sides(",".join(side.label for side in sides), *sides)


def _run(
    models: Models,
    rows: list[tuple[torch.Tensor, Task]],
    setting: Setting,
    criteria: Any,
    streamer: Any,
) -> list[_Answer]:
    """Decodes all rows, each a run of one session; each until it ends or a criterion stops it."""
    session = new_session(setting.max_rows)
    answers = {
        session.start(seated(models, [task], setting)): _Answer(prompt) for prompt, task in rows
    }
    while not session.idle:
        for run, updates in session.cycle():
            if run.error is not None:
                raise run.error
            answer = answers[run]
            for update in updates:
                if not isinstance(update, Chunk | Done):
                    continue
                token = update.id if isinstance(update, Chunk) else update.end
                if token is None:
                    continue
                answer.tokens.append(token)
                so_far = answer.prompt.new_tensor(answer.tokens)
                if streamer is not None:
                    streamer.put(so_far[-1:].cpu())
                if bool(criteria(torch.cat([answer.prompt, so_far])[None], None).all()):
                    session.cancel(run)
                    break
    if streamer is not None:
        streamer.end()
    return list(answers.values())


def _padding(config: Any, asked: dict[str, Any], vocabulary: Vocabulary) -> int:
    """Returns the id that fills the ends of shorter rows."""
    for name in (config.pad_token_id, asked.get("eos_token_id"), config.eos_token_id):
        if name is not None:
            return int(torch.as_tensor(name).flatten()[0])
    return min(vocabulary.end_ids)


def _padded(input_ids: torch.Tensor, answers: list[_Answer], padding: int) -> torch.Tensor:
    """Puts prompts and answers side by side, int64 [n, any]."""
    out = input_ids.new_full((len(answers), max(len(a.tokens) for a in answers)), padding)
    for i, answer in enumerate(answers):
        out[i, : len(answer.tokens)] = torch.tensor(answer.tokens, dtype=out.dtype)
    return torch.cat([input_ids, out], dim=1)


def _tokenizers(models: tuple[Any, Any], given: Any) -> tuple[Any, Any]:
    """Returns both models' tokenizers."""
    if given is not None:
        return given, given
    first, second = (load_tokenizer(m.config.name_or_path, "main", Loading()) for m in models)
    return first, second
