"""What is refused before anything of a pair is loaded: by counts of what is loaded, by no clock."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, AutoTokenizer

import baco.models.load as loading
from baco.cli import run
from baco.engine import Engine
from baco.errors import BacoError, InputError, PairError, UnsupportedError
from baco.methods import METHODS
from baco.methods.base import tasks_for
from baco.methods.needs import ONE_TOKENIZER, check, check_tokenizers
from baco.methods.rollouts import check as check_law
from baco.methods.rollouts import check_setting
from baco.methods.settings import make_setting
from baco.models.known import known_pair, known_pairs
from baco.models.sides import Models, Side
from baco.pair import Pair, load
from baco.prompts import conversation_of
from conftest import save_tokenizer
from support.bridged import pair as bridged_pair

LOADERS = ("load_config", "load_tokenizer", "load_model")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is loaded, one entry for each configuration, tokenizer and model."""
    found: list[str] = []

    def counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def loader(*arguments: Any) -> Any:
            found.append(name)
            return plain(*arguments)

        return loader

    for name in LOADERS:
        monkeypatch.setattr(loading, name, counted(name, getattr(loading, name)))
    return found


REFUSED = [
    (["--method", "interpolate"], "needs one tokenizer"),
    (["--method", "logit-ensemble", "--dry-run"], "needs one tokenizer"),
    (["--diversity", "0.5", "--router", "hr"], "is not calibrated for router 'hr'"),
    (["--lookahead", "4"], "cannot look ahead"),
    (["--draft", "prompt-lookup", "--dry-run"], "cannot look ahead"),
    (["--penalty", "logit_bias=3:1"], "this pair has two"),
    (["--base-weights", "0.5"], "their weights cannot be mixed"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_a_known_pair_of_two_tokenizers(
    options: list[str],
    words: str,
    loaded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BACO_HOME", str(tmp_path))
    for folder in ("gemma-3-270m", "smollm2-135m-instruct"):  # as if they were fetched
        (tmp_path / "models" / folder).mkdir(parents=True)
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            (tmp_path / "models" / folder / file).touch()
    assert run(["generate", "Hi", "--pair", "real", *options]) == 2
    assert words in capsys.readouterr().err
    assert not loaded
    # What is not refused goes on to load: the count counts.
    assert run(["generate", "Hi", "--pair", "real"]) == 2
    assert "config.json" in capsys.readouterr().err


@pytest.mark.parametrize("weights", [["--pair", "tiny~0.3"], ["--base-weights", "0.3"]])
def test_base_weights_of_a_method_that_asks_no_base_model(
    weights: list[str], loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "Hi", "--method", "aligned", *weights]) == 2
    assert "base weights would do nothing" in capsys.readouterr().err
    assert not loaded


def test_other_commands_refuse_as_soon(
    loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rollouts", "Hi", "--pair", "real"]) == 2
    assert "whole distributions over one vocabulary" in capsys.readouterr().err
    assert run(["rollouts", "Hi", "--method", "nudging"]) == 2
    assert "is not known to roll-outs" in capsys.readouterr().err
    assert run(["calibrate", "--pair", "real", "--method", "interpolate"]) == 2
    assert "needs one tokenizer" in capsys.readouterr().err
    assert not loaded


@pytest.fixture
def own_pair(random_folders: tuple[Path, Path], tmp_path: Path) -> str:
    """Two folders with different tokenizers."""
    base = tmp_path / "base"
    shutil.copytree(random_folders[0], base)
    save_tokenizer(base, chat=False, size=350)
    return f"{base},{random_folders[1]}"


OWN = [
    *(["generate", "Hi", *options] for options, _ in REFUSED if "--diversity" not in options),
    ["rollouts", "Hi"],
    ["calibrate", "--method", "interpolate"],
    ["serve", "--lookahead", "4"],
]


@pytest.mark.parametrize("command", OWN, ids=" ".join)
def test_a_user_s_own_pair_of_two_tokenizers(
    command: list[str], own_pair: str, loaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokenizers are read, for nobody knows them; weights are not."""
    assert run([*command, "--pair", own_pair]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert loaded == ["load_config", "load_tokenizer"] * 2


def test_the_own_pair_is_refused_for_what_is_asked_of_it(own_pair: str, loaded: list[str]) -> None:
    assert run(["generate", "Hi", "-n", "1", "--max-new-tokens", "2", "--pair", own_pair]) == 0
    assert loaded.count("load_model") == 2


def test_a_tokenizer_of_another_model_is_seen_before_the_weights_are_read(
    random_folders: tuple[Path, Path], tmp_path: Path, loaded: list[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_folders[0], base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([f"<{i}>" for i in range(99)])
    tokenizer.save_pretrained(base)
    with pytest.raises(PairError, match="scores 400 token ids, but its tokenizer has"):
        Pair(base, random_folders[1], device="cpu")
    assert "load_model" not in loaded


@pytest.fixture
def two_tokenizers() -> Models:
    sides = [
        Side(name, partner, partner.to_shared, lambda text: (), partner.tokens)
        for name, partner in zip(("base", "aligned"), bridged_pair(), strict=True)
    ]
    return Models.from_sides("real", *sides)


def said(check: Callable[[], object]) -> str:
    with pytest.raises(BacoError) as caught:
        check()
    return str(caught.value)


def test_the_words_are_those_of_the_loaded_pair(two_tokenizers: Models) -> None:
    """And nothing is refused that the loaded pair can do."""
    known, tasks = ("real", known_pair("real").one_tokenizer), tasks_for([conversation_of("Hi")], 2)
    needy = [name for name, method in METHODS.items() if ONE_TOKENIZER in method.needs]
    assert "interpolate" in needy
    for name in METHODS:
        setting = make_setting(method=name, n=2)
        if name in needy:
            assert said(lambda s=setting: check_tokenizers(*known, s)) == said(
                lambda s=setting: check(two_tokenizers, s, tasks)
            )
        else:
            check(two_tokenizers, setting, tasks)
            check_tokenizers(*known, setting)
    biased = make_setting(logit_bias={3: 1.0})
    assert said(lambda: check_tokenizers(*known, biased)) == said(
        lambda: check(two_tokenizers, biased, tasks)
    )
    ahead = make_setting(lookahead=4)
    assert said(lambda: check_tokenizers(*known, ahead)) == said(
        lambda: Engine(two_tokenizers.base, two_tokenizers.aligned, lookahead=4)
    )
    with pytest.raises(UnsupportedError, match="one vocabulary"):
        check_law(two_tokenizers, make_setting())
    with pytest.raises(UnsupportedError, match="one vocabulary"):
        check_setting(make_setting(), known_pair("real"))
    check_setting(make_setting(), known_pair("tiny"))


@pytest.mark.parametrize("name", [n for n, known in known_pairs().items() if known.bundled])
def test_bundled_pairs_have_the_tokenizers_that_they_are_said_to_have(name: str) -> None:
    assert load(name, shapes_only=True).one_tokenizer == known_pair(name).one_tokenizer


def test_tokenizers_are_compared_before_the_weights_are_read(
    random_folders: tuple[Path, Path], tmp_path: Path, loaded: list[str]
) -> None:
    base, aligned = random_folders
    shutil.copytree(base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([AddedToken("<|think|>", special=False)])
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(InputError, match="their weights cannot be mixed"):
        Pair(tmp_path / "base", aligned, base_weights=0.5, device="cpu")
    assert loaded.count("load_tokenizer") == 2
    assert "load_model" not in loaded


def test_one_checkpoint_on_both_sides_is_read_once(
    random_folders: tuple[Path, Path], loaded: list[str]
) -> None:
    pair = Pair(random_folders[1], random_folders[1], device="cpu")
    assert pair.one_tokenizer
    assert loaded.count("load_tokenizer") == loaded.count("load_model") == 1
