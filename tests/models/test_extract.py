"""Adapters out of two checkpoints: exact at full rank, honest below, a pair in the end."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from baco.cli import run
from baco.errors import InputError
from baco.models.extract import extract, low_rank, total
from baco.pair import Pair

pytest.importorskip("peft", reason="needs the extra 'lora'")

ASK = "What is the capital of France?"


def test_the_best_of_a_rank():
    noise = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 9, generator=noise)
    a, b = low_rank(matrix, 4)
    values = torch.linalg.svdvals(matrix)
    assert float((matrix - b @ a).norm()) == pytest.approx(float(values[4:].norm()), rel=1e-5)
    wide = torch.randn(1100, 6, generator=noise) @ torch.randn(6, 1200, generator=noise)
    a, b = low_rank(wide, 6)
    assert float((wide - b @ a).norm() / wide.norm()) < 1e-4
    again = low_rank(wide, 6)
    assert torch.equal(again[0], a)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_at_full_rank_it_is_the_aligned_model(tied, family):
    """Biases (Qwen 2) and norms are carried along whole."""
    import transformers

    config, kind = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    }[family]
    sizes = {
        "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.5,
    }  # fmt: skip
    base, aligned = (kind(config(**sizes, tie_word_embeddings=tied)).eval() for _ in range(2))
    with torch.no_grad():
        for p in aligned.parameters():
            if p.ndim == 1:
                p.add_(torch.rand(p.shape))
    ids = torch.tensor([[3, 5, 8, 13]])
    plain, wanted = base(ids).logits.clone(), aligned(ids).logits
    model, losses = extract(copy.deepcopy(base), aligned, rank=12)
    torch.testing.assert_close(model(ids).logits, wanted, rtol=1e-3, atol=1e-4)
    with model.disable_adapter():
        torch.testing.assert_close(model(ids).logits, plain)
    assert total(losses).share < 1e-4
    _, rough = extract(copy.deepcopy(base), aligned, rank=2)
    assert 0.1 < total(rough).share < 1
    assert all(0 <= loss.share <= 1 for loss in rough)


def test_the_folder_is_the_adapter_of_a_pair(random_folders, tmp_path, capsys):
    out = tmp_path / "adapter"
    base, aligned = map(str, random_folders)
    assert run(["extract-adapter", base, aligned, "--rank", "400", "-o", str(out), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[-1]["module"] == "total"
    assert rows[-1]["share"] < 1e-4
    two = Pair(*random_folders, device="cpu")
    one = Pair(base, adapter=out, device="cpu")
    options = {"n": 2, "max_new_tokens": 12, "seed": 2}
    for method in ("aligned", "base", "baco"):
        assert (
            one.generate(ASK, method=method, **options).texts
            == two.generate(ASK, method=method, **options).texts
        )
    for alpha in (0.0, 1.0):
        wanted = two.generate(ASK, method="interpolate", control=alpha, **options).texts
        made = one.generate(ASK, method="interpolate", control=alpha, **options).texts
        assert made == wanted
    half = one.aligned.at(0.5).logits([5, 6, 7])
    _ = two.generate(ASK, method="interpolate", control=0.5, **options)
    (place,) = two.shelf.places
    torch.testing.assert_close(half, place.side.partner.logits([5, 6, 7]), rtol=1e-2, atol=1e-2)
    assert run(["extract-adapter", base, aligned, "-o", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["extract-adapter", base, aligned, "-o", str(tmp_path / "n"), "--rank", "0"]) == 2


def test_models_that_do_not_fit_are_refused():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    small, large = (LlamaForCausalLM(LlamaConfig(vocab_size=v, **sizes)) for v in (40, 48))
    with pytest.raises(InputError, match="has 40 rows in the base and 48"):
        extract(small, large, 4)
