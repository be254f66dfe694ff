"""A pair of models that decode together: how to load one, and how to ask it.

Paper: §3, App. A.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack, overload

from baco.calibration import resolve
from baco.engine.loop import Stats
from baco.engine.router import Router
from baco.errors import InputError, UnknownNameError, UnsupportedError
from baco.group import Group, Sample
from baco.methods.base import Chunk, Done, Setting, Task, Update, tasks_for
from baco.methods.filters import Filter
from baco.methods.rollouts import Rollout, rollouts
from baco.methods.rollouts import check as check_law
from baco.methods.running import run
from baco.methods.settings import GenerateSettings, make_setting
from baco.models.checkpoints import Loading
from baco.models.endpoint import PREFIX
from baco.models.engines import ENGINES, OURS, Backend
from baco.models.known import (
    BasePrompt,
    check_pair_name,
    known_pair,
    label_of,
    locate,
    split_weights,
)
from baco.models.load import load_sides, not_to_be_mixed, plain_template
from baco.models.sides import Models
from baco.prompts import PlainTemplate, Prompt, conversation_of

logger = logging.getLogger("baco")


class Pair(Models):
    """A base and an aligned model.

    Args:
        base: The base model: a Hub id, a folder, or a model of transformers already loaded.
        aligned: The aligned model, in the same forms; None with an adapter.
        adapter: A LoRA adapter (Hub id or folder) that makes the aligned side out of the base.
        name: What to call the pair; by default made of the models' names.
        base_tokenizer: Needed with a loaded model, else loaded from where the model is.
        aligned_tokenizer: The same for the aligned side.
        device: ``auto`` (cuda, else mps, else cpu), a torch device, or two with a comma between,
            for the base and the aligned side: ``cuda:0,cuda:1``.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's own), ``float32``, ``bfloat16``,
            ``float16`` or ``float64``.
        attn_implementation: ``auto``, ``sdpa`` or ``eager``, see `baco.models.checkpoints.Loading`.
        load_in_8bit: Quantise weights to 8 bits (needs bitsandbytes).
        load_in_4bit: The same to 4 bits.
        revision: Branch, tag or commit on the Hub, for what has no revision of its own.
        base_revision: The base side's own.
        aligned_revision: The aligned side's (or the adapter's) own.
        base_weights: Share of the aligned model in the base side's weights, in [0, 1]: the base
            side is then a partially aligned model (§6.4 without training anything).
        base_prompt: ``plain``, or ``chat`` for a pair of two aligned models (§5.3).
        template: How conversations are written for a base model.
        trust_remote_code: Whether code from the checkpoints may run.
        shapes_only: Whether to leave the weights out, see `baco.models.memory`; such a pair
            cannot run.
        suits: Called with whether both sides have one tokenizer, before any weights are loaded:
            what it raises spares the wait.

    Raises:
        PairError: If a side cannot be had (missing, gated, no network) or is of a wrong kind.
        InputError: If an argument is out of range.
    """

    def __init__(
        self,
        base: Any,
        aligned: Any = None,
        *,
        adapter: str | Path | None = None,
        name: str | None = None,
        base_tokenizer: Any = None,
        aligned_tokenizer: Any = None,
        device: str = "auto",
        dtype: str = "auto",
        attn_implementation: str = "auto",
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        revision: str = "main",
        base_revision: str | None = None,
        aligned_revision: str | None = None,
        base_weights: float = 0.0,
        base_prompt: BasePrompt = "plain",
        template: PlainTemplate | None = None,
        trust_remote_code: bool = False,
        shapes_only: bool = False,
        suits: Callable[[bool], object] | None = None,
    ) -> None:
        if (aligned is None) == (adapter is None):
            raise InputError(
                "a pair needs an aligned model or an adapter, one of the two",
                hint="Pair(base=..., aligned=...) or Pair(base=..., adapter=...)",
            )
        if not 0 <= base_weights <= 1:
            raise InputError(
                f"base weights {base_weights:g} are out of range",
                hint="use 0 (the base model) to 1 (the aligned model)",
            )
        if base_prompt not in ("plain", "chat"):
            raise InputError(f"unknown base prompt {base_prompt!r}", hint="use plain or chat")
        sides = load_sides(
            base,
            aligned,
            adapter=str(adapter or ""),
            tokenizers=(base_tokenizer, aligned_tokenizer),
            revisions=(base_revision or revision, aligned_revision or revision),
            base_prompt=base_prompt,
            template=plain_template(template, base_prompt),
            loading=Loading(
                device,
                dtype,
                attn_implementation,
                load_in_8bit,
                load_in_4bit,
                trust_remote_code,
                shapes_only,
            ),
            base_weights=base_weights,
            suits=suits,
        )
        super().__init__(name or f"{sides[0].label},{sides[1].label}", sides, base_prompt, template)

    @classmethod
    def of(cls, models: Models) -> Pair:
        """Makes a pair of models that an engine has loaded."""
        pair = cls.from_sides(models.name, *models.sides)
        pair.base_prompt, pair.template = models.base_prompt, models.template
        return pair

    @classmethod
    def remote(cls, base: Any, aligned: Any, **options: Any) -> Pair:
        """Makes a pair of models behind OpenAI-compatible servers.

        Args:
            base: The base model: an `Endpoint`, or its spec ``URL#MODEL?tokenizer=FOLDER``. One of
                the two may also be a local model, as `Pair` takes them.
            aligned: The aligned model, likewise.
            **options: As `Pair`.

        Raises:
            InputError: If an endpoint is malformed.
            PairError: If a tokenizer cannot be had.
        """
        sides = (
            f"{PREFIX}{side}" if str(side).startswith(("http://", "https://")) else side
            for side in (base, aligned)
        )
        return cls(*sides, **options)

    def calibrated(self, router: str, diversity: float) -> Router | float:
        """Returns the router with the threshold that gives a diversity on this pair.

        Args:
            router: A router's spec without a threshold; for a method's name (`interpolate`) the
                value of its control is returned.
            diversity: The base model's share of words, in [0, 1]; what is out of the router's
                reach is clamped, and said so on the log.

        Raises:
            InputError: If it is out of range, or the pair is not calibrated for the router.
        """
        bound, info = resolve(self, router, diversity)
        if info.note:
            logger.warning(info.note)
        return bound

    def run(
        self, tasks: Sequence[Task], setting: Setting, *, keep: Filter | None = None
    ) -> Iterator[Update]:
        """Makes samples; arguments, updates and errors as of `baco.methods.running.run`."""
        return run(self, tasks, setting, keep=keep)

    @overload
    def generate(
        self,
        prompt: str | list[dict[str, str]],
        n: int = ...,
        *,
        system: str | None = ...,
        keep: Filter | None = ...,
        **settings: Unpack[GenerateSettings],
    ) -> Group: ...

    @overload
    def generate(
        self,
        prompt: list[str] | list[list[dict[str, str]]],
        n: int = ...,
        *,
        system: str | None = ...,
        keep: Filter | None = ...,
        **settings: Unpack[GenerateSettings],
    ) -> list[Group]: ...

    @overload
    def generate(
        self,
        prompt: Sequence[Any],
        n: int = ...,
        *,
        system: str | None = ...,
        keep: Filter | None = ...,
        **settings: Unpack[GenerateSettings],
    ) -> Any: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        n: int = 10,
        *,
        system: str | None = None,
        keep: Filter | None = None,
        **settings: Unpack[GenerateSettings],
    ) -> Group | list[Group]:
        """Answers one prompt, or several, n times each.

        Args:
            prompt: A question, a conversation (a list of messages), or a list of either.
            n: Samples per prompt.
            system: A system prompt for all of them.
            keep: A moderation filter: called with (prompt, text), it returns whether the text
                may be shown, or a text to show instead.
            **settings: What decides the samples, see `baco.methods.settings.make_setting`:
                method="baco", router="p-punc", gamma=None, diversity=None, control=None,
                temperature=1.0, top_p=0.9, top_k=0, min_p=0.0, repetition_penalty=1.0 (and
                other penalties), max_new_tokens=512, seed=0, stop=None, ban=None,
                distinct=None, restart_shorter_than=0, turn_rule=True, lookahead="auto", draft=None,
                max_rows=256.

        Returns:
            A group; for a list of prompts a list of groups, in the same order.

        Raises:
            InputError: If a prompt is empty or too long, or a setting is out of range.

        Paper: §4 (n = 10, T = 1, top-p 0.9).
        """
        single = _is_single(prompt)
        prompts = [prompt] if single else list(prompt)
        conversations = [conversation_of(p, system) for p in prompts]  # type: ignore[arg-type]
        tasks = tasks_for(conversations, n)
        samples: dict[int, Sample] = {}
        stats: Stats | None = None
        for update in self.run(tasks, self._setting(settings, n), keep=keep):
            if isinstance(update, Done):
                samples[update.task] = update.sample
            elif isinstance(update, Stats):
                stats = update
        groups = [
            Group(tuple(samples[task] for task in range(i * n, (i + 1) * n)), stats)
            for i in range(len(conversations))
        ]
        return groups[0] if single else groups

    def stream(
        self,
        prompt: Prompt,
        n: int = 1,
        *,
        system: str | None = None,
        keep: Filter | None = None,
        **settings: Unpack[GenerateSettings],
    ) -> Stream:
        """Answers one prompt and gives the tokens as they come.

        Args:
            prompt: A question or a conversation.
            n: Samples, decoded at the same time.
            system: As in `generate`.
            keep: As in `generate`; with a filter, a sample's tokens come when it has passed.
            **settings: As in `generate`.

        Returns:
            An iterator of (sample index, text, source); afterwards its `group` holds the
            samples. What may still be taken back is held back: the start of a stop string, and
            the first tokens with `restart_shorter_than`.
        """
        tasks = tasks_for([conversation_of(prompt, system)], n)
        return Stream(self.run(tasks, self._setting(settings, n), keep=keep))

    def rollouts(
        self,
        prompt: Prompt | Sequence[Prompt],
        n: int = 10,
        *,
        system: str | None = None,
        **settings: Unpack[GenerateSettings],
    ) -> Iterator[Rollout]:
        """Answers prompts and tells the law of every token: for training and for weights.

        Args:
            prompt: As in `generate`.
            n: As in `generate`.
            system: As in `generate`.
            **settings: As in `generate`.

        Returns:
            Roll-outs in the order in which they are finished, see `baco.methods.rollouts`.

        Raises:
            InputError: As `generate`; or if the settings change the law (see there).
            UnsupportedError: If the law of the method or router has no closed form.
        """  # fmt: skip
        prompts = [prompt] if _is_single(prompt) else list(prompt)
        conversations = [conversation_of(p, system) for p in prompts]  # type: ignore[arg-type]
        setting = self._setting(settings, n)
        check_law(self, setting)
        return rollouts(self, tasks_for(conversations, n), setting)

    def _setting(self, settings: GenerateSettings, n: int) -> Setting:
        try:
            return make_setting(**settings, n=n, calibration=self.calibrated)
        except TypeError:
            from inspect import signature

            names = set(signature(make_setting).parameters) - {"calibration", "n"}
            unknown = sorted(set(settings) - names)
            if not unknown:
                raise
            raise UnknownNameError("setting", unknown[0], names) from None


class Token(NamedTuple):
    """One streamed token.

    Attributes:
        sample: Index of the sample it belongs to.
        text: Its text; perhaps empty, where it holds part of a character.
        source: ``base`` or ``aligned``.
    """

    sample: int
    text: str
    source: str


class Stream:
    """Iterates over the tokens of a group that is being made.

    Args:
        updates: From `Pair.run`, over the tasks of one prompt.
    """

    def __init__(self, updates: Iterable[Update]) -> None:
        self._samples: dict[int, Sample] = {}
        self._stats: Stats | None = None
        self._tokens = self._read(updates)

    def __iter__(self) -> Iterator[Token]:
        return self

    def __next__(self) -> Token:
        return next(self._tokens)

    def _read(self, updates: Iterable[Update]) -> Iterator[Token]:
        for update in updates:
            if isinstance(update, Chunk):
                yield Token(update.task, update.text, update.source)
            elif isinstance(update, Done):
                self._samples[update.task] = update.sample
            elif isinstance(update, Stats):
                self._stats = update

    @property
    def group(self) -> Group:
        """The finished group; waits for what has not been read yet."""
        for _ in self._tokens:
            pass
        return Group(tuple(self._samples[i] for i in sorted(self._samples)), self._stats)


def _is_single(prompt: object) -> bool:
    """Whether this is one prompt, not a list of prompts."""
    if isinstance(prompt, str):
        return True
    return bool(prompt) and isinstance(prompt, Sequence) and isinstance(prompt[0], dict)


"""Who decodes: our own engine, or vLLM."""


def load(name: str, aligned: str | None = None, *, engine: str = OURS, **options: Any) -> Pair:
    """Loads a pair.

    Args:
        name: The name of a known pair (`baco pairs`), or ``BASE,ALIGNED``: Hub ids or folders.
            ``~0.3`` after either stands for base_weights=0.3.
        aligned: The aligned model, if `name` is the base model's id or folder.
        engine: Who decodes: ``baco``, ``vllm``, ``llamacpp`` (docs/), or what another package adds.
        **options: Device, dtype and so on, see `Pair`; for vLLM see
            `baco.vllm.load.load_vllm_pair`.

    Returns:
        The pair.

    Raises:
        UnknownNameError: If the name is unknown; close names are suggested.
        InputError: If base weights are no number, out of range or given twice.
        PairError: If a side cannot be had.
        UnsupportedError: If the engine is vLLM, and it is not installed.
    """
    backend = ENGINES[engine]

    def make(*sides: str | None, **options: Any) -> Pair:
        models = backend.load(*sides, **options)
        return models if isinstance(models, Pair) else Pair.of(models)

    name, weights = split_weights(name)
    if aligned is None:
        check_pair_name(name, adapter=options.get("adapter") is not None)
    if weights and options.get("base_weights"):
        raise InputError(
            "base weights are given twice", hint=f"leave out ~{weights:g}, or the other"
        )
    if weights:
        options["base_weights"] = weights
    if options.get("base_weights") and not backend.in_process:
        raise UnsupportedError(
            f"base weights are not for the engine {engine!r}, which loads checkpoints as they are",
            hint="leave them out, or use --engine baco",
        )
    if aligned is None and "," in name:
        name, _, aligned = (part.strip() for part in name.partition(","))
    if aligned is not None or "adapter" in options:
        return make(name, aligned, **options)
    known = known_pair(name)
    if options.get("base_weights") and not known.one_tokenizer:
        raise not_to_be_mixed(*(label_of(locate(side)) for side in (known.base, known.aligned)))
    if known.bundled and backend.in_process:
        options.setdefault("device", "cpu")  # so small that any other device would be slower
    if options.get("base_prompt", known.base_prompt) == "plain":
        options["template"] = options.get("template") or known.template
    pair = make(
        locate(known.base),
        locate(known.aligned) if known.aligned else None,
        adapter=locate(known.adapter) if known.adapter else None,
        **{
            "name": f"{name}~{weights:g}" if weights else name,
            "revision": known.revision,
            "base_prompt": known.base_prompt,
            **options,
        },
    )
    pair.known = known
    return pair


def _likelihood(model: Any, options: Any) -> Any:
    from baco.metrics.hf import Likelihood

    return Likelihood(model, options)


BACKEND = Backend(Pair, in_process=True, likelihood=_likelihood)
"""Our own engine, on models of transformers."""
