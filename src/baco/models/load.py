"""Loads the two sides of a pair: models, tokenizers compared, prompts, end tokens."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from baco.engine.lazy import torch
from baco.engine.partner import Partner
from baco.engine.vocabulary import Vocabulary
from baco.errors import (
    BacoError,
    InputError,
    PairError,
    UnsupportedError,
    first_line,
)
from baco.models.checkpoints import (
    DTYPES,
    MAIN,
    Loading,
    check_head,
    check_source,
    end_ids,
    load_config,
    load_model,
    load_tokenizer,
    local_file,
    no_revision,
    where,
)
from baco.models.endpoint import PREFIX, Endpoint
from baco.models.gguf import is_gguf, read_header
from baco.models.hf import HFPartner
from baco.models.known import BasePrompt, label_of
from baco.models.remote import RemotePartner, names_of
from baco.models.revisions import revision_of
from baco.models.sides import Encoder, Side, chat_encoder, plain_encoder, text_encoder
from baco.models.text_only import text_sides
from baco.models.tokens import (
    Tables,
    cuts_alike,
    shares_ids,
    tables_of,
    token_bytes,
    vocabulary_from,
    vocabulary_of,
    vocabulary_size,
)
from baco.models.verify import sample_ids, verify, verify_adapter
from baco.partners.bridge import BridgedPartner, bridge, encoder_of
from baco.prompts import PlainTemplate

logger = logging.getLogger("baco")

ModelSource = Any
"""A Hub id, a folder, a model of transformers, or a remote model: an `Endpoint`
or its spec."""


@dataclass(frozen=True)
class Checkpoint:
    """One model with its tokenizer, perhaps not loaded yet.

    Attributes:
        label: How to name it.
        tokenizer: Its tokenizer.
        config: Its configuration.
        model: The model, or None until it is needed.
        source: Where to load it from.
        revision: Its revision.
        endpoint: The server that has it, if it is remote.
    """

    label: str
    tokenizer: Any
    config: Any
    model: Any
    source: str
    revision: str
    endpoint: Endpoint | None = None

    @classmethod
    def find(
        cls, source: ModelSource, tokenizer: Any, revision: str, loading: Loading
    ) -> Checkpoint:
        """Loads all but the weights of a checkpoint, or takes a model as it is."""
        if isinstance(source, Endpoint):
            tokens = source.tokenizer
            if tokenizer is not None and revision != MAIN:
                raise no_revision(source.label, revision)
            found = tokenizer or load_tokenizer(tokens, revision, loading)
            return cls(source.label, found, None, None, tokens, revision, source)
        if isinstance(source, str | Path):
            name = str(source)
            check_source(name)
            if is_gguf(name):
                name, revision = str(local_file(name, revision)), MAIN
            config = load_config(name, revision, loading)
            return cls(
                label_of(name),
                tokenizer or load_tokenizer(name, revision, loading),
                config,
                None,
                name,
                revision,
            )
        if not hasattr(source, "config"):
            raise InputError(
                f"a model cannot be {type(source).__name__}",
                hint="give a Hub id, a folder or a model of transformers",
            )
        name = source.config.name_or_path or type(source).__name__
        if revision != MAIN:
            raise no_revision(f"{name}, which is loaded already,", revision)
        loading.check_loaded(name, source)
        if tokenizer is None:
            raise InputError(
                f"the tokenizer of {name} is missing",
                hint="give base_tokenizer and aligned_tokenizer along with loaded models",
            )
        return cls(name, tokenizer, source.config, source.eval(), "", revision)

    @cached_property
    def tables(self) -> Tables:
        """What is known of each token of the tokenizer."""
        return tables_of(self.tokenizer)

    def check_width(self) -> None:
        """Raises PairError if the model has too few token ids, as its configuration tells."""
        known = type(self.config).__module__.startswith("transformers.models.")  # not its own code
        if self.endpoint is None and self.model is None and known:
            width = self.config.get_text_config().vocab_size
            _check_widths(self.label, len(self.tables.tokens), scores=width, reads=width)

    def load(self, loading: Loading) -> Any:
        """Returns the model, loading it if need be; None if it is remote."""
        model = self.model
        if model is None and self.endpoint is None:
            model = load_model(self.source, self.revision, loading)
        return model

    def is_also(self, other: Checkpoint) -> bool:
        """Whether another one is the same weights, which need not be loaded again."""
        if self.model is not None or other.model is not None:
            return self.model is other.model
        if self.endpoint or other.endpoint:
            return False
        here, there = (Path(side.source).expanduser() for side in (self, other))
        same = self.source == other.source or (here.exists() and here.resolve() == there.resolve())
        return same and self.revision == other.revision

    def place(self, model: Any, loading: Loading) -> torch.device:
        """Returns where the model is, or will be; what a server says comes to the CPU."""
        if self.endpoint:
            return torch.device("cpu")
        place: torch.device = loading.torch_device if loading.shapes_only else model.device
        return place

    def partner(
        self,
        model: Any,
        vocabulary: Vocabulary,
        place: torch.device,
        device: torch.device,
        side: str = "",
    ) -> Partner:
        """Makes the partner: of a loaded model, or of the server's.

        Args:
            model: The model; None for a remote one.
            vocabulary: Its vocabulary.
            place: Where its weights are.
            device: Where its logits are wanted.
            side: Which side it is, for errors.
        """
        if self.endpoint is None:
            check_width(self.label, model, len(self.tables.tokens))
            partner = HFPartner(model, vocabulary, device)
            partner.label = f"the {side} model {partner.label}"
            partner.place = place
            if model.device.type != "meta":
                verify(partner)
            return partner
        names = names_of(self.tokenizer, self.tables.tokens)
        return RemotePartner(self.endpoint, vocabulary, names, device)

    @property
    def state(self) -> str:
        """A word that changes when the model does, as far as can be known."""
        if self.endpoint is None:
            return revision_of(self.source, self.config)
        return hashlib.blake2b(self.label.encode(), digest_size=6).hexdigest()

    @cached_property
    def ends(self) -> set[int]:
        """The ids that end a response, as far as known before the weights are loaded."""
        size = len(self.tables.tokens)
        found = end_ids(self.tokenizer, self.config, self._generation_config(), size)
        if self.model is None and is_gguf(self.source):
            found |= read_header(Path(self.source)).ends
        return found

    def _generation_config(self) -> Any:
        if self.model is not None:
            return self.model.generation_config
        if is_gguf(self.source):
            return None  # the header says what there is
        from transformers import GenerationConfig

        try:
            name, options = where(self.source, self.revision)
            return GenerationConfig.from_pretrained(name, **options)
        except OSError as error:
            if (Path(self.source) / "generation_config.json").is_file():
                raise PairError(
                    f"generation_config.json of {self.source} cannot be read, and it names the "
                    f"tokens that end an answer: {first_line(error)}",
                    hint="download it again, or delete it",
                ) from error
            return None  # few base models have one


def _source(source: ModelSource) -> ModelSource:
    """Returns a source, read if it is the spec of a remote model."""
    if isinstance(source, str) and source.startswith(PREFIX):
        return Endpoint.parse(source)
    return source


def same_tokens(one: Any, other: Any) -> bool:
    """Whether two tokenizers give text the same ids; names of special tokens may differ."""
    return one is other or (token_bytes(one) == token_bytes(other) and cuts_alike(one, other))


def load_sides(
    base: ModelSource,
    aligned: ModelSource,
    *,
    adapter: str,
    tokenizers: tuple[Any, Any],
    revisions: tuple[str, str],
    base_prompt: BasePrompt,
    template: PlainTemplate,
    loading: Loading,
    base_weights: float = 0.0,
    suits: Callable[[bool], object] | None = None,
) -> tuple[Side, Side]:
    """Loads both sides of a pair.

    Args:
        base: The base model.
        aligned: The aligned model; None with an adapter.
        adapter: A LoRA adapter on the base model, or empty.
        tokenizers: The sides' tokenizers, where they are not to be loaded.
        revisions: The sides' revisions.
        base_prompt: How the base side is prompted.
        template: The plain template.
        loading: Device, dtype and so on.
        base_weights: Share of the aligned model in the base side's weights, in [0, 1].
        suits: As of `baco.Pair`.

    Returns:
        (base, aligned); their partners have one vocabulary. Where the tokenizers differ, it
        holds the ids of both, see `baco.partners.bridge`.

    Raises:
        PairError: If a side cannot be had or is of the wrong kind.
    """
    base, aligned = (_source(side) for side in (base, aligned))
    if base_weights and any(isinstance(side, Endpoint) for side in (base, aligned)):
        raise UnsupportedError(
            "base weights mix the weights of both models, and a remote model's are not at hand",
            hint="leave them out, or load both models here",
        )
    if isinstance(base, Endpoint) and isinstance(aligned, Endpoint) and (idle := loading.asked()):
        logger.warning("both models are remote, so %s does nothing", " and ".join(idle))
    if not adapter and (texts := text_sides((base, aligned), tokenizers, base_prompt, template)):
        for side, revision in zip(texts, revisions, strict=True):
            if revision != MAIN:
                raise no_revision(side.label, revision)
        return texts
    if adapter and isinstance(base, Endpoint):
        raise InputError(
            "an adapter needs its base model's weights, and the base model is remote",
            hint="give the server's name of the adapted model as the aligned side",
        )
    if is_gguf(adapter):
        raise PairError(
            f"the adapter {adapter} is a GGUF file, and an adapter is a folder",
            hint="give the adapter's original folder or Hub id",
        )
    for side, revision in zip((base, aligned), revisions, strict=True):
        if isinstance(side, str | Path):  # both before either tokenizer is read
            check_head(str(side), revision)
    first = Checkpoint.find(base, tokenizers[0], revisions[0], loading.of_side(0))
    if adapter:
        return _adapter_sides(
            first, adapter, tokenizers[1], revisions[1], base_prompt, template, loading,
            base_weights,
        )  # fmt: skip
    same = isinstance(base, str | Path) and base == aligned and revisions[0] == revisions[1]
    second = Checkpoint.find(
        aligned,
        tokenizers[1] or (first.tokenizer if same else None),
        revisions[1],
        loading.of_side(1),
    )
    ends = first.ends | second.ends
    tokens = first.tables.tokens, second.tables.tokens
    one = shares_ids(*tokens, ends) and cuts_alike(first.tokenizer, second.tokenizer)
    if base_weights and not one:
        raise not_to_be_mixed(first.label, second.label)
    if suits is not None:
        suits(one)
    for checkpoint in (first, second):
        checkpoint.check_width()
    encoders = side_encoders(first, second.label, second.tokenizer, ends, base_prompt, template)
    boundaries = (template.boundary if base_prompt == "plain" else "", "")
    model = first.load(loading.of_side(0))
    devices = [loading.of_side(k).torch_device for k in (0, 1)]
    twice = not base_weights and devices[0] == devices[1] and first.is_also(second)
    models = (model, model if twice else second.load(loading.of_side(1)))
    if base_weights:
        from baco.models.interpolate import mix_base

        models = (mix_base(*models, base_weights), models[1])
    # Where the models are to be: without weights they are nowhere yet.
    places = tuple(
        checkpoint.place(model, loading.of_side(k))
        for k, (checkpoint, model) in enumerate(zip((first, second), models, strict=True))
    )
    device = places[1]
    if one:
        longer = first if len(tokens[0]) > len(tokens[1]) else second
        shared = vocabulary_from(longer.tables, ends, device)
        vocabularies: tuple[Vocabulary, Vocabulary] = (shared, shared)
    else:
        logger.warning(
            "the tokenizers of %s and %s differ: the sides exchange text at word boundaries, "
            "in lock-step",
            first.label,
            second.label,
        )
        vocabularies = (
            vocabulary_from(first.tables, first.ends, device),
            vocabulary_from(second.tables, second.ends, device),
        )
    sides: list[Side] = []
    for checkpoint, model, place, vocabulary, encode, pieces, boundary in zip(
        (first, second),
        models,
        places,
        vocabularies,
        encoders,
        tokens,
        boundaries,
        strict=True,
    ):
        sides.append(
            Side(
                checkpoint.label,
                checkpoint.partner(
                    model, vocabulary, place, device, "aligned" if sides else "base"
                ),
                encode,
                text_encoder(checkpoint.tokenizer, ends),
                pieces,
                checkpoint.state,
                boundary,
            )
        )
    if vocabularies[0] is vocabularies[1]:
        _say_if_in_lock_step(sides)
        return _moved(sides[0], base_weights), sides[1]
    opening = template.opening if base_prompt == "plain" else ""
    return bridged(sides[0], sides[1], (first.tokenizer, second.tokenizer), opening)


def not_to_be_mixed(one: str, other: str) -> InputError:
    """What is wrong with mixing the weights of two models with different tokenizers."""
    return InputError(
        f"the tokenizers of {one} and {other} differ: their weights cannot be mixed",
        hint="leave out base weights",
    )


def _moved(side: Side, base_weights: float) -> Side:
    """Returns the base side under the name and revision of its mixed weights."""
    if not base_weights:
        return side
    return replace(
        side,
        label=f"{side.label} with {base_weights:g} of the aligned weights",
        revision=f"{side.revision}~{base_weights:g}",
    )


def _say_if_in_lock_step(sides: Sequence[Side]) -> None:
    """Tells, once for a pair, that a model's state cannot forget guesses."""
    why: dict[str, list[str]] = {}
    for side in sides:
        if not side.partner.abilities.rewinds:
            reason = getattr(side.partner, "recomputes", "its state cannot be set back")
            why.setdefault(reason, []).append(side.label)
    for reason, labels in why.items():
        logger.warning(
            "%s: %s: the pair decodes in lock-step, and slowly", " and ".join(labels), reason
        )


def load_draft(source: str, aligned: Side) -> HFPartner:
    """Loads a small model that guesses ahead for a pair, where and as its aligned side is.

    Args:
        source: A Hub id or a folder.
        aligned: The pair's aligned side.

    Raises:
        PairError: If the model cannot be had.
        InputError: If its tokenizer is not the pair's.
        UnsupportedError: If the pair or the model cannot look ahead.
    """
    partner = aligned.partner
    if not isinstance(partner, HFPartner) or not partner.abilities.rewinds:
        raise UnsupportedError(
            "this pair cannot look ahead, so a draft is of no use", hint="leave out the draft"
        )
    dtype = str(partner.model.dtype).removeprefix("torch.")
    loading = Loading(
        str(partner.place),
        dtype if dtype in DTYPES else "auto",
        shapes_only=partner.model.device.type == "meta",
    )
    found = Checkpoint.find(source, None, "main", loading)
    size = len(aligned.token_bytes)
    if not shares_ids(
        token_bytes(found.tokenizer), aligned.token_bytes, partner.vocabulary.end_ids
    ):
        raise InputError(
            f"the draft model {found.label} has another tokenizer than the pair",
            hint="use a small model of the same family, or prompt-lookup",
        )
    model = found.load(loading)
    if embeds(model) < size:
        raise InputError(
            f"the draft model {found.label} knows {embeds(model)} token ids, and the aligned "
            f"side's prompts may hold {size}",
            hint="use a draft of the aligned model's own family, or prompt-lookup",
        )
    check_width(found.label, model, vocabulary_size(found.tokenizer))
    draft = HFPartner(model, partner.vocabulary, partner.device)
    draft.label = f"the draft model {draft.label}"
    draft.place = found.place(model, loading)
    if model.device.type != "meta":
        verify(draft)
    if not draft.abilities.rewinds:
        raise UnsupportedError(
            f"the draft model {found.label} cannot forget guesses: {draft.recomputes}",
            hint="use a model with attention only, or prompt-lookup",
        )
    return draft


def bridged(
    base: Side, aligned: Side, tokenizers: tuple[Any, Any], opening: str
) -> tuple[Side, Side]:
    """Lets two sides with different tokenizers share ids: the aligned side's come first.

    Args:
        base: The base side, with its own vocabulary.
        aligned: The aligned side, with its own.
        tokenizers: Their tokenizers.
        opening: What stands before an answer in the base side's prompts, see
            `PlainTemplate.opening`; "" for chat prompts.
    """
    tokens = (base.token_bytes, aligned.token_bytes)
    partners = bridge(
        base.partner,
        aligned.partner,
        tokens,
        (encoder_of(tokenizers[0], tokens[0]), encoder_of(tokenizers[1], tokens[1])),
        opening,
    )
    return _over(base, partners[0]), _over(aligned, partners[1])


def _over(side: Side, partner: BridgedPartner) -> Side:
    """Returns a side whose prompts and tokens are shared ids."""
    return replace(
        side,
        partner=partner,
        encode=lambda conversation: partner.to_shared(side.encode(conversation)),
        encode_text=lambda text: partner.to_shared(side.encode_text(text)),
        token_bytes=partner.tokens,
    )


def plain_template(template: PlainTemplate | None, base_prompt: BasePrompt) -> PlainTemplate:
    """Returns the plain template of a pair: the one that was given, if it has a use, or ours.

    Raises:
        InputError: If one was given and the base side is prompted by its chat template.
    """
    if template is not None and base_prompt == "chat":
        raise InputError(
            "a plain template is for a base model that is prompted by it, and this one has a chat "
            "prompt",
            hint="leave out template, or base_prompt='chat'",
        )
    return template or PlainTemplate()


def side_encoders(
    base: Checkpoint,
    aligned_label: str,
    aligned_tokenizer: Any,
    ends: set[int],
    base_prompt: BasePrompt,
    template: PlainTemplate,
) -> tuple[Encoder, Encoder]:
    """Makes both sides' encoders; refuses sides without a chat template that need one."""
    aligned = chat_encoder(aligned_tokenizer, aligned_label)
    if base_prompt == "chat":
        return chat_encoder(base.tokenizer, base.label), aligned
    return plain_encoder(text_encoder(base.tokenizer, ends), template), aligned


def embeds(model: Any) -> int:
    """How many token ids a model can read."""
    table = model.get_input_embeddings()
    known = getattr(table, "num_embeddings", None) or model.config.get_text_config().vocab_size
    return int(known)


def check_width(label: str, model: Any, size: int) -> None:
    """Raises PairError if a model cannot read or score all token ids."""
    head = model.get_output_embeddings()
    width = model.config.get_text_config().vocab_size if head is None else head.weight.shape[0]
    _check_widths(label, size, scores=width, reads=embeds(model))


def _check_widths(label: str, size: int, **widths: int) -> None:
    for does, count in widths.items():
        if count < size:
            raise PairError(
                f"{label} {does} {count} token ids, but its tokenizer has {size}",
                hint="model and tokenizer do not belong together",
            )


def _adapter_sides(
    base: Checkpoint,
    adapter: str,
    tokenizer: Any,
    revision: str,
    base_prompt: BasePrompt,
    template: PlainTemplate,
    loading: Loading,
    base_weights: float = 0.0,
) -> tuple[Side, Side]:
    """Makes both sides of one set of weights and a LoRA adapter."""
    from baco.models.lora import load_adapter, lora_partners, refuse_kinds

    check_source(adapter)
    _ = where(adapter, revision)
    if "," in loading.device:
        raise InputError(
            "an adapter's two sides are one set of weights and cannot be on two devices",
            hint="name one device",
        )
    if tokenizer is None:
        try:
            tokenizer = load_tokenizer(adapter, revision, loading)
        except BacoError:
            tokenizer = base.tokenizer  # adapters often come without one
    if not same_tokens(base.tokenizer, tokenizer):
        raise PairError(
            f"the adapter {adapter} has another tokenizer than {base.label}",
            hint="an adapter must keep the base model's token ids",
        )
    ends = base.ends | end_ids(tokenizer, base.config)
    encoders = side_encoders(base, label_of(adapter), tokenizer, ends, base_prompt, template)
    vocabulary = vocabulary_of(tokenizer, ends, loading.torch_device)
    bare = base.load(loading)
    check_width(base.label, bare, vocabulary.size)
    alone = HFPartner(bare, vocabulary)
    alone.label = f"the base model {alone.label}"
    ids, untouched = sample_ids(alone), torch.zeros(0)
    if not loading.shapes_only:
        verify(alone)
        untouched = alone.all_logits(ids)
    if not alone.abilities.rewinds:
        raise UnsupportedError(
            f"an adapter on {base.label} cannot share its weights with it: {alone.recomputes}",
            hint="merge the adapter into a copy of the model, and load both as two checkpoints",
        )
    model = load_adapter(bare, adapter, revision, base.source or base.label)
    what = f"the adapter {adapter} ({refuse_kinds(model, adapter)})"
    partners = lora_partners(model, vocabulary)
    for name, partner in zip(("base", "aligned"), partners, strict=True):
        partner.label = f"the {name} side of {partner.label}"
    if not loading.shapes_only and not verify_adapter(partners, untouched, ids, what):
        logger.warning("%s changes nothing: both sides are the base model", what)
    if loading.shapes_only:
        for partner in partners:
            partner.place = partner.device = loading.torch_device
    if base_weights:
        partners = (partners[0].at(base_weights), partners[1])
    encode_text = text_encoder(tokenizer, ends)
    pieces: Sequence[bytes] = token_bytes(tokenizer)
    return (
        _moved(
            Side(
                base.label,
                partners[0],
                encoders[0],
                encode_text,
                pieces,
                revision_of(base.source, base.config),
                template.boundary if base_prompt == "plain" else "",
            ),
            base_weights,
        ),
        Side(
            f"{base.label} with {label_of(adapter)}",
            partners[1],
            encoders[1],
            encode_text,
            pieces,
            revision_of(adapter, model.peft_config),
        ),
    )
