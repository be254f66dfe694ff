"""Loads tokenizers and models through transformers, and says clearly why one cannot be had."""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from baco.engine.lazy import torch
from baco.errors import BacoError, InputError, PairError, first_line
from baco.models.folders import cache_folder
from baco.models.gguf import (
    SUFFIX,
    check_whole,
    gguf_path,
    hub_file,
    is_gguf,
    kept,
    no_bar,
    only_own,
    read_header,
)
from baco.models.linear import use_onednn
from baco.models.load_lock import LOADING
from baco.models.tokens import LARGE, vocabulary_size

logger = logging.getLogger("baco")

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")

MAIN = "main"
"""The revision on the Hub that is meant where none is named."""

END_NAMES = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|turn_end|>",
)
"""Names that chat models give to the end of a turn or of a text, where they have such a token."""


_SCALES = re.compile(r"(scales?|scale_inv|zeros|zero_point|g_idx|absmax|quant_map|quant_state.*)$")
"""How tensors end that say what quantised weights mean."""

_WHOLE = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64")
"""What safetensors calls whole numbers."""

_NO_END = -1
"""What old configurations write where there is no end token."""


@dataclass(frozen=True)
class Loading:
    """How checkpoints are loaded.

    Attributes:
        device: ``auto`` (cuda, else mps, else cpu), a torch device, or two with a comma between:
            the base and the aligned side's.
        dtype: ``auto`` (float32 on a CPU, else the checkpoint's own) or a torch dtype's name.
        attn_implementation: ``sdpa``, ``eager``, or ``auto``: what transformers takes for the
            model, ``sdpa`` unless it computes what that cannot (Gemma 2's soft caps).
        load_in_8bit: Quantise to 8 bits while loading (needs bitsandbytes).
        load_in_4bit: The same to 4 bits.
        trust_remote_code: Whether code from the checkpoint may run.
        shapes_only: Whether to leave the weights out: such a model cannot run, but its memory can
            be predicted.

    Raises:
        InputError: If a value is not known or not possible on this machine.
    """

    device: str = "auto"
    dtype: str = "auto"
    attn_implementation: str = "auto"
    load_in_8bit: bool = False
    load_in_4bit: bool = False
    trust_remote_code: bool = False
    shapes_only: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f"unknown dtype {self.dtype!r}", hint=f"use {', '.join(DTYPES)}")
        if self.attn_implementation not in ("auto", "sdpa", "eager"):
            raise InputError(
                f"attention implementation {self.attn_implementation!r} is not supported",
                hint="use auto, sdpa or eager: others cannot decode rows of unequal length",
            )
        if self.load_in_8bit and self.load_in_4bit:
            raise InputError("8-bit and 4-bit loading are both asked for", hint="choose one")
        if self.device.count(",") > 1:
            raise InputError(
                f"device {self.device!r} names more than two",
                hint="use one, or the base and the aligned side's: cuda:0,cuda:1",
            )
        for name in self.device.split(","):
            _ = _device(name)

    def of_side(self, side: int) -> Loading:
        """Returns how one side is loaded: 0 base, 1 aligned."""
        devices = self.device.split(",")
        return replace(self, device=devices[min(side, len(devices) - 1)])

    def asked(self) -> list[str]:
        """Names what is asked of a model's weights, other than by default."""
        return [
            name
            for name in ("device", "dtype", "attn_implementation", "load_in_8bit", "load_in_4bit")
            if getattr(self, name) not in ("auto", False)
        ]

    def check_loaded(self, name: str, model: Any) -> None:
        """Raises InputError if a model that is loaded already is not as it is asked to be.

        Args:
            name: What to call it.
            model: The model.
        """
        from baco.models.grouped import attention_of

        attention = attention_of(model.config.get_text_config())
        is_so = {
            "device": model.device == self.torch_device,
            "dtype": model.dtype == self.torch_dtype,
            "attn_implementation": attention == self.attention,
        }
        quantised = getattr(model, "is_quantized", False)
        for option in self.asked():
            if not is_so.get(option, quantised):
                raise InputError(
                    f"{name} is loaded already, so {option}={getattr(self, option)!r} would do "
                    "nothing",
                    hint="load it so yourself, or give its folder or Hub id",
                )

    @property
    def attention(self) -> str | None:
        """The attention implementation for transformers."""
        return None if self.attn_implementation == "auto" else self.attn_implementation

    @property
    def torch_device(self) -> torch.device:
        """The device, ``auto`` resolved; of two the aligned side's, where scores are compared."""
        return _device(self.device.rpartition(",")[2])

    @property
    def torch_dtype(self) -> torch.dtype | Literal["auto"]:
        """The dtype for transformers, ``auto`` resolved on a CPU."""
        if self.dtype != "auto":
            dtype: torch.dtype = getattr(torch, self.dtype)
            return dtype
        return torch.float32 if self.torch_device.type == "cpu" else "auto"

    @property
    def quantised(self) -> bool:
        """Whether weights are quantised while loading."""
        return self.load_in_8bit or self.load_in_4bit


def _device(name: str) -> torch.device:
    """Resolves the name of a device.

    Raises:
        InputError: If it is unknown, or this machine does not have it.
    """
    name = name.strip()
    mps = torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"unknown device {name!r}", hint="use auto, cpu, cuda, cuda:1 or mps"
        ) from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    absent = (device.type == "cuda" and (device.index or 0) >= count) or (
        device.type == "mps" and not mps
    )
    if absent:
        raise InputError(
            f"this machine has no device {name!r} that torch can use",
            hint="use --device cpu, or install a build of torch for your accelerator",
        )
    return torch.empty(0, device=device).device  # with its number: cuda is cuda:0


@cache
def hub_is_near() -> bool:
    """Whether the Hub can be reached; asked once, because its client waits long for a no."""
    from huggingface_hub.constants import ENDPOINT

    if urllib.request.getproxies():
        return True  # only the client knows the way
    address = urllib.parse.urlsplit(ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def where(source: str, revision: str) -> tuple[str, dict[str, Any]]:
    """Returns what `from_pretrained` is to load, and the arguments that say where to look.

    Args:
        source: A folder, a GGUF file or a Hub id.
        revision: The revision on the Hub. Without network what was downloaded before is used.

    Raises:
        InputError: If a folder's or a file's revision is asked for: it has none but its own.
        BacoError: If it is a GGUF file that cannot be used.
    """
    if is_gguf(source):
        path = local_file(source, revision)
        _ = read_header(path)
        return str(path.parent), {"gguf_file": path.name, "local_files_only": True}
    if Path(source).expanduser().is_dir():
        if revision != MAIN:
            raise no_revision(f"the folder {source}", revision)
        return source, {"local_files_only": True}
    return source, {"revision": revision, "local_files_only": not hub_is_near()}


def local_file(source: str, revision: str) -> Path:
    """Returns where a GGUF file is on this machine, downloading it if it is on the Hub."""
    here = Path(source).expanduser().is_file()
    if here and revision != MAIN:
        raise no_revision(f"the file {source}", revision)
    on_hub = not here and hub_file(source) is not None
    with refusals(source, revision):
        return gguf_path(source, revision, near=on_hub and hub_is_near())


def no_revision(what: str, revision: str) -> InputError:
    """Makes the error for what is there in one state only, whatever revision is asked for."""
    return InputError(
        f"{what} has no revision {revision!r}: revisions are of models on the Hub",
        hint="leave it out, or name the side that it is for: base_revision, aligned_revision",
    )


def check_source(source: str) -> None:
    """Raises PairError if a source is plainly a path, and no model is there."""
    path = Path(source).expanduser()
    if is_gguf(source):
        return
    if path.is_dir():
        files = sorted(file.name for file in path.glob(f"*{SUFFIX}"))
        if files and not (path / "config.json").is_file():
            raise PairError(
                f"the folder {source!r} holds a model as GGUF",
                hint=f"name the file: {path / files[0]}"
                + (f", or another of {len(files)}" if len(files) > 1 else ""),
            )
        if not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise PairError(
                f"the folder {source!r} holds no model",
                hint="it must hold config.json, the tokenizer's files and *.safetensors",
            )
        return
    if path.exists():
        raise PairError(
            f"{source!r} is a file, not a model folder", hint="give its folder, or a .gguf file"
        )
    if source.startswith(("/", ".", "~")) or source.count("/") != 1:
        raise PairError(
            f"there is no folder {source!r}",
            hint="give an existing folder, or a Hub id such as Qwen/Qwen2.5-0.5B",
        )


def check_head(source: str, revision: str) -> None:
    """Looks at a source, and at a GGUF file's header, before anything else is read.

    Raises:
        PairError: If no model is there, or the file cannot be used.
    """
    check_source(source)
    if is_gguf(source):
        _ = read_header(local_file(source, revision))


def load_config(source: str, revision: str, loading: Loading) -> Any:
    """Loads a model's configuration.

    Raises:
        PairError: If it cannot be had, or the model is not a decoder-only language model.
    """
    from transformers import AutoConfig

    check_source(source)
    folder = Path(source).expanduser()
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise PairError(
            f"{source} holds an adapter, and no model",
            hint="give its base model, and this as the adapter: --adapter, adapter=",
        )
    with refusals(source, revision):
        name, options = where(source, revision)
        read: Callable[[], Any] = partial(
            AutoConfig.from_pretrained,
            name,
            **options,
            trust_remote_code=loading.trust_remote_code,
        )
        if is_gguf(source):
            place = _kept_in(source, revision, "config")
            config = kept(place, AutoConfig, read, _same_config)
            config.name_or_path = source
        else:
            config = read()
    if getattr(config, "is_encoder_decoder", False):
        raise PairError(
            f"{source} is an encoder-decoder model ({config.model_type})",
            hint="BaCo needs decoder-only language models",
        )
    return config


def load_tokenizer(source: str, revision: str, loading: Loading) -> Any:
    """Loads a tokenizer.

    Raises:
        PairError: If it cannot be had.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with refusals(source, revision):
        name, options = where(source, revision)
        read: Callable[[], Any] = partial(
            AutoTokenizer.from_pretrained,
            name,
            **options,
            trust_remote_code=loading.trust_remote_code,
        )
        if not is_gguf(source):
            return read()
        size = read_header(local_file(source, revision)).ids
        place = _kept_in(source, revision, "tokenizer")
        tokenizer = kept(
            place, PreTrainedTokenizerFast, lambda: only_own(read(), size), _same_tokenizer
        )
        tokenizer.name_or_path = name
        return tokenizer


def _kept_in(source: str, revision: str, what: str) -> Path | None:
    """Folder of what a GGUF file's header was read as; None for small ones, read in no time."""
    header = read_header(local_file(source, revision))
    return cache_folder() / "gguf" / header.state / what if header.ids >= LARGE else None


def _same_config(one: Any, other: Any) -> bool:
    first, second = ({**each.to_dict(), "_name_or_path": ""} for each in (one, other))
    return type(one) is type(other) and first == second


def _same_tokenizer(one: Any, other: Any) -> bool:
    def parts(each: Any) -> tuple[Any, ...]:
        backend = each.backend_tokenizer.to_str()
        return backend, each.special_tokens_map, each.all_special_ids, each.chat_template

    return parts(one) == parts(other)


def load_model(source: str, revision: str, loading: Loading) -> Any:
    """Loads a causal language model, ready for inference.

    Raises:
        PairError: If it cannot be had.
        BacoError: If quantisation is asked for and its package is missing.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from transformers.utils.quantization_config import GgufConfig

    if is_gguf(source) and loading.quantised:
        raise InputError(
            f"{source} is quantised, and its weights are unpacked: they cannot be quantised "
            "again while loading",
            hint="leave out 8-bit and 4-bit loading, or give the original checkpoint",
        )
    if loading.shapes_only:
        return _hollow_model(source, revision, loading)
    options: dict[str, Any] = {}
    if is_gguf(source):
        options["quantization_config"] = GgufConfig(dequantize=True)
        options["config"] = load_config(source, revision, loading)
    else:
        config = load_config(source, revision, loading)
        _check_folder(Path(source).expanduser(), config)
    if loading.quantised:
        if getattr(config, "quantization_config", None):
            raise InputError(
                f"{source} is quantised already, and is loaded as it is",
                hint="leave out load_in_8bit and load_in_4bit",
            )
        options["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_8bit=loading.load_in_8bit, load_in_4bit=loading.load_in_4bit
        )
        options["device_map"] = {"": loading.torch_device}
    local = is_gguf(source) or Path(source).expanduser().is_dir()
    with LOADING, refusals(source, revision), quiet(local=local):
        name, place = where(source, revision)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            **place,
            dtype=loading.torch_dtype,
            attn_implementation=loading.attention,
            trust_remote_code=loading.trust_remote_code,
            ignore_mismatched_sizes=True,  # the report names them, in one line
            output_loading_info=True,
            **options,
        )
    model, report = loaded
    _check_report(source, report)
    if is_gguf(source):
        with refusals(source, revision):
            check_whole(local_file(source, revision), model)
        model.name_or_path = model.config.name_or_path = source  # transformers notes the folder
    if not loading.quantised:
        model = model.to(loading.torch_device)
        use_onednn(model)
    return model.eval()


def _check_folder(folder: Path, config: Any) -> None:
    """Refuses folders of which it is not plain what they hold.

    Raises:
        PairError: If there is an adapter beside the model, or weights are whole numbers that
            config.json says nothing of.
    """
    if (folder / "adapter_config.json").is_file():
        raise PairError(
            f"{folder} holds a model and an adapter, and it is not plain which is meant",
            hint="move the adapter's files to a folder of their own",
        )
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file() and index.is_file():
        logger.warning("%s holds %s and parts: the parts are not read", folder, single.name)
    if getattr(config, "quantization_config", None):
        return
    for path in sorted(folder.glob("*.safetensors")):
        # What cannot be read is told of when it is loaded.
        with contextlib.suppress(OSError, SafetensorError), safe_open(path, "pt") as file:
            weights = [name for name in file.keys() if name.endswith("weight")]  # noqa: SIM118
            if whole := [n for n in weights if file.get_slice(n).get_dtype() in _WHOLE]:
                raise _unlike(str(folder), whole)


def _unlike(source: str, names: Sequence[str]) -> PairError:
    return PairError(
        f"{source} holds quantised weights, of which its config.json does not say how to read "
        f"them: {_some(names)}",
        hint="get its config.json with quantization_config, or the weights in bfloat16",
    )


def _check_report(source: str, report: dict[str, Any]) -> None:
    """Refuses weights that do not fill the model: what is missing would be random numbers.

    Args:
        source: What was loaded.
        report: What transformers tells of it: keys that are missing, not used, of other shapes.

    Raises:
        PairError: If a tensor is missing or has another shape than the configuration says.
    """
    hint = "download it again; or config.json does not belong to these weights"
    if wrong := sorted(report.get("mismatched_keys") or ()):
        name, found, wanted = wrong[0]
        raise PairError(
            f"{name} of {source} has the shape {list(found)}, and config.json says {list(wanted)}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
            hint=hint,
        )
    if missing := sorted(report.get("missing_keys") or ()):
        raise PairError(f"the weights of {source} lack {_some(missing)}", hint=hint)
    if errors := report.get("error_msgs"):
        raise PairError(f"{source} cannot be loaded: {first_line(Exception(errors))}", hint=hint)
    unused = sorted(report.get("unexpected_keys") or ())
    if scales := [name for name in unused if _SCALES.search(name)]:
        raise _unlike(source, scales)
    if unused:
        logger.warning("the weights of %s hold what the model does not use: %s", source,
                       _some(unused))  # fmt: skip


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more tensors" if len(names) > 1 else "")


def _hollow_model(source: str, revision: str, loading: Loading) -> Any:
    """Makes a model of the right shapes whose weights are nowhere (torch's device ``meta``)."""
    from transformers import AutoModelForCausalLM

    config = load_config(source, revision, loading)
    own = getattr(config, "dtype", None) or torch.float32
    dtype = own if loading.torch_dtype == "auto" else loading.torch_dtype
    with refusals(source, revision), torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config,
            dtype=dtype,
            attn_implementation=loading.attention,
            trust_remote_code=loading.trust_remote_code,
        )
    if loading.quantised:
        model.planned_bits = 8 if loading.load_in_8bit else 4
    return model.eval()


def end_ids(
    tokenizer: Any, config: Any, generation_config: Any = None, size: int | None = None
) -> set[int]:
    """Returns the ids that end a response on one side of a pair.

    Args:
        tokenizer: Its end-of-text token counts, and special tokens with a well-known end name.
        config: The model's configuration.
        generation_config: The checkpoint's generation config; only its end tokens are read.
        size: The largest token id plus one, where it is known.
    """
    found: set[Any] = {tokenizer.eos_token_id}
    for holder in (config, generation_config):
        ends = getattr(holder, "eos_token_id", None)
        found |= {*map(_whole, ends)} if isinstance(ends, list | tuple) else {_whole(ends)}
    special = {
        token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    found |= {special[name] for name in END_NAMES if name in special}
    size = vocabulary_size(tokenizer) if size is None else size
    ids = {i for i in found if isinstance(i, int) and 0 <= i < size}
    if strange := sorted(map(str, found - ids - {None, _NO_END})):
        _tell_of_ends(str(getattr(config, "name_or_path", "")) or "a model", *strange)
    return ids


def _whole(end: Any) -> Any:
    """Returns an id that was written as 7.0 as it is meant, and truth values as no id."""
    if isinstance(end, float) and end.is_integer():
        return int(end)
    return str(end) if isinstance(end, bool) else end


@cache
def _tell_of_ends(name: str, *strange: str) -> None:
    """Says, once, that a model names ends that its tokenizer does not have."""
    logger.warning(
        "%s names end tokens that its tokenizer does not have, and they are left out: %s",
        name,
        ", ".join(strange),
    )


_REPORT = ("modeling_utils", "utils.loading_report")
"""Where transformers writes its table of tensors that do not fit."""


class _NoReport(logging.Filter):
    """Leaves that table out: what it says is checked, and told in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is shown."""
        return "LOAD REPORT" not in record.getMessage()


@contextlib.contextmanager
def quiet(*, local: bool) -> Iterator[None]:
    """Silences transformers: its progress bar is of use for downloads only, its report is ours."""
    from transformers.utils import logging

    shown, no_report = logging.is_progress_bar_enabled(), _NoReport()
    talkers = [logging.get_logger(f"transformers.{name}") for name in _REPORT]
    for talker in talkers:
        talker.addFilter(no_report)
    if local:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with no_bar():
            yield
    finally:
        for talker in talkers:
            talker.removeFilter(no_report)
        if local and shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def refusals(source: str, revision: str) -> Iterator[None]:
    """Turns what transformers and the Hub raise into one clear line.

    Args:
        source: What is being loaded.
        revision: Its revision.
    """
    try:
        yield
    except (BacoError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # what files hold can raise anything
        raise _refusal(source, revision, error) from error


def _lfs_pointers(source: str) -> list[str]:
    """Names the files of a folder that git-lfs has not fetched."""
    found = []
    for path in sorted(Path(source).expanduser().glob("*")):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if file.read(42).startswith(b"version https://git-lfs"):
                found.append(path.name)
    return found


def _refusal(source: str, revision: str, error: BaseException) -> BacoError:
    names = set()
    cause: BaseException | None = error
    while cause is not None:
        names |= {kind.__name__ for kind in type(cause).__mro__}
        cause = cause.__cause__ or cause.__context__
    first = first_line(error)
    if pointers := _lfs_pointers(source):
        return PairError(
            f"{source} holds pointers of git-lfs instead of files: {_some(pointers)}",
            hint="run `git lfs pull` in it, or download it again",
        )
    if names & {"SafetensorError", "UnpicklingError", "EOFError", "BadZipFile"} or (
        "PytorchStreamReader" in first
    ):
        return PairError(
            f"the weights of {source} are damaged or cut off: {first}", hint="download it again"
        )
    if isinstance(error, RuntimeError) and "size mismatch" in str(error):
        mismatch = next(line for line in str(error).splitlines() if "size mismatch" in line)
        return PairError(
            f"{source} does not fit its model: {mismatch.strip()[:200]}",
            hint="check that it belongs to this model; an adapter must keep its token ids",
        )
    if isinstance(error, ImportError):
        return BacoError(f"{source} cannot be loaded: {first}", hint="install the missing package")
    if "GatedRepoError" in names:
        return PairError(
            f"{source} is gated: its licence must be accepted first",
            hint="accept it on the model's page, then run `hf auth login` or set HF_TOKEN",
        )
    if "RevisionNotFoundError" in names:
        return PairError(f"{source} has no revision {revision!r}", hint="check the revision")
    if "RepositoryNotFoundError" in names:
        return PairError(
            f"there is no model {source!r} on the Hub, or it is private",
            hint="check the id; for a private model run `hf auth login` or set HF_TOKEN",
        )
    unreachable = {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "TimeoutException",
    }
    if names & unreachable or "couldn't connect" in str(error):
        return PairError(
            f"{source} is not on this machine and the Hub cannot be reached",
            hint="connect once to download it, give a local folder, or use the pair 'tiny'",
        )
    return PairError(f"{source} cannot be loaded: {first}", hint="check the id or the folder")
