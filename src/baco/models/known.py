"""The pairs that are known by name, read from `pairs.toml`. No torch here: listing is instant."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from baco.errors import InputError, PairError, UnknownNameError, first_line
from baco.models.fetched import FETCHED, fetched_folder, is_whole
from baco.models.folders import data_folder, write_whole
from baco.prompts import PlainTemplate

BUNDLED = "bundled:"

BasePrompt = Literal["plain", "chat"]


@dataclass(frozen=True)
class KnownPair:
    """What is known of a pair before anything is loaded.

    Attributes:
        name: Its name.
        about: One line about it.
        base: Hub id; or ``bundled:`` or ``fetched:`` and a model's name.
        aligned: The same for the aligned side; empty if there is an adapter.
        adapter: A LoRA adapter that makes the aligned side out of the base model, or empty.
        licence: The licence of the weights; empty if it is not known.
        gated: Whether the Hub asks for a licence to be accepted first.
        parameters: Weights of each side; 0 if it is not known.
        revision: Branch, tag or commit on the Hub.
        base_prompt: How the base side is prompted.
        template: How the base side's plain prompt is written.
        one_tokenizer: Whether both sides have the same tokenizer.
    """

    name: str
    about: str
    base: str
    licence: str = ""
    aligned: str = ""
    adapter: str = ""
    gated: bool = False
    parameters: int = 0
    revision: str = "main"
    base_prompt: BasePrompt = "plain"
    template: PlainTemplate = field(default_factory=PlainTemplate)
    one_tokenizer: bool = True

    @property
    def bundled(self) -> bool:
        """Whether its weights are in this package."""
        return self.base.startswith(BUNDLED)

    def memory_gb(self, bytes_per_weight: int = 2) -> float:
        """Returns the memory that both sides' weights need, in gigabytes (10**9 bytes)."""
        models = 1 if self.adapter else 2
        return models * self.parameters * bytes_per_weight / 1e9


def bundled_folder(name: str = "") -> Path:
    """Returns the folder of bundled weights, or one model's folder in it."""
    return Path(str(files("baco").joinpath("tiny", "weights", name)))


def locate(source: str) -> str:
    """Returns where to load from: a Hub id as it is, or the path of bundled or fetched weights.

    Raises:
        PairError: If bundled weights are not there, or were not fetched yet.
    """
    if source.startswith(FETCHED):
        folder = fetched_folder(source)
        if not is_whole(folder):
            raise PairError(
                f"{folder.name} has not been fetched to this machine yet, or not whole",
                hint="fetch it once: baco pairs fetch PAIR (pip install 'baco[gguf]')",
            )
        return str(folder)
    if not source.startswith(BUNDLED):
        return source
    folder = bundled_folder(source.removeprefix(BUNDLED))
    if not folder.is_dir():
        raise PairError(
            f"the bundled weights {folder.name!r} are missing from this installation",
            hint="install baco again, or train them in a clone: python -m recipes.tiny.train",
        )
    return str(folder)


def label_of(source: str) -> str:
    """Returns what to call a source in messages: bundled weights by name, not by path."""
    path = Path(source)
    if path.parent == fetched_folder(""):
        return path.name
    return f"the bundled {path.name!r}" if path.parent == bundled_folder() else source


def known_pairs() -> Mapping[str, KnownPair]:
    """Returns every known pair by name: those of `pairs.toml` in its order, then the user's own."""
    return {**_shipped_pairs(), **own_pairs()}


@cache
def _shipped_pairs() -> Mapping[str, KnownPair]:
    text = files("baco").joinpath("pairs.toml").read_text(encoding="utf-8")
    return {name: _read(name, entry) for name, entry in tomllib.loads(text).items()}


def own_file() -> Path:
    """Where a user's own pairs are."""
    return data_folder() / "pairs.toml"


def own_pairs() -> dict[str, KnownPair]:
    """Returns the user's own pairs.

    Raises:
        InputError: If their file cannot be read.
    """
    path = own_file()
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return {name: _read(name, entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(
            f"cannot read your pairs in {path}: {first_line(error)}",
            hint="mend it by hand, or delete it",
        ) from error


def add_pair(name: str, base: str, aligned: str, *, adapter: bool = False) -> Path:
    """Keeps a pair of the user's under a name.

    Args:
        name: Its name, of letters, digits, dots and dashes.
        base: Hub id, folder or file of the base model; what is on this machine is kept by its
            whole path.
        aligned: The same for the aligned model, or the adapter.
        adapter: Whether it is an adapter on the base model.

    Returns:
        The file that holds it.

    Raises:
        InputError: If the name is taken or is none.
        PairError: If a side is plainly not there.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"{name!r} is no name for a pair", hint="use letters, digits, . and -")
    if name in known_pairs():
        raise InputError(f"there is a pair {name!r} already", hint="choose another name")
    places = [Path(source).expanduser() for source in (base, aligned)]
    for source, place in zip((base, aligned), places, strict=True):
        parts = 2 if source.lower().endswith(".gguf") else 1
        somewhere = source.count("/") >= parts and not source.startswith(("/", ".", "~"))
        if not source or not (place.exists() or somewhere):
            raise PairError(
                f"there is no model {source!r}",
                hint="give an existing folder or file, or a Hub id such as Qwen/Qwen2.5-0.5B",
            )
    base, aligned = (
        str(place.resolve()) if place.exists() else source
        for place, source in zip(places, (base, aligned), strict=True)
    )
    entry = {"about": "yours", "base": base, "adapter" if adapter else "aligned": aligned}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
    path = own_file()
    try:
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        after = "\n".join([before.rstrip(), f"[{json.dumps(name)}]", *lines, ""]).lstrip()
        tomllib.loads(after)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, after)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}",
            hint="set BACO_HOME to a folder of yours",
        ) from error
    except ValueError as error:
        raise InputError(
            f"{base!r} or {aligned!r} cannot stand in a file: {first_line(error)}",
            hint="give the model a name of plain letters",
        ) from error
    return path


_KINDS = {"str": str, "int": int, "bool": bool, "BasePrompt": str, "PlainTemplate": dict}
"""How a field's type is written in TOML."""


def _read(name: str, entry: dict[str, Any]) -> KnownPair:
    if not isinstance(entry, dict):
        raise ValueError(f"{name} = {entry!r} stands outside of a pair: begin with [NAME]")
    if not entry.get("base") or bool(entry.get("aligned")) == bool(entry.get("adapter")):
        raise ValueError(f"{name} needs a base, and an aligned model or an adapter")
    kinds = {part.name: _KINDS[str(part.type)] for part in fields(KnownPair)}
    parts = {part.name: str for part in fields(PlainTemplate)}
    for given, known in ((entry, kinds), (entry.get("template", {}), parts)):
        for key, value in given.items():
            if not isinstance(value, known.get(key, ())):
                there = "" if key in known else f" (there are {', '.join(known)})"
                raise ValueError(f"{name} cannot have {key} = {value!r}{there}")
    if entry.get("base_prompt", "plain") not in get_args(BasePrompt):
        raise ValueError(f"the base_prompt of {name} is neither plain nor chat")
    made = {
        "template": PlainTemplate(**entry.get("template", {})),
        "parameters": entry.get("parameters") or _bundled_parameters(entry["base"]),
    }
    return KnownPair(**{"name": name, "about": "yours", **entry, **made})


def _bundled_parameters(source: str) -> int:
    """Counts the weights of a bundled model by reading the header of its file."""
    path = bundled_folder(source.removeprefix(BUNDLED)) / "model.safetensors"
    if not path.is_file():
        return 0
    import math

    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = (entry["shape"] for name, entry in header.items() if name != "__metadata__")
    return sum(math.prod(shape) for shape in shapes)


_WEIGHTS = re.compile(r"(.+)~(\d*\.\d+)|([^/\\]+)~(\d+)")  # PROGRA~1 is a folder's old name


def split_weights(name: str) -> tuple[str, float]:
    """Splits what stands for base weights off a pair's name: ``tiny~0.3`` is ("tiny", 0.3).

    ``tiny~.3`` and ``tiny~1`` do as well; after a path it needs its point.
    """
    found = _WEIGHTS.fullmatch(name)
    return (found[1] or found[3], float(found[2] or found[4])) if found else (name, 0.0)


def check_pair_name(name: str, *, adapter: bool = False) -> None:
    """Checks what can be seen of ``PAIR`` or ``BASE,ALIGNED`` without loading anything.

    Args:
        name: The name.
        adapter: Whether an adapter makes the aligned side, so that the name is the base model's.

    Raises:
        PairError: If it names one model, or an adapter, where a pair is needed; or with an
            adapter a pair.
        UnknownNameError: If the name is unknown; close names are suggested.
    """
    base, comma, aligned = (part.strip() for part in name.partition(","))
    if adapter:
        if comma or (
            split_weights(name)[0] in known_pairs() and not Path(name).expanduser().exists()
        ):
            raise PairError(
                f"{name!r} is a pair, and an adapter makes the aligned side of one base model",
                hint="name that model: --pair BASE --adapter ADAPTER",
            )
    elif not comma:
        known_pair(name)
    elif not (base and aligned):
        raise PairError(f"{name!r} names one model, and a pair is two", hint="--pair BASE,ALIGNED")
    elif _is_adapter(aligned):
        raise PairError(
            f"{aligned!r} is a LoRA adapter, not a model",
            hint=f"--pair {base} --adapter {aligned}, or keep both under a name: "
            f"baco pairs add NAME {base} --adapter {aligned}",
        )
    elif _is_adapter(base):
        raise PairError(
            f"{base!r} is a LoRA adapter, not a model", hint="name the model that it adapts first"
        )


def _is_adapter(source: str) -> bool:
    folder = Path(source).expanduser()
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def known_pair(name: str) -> KnownPair:
    """Looks a pair up, whatever the weights of its base side.

    Raises:
        PairError: If it is one model, or an adapter, or a path where nothing is.
        UnknownNameError: If the name is unknown; close names are suggested.
    """
    pairs, (name, _) = known_pairs(), split_weights(name)
    if name not in pairs and (path := Path(name).expanduser()).exists():
        if _is_adapter(name):
            raise PairError(
                f"{name!r} is a LoRA adapter, not a pair", hint=f"--pair BASE --adapter {name}"
            )
        one = path.suffix.lower() == ".gguf" or (path / "config.json").is_file()
        one = one or len([*path.glob("*.gguf")]) == 1
        raise PairError(
            f"{name!r} is {'one model' if one else 'no model'}, and a pair is two",
            hint="name both with a comma between: --pair BASE,ALIGNED",
        )
    if name not in pairs and "/" in name:  # no name of a pair, so a model that is elsewhere
        raise PairError(
            f"{name!r} is one model, or not here, and a pair is two",
            hint="name both with a comma between: --pair BASE,ALIGNED",
        )
    if name not in pairs:
        of, tilde, weights = name.partition("~")
        if tilde and of in pairs:
            raise InputError(
                f"base weights {weights!r} are no number", hint=f"use 0 to 1, as in {of}~0.3"
            )
        raise UnknownNameError("pair", name, pairs)
    return pairs[name]
