"""Loads a pair into vLLM: ``baco.load(..., engine="vllm")``."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from baco.errors import BacoError, InputError, UnknownNameError, UnsupportedError, first_line
from baco.models.checkpoints import Loading, check_source, load_model, load_tokenizer, where
from baco.models.gguf import is_gguf
from baco.models.known import BasePrompt
from baco.models.load import Checkpoint, plain_template, side_encoders
from baco.models.revisions import revision_of
from baco.models.sides import Models, Side, text_encoder
from baco.models.tokens import token_bytes, vocabulary_size
from baco.prompts import PlainTemplate
from baco.vllm.engine import Runtime, VllmPartner
from baco.vllm.inside.pair import Checkpoints, overrides
from baco.vllm.inside.plugin import CARRIER
from baco.vllm.inside.versions import check

_MINE = {
    "model",
    "tokenizer",
    "hf_overrides",
    "logits_processors",
    "logprobs_mode",
    "skip_tokenizer_init",
}
"""Options of vLLM that loading a pair sets itself."""

_ALIVE: list[Any] = []
"""Engines in this process. They share vLLM's process group, which the first to go would take away
from the others; so they live as long as the process."""

_CPU_CACHE = 2**30  # bytes; vLLM would take 90 % of all memory


def load_vllm_pair(
    base: str,
    aligned: str | None = None,
    *,
    adapter: str | Path | None = None,
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    revision: str = "main",
    base_revision: str | None = None,
    aligned_revision: str | None = None,
    base_prompt: BasePrompt = "plain",
    template: PlainTemplate | None = None,
    trust_remote_code: bool = False,
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
    **options: Any,
) -> Models:
    """Loads both models of a pair into one vLLM engine.

    Args:
        base: The base model: a Hub id or a folder.
        aligned: The aligned model; None with an adapter.
        adapter: A LoRA adapter that makes the aligned side out of the base; it is merged.
        name: What to call the pair.
        device: ``auto`` or the kind of device that the installed vLLM is made for.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's own) or a torch dtype's name.
        revision: As of `Pair`.
        base_revision: As of `Pair`.
        aligned_revision: As of `Pair`.
        base_prompt: As of `Pair`.
        template: As of `Pair`.
        trust_remote_code: As of `Pair`.
        load_in_8bit: Refused: vLLM quantises in its own ways.
        load_in_4bit: The same.
        **options: vLLM's own engine arguments, such as `tensor_parallel_size`.

    Returns:
        The pair; its `generate`, `stream` and `run` are the same as ever.

    Raises:
        UnsupportedError: If vLLM is not installed, or is not a version that this is tested with.
        UnknownNameError: If an option is unknown.
        PairError: If a side cannot be had, or the tokenizers differ.
    """
    environment()
    if (aligned is None) == (adapter is None):
        raise InputError(
            "a pair needs an aligned model or an adapter, one of the two",
            hint="give one of them",
        )
    if load_in_8bit or load_in_4bit:
        raise UnsupportedError(
            "vLLM quantises in its own ways",
            hint="give its own option quantization, or load in bfloat16",
        )
    if not isinstance(base, str) or not isinstance(aligned, str | None):
        raise InputError("vLLM loads models itself", hint="give Hub ids or folders")
    if any(is_gguf(source) for source in (base, aligned or "")):
        raise UnsupportedError(
            "a pair in vLLM cannot be of GGUF files",
            hint="give the original checkpoints, or leave out --engine vllm",
        )
    if options:  # to know them, vLLM is imported
        _check_options(options)
    if device != "auto":
        _check_device(device)
    revisions = (base_revision or revision, aligned_revision or revision)
    loading = Loading(device="cpu", dtype=dtype, trust_remote_code=trust_remote_code)
    asked = (dtype, trust_remote_code, options)
    with contextlib.ExitStack() as stack:
        label = ""
        if adapter is not None:
            label = f"{base} with {adapter}"
            twice = Checkpoints.find(base, base, (revisions[0],) * 2, loading)
            with _refusals():  # what vLLM refuses, it refuses before weights are read and merged
                _arguments(twice, revisions, *asked).create_engine_config()
            merged = stack.enter_context(_merged(base, str(adapter), revisions, loading))
            aligned, revisions = merged, (revisions[0], "main")
        assert aligned is not None
        both = Checkpoints.find(base, aligned, revisions, loading)
        plain = plain_template(template, base_prompt)
        made = side_encoders(
            both.base,
            label or both.aligned.label,
            both.aligned.tokenizer,
            both.ends,
            base_prompt,
            plain,
        )
        with _refusals():
            runtime = _start(both, _arguments(both, revisions, *asked))
        vocabulary = both.vocabulary("cpu")
        pieces = token_bytes(both.aligned.tokenizer)
        boundaries = (plain.boundary if base_prompt == "plain" else "", "")
        sides = []
        for side, checkpoint, encode, boundary in zip(
            ("base", "aligned"), (both.base, both.aligned), made, boundaries, strict=True
        ):
            sides.append(
                Side(
                    (label if side == "aligned" else "") or checkpoint.label,
                    VllmPartner(side, runtime, vocabulary, _window(checkpoint) or runtime.window),
                    encode,
                    text_encoder(checkpoint.tokenizer, both.ends),
                    pieces,
                    revision_of(checkpoint.source, checkpoint.config),
                    boundary,
                )
            )
    name = name or f"{sides[0].label},{sides[1].label}"
    return Models(name, (sides[0], sides[1]), base_prompt, template)


def environment() -> None:
    """Checks vLLM, and sets what it reads from its environment, where the user has not.

    Raises:
        UnsupportedError: If it is not installed, or its version is not a tested one.
    """
    check()
    for key, value in {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # what is generated goes to stdout
    }.items():
        os.environ.setdefault(key, value)


def keep_alive(engine: Any) -> None:
    """Keeps an engine for as long as the process lives, if it lives in this process."""
    if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
        _ALIVE.append(engine)


def memory() -> dict[str, Any]:
    """Returns options that suit a CPU, if vLLM runs on one."""
    from vllm.platforms import current_platform

    if current_platform.device_type != "cpu":
        return {}
    return {"dtype": "float32", "kv_cache_memory_bytes": _CPU_CACHE}


def _check_options(options: dict[str, Any]) -> None:
    drafting = options.get("speculative_config")
    if not isinstance(drafting, dict | None):
        raise InputError(
            f"speculative_config={drafting!r} is no table",
            hint='such as {"num_speculative_tokens": 4}',
        )
    from vllm.engine.arg_utils import EngineArgs

    known = {f.name for f in fields(EngineArgs)} - _MINE
    for option in options:
        if option not in known:
            raise UnknownNameError("option of vLLM", option, known)


def _check_device(device: str) -> None:
    from vllm.platforms import current_platform

    kind = str(current_platform.device_type)
    if device.partition(":")[0] != kind:
        raise UnsupportedError(
            f"the installed vLLM is made for {kind}, not for {device}",
            hint="install its build for your device, or leave out the device",
        )


def _start(both: Checkpoints, arguments: Any) -> Runtime:
    """Starts vLLM with both models, by its `EngineArgs`."""
    from vllm.v1.engine.llm_engine import LLMEngine

    engine = LLMEngine.from_engine_args(arguments)
    keep_alive(engine)
    ends = frozenset(i for i in both.ends if i < vocabulary_size(both.aligned.tokenizer))
    return Runtime(engine, ends, engine.model_config.max_model_len)


def _arguments(
    both: Checkpoints,
    revisions: tuple[str, str],
    dtype: str,
    trust_remote_code: bool,
    options: dict[str, Any],
) -> Any:
    """What vLLM is started with: its `EngineArgs`."""
    from vllm.engine.arg_utils import EngineArgs

    local = Path(both.aligned.source).expanduser().is_dir()
    given: dict[str, Any] = {
        "model": both.aligned.source,
        "revision": None if local else revisions[1],
        "hf_overrides": overrides(
            both.base.source,
            None if Path(both.base.source).expanduser().is_dir() else revisions[0],
        ),
        "trust_remote_code": trust_remote_code,
        "disable_log_stats": True,
        "max_num_seqs": 256,
        "dtype": dtype,
    }
    windows = [window for side in (both.base, both.aligned) if (window := _window(side))]
    if windows:
        given["max_model_len"] = min(windows)
    given |= memory() | ({} if dtype == "auto" else {"dtype": dtype}) | options
    if isinstance(drafting := given.get("speculative_config"), dict):
        given["speculative_config"] = {"method": CARRIER} | drafting
    return EngineArgs(**given)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Says in one line what vLLM does not take.

    Raises:
        UnsupportedError: Instead of what vLLM raises.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise UnsupportedError(
            f"vLLM cannot load this pair: {_reason(error)}",
            hint="its log says more (VLLM_LOGGING_LEVEL=INFO)",
        ) from error


def _reason(error: Exception) -> str:
    """The first thing that is wrong; pydantic's own first line only counts them."""
    found = error.errors() if isinstance(error, ValidationError) else []
    if not found:
        return first_line(error)
    place = ".".join(str(part) for part in found[0]["loc"])
    said = next(iter(found[0]["msg"].removeprefix("Value error, ").splitlines()), "")
    return f"{place}: {said}" if place else said


def _window(side: Checkpoint) -> int:
    """The longest sequence that a checkpoint takes; 0 if it does not say."""
    return int(getattr(side.config.get_text_config(), "max_position_embeddings", 0) or 0)


@contextlib.contextmanager
def _merged(base: str, adapter: str, revisions: tuple[str, str], loading: Loading) -> Iterator[str]:
    """Merges a LoRA adapter into a copy of the base model, for as long as it takes to load it.

    Two full sets of weights stand in memory then, as for any pair.

    Raises:
        BacoError: If peft is not installed.
    """
    from baco.models.lora import load_adapter

    check_source(adapter)
    _ = where(adapter, revisions[1])
    found = Checkpoint.find(base, None, revisions[0], loading)
    with tempfile.TemporaryDirectory(prefix="baco-merged-") as folder:
        model = load_adapter(load_model(base, revisions[0], loading), adapter, revisions[1], base)
        merge = getattr(model, "merge_and_unload", None)
        if merge is None:  # of a prompt there is nothing to merge
            kind = type(model).__name__
            raise UnsupportedError(
                f"the adapter {adapter} ({kind}) cannot be merged into its model, and vLLM has "
                "two models",
                hint="use an adapter of weights, such as LoRA",
            )
        merge().save_pretrained(folder)
        tokenizer = found.tokenizer
        with contextlib.suppress(BacoError):  # adapters often come without one
            tokenizer = load_tokenizer(adapter, revisions[1], loading)
        tokenizer.save_pretrained(folder)
        yield folder
