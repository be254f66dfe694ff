"""Makes ``group_beams.json``: what group beam search of transformers 4 finds on small models.

Group beam search left transformers with version 5, so this ran once, in a virtual environment of
its own with transformers 4.49.0, torch 2.13.0 and a CPU:

    python make_group_beams.py > group_beams.json
"""

from __future__ import annotations

import json
import sys
import zlib
from typing import Any

import numpy as np
import torch

VOCABULARY, END, PAD = 40, 0, 1


def small_model(seed: int) -> Any:
    """A Phi of two layers whose weights depend on their names and the seed alone.

    The padding token is so unlikely that no beam ever takes it, nor minds its penalty.
    """
    from transformers import PhiConfig, PhiForCausalLM

    config = PhiConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
        tie_word_embeddings=False,
    )
    model = PhiForCausalLM(config).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
            weights.copy_(torch.tensor(rng.normal(size=tuple(weights.shape)) * 0.5))
        model.lm_head.bias[PAD] = -1e4
        model.lm_head.bias[END] = 1.0
    return model


def cases() -> list[dict[str, Any]]:
    """Prompts and sizes: groups of one beam and of several, mild and strong penalties."""
    rng = np.random.default_rng(0)
    sizes = [(2, 1), (3, 1), (2, 2), (3, 2), (4, 3), (5, 1), (10, 1), (2, 5)]
    return [
        {
            "model": seed,
            "prompt": rng.integers(2, VOCABULARY, size=int(rng.integers(1, 7))).tolist(),
            "groups": groups,
            "beams": beams,
            "penalty": float(penalty),
            "max_new_tokens": int(limit),
        }
        for seed in range(3)
        for (groups, beams) in sizes
        for penalty, limit in ((0.2, 6), (0.8, 12), (3.0, 20))
    ]


def main() -> None:
    import transformers

    models = [small_model(seed) for seed in range(3)]
    made = []
    for case in cases():
        count = case["groups"] * case["beams"]
        out = models[case["model"]].generate(
            torch.tensor([case["prompt"]]),
            num_beams=count,
            num_beam_groups=case["groups"],
            diversity_penalty=case["penalty"],
            max_new_tokens=case["max_new_tokens"],
            num_return_sequences=count,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
        beams = []
        for ids, score in zip(out.sequences.tolist(), out.sequences_scores.tolist(), strict=True):
            answer = ids[len(case["prompt"]) :]
            beams.append({"ids": answer[: answer.index(END)] if END in answer else
                          [i for i in answer if i != PAD], "score": score})  # fmt: skip
        made.append(case | {"found": beams})
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    json.dump({"made_with": versions, "cases": made}, sys.stdout)


if __name__ == "__main__":
    main()
