"""How llama.cpp is reached: Python, the command line, the server; and what is refused."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from baco.cli import app
from baco.errors import BacoError, InputError, PairError, UnknownNameError, UnsupportedError
from baco.models import llamacpp
from baco.models.llamacpp import LlamaPartner, Weights
from baco.pair import Pair
from llamacpp.conftest import load

Gguf = Callable[..., Path]


@pytest.fixture
def sides(gguf: Gguf) -> tuple[Path, Path]:
    return gguf(name="llama-0"), gguf(name="llama-1", spread=0.3)


def test_python(pairs: Callable[[str], Pair]) -> None:
    pair = pairs("two files")
    group = pair.generate("A big red dog", n=10, router="rand@0.5", max_new_tokens=12)
    assert len(group) == 10
    assert 0 < group.base_share < 1
    again = pair.generate("A big red dog", n=10, router="rand@0.5", max_new_tokens=12, lookahead=4)
    assert again.texts == group.texts


def test_other_methods_find_caches_too(pairs: Callable[[str], Pair]) -> None:
    pair = pairs("two files")
    for method in ("aligned", "base", "nudging", "diverse-beam"):
        assert len(pair.generate("A dog", n=2, method=method, max_new_tokens=6)) == 2


def test_more_samples_than_sequences(gguf: Gguf) -> None:
    pair = load(gguf(name="llama-0"), gguf(name="llama-0"))
    group = pair.generate("A big red dog", n=140, router="rand@0.5", max_new_tokens=3)
    few = pair.generate("A big red dog", n=140, router="rand@0.5", max_new_tokens=3, max_rows=8)
    assert group.texts == few.texts


def test_generate_command(sides: tuple[Path, Path]) -> None:
    names = ",".join(map(str, sides))
    done = CliRunner().invoke(
        app,
        ["generate", "A dog", "-n", "2", "--pair", names, "--engine", "llamacpp",
         "--engine-option", "n_threads=1", "--max-new-tokens", "6", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["index"] for row in rows] == [0, 1]


def test_server(pairs: Callable[[str], Pair]) -> None:
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from baco.serve.app import create_app

    with TestClient(
        create_app({"x": pairs("two tokenizers")}), base_url="http://127.0.0.1"
    ) as client:
        ask = {"model": "x", "messages": [{"role": "user", "content": "A dog"}], "n": 3,
               "max_tokens": 8, "seed": 1}  # fmt: skip
        first, second = (client.post("/v1/chat/completions", json=ask).json() for _ in range(2))
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert len(texts) == 3
    assert texts == [choice["message"]["content"] for choice in second["choices"]]


def test_one_file_is_loaded_once_and_read_in_one_pass(pairs: Callable[[str], Pair]) -> None:
    pair = pairs("one file twice")
    assert pair.base.weights is pair.aligned.weights
    assert pair.aligned.shared_cache(pair.base) is not None
    stats = pair.generate("A dog", n=1, router="rand@0.5", max_new_tokens=8).stats
    assert stats is not None
    assert stats.aligned_passes <= 9


def test_what_a_partner_can_do(pairs: Callable[[str], Pair]) -> None:
    for name, rewinds in (("two files", True), ("sliding windows", True), ("recurrent", False)):
        for partner in (pairs(name).base, pairs(name).aligned):
            assert isinstance(partner, LlamaPartner)
            assert partner.abilities.rewinds is rewinds
    with pytest.raises(UnsupportedError, match="cannot look ahead"):
        pairs("recurrent").generate("A dog", n=1, lookahead=4)


def test_options_reach_llama_cpp(sides: tuple[Path, Path]) -> None:
    pair = load(*sides, n_threads=1, n_gpu_layers=0)
    assert len(pair.generate("A dog", n=1, max_new_tokens=3)) == 1
    with pytest.raises(UnknownNameError, match="did you mean 'n_threads'"):
        load(*sides, n_thread=1)
    with pytest.raises(UnknownNameError, match=r"option of llama\.cpp 'n_ctx'"):
        load(*sides, n_ctx=1)
    with pytest.raises(InputError, match="is not a number"):
        load(*sides, n_threads="many")


class Params(ctypes.Structure):
    """Some of llama.cpp's parameters: this needs no llama-cpp-python."""

    _fields_ = (
        ("n_threads", ctypes.c_int32),
        ("n_ubatch", ctypes.c_uint32),
        ("flash", ctypes.c_bool),
        ("yarn", ctypes.c_float),
    )


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("n_threads", 4, ""),
        ("n_threads", 2.5, "a whole number that fits into 32 bits"),
        ("n_threads", 2**31, "a whole number that fits into 32 bits"),
        ("n_ubatch", -1, "a whole number that fits into 32 bits"),
        ("flash", True, ""),
        ("flash", 2, "true or false"),
        ("yarn", -1, ""),
        ("yarn", 1e300, "a finite number"),
    ],
)
def test_options_are_of_their_kind(
    option: str, value: float, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lib = SimpleNamespace(llama_model_params=Params, llama_context_params=Params)
    monkeypatch.setattr(llamacpp, "_llama", lambda: lib)
    if not hint:
        llamacpp._check_options({option: value})
        assert getattr(llamacpp._with(Params(), {option: value}), option) == value
        return
    with pytest.raises(InputError, match=f"is not what llama.cpp takes there .give {hint}"):
        llamacpp._check_options({option: value})


@pytest.mark.parametrize(
    "option", [{"device": "cpu"}, {"dtype": "bfloat16"}, {"revision": "v2"}, {"load_in_8bit": True}]
)
def test_what_files_have_not(sides: tuple[Path, Path], option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="takes GGUF files as they are"):
        load(*sides, **option)


def test_adapters_are_refused(sides: tuple[Path, Path]) -> None:
    with pytest.raises(UnsupportedError, match="no adapter"):
        llamacpp.load(str(sides[0]), adapter="some/adapter")


def cut(path: Path, to: Path, size: float) -> Path:
    data = path.read_bytes()
    to.write_bytes(data[: int(len(data) * size)])
    return to


def test_files_that_cannot_be_used(gguf: Gguf, sides: tuple[Path, Path], tmp_path: Path) -> None:
    good = sides[1]
    text = tmp_path / "model.gguf"
    text.write_text("once upon a time")
    pointer = tmp_path / "pointer.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    end = gguf(name="end", end=99999)
    cases = [
        (cut(good, tmp_path / "cut.gguf", 0.7), "cannot load .*(not within the file|corrupted)"),
        (cut(good, tmp_path / "head.gguf", 0.01), "cannot load .*"),
        (text, "is not a GGUF file"),
        (pointer, "is a pointer of git-lfs"),
        (tmp_path / "missing.gguf", "there is no file"),
        (tmp_path, "holds a model as GGUF .name the file: .*cut.gguf"),
        (tmp_path / "model.safetensors", "is no GGUF file"),
        (end, "names the special token 99999"),
        (gguf(name="bert", kind="bert", pooling=1), r"writes text token by token \(bert\)"),
        (gguf(name="embed", pooling=3), r"writes text token by token \(llama\)"),
    ]
    for bad, said in cases:
        for pair in ((bad, good), (good, bad)):
            with pytest.raises(PairError, match=said) as caught:
                load(*pair)
            assert caught.value.hint
            assert "\n" not in str(caught.value)


def test_text_is_no_end_because_a_file_names_none(gguf: Gguf) -> None:
    """llama.cpp then takes id 11 for the end, whatever it stands for."""
    names = [Weights(str(gguf(name=f"end-{end}", end=end)), {}) for end in (0, None)]
    assert [each.ends for each in names] == [{0}, {0}]  # the second by the token's well-known name
    assert names[1].tokens[11]


def test_no_weights_are_read_before_both_files_are_looked_at(
    gguf: Gguf, sides: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    plain = Weights.read

    def counted(weights: Weights) -> None:
        read.append(weights.path)
        plain(weights)

    monkeypatch.setattr(Weights, "read", counted)
    for bad in (gguf(name="bare", template=None), gguf(name="embed", pooling=3)):
        with pytest.raises(PairError):
            load(sides[0], bad)
    assert not read
    load(sides[0], sides[0])
    assert len(read) == 1


def test_an_aligned_model_needs_a_chat_template(gguf: Gguf, sides: tuple[Path, Path]) -> None:
    bare = gguf(name="bare", template=None)
    with pytest.raises(PairError, match="no chat template"):
        load(sides[0], bare)


def test_bad_files_on_the_command_line(sides: tuple[Path, Path], tmp_path: Path) -> None:
    bad = cut(sides[0], tmp_path / "cut.gguf", 0.7)
    done = CliRunner().invoke(
        app, ["generate", "A dog", "--pair", f"{bad},{sides[1]}", "--engine", "llamacpp"]
    )
    assert isinstance(done.exception, PairError | SystemExit)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    llamacpp._llama.cache_clear()
    try:
        with pytest.raises(BacoError, match=r"'llama_cpp', which is not.*baco\[llamacpp\]"):
            llamacpp.load("a.gguf", "b.gguf")
    finally:
        llamacpp._llama.cache_clear()
