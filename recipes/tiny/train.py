"""Train the bundled pair: ``python -m recipes.tiny.train [--seed 0] [--out DIR] [--stages A]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from recipes.tiny import lm, stages
from recipes.tiny.recipe import Recipe, smoke
from recipes.tiny.tokenizer import build as build_tokenizer
from recipes.tiny.tokenizer import load as load_tokenizer

STAGES = ("base", "sft", "aligned", "aligned2", "lora")
WEIGHTS = Path(__file__).parents[2] / "src" / "baco" / "tiny" / "weights"


def run(out: Path, recipe: Recipe, seed: int, wanted: Sequence[str], compiled: bool = True) -> None:
    """Run stages of the recipe; each one reads what the ones before it wrote.

    Args:
        out: Folder of the checkpoints and of ``train.log``.
        recipe: The recipe.
        seed: Training seed.
        wanted: Names of the stages to run, in ``STAGES``.
        compiled: Whether to compile pre-training.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.json").write_text(json.dumps({"seed": seed, **asdict(recipe)}, indent=1) + "\n")
    started = time.monotonic()

    def log(line: str) -> None:
        stamped = f"{time.monotonic() - started:7.1f} s  {line}"
        print(stamped, flush=True)
        with (out / "train.log").open("a", encoding="utf-8") as file:
            file.write(stamped + "\n")

    log(f"seed {seed}, torch {torch.__version__}, {torch.get_num_threads()} threads, {wanted}")
    if "base" in wanted:
        tokenizer = build_tokenizer()
        model = lm.build(tokenizer, seed, recipe.width, recipe.depth)
        log(f"{model.num_parameters()} parameters, {len(tokenizer)} tokens")
        stages.pretrain(model, tokenizer, recipe, seed, log, compiled)
        lm.save(model, tokenizer, out / "base")
    tokenizer = load_tokenizer(out / "base")
    if "sft" in wanted:
        model = lm.load(out / "base")
        stages.finetune(model, tokenizer, recipe, seed, log)
        lm.save(model, tokenizer, out / "sft")
    for name, offset in (("aligned", 0), ("aligned2", 1000)):
        if name in wanted:
            model = lm.load(out / "sft")
            stages.align(model, tokenizer, recipe, seed + offset, log)
            lm.save(model, tokenizer, out / name)
    if "lora" in wanted:
        base, aligned = lm.load(out / "base"), lm.load(out / "aligned")
        adapted = stages.adapt(base, aligned, tokenizer, recipe, seed, log)
        adapted.save_pretrained(out / "lora")
        _tidy(out / "lora")
        tokenizer.save_pretrained(out / "lora")
    log("done")


def _tidy(folder: Path) -> None:
    """Make a saved adapter the same wherever it was trained."""
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "../base"
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments; the process's own by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny.train", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--stages", default=",".join(STAGES), help="comma-separated stages")
    parser.add_argument("--smoke", action="store_true", help="a run of seconds, for tests")
    parser.add_argument("--no-compile", action="store_true", help="do without a C++ compiler")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a number of the recipe",
    )
    options = parser.parse_args(arguments)
    recipe = smoke() if options.smoke else Recipe()
    for setting in options.set:
        name, _, value = setting.partition("=")
        recipe = replace(recipe, **{name: type(getattr(recipe, name))(value)})
    wanted = options.stages.split(",")
    unknown = [name for name in wanted if name not in STAGES]
    if unknown:
        parser.error(f"unknown stages {', '.join(unknown)}; known: {', '.join(STAGES)}")
    run(options.out, recipe, options.seed, wanted, compiled=not options.no_compile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
