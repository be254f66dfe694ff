"""What a name given as a pair is, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from baco.errors import PairError
from baco.models.known import check_pair_name


@pytest.mark.parametrize(
    ("files", "name", "says"),
    [
        (
            ("adapter_config.json",),
            "{}",
            "is a LoRA adapter, not a pair (--pair BASE --adapter {})",
        ),
        (("adapter_config.json",), "my/base,{}", "not a model (--pair my/base --adapter {})"),
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


def test_names_and_couples_pass() -> None:
    check_pair_name("tiny")
    check_pair_name("my/base,my/aligned")
