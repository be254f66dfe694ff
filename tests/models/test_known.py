"""What a name given as a pair is, before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baco.bench.cells import pair_revision
from baco.cli import run
from baco.errors import InputError, PairError
from baco.models.known import add_pair, bundled_folder, check_pair_name, known_pair, own_file
from baco.pair import load
from baco.prompts import conversation_of


@pytest.mark.parametrize(
    ("files", "name", "says"),
    [
        (
            ("adapter_config.json",),
            "{}",
            "is a LoRA adapter, not a pair (--pair BASE --adapter {})",
        ),
        (("adapter_config.json",), "my/base,{}", "not a model (--pair my/base --adapter {}, or"),
        (("adapter_config.json",), "{},my/other", "name the model that it adapts first"),
        (("config.json",), "{}", "is one model, and a pair is two (name both with a comma"),
        (("notes.txt",), "{}", "is no model, and a pair is two"),
        (("m.gguf",), "{}/m.gguf", "is one model, and a pair is two (name both with a comma"),
    ],
)
def test_one_model_where_a_pair_is_needed(
    tmp_path: Path, files: tuple[str, ...], name: str, says: str
) -> None:
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(PairError) as caught:
        check_pair_name(name.format(tmp_path))
    assert says.format(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["remote:http://localhost:8000/v1#model", "my/base", "./nowhere", "a/b/c.gguf"]
)
def test_one_model_elsewhere_where_a_pair_is_needed(name: str) -> None:
    with pytest.raises(PairError, match="is one model, or not here, and a pair is two"):
        check_pair_name(name)


@pytest.mark.parametrize("name", ["tiny", "my/base,my/aligned"])
def test_an_adapter_wants_one_model(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command's own pair among them: ``--adapter`` without ``--pair``."""
    with pytest.raises(PairError, match="makes the aligned side of one base model"):
        check_pair_name(name, adapter=True)
    assert run(["generate", "hi", "--pair", name, "--adapter", "x"]) == 2
    assert "name that model: --pair BASE --adapter ADAPTER" in capsys.readouterr().err


def test_names_and_couples_pass() -> None:
    check_pair_name("tiny")
    check_pair_name("my/base,my/aligned")
    check_pair_name("my/base", adapter=True)


# --- pairs of the user's own ---------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BACO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_pair_of_one_s_own_is_kept_and_used(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, aligned, lora = (str(bundled_folder(name)) for name in ("base", "aligned", "lora"))
    assert run(["pairs", "add", "mine", base, aligned]) == 0
    assert run(["pairs", "add", "mine-2", base, "--adapter", lora]) == 0
    assert "use it: --pair mine-2" in capsys.readouterr().out
    found = known_pair("mine")
    assert (found.base, found.aligned) == (base, aligned)
    assert found.parameters == known_pair("tiny").parameters
    assert known_pair("mine-2").adapter == lora
    assert run(["pairs"]) == 0
    assert "mine-2" in capsys.readouterr().out
    asked = ["generate", "Name a pet.", "-n", "1", "--max-new-tokens", "4", "--pair"]
    assert run([*asked, "mine"]) == 0


def test_paths_are_kept_whole_and_names_of_the_hub_as_they_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / 'a "model" \U0001f600'
    odd.mkdir()
    add_pair("mine", odd.name, "my/aligned")
    assert known_pair("mine").base == str(odd.resolve())
    assert known_pair("mine").aligned == "my/aligned"
    assert known_pair("mine").parameters == 0


@pytest.mark.parametrize(
    "source", ["nowhere", "./nowhere/at-all", "/nowhere/base.gguf", "nowhere/base.gguf", ""]
)
def test_models_that_are_not_there_are_not_kept(home: Path, source: str) -> None:
    for sides in ((source, "my/aligned"), ("my/base", source)):
        with pytest.raises(PairError, match="there is no model"):
            add_pair("mine", *sides)
    assert not home.exists()


def test_a_side_without_a_name() -> None:
    for name in ("my/base,", ",my/aligned", ","):
        with pytest.raises(PairError, match="names one model, and a pair is two"):
            check_pair_name(name)


def test_names_that_cannot_be(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, says in (("tiny", "already"), ("a,b", "is no name"), ("a~0.5", "is no name")):
        with pytest.raises(InputError, match=says):
            add_pair(name, "my/base", "my/aligned")
    assert run(["pairs", "add", "mine", "my/base"]) == 2
    assert "needs an aligned model or an adapter" in capsys.readouterr().err
    assert not home.exists()


@pytest.mark.parametrize(
    "text",
    [
        "[", "mine = 3", "[mine]\nabout = ''\naligned = 'y'", "[mine]\nbase = 'x'",
        "[mine]\nbase = 'x'\naligned = 'y'\nadapter = 'z'",
        *(
            f"[mine]\nabout = ''\nbase = 'x'\naligned = 'y'\n{line}"
            for line in (
                "parameters = 'many'", "z = 1", "base_prompt = 'both'", "template = 'Q: {user}'",
                "template = {lst = '{user}'}", "template = {last = 3}", "template = {last = 'Q:'}",
            )
        ),
    ],
)  # fmt: skip
def test_a_broken_list_is_said(home: Path, text: str) -> None:
    home.mkdir()
    own_file().write_text(text)
    with pytest.raises(InputError, match="cannot read your pairs in"):
        known_pair("tiny")


def test_a_list_says_what_it_lacks(home: Path) -> None:
    home.mkdir()
    for text, says in (
        ("[mine]\nbase = 'x'", "mine needs a base, and an aligned model or an adapter"),
        ("base = 'x'", "base = 'x' stands outside of a pair"),
        ("[mine]\nbase = 'x'\naligned = 'y'\nz = 1", r"cannot have z = 1 \(there are name, about"),
    ):
        own_file().write_text(text)
        with pytest.raises(InputError, match=says):
            known_pair("tiny")


def test_a_list_of_yours_is_never_broken(home: Path) -> None:
    home.mkdir()
    own_file().write_text("[m]\nbase = 'x/b'\naligned = 'x/a'")  # no new line at the end
    add_pair("mine", "my/base", "my/aligned")
    assert known_pair("m").about == known_pair("mine").about == "yours"
    before = own_file().read_text()
    with pytest.raises(InputError, match="cannot stand in a file"):
        add_pair("odd", "my/base\x7f", "my/aligned")
    own_file().with_name(f".pairs.toml.{os.getpid()}").mkdir()
    with pytest.raises(InputError, match=r"cannot be written.*set BACO_HOME"):
        add_pair("more", "my/base", "my/aligned")
    assert own_file().read_text() == before


def test_a_pair_of_yours_may_have_its_own_template(home: Path) -> None:
    folders = [bundled_folder(side) for side in ("base", "aligned")]
    add_pair("mine", *map(str, folders))
    with own_file().open("a") as file:
        file.write('template = {last = "Question: {user}\\nAnswer: "}\n')
    pair = load("mine")
    ids = pair.sides[0].encode(conversation_of("Why?"))
    assert b"".join(pair.sides[0].token_bytes[i] for i in ids).endswith(b"Why?\nAnswer: ")


def test_the_revision_of_a_pair_tells_how_its_base_side_is_asked(home: Path) -> None:
    folders = [str(bundled_folder(side)) for side in ("base", "aligned")]
    lines = ("", 'base_prompt = "chat"\n', 'template = {last = "Q: {user}\\nA:"}\n')
    for number, line in enumerate(lines):
        add_pair(f"mine-{number}", *folders)
        with own_file().open("a") as file:
            file.write(line)
    found = [load(f"mine-{number}").revision for number in range(3)]
    assert len(set(found)) == 3
    assert found == [pair_revision(f"mine-{number}") for number in range(3)]  # without weights
    assert found[0] == load("tiny").revision == pair_revision(",".join(folders))
