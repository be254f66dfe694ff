"""Models in GGUF files: what such a file says of itself, and what is refused before it is read.

transformers reads them, and gives weights back unquantised: a file then needs the memory of any
model of its size. Its header alone decides whether it can be had, so refusals come at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from baco.errors import PairError, UnsupportedError, first_line, missing_extra

logger = logging.getLogger("baco")

SUFFIX = ".gguf"

ENDS = ("eos", "eot", "eom")
"""Tokens that end an answer, as the file's metadata names them."""

_SPECIAL = re.compile(r"tokenizer\.ggml\.\w+_token_id")
"""Keys of special tokens."""

_PRE = {"default", "gpt-2", "gpt2", "smollm"}
"""Ways to split text before byte-pair encoding for which GPT-2's does. (SmolLM's also takes digits
one by one, and so do its merges.)"""

_LIST = "baco-files.json"
"""Names and sizes of all files of a folder that is kept."""

_VERSION = 1
"""Raised when the same header is read as something else."""

_ANOTHER = "give the original checkpoint's folder or Hub id instead"


class Header(NamedTuple):
    """What a file says before its weights.

    Attributes:
        architecture: llama.cpp's name of the architecture.
        metadata: Every key; arrays of strings are their lengths.
        tensors: The names of all its tensors.
        state: A hash of all bytes before the weights, and of the version of what reads them.
    """

    architecture: str
    metadata: Mapping[str, Any]
    tensors: tuple[str, ...]
    state: str

    @property
    def ends(self) -> set[int]:
        """The ids of its end tokens."""
        found = (self.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ENDS)
        return {i for i in found if i is not None}

    @property
    def ids(self) -> int:
        """How many token ids it has."""
        return int(self.metadata["tokenizer.ggml.tokens"])


def is_gguf(source: str) -> bool:
    """Whether a source names a GGUF file, here or in a repository of the Hub."""
    return source.lower().endswith(SUFFIX) and not Path(source).expanduser().is_dir()


def hub_file(source: str) -> tuple[str, str] | None:
    """Splits ``org/repository/path/file.gguf``; None for what is not of that form.

    Args:
        source: A source for which there is no local file.
    """
    if source.startswith(("/", ".", "~")) or source.count("/") < 2:
        return None
    owner, name, file = source.split("/", 2)
    return f"{owner}/{name}", file


def gguf_path(source: str, revision: str, *, near: bool) -> Path:
    """Returns where a GGUF file is, downloading it if it is on the Hub.

    Args:
        source: A path, or ``org/repository/file.gguf``.
        revision: The revision on the Hub.
        near: Whether the Hub can be reached; else what was downloaded before is used.

    Raises:
        PairError: If there is no such file here, and the source does not name one of the Hub.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    named = hub_file(source)
    if named is None:
        raise PairError(
            f"there is no file {source!r}",
            hint="give an existing file, or one on the Hub: org/repository/file.gguf",
        )
    from huggingface_hub import hf_hub_download

    repository, file = named
    return Path(hf_hub_download(repository, file, revision=revision, local_files_only=not near))


def read_header(path: Path) -> Header:
    """Reads and checks a file's header.

    Args:
        path: The file.

    Raises:
        BacoError: If the package `gguf` is missing.
        UnsupportedError: If transformers' reader does not know its architecture or types.
        PairError: If it is no GGUF file, is cut short, or is not a language model.
    """
    stat = path.stat()
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


def need_reader() -> None:
    """Raises BacoError if the package `gguf` is missing."""
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise missing_extra("gguf", "gguf") from error


def check_start(path: Path) -> None:
    """Raises PairError if a file does not begin as GGUF files do."""
    with path.open("rb") as file:
        start = file.read(42)
    if start[:4] != b"GGUF":
        pointer = start.startswith(b"version https://git-lfs")
        raise PairError(
            f"{path} is {'a pointer of git-lfs' if pointer else 'not a GGUF file'}",
            hint="run `git lfs pull`, or download it again" if pointer else "download it again",
        )


def check_ids(source: str | Path, named: Iterable[int], size: int) -> None:
    """Raises PairError if a file names special tokens that it does not have.

    Args:
        source: The file.
        named: Their ids.
        size: How many ids it has.
    """
    if strange := [i for i in named if i >= size]:
        raise PairError(
            f"{source} names the special token {strange[0]}, and has {size} tokens",
            hint="its header was written wrongly: get another copy",
        )


def check_whole(path: Path, model: Any) -> None:
    """Raises PairError if a file holds tensors that transformers' reader left out of the model.

    Args:
        path: The file.
        model: What it was read as.
    """
    from transformers import modeling_gguf_pytorch_utils
    from transformers.integrations.gguf.utils import is_gguf_arch_supported

    header, reader = read_header(path), cast(Any, modeling_gguf_pytorch_utils)
    if is_gguf_arch_supported(header.architecture):
        return  # of these architectures transformers' own report names them
    kind = reader.TENSOR_PROCESSORS.get(header.architecture, reader.TensorProcessor)
    taken = reader.get_gguf_hf_weights_map(model, kind())
    # Those of experts are named without the ending.
    left = [n for n in header.tensors if n not in taken and n.removesuffix(".weight") not in taken]
    if left:
        more = f" and {len(left) - 1} more tensors" if len(left) > 1 else ""
        raise PairError(
            f"{path} holds {left[0]}{more}, which transformers' GGUF reader leaves out: it would "
            "write worse text",
            hint=_ANOTHER,
        )


@lru_cache(maxsize=16)
def _read_header(path: Path, size: int, modified: int) -> Header:
    need_reader()
    import transformers
    from transformers.integrations.gguf.reader import read_gguf_metadata

    check_start(path)
    try:
        metadata, names = read_gguf_metadata(str(path))
    except UnicodeDecodeError as error:
        raise _cut(path) from error
    except ValueError as error:
        if parts := _parts(path):
            raise _part(path, parts) from error
        raise PairError(f"{path} cannot be read: {first_line(error)}", hint=_ANOTHER) from error
    except Exception as error:  # whatever a reader meets behind the end of a file
        raise _cut(path) from error
    architecture = str(metadata["general.architecture"])
    try:
        _check_kind(path, architecture, metadata, names)
        weights = _check_tensors(path, size)
        int(metadata["tokenizer.ggml.tokens"])
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise PairError(
            f"a value in the header of {path} is of a kind that it cannot be: {first_line(error)}",
            hint="its header was written wrongly: get another copy",
        ) from error
    with path.open("rb") as file:
        state = hashlib.blake2b(file.read(weights), digest_size=16)
    state.update(f"{transformers.__version__} {_VERSION}".encode())
    return Header(architecture, metadata, names, state.hexdigest())


def kept(
    folder: Path | None, reader: Any, make: Callable[[], Any], same: Callable[[Any, Any], bool]
) -> Any:
    """Returns what transformers makes of a header, made once: large vocabularies take it long.

    Args:
        folder: Where it is kept; None if it is not.
        reader: Its class, which has `from_pretrained`.
        make: Makes it anew.
        same: Whether what is read back is what was made; else it is not kept.
    """
    if folder is None:
        return make()
    with contextlib.suppress(Exception):  # not there, cut off, or somebody else's: made again
        if json.loads((folder / _LIST).read_text()) == _sizes(folder):
            return reader.from_pretrained(folder, local_files_only=True)
    found = make()
    with contextlib.suppress(Exception):  # no room, or no right to write: made again next time
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            new = Path(work) / "new"
            found.save_pretrained(new)
            if same(found, reader.from_pretrained(new, local_files_only=True)):
                (new / _LIST).write_text(json.dumps(_sizes(new)))
                shutil.rmtree(folder, ignore_errors=True)
                new.rename(folder)
    return found


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != _LIST)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


@contextlib.contextmanager
def no_bar() -> Iterator[None]:
    """Leaves out the bar that transformers' reader draws on stderr, whatever it is asked."""
    from transformers import modeling_gguf_pytorch_utils

    reader: Any = modeling_gguf_pytorch_utils
    bar = getattr(reader, "tqdm", None)
    if bar is None:  # a bar is nothing to fail for, should another version draw none
        yield
        return
    reader.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar


def only_own(tokenizer: Any, size: int) -> Any:
    """Takes out of a tokenizer what the reader added to a file's ids: GPT-2's end of text.

    Args:
        tokenizer: As transformers read it from the file.
        size: How many ids the file has.
    """
    tokens = json.loads(tokenizer.backend_tokenizer.to_str())
    own = [token for token in tokens["added_tokens"] if token["id"] < size]
    if len(own) == len(tokens["added_tokens"]):
        return tokenizer
    foreign = {token["content"] for token in tokens["added_tokens"] if token["id"] >= size}
    tokens["added_tokens"] = own
    tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(tokens))
    for name, token in list(tokenizer.special_tokens_map.items()):
        if token in foreign:
            setattr(tokenizer, name, None)
    return tokenizer


def _cut(path: Path) -> PairError:
    return PairError(f"{path} is damaged or cut off", hint="download it again")


def _part(path: Path, parts: int) -> PairError:
    return PairError(
        f"{path} is one of {parts} parts of a model",
        hint="join them: llama-gguf-split --merge FIRST_PART WHOLE.gguf",
    )


def _parts(path: Path) -> int:
    """How many parts a model was split into; 0 if the file does not say.

    Later parts say little else, and transformers does not read them.
    """
    from gguf import GGUFReader

    with contextlib.suppress(Exception):
        return int(GGUFReader(path).fields["split.count"].parts[-1][0])
    return 0


def _check_kind(
    path: Path, architecture: str, metadata: Mapping[str, Any], names: tuple[str, ...]
) -> None:
    """Refuses what is not one whole language model of an architecture that is read in full."""
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
    from transformers.integrations.gguf.gguf_tokenizer_mapping import (
        GGUF_PRE_TOKENIZER_SPLITS as _SPLITS,
    )
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    kind = str(metadata.get("general.type", "model"))
    if architecture in ("clip", "mmproj") or kind == "mmproj":
        raise PairError(
            f"{path} is the vision part of a model ({architecture})",
            hint="give the file of its language model",
        )
    if kind == "adapter":
        raise PairError(
            f"{path} is a LoRA adapter", hint="give the adapter's original folder with --adapter"
        )
    if "bert" in architecture or metadata.get(f"{architecture}.pooling_type"):
        raise PairError(
            f"{path} is an embedding model ({architecture})",
            hint="BaCo needs decoder-only language models",
        )
    if metadata.get(f"{architecture}.attention.causal", True) is False:
        raise PairError(
            f"{path} is no model that writes text token by token ({architecture})",
            hint="BaCo needs decoder-only language models",
        )
    if metadata.get(f"{architecture}.block_count") == 0:
        raise PairError(f"{path} has no layers (its block_count is 0)", hint="get another copy")
    if architecture == "llama" and metadata.get("llama.expert_count", 0) > 0:
        raise UnsupportedError(
            f"{path} is a mixture of experts of the architecture 'llama' (as Mixtral), whose "
            "experts transformers' GGUF reader leaves out",
            hint=_ANOTHER,
        )
    parts = metadata.get("split.count", 0)
    if parts > 1:
        raise _part(path, parts)
    # transformers knows some under other names than llama.cpp.
    known = {*GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS} - {"general", "tokenizer"}
    plain = {name.replace("_", "").replace("-", "") for name in known}
    if architecture.replace("_", "").replace("-", "") not in plain or "t5" in architecture:
        raise UnsupportedError(
            f"the architecture {architecture!r} of {path} is not one that transformers reads from "
            "GGUF as a language model",
            hint=_ANOTHER,
        )
    if "tokenizer.ggml.tokens" not in metadata:
        raise PairError(f"{path} holds no tokenizer", hint=_ANOTHER)
    named = (metadata[key] for key in metadata if _SPECIAL.fullmatch(key))
    check_ids(path, named, metadata["tokenizer.ggml.tokens"])
    way = metadata.get("tokenizer.ggml.pre", "default")
    if metadata.get("tokenizer.ggml.model") == "gpt2" and way not in {*_PRE, *_SPLITS}:
        logger.warning(
            "%s splits text in a way (%r) that transformers' GGUF reader does not know: it is "
            "split as by GPT-2, so some prompts may be other tokens than in the model's training",
            path,
            way,
        )
    if architecture == "gpt-oss":
        return  # the reader takes over how it scales its positions
    stretched = [name for name in names if name.startswith(("rope_freqs.", "rope_factors_"))]
    if stretched:
        raise UnsupportedError(
            f"{path} stretches its positions by factors of its own ({stretched[0]}, as Llama 3.1 "
            "and Phi-3 for long texts), which transformers' GGUF reader leaves out: it would write "
            "worse text",
            hint=_ANOTHER,
        )
    harmless: dict[str, tuple[Any, ...]] = {
        "scaling.type": ("none", ""),
        "scaling.attn_factor": (1,),
        "scale_linear": (0, 1),  # 0 is none
    }
    for key, values in harmless.items():
        value = metadata.get(f"{architecture}.rope.{key}", values[0])
        if value not in values:
            raise UnsupportedError(
                f"{path} scales its positions (rope.{key} is {value}), which transformers' GGUF "
                "reader leaves out",
                hint=_ANOTHER,
            )


def _check_tensors(path: Path, size: int) -> int:
    """Refuses types of weights that cannot be given back, and files that end too early.

    Returns:
        Where weights begin.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
    from transformers.integrations.gguf import reader

    blob = np.memmap(path, mode="r", dtype=np.uint8)
    metadata, count, position = reader._read_metadata(blob, str(path))
    try:
        entries, position = reader._read_tensor_table(blob, count, position)
    except Exception as error:
        raise _cut(path) from error
    alignment = int(metadata.get("general.alignment", 32))
    start = -(-position // alignment) * alignment
    kinds: dict[int, Any] = {}
    unread: set[str] = set()
    for number in {number for _, _, number, _ in entries}:
        try:
            kind = GGMLQuantizationType(number)
            block = np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8)
            _ = quants.dequantize(block, kind)
            kinds[number] = kind
        except NotImplementedError:
            unread.add(kind.name)
        except ValueError:
            unread.add(str(number))
    if unread:
        raise UnsupportedError(
            f"{path} holds weights of the type {', '.join(sorted(unread))}, which cannot be "
            "unpacked",
            hint="give a file of another quantisation, such as Q4_K_M or Q8_0",
        )
    for _, shape, number, offset in entries:
        per_block, bytes_ = GGML_QUANT_SIZES[kinds[number]]
        if start + offset + math.prod(shape) // per_block * bytes_ > size:
            raise _cut(path)
    return start
