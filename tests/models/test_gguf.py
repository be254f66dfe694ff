"""GGUF files: they load as the model they were made of, and are refused in one line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from baco.cli import run
from baco.errors import BacoError, InputError, PairError, UnsupportedError
from baco.metrics.hf import load_tokenizer as metric_tokenizer
from baco.metrics.models import find_model
from baco.models import checkpoints
from baco.models.checkpoints import Loading, load_config, load_tokenizer
from baco.models.gguf import hub_file, is_gguf, read_header
from baco.models.known import bundled_folder
from baco.pair import Pair, load
from support.gguf_files import write_gguf, write_model

pytest.importorskip("gguf")

ASK = "Suggest a summer trip destination."


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bundled pair as GGUF files."""
    root = tmp_path_factory.mktemp("gguf")
    for name in ("base", "aligned"):
        write_model(bundled_folder(name), root / f"{name}.gguf")
    return root / "base.gguf", root / "aligned.gguf"


@pytest.fixture(scope="module")
def tiny_gguf(tiny_files: tuple[Path, Path]) -> Pair:
    return load(",".join(map(str, tiny_files)), device="cpu")


def test_an_adapter_made_of_files_names_the_file(
    tiny_files: tuple[Path, Path], tiny_gguf: Pair
) -> None:
    """PEFT notes the model's own name, which transformers sets to the file's folder."""
    assert tiny_gguf.base.inner.model.name_or_path == str(tiny_files[0])


def test_a_file_is_the_model_it_was_made_of(tiny_gguf: Pair) -> None:
    """Weights, tokenizer, chat template and ends: the same samples as from the folders."""
    bundled = load("tiny")
    for prompt in (ASK, "Pick a lucky number between 1 and 60."):
        found, wanted = (
            pair.generate(prompt, n=4, router="p-punc@0.3", max_new_tokens=40)
            for pair in (tiny_gguf, bundled)
        )
        assert [s.text for s in found] == [s.text for s in wanted]
        assert [s.finish_reason for s in found] == [s.finish_reason for s in wanted]
    assert tiny_gguf.one_tokenizer
    assert tiny_gguf.base.vocabulary.end_ids == bundled.base.vocabulary.end_ids
    assert "unknown" not in tiny_gguf.revision


def test_a_file_beside_a_folder(
    tiny_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pair = Pair(base=str(tiny_files[0]), aligned=bundled_folder("aligned"), device="cpu")
    assert pair.one_tokenizer
    assert pair.generate(ASK, n=1, max_new_tokens=4).samples[0].text
    assert "tensors" not in capsys.readouterr().err, "the reader draws a bar"


def test_dry_run_tells_the_memory_from_the_header(
    tiny_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    needs = []
    for pair in (",".join(map(str, tiny_files)), "tiny"):
        assert run(["generate", ASK, "--pair", pair, "--dry-run", "--json"]) == 0
        needs.append(json.loads(capsys.readouterr().out))
    for name in ("memory_of_weights_bytes", "memory_of_a_row_bytes", "tokens", "rows"):
        assert needs[0][name] == needs[1][name]


def test_a_draft_from_a_file(tiny_gguf: Pair, tiny_files: tuple[Path, Path]) -> None:
    texts = [
        [s.text for s in tiny_gguf.generate(ASK, n=2, max_new_tokens=12, draft=draft)]
        for draft in (None, str(tiny_files[1]))
    ]
    assert texts[0] == texts[1]


def test_names() -> None:
    assert is_gguf("x.GGUF")
    assert is_gguf("org/repo/file.gguf")
    assert not is_gguf("org/repo-GGUF")
    assert hub_file("org/repo/sub/file.gguf") == ("org/repo", "sub/file.gguf")
    assert hub_file("./a/b/file.gguf") is None
    assert hub_file("folder/file.gguf") is None


# --- refusals --------------------------------------------------------------------------------


def refused(path: Path | str, aligned: Path | str | None = None) -> str:
    with pytest.raises(BacoError) as caught:
        Pair(base=path, aligned=aligned or bundled_folder("aligned"), device="cpu")
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_no_file() -> None:
    assert "there is no file './nowhere.gguf'" in refused("./nowhere.gguf")
    assert "there is no file 'x.gguf'" in refused("x.gguf")


def test_no_network() -> None:
    said = refused("nobody/no-model/file.gguf")
    assert "not on this machine and the Hub cannot be reached" in said


def test_no_gguf_at_all(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_text("x")
    assert "is not a GGUF file (download it again)" in refused(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "pointer of git-lfs (run `git lfs pull`" in refused(path)


def test_a_header_with_other_bytes_in_it(tiny_files: tuple[Path, Path], tmp_path: Path) -> None:
    data = bytearray(tiny_files[0].read_bytes())
    data[16:24] = (2**60).to_bytes(8, "little")  # how many keys there are
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert "is damaged or cut off (download it again)" in refused(path)


def test_errors_name_the_file(tiny_files: tuple[Path, Path], tmp_path: Path) -> None:
    data = bytearray(tiny_files[1].read_bytes())
    data[-4000:] = np.full(1000, np.nan, np.float32).tobytes()
    path = tmp_path / "nan.gguf"
    path.write_bytes(data)
    assert f"the aligned model {path} (float32) gives scores that are not" in refused(
        tiny_files[0], path
    )


@pytest.mark.parametrize("share", [0.0001, 0.02, 0.5, 0.999])
def test_a_file_cut_short(share: float, tiny_files: tuple[Path, Path], tmp_path: Path) -> None:
    data = tiny_files[0].read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: max(8, int(len(data) * share))])
    assert "is damaged or cut off (download it again)" in refused(path)


def test_the_second_file_is_looked_at_before_the_first_is_read(
    tiny_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of 262,144 ids take long; a file that is none is seen at once."""
    import baco.models.load

    monkeypatch.delattr(baco.models.load, "load_tokenizer")
    path = tmp_path / "m.gguf"
    path.write_text("x")
    assert "is not a GGUF file" in refused(tiny_files[0], path)


@pytest.mark.parametrize(
    ("architecture", "fields", "said"),
    [
        ("clip", {"general.type": "mmproj"}, "is the vision part of a model"),
        ("bert", {}, "is an embedding model"),
        ("qwen3", {"qwen3.pooling_type": 3}, "is an embedding model"),
        ("llama", {"general.type": "adapter"}, "is a LoRA adapter"),
        ("rwkv7", {}, "the architecture 'rwkv7' of"),
        ("t5", {}, "the architecture 't5' of"),
        ("general", {}, "the architecture 'general' of"),
        ("llama", {"llama.attention.causal": False}, "no model that writes text token by token"),
        ("llama", {"llama.block_count": 0}, "has no layers"),
        ("llama", {"llama.expert_count": 8}, "is a mixture of experts"),
        ("llama", {"split.count": 3}, "is one of 3 parts"),
        ("llama", {}, "holds no tokenizer"),
        (
            "llama",
            {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.eos_token_id": 1},
            "names the special token 1, and has 1 tokens",
        ),
        ("llama", {"tokenizer.ggml.tokens": ["a"], "llama.rope.scaling.type": "yarn"}, "yarn"),
        (
            "phi3",
            {"tokenizer.ggml.tokens": ["a"], "phi3.rope.scaling.attn_factor": 1.25},
            "(rope.scaling.attn_factor is 1.25)",
        ),
        (
            "llama",
            {"tokenizer.ggml.tokens": ["a"], "llama.rope.scale_linear": 4.0},
            "(rope.scale_linear is 4.0)",
        ),
    ],
)
def test_files_of_another_kind(
    architecture: str, fields: dict[str, object], said: str, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", architecture, fields)
    assert said in refused(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"general.alignment": 0},
        {"general.alignment": "wide"},
        {"split.count": "two"},
        {"tokenizer.ggml.eos_token_id": "</s>"},
        {"tokenizer.ggml.tokens": "text"},
        {"tokenizer.ggml.tokens": [1, 2]},
    ],
)
def test_values_of_another_kind(fields: dict[str, object], tmp_path: Path) -> None:
    fields = {"tokenizer.ggml.tokens": ["a"], **fields}
    path = write_gguf(tmp_path / "m.gguf", "llama", fields)
    assert "its header was written wrongly" in refused(path)


def test_the_second_part_of_a_model(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "m.gguf", "")
    writer.kv_data[0].clear()
    writer.add_uint16("split.no", 1)
    writer.add_uint16("split.count", 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert "is one of 2 parts of a model" in refused(tmp_path / "m.gguf")


@pytest.mark.parametrize("name", ["rope_freqs.weight", "rope_factors_long.weight"])
def test_stretched_positions(name: str, tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf",
        "llama",
        {"tokenizer.ggml.tokens": ["a"]},
        {name: np.ones(4, np.float32)},
    )
    assert f"({name}, as " in refused(path)


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "blk.9.attn_norm.weight", "strange"])
def test_tensors_that_the_reader_leaves_out(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_model(bundled_folder("base"), path, further={name: np.ones(128, np.float32)})
    assert f"{path} holds {name}, which transformers' GGUF reader leaves out" in refused(path)


def test_an_unknown_type_of_weights(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "m.gguf",
        "llama",
        {"tokenizer.ggml.tokens": ["a"]},
        {"token_embd.weight": np.ones((4, 32), np.float64)},
    )
    with pytest.raises(UnsupportedError, match=r"weights of the type F64, which cannot"):
        read_header(path)


def test_no_package(
    tiny_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_files[0].read_bytes())  # a header that nobody has read yet
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "needs the package 'gguf'" in refused(path)
    assert "pip install 'baco[gguf]'" in refused(path)


@pytest.mark.parametrize("shapes_only", [False, True])
def test_not_quantised_twice(shapes_only: bool, tiny_files: tuple[Path, Path]) -> None:
    how: dict[str, Any] = {"load_in_8bit": True, "shapes_only": shapes_only}
    with pytest.raises(InputError, match="cannot be quantised again"):
        Pair(base=tiny_files[0], aligned=tiny_files[1], device="cpu", **how)


def test_a_base_model_as_aligned_side(tiny_files: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    write_model(bundled_folder("base"), path, template="")
    assert "has no chat template" in refused(tiny_files[0], path)


def test_a_folder_that_holds_a_file(tiny_files: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(b"GGUF")
    said = refused(folder)
    assert f"the folder {str(folder)!r} holds a model as GGUF (name the file: " in said
    assert "m.gguf" in said


def test_an_adapter_folder_as_a_model(tmp_path: Path) -> None:
    said = refused(bundled_folder("lora"))
    assert "holds an adapter, and no model" in said
    assert "--adapter" in said


def test_a_file_as_an_adapter(tiny_files: tuple[Path, Path]) -> None:
    with pytest.raises(PairError, match="is a GGUF file, and an adapter is a folder"):
        Pair(base=bundled_folder("base"), adapter=tiny_files[1], device="cpu")


def test_a_metric_s_model_from_a_file(tiny_files: tuple[Path, Path]) -> None:
    from baco.metrics import score

    group = {"prompt": ASK, "generations": ["Go to the sea.", "Visit the mountains."]}
    values = [
        score([group], "ppl", aligned=str(model), cache=False, offline=True).means["ppl"]
        for model in (tiny_files[1], bundled_folder("aligned"))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_a_metric_s_encoder_is_no_file(tiny_files: tuple[Path, Path]) -> None:
    from baco.metrics import score

    group = {"prompt": ASK, "generations": ["Go to the sea.", "Visit the mountains."]}
    with pytest.raises(InputError, match="no model for the role 'encoder' comes as one"):
        score([group], "emb_cos", models={"encoder": str(tiny_files[1])}, offline=True)


def test_folders_that_are_no_metric_s_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a LoRA adapter, and no model"):
        find_model(str(bundled_folder("lora")), offline=True)
    with pytest.raises(PairError, match="holds no model"):
        find_model(str(tmp_path), offline=True)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(PairError, match=r"name the file: .*m\.gguf"):
        find_model(str(tmp_path), offline=True)


def test_a_metric_s_model_from_a_link(tiny_files: tuple[Path, Path], tmp_path: Path) -> None:
    """The Hub's cache holds links to files without an ending."""
    blob, link = tmp_path / "blob", tmp_path / "aligned.gguf"
    blob.write_bytes(tiny_files[1].read_bytes())
    link.symlink_to(blob)
    assert metric_tokenizer(find_model(str(link), offline=True))(ASK).input_ids


def test_a_plan_s_pair_from_files(tiny_files: tuple[Path, Path], tiny_gguf: Pair) -> None:
    from baco.bench.cells import pair_revision

    assert pair_revision(",".join(map(str, tiny_files))) == tiny_gguf.revision


def test_what_a_header_was_read_as_is_kept(
    tiny_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read once; damaged, of another header or unwritable, it is read again, to the same end."""
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoints, "LARGE", 0)
    made: list[str] = []

    def counting(kind: type) -> None:
        read = kind.from_pretrained

        def from_pretrained(name: str, *args: Any, **options: Any) -> Any:
            if "gguf_file" in options:
                made.append(kind.__name__)
            return read(name, *args, **options)

        monkeypatch.setattr(kind, "from_pretrained", from_pretrained)

    for kind in (transformers.AutoConfig, transformers.AutoTokenizer):
        counting(kind)
    file, loading = str(tiny_files[1]), Loading()

    def read() -> tuple[Any, Any]:
        made.clear()
        return load_config(file, "main", loading), load_tokenizer(file, "main", loading)

    first, again = read(), read()
    assert made == [], "the second time nothing is made"
    of_metrics = metric_tokenizer(find_model(file, offline=True))
    assert made == [], "nor for a metric"
    assert of_metrics(ASK).input_ids == again[1](ASK).input_ids
    assert first[0].to_dict() == again[0].to_dict()
    for text in ("Hi there, 漢字!", "<|im_start|>user\nHi<|im_end|>", " two  spaces"):
        assert first[1](text).input_ids == again[1](text).input_ids
    chat: Any = [{"role": "user", "content": ASK}]
    texts = [each.apply_chat_template(chat, tokenize=False) for each in (first[1], again[1])]
    assert texts[0] == texts[1]
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_text(path.read_text()[:-9])
    assert read()[1](ASK).input_ids == first[1](ASK).input_ids
    assert made, "what is damaged is made again"
    read()
    assert made == [], "and kept in place of it"
    next((tmp_path / "cache").rglob("chat_template.jinja")).unlink()
    assert read()[1].chat_template == first[1].chat_template
    assert made, "nor is a part of it trusted"
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "file"))
    assert read()[1](ASK).input_ids == first[1](ASK).input_ids
    assert made
