"""Cells: one setting of one method on one pair and dataset, with a key that says which samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco.bench.plan import Control, MethodPlan, Plan, controls_of, setting_of

if TYPE_CHECKING:
    from baco.methods.base import Setting
    from baco.prompts import PlainTemplate


@dataclass(frozen=True)
class Cell:
    """One setting on one pair and dataset.

    Attributes:
        key: Hash of all that decides the samples: everything below but `curve`, `family`, the
            dataset's name, and `n` unless the method makes a group as a whole.
        curve: What the plan calls its curve.
        family: The family of the curve; the curve's own name where the plan gives none.
        pair: Name of the pair.
        revision: The pair's revision.
        engine: Who decodes.
        dtype: Precision of the pair's weights.
        dataset: What the plan calls the dataset.
        fingerprint: The dataset's fingerprint.
        method: Name of the method.
        router: The router's spec without its threshold, or None.
        control: The control, or None for the method's default.
        sampling: How samples are drawn, as in the plan.
        seed: Decides all noise.
        n: Samples per prompt.
        whole_group: Whether the samples of a group depend on n.
    """

    key: str
    curve: str
    family: str
    pair: str
    revision: str
    engine: str
    dtype: str
    dataset: str
    fingerprint: str
    method: str
    router: str | None
    control: Control
    sampling: Mapping[str, Any]
    seed: int
    n: int
    whole_group: bool

    @property
    def title(self) -> str:
        """Curve and control, for people."""
        return self.curve if self.control is None else f"{self.curve}@{_short(self.control)}"


def _short(control: Control) -> str:
    return f"{control:g}" if isinstance(control, float | int) else str(control)


def make_bench_setting(plan: Plan, cell: Cell) -> Setting:
    """Makes the setting of a cell; how models run comes from the plan."""
    return setting_of(plan, cell.method, cell.router, cell.control, cell.sampling, cell.seed)


def cell_key(identity: Mapping[str, Any]) -> str:
    """Returns the hash that names a cell."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cells_of(
    plan: Plan, revisions: Mapping[str, str], fingerprints: Mapping[str, str]
) -> list[Cell]:
    """Lists the cells of a plan, pair by pair.

    Args:
        plan: The plan.
        revisions: Revision of each pair.
        fingerprints: Fingerprint of each dataset, by what the plan calls it.

    Returns:
        The cells, in the plan's order of pairs, datasets, curves and controls.
    """
    found = []
    for pair in plan.all_pairs:
        for dataset in plan.datasets:
            for entry in plan.methods:
                if pair in plan.pairs_of(entry):
                    for control in controls_of(entry):
                        found.append(
                            _cell(
                                plan,
                                entry,
                                control,
                                pair,
                                revisions[pair],
                                dataset.title,
                                fingerprints[dataset.title],
                            )
                        )
    return found


def _cell(
    plan: Plan,
    entry: MethodPlan,
    control: Control,
    pair: str,
    revision: str,
    dataset: str,
    fingerprint: str,
) -> Cell:
    from baco.methods import METHODS

    control = float(control) if isinstance(control, int) else control
    sampling = plan.sampling_of(entry).model_dump()
    whole = METHODS[entry.method].whole_group
    identity = {
        "pair": pair,
        "revision": revision,
        "engine": plan.run.engine,
        "dtype": plan.run.dtype,
        "dataset": fingerprint,
        "method": entry.method,
        "router": entry.router,
        "control": control,
        "sampling": sampling,
        "seed": plan.seed,
        **({"n": plan.n} if whole else {}),
    }
    return Cell(
        key=cell_key(identity),
        curve=entry.curve,
        family=entry.family or entry.curve,
        pair=pair,
        revision=revision,
        engine=plan.run.engine,
        dtype=plan.run.dtype,
        dataset=dataset,
        fingerprint=fingerprint,
        method=entry.method,
        router=entry.router,
        control=control,
        sampling=sampling,
        seed=plan.seed,
        n=plan.n,
        whole_group=whole,
    )


def pair_revision(name: str) -> str:
    """Returns the revision that a pair will have once it is loaded, without loading weights.

    Args:
        name: A known pair, or ``BASE,ALIGNED``; either with base weights, such as ``tiny~0.3``.

    Raises:
        PairError: If a side cannot be had.
    """
    from baco.models.checkpoints import Loading, load_config, local_file
    from baco.models.gguf import is_gguf
    from baco.models.known import known_pair, locate, split_weights
    from baco.models.revisions import pair_revision_of, revision_of

    name, weights = split_weights(name)
    asked: tuple[str, PlainTemplate | None] = ("plain", None)
    if "," in name:
        base, _, aligned = (part.strip() for part in name.partition(","))
        revision, adapter = "main", ""
    else:
        known = known_pair(name)
        base, aligned, adapter = (
            locate(s) if s else "" for s in (known.base, known.aligned, known.adapter)
        )
        revision, asked = known.revision, (known.base_prompt, known.template)

    def word(source: str) -> str:
        if is_gguf(source):
            return revision_of(str(local_file(source, revision)), None)
        folder = Path(source).expanduser()
        config = None if folder.is_dir() else load_config(source, revision, Loading())
        return revision_of(source, config)

    second = revision_of(adapter, None) if adapter else word(aligned)
    first = f"{word(base)}~{weights:g}" if weights else word(base)
    return pair_revision_of(first, second, *asked)
