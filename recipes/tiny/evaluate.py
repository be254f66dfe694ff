"""Print the bundled pair's figures: ``python -m recipes.tiny.evaluate``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from baco.engine import Warp
from baco.tiny.judge import quality, semantic_class, valid
from baco.tiny.world import WorldPrompt
from baco.tiny.world import prompts as world_prompts
from baco.tradeoff.coverage import coverage
from recipes.tiny.decode import MODELS, Answer, Family
from recipes.tiny.novelty import verbatim_share
from recipes.tiny.stages import continuation_logits
from recipes.tiny.train import WEIGHTS

BASE_TEMPERATURES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ALIGNED_TEMPERATURES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7)
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
N = 10

Figures = dict[str, float]


def figures(prompts: Sequence[WorldPrompt], groups: Sequence[Sequence[Answer]]) -> Figures:
    """Summarise groups with the exact judge.

    Args:
        prompts: The prompts.
        groups: For each prompt its answers.

    Returns:
        Means over prompts.
    """
    sums = {"quality": 0.0, "classes": 0.0, "valid_classes": 0.0, "tokens": 0.0, "base_share": 0.0}
    for prompt, group in zip(prompts, groups, strict=True):
        classes = [semantic_class(prompt.text, answer.text) for answer in group]
        good = [valid(prompt.text, answer.text) for answer in group]
        sums["quality"] += sum(quality(prompt.text, a.text) for a in group) / len(group)
        sums["classes"] += len(set(classes))
        sums["valid_classes"] += len({c for c, ok in zip(classes, good, strict=True) if ok})
        sums["tokens"] += sum(a.tokens for a in group) / len(group)
        sums["base_share"] += sum(a.base_share for a in group) / len(group)
    return {name: round(value / len(prompts), 3) for name, value in sums.items()}


@torch.inference_mode()
def agreement(
    family: Family,
    prompts: Sequence[WorldPrompt],
    groups: Sequence[Sequence[Answer]],
    aligned: str = "aligned",
) -> float:
    """Measure how often both sides hold the same token for the likeliest.

    Args:
        family: The checkpoints.
        prompts: The prompts.
        groups: The aligned model's own answers.
        aligned: The aligned checkpoint.

    Returns:
        The share of positions of the answers, their ends included.
    """
    tokenizer = family.tokenizer
    same = count = 0
    for prompt, group in zip(prompts, groups, strict=True):
        outputs = [
            [
                *tokenizer(" " + a.text, add_special_tokens=False)["input_ids"],
                tokenizer.eos_token_id,
            ]
            for a in group
        ]
        tops = []
        for name in ("base", aligned):
            ids = [family.prompt_ids(name, prompt.text)] * len(outputs)
            logits, _, counts = continuation_logits(
                family.model(name), ids, outputs, tokenizer.pad_token_id
            )
            tops.append(logits.argmax(-1))
        same += int(((tops[0] == tops[1]) & counts).sum())
        count += int(counts.sum())
    return same / count


def sweeps(
    aligned_temperatures: Sequence[float] = ALIGNED_TEMPERATURES,
) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """List the settings of every curve.

    Args:
        aligned_temperatures: The aligned model's grid; 1.0 must be in it.

    Returns:
        For each method its settings: label and arguments of ``Family.answers``.
    """

    def alone(name: str, temperature: float) -> dict[str, Any]:
        return {
            "base": name,
            "aligned": name,
            "router": "rand@0",
            "warp": Warp(temperature=temperature, top_p=0.9),
        }

    def pair(router: str) -> dict[str, Any]:
        return {"base": "base", "aligned": "aligned", "router": router, "warp": Warp(top_p=0.9)}

    return {
        "base": [(f"T={t}", alone("base", t)) for t in BASE_TEMPERATURES],
        "aligned": [(f"T={t}", alone("aligned", t)) for t in aligned_temperatures],
        "rand": [(f"rand@{g}", pair(f"rand@{g}")) for g in THRESHOLDS],
        "p-punc": [(f"p-punc@{g}", pair(f"p-punc@{g}")) for g in THRESHOLDS],
    }


def placed(
    curves: Mapping[str, Mapping[str, Figures]], diversity: str
) -> dict[str, list[tuple[float, float]]]:
    """Place settings in the box that the references span; those outside are left out.

    Args:
        curves: Figures by method and setting; ``base`` and ``aligned`` hold ``T=1.0``.
        diversity: ``"classes"`` or ``"valid_classes"``.

    Returns:
        (quality, diversity) of each method's settings, both in [0, 1]: quality runs from base to
        aligned, diversity from aligned to ten.
    """
    low, high = curves["base"]["T=1.0"], curves["aligned"]["T=1.0"]
    out = {}
    for method, settings in curves.items():
        points = [
            (
                (f["quality"] - low["quality"]) / (high["quality"] - low["quality"]),
                (f[diversity] - high[diversity]) / (N - high[diversity]),
            )
            for f in settings.values()
        ]
        out[method] = [(x, y) for x, y in points if 0 <= x <= 1 and 0 <= y <= 1]
    return out


def coverages(curves: Mapping[str, Mapping[str, Figures]], diversity: str) -> dict[str, float]:
    """Compute each method's Coverage among the settings that are `placed`."""
    return {m: round(coverage(points), 3) for m, points in placed(curves, diversity).items()}


def evaluate(
    weights: Path,
    *,
    seed: int = 0,
    limit: int = 130,
    every: int = 1,
    with_sweeps: bool = True,
    with_novelty: bool = True,
    aligned_temperatures: Sequence[float] = ALIGNED_TEMPERATURES,
    turn_rule: bool = True,
) -> dict[str, Any]:
    """Measure everything.

    Args:
        weights: Folder of the checkpoints.
        seed: Decides the noise.
        limit: Most tokens of an answer.
        every: Use every so-many-th held-out prompt.
        with_sweeps: Whether to measure the curves and their Coverage.
        with_novelty: Whether to compare the answers with the training text.
        aligned_temperatures: The grid of the aligned model's curve.
        turn_rule: As `Family`.

    Returns:
        The figures.
    """
    family = Family(weights, turn_rule=turn_rule)
    prompts = world_prompts("heldout")[::every]
    result: dict[str, Any] = {
        "prompts": len(prompts),
        "n": N,
        "temperature": 1.0,
        "top_p": 0.9,
        "limit": limit,
        "turn_rule": turn_rule,
        "models": {},
    }
    answered: dict[str, list[list[Answer]]] = {}
    print(f"{'':16}quality  classes  valid classes  tokens  base share")
    for name in MODELS:
        if family.has(name):
            answered[name] = family.answers(
                prompts,
                base=name,
                aligned=name,
                router="rand@0",
                warp=Warp(top_p=0.9),
                n=N,
                seed=seed,
                limit=limit,
            )
            result["models"][name] = _show(name, figures(prompts, answered[name]))
    for name in [m for m in MODELS[1:] if m in answered]:
        share = agreement(family, prompts, answered[name], name)
        result["models"][name]["top1_agreement"] = round(share, 3)
        print(f"top-1 agreement of base and {name} along {name}: {share:.3f}", flush=True)
    if with_novelty:
        texts = {
            name: [answer.text for group in groups for answer in group]
            for name, groups in answered.items()
        }
        for name, share in verbatim_share(weights, family.tokenizer, texts).items():
            result["models"][name]["verbatim_share"] = round(share, 3)
            print(f"answers of {name} found in the training text: {share:.3f}", flush=True)
    if with_sweeps:
        curves: dict[str, dict[str, Figures]] = {}
        for method, settings in sweeps(aligned_temperatures).items():
            curves[method] = {}
            for label, arguments in settings:
                groups = family.answers(prompts, n=N, seed=seed, limit=limit, **arguments)
                name = label if "@" in label else f"{method} {label}"
                curves[method][label] = _show(name, figures(prompts, groups))
        result["curves"] = curves
        result["coverage"] = {
            diversity: coverages(curves, diversity) for diversity in ("classes", "valid_classes")
        }
        for diversity, values in result["coverage"].items():
            print(f"Coverage on {diversity}:", values, flush=True)
    return result


def _show(name: str, row: Figures) -> Figures:
    print(
        f"{name:16}{row['quality']:7.2f}  {row['classes']:7.2f}  {row['valid_classes']:13.2f}  "
        f"{row['tokens']:6.1f}  {row['base_share']:10.2f}",
        flush=True,
    )
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments; the process's own by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny.evaluate", description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--limit", type=int, default=130, help="most tokens of an answer")
    parser.add_argument("--every", type=int, default=1, help="use every so-many-th prompt")
    parser.add_argument(
        "--run-on",
        action="store_true",
        help="without the turn rule: answers run on where the base model asks another question",
    )
    parser.add_argument("--no-sweeps", action="store_true")
    parser.add_argument("--no-novelty", action="store_true")
    parser.add_argument(
        "--aligned-temperatures",
        type=lambda text: [float(value) for value in text.split(",")],
        default=ALIGNED_TEMPERATURES,
        help="another grid for the aligned model's curve, 1.0 included",
    )
    options = parser.parse_args(arguments)
    result = evaluate(
        options.weights,
        seed=options.seed,
        limit=options.limit,
        every=options.every,
        with_sweeps=not options.no_sweeps,
        with_novelty=not options.no_novelty,
        aligned_temperatures=options.aligned_temperatures,
        turn_rule=not options.run_on,
    )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
