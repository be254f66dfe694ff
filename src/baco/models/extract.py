"""A low-rank adapter out of two full checkpoints: their difference, once, by SVD.

An adapter pair holds one set of weights and moves between both models row by row
(`baco.models.lora`). The difference of each linear layer, of the token embeddings and of the output
layer is cut to a rank; biases of these layers go along whole, and modules of vectors (norms) are
kept whole too (`modules_to_save`). What the cut loses is measured.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from baco.errors import InputError, missing_extra
from baco.models.checkpoints import Loading, load_model, load_tokenizer
from baco.models.interpolate import check_weights

_FULL = 1024
"""Matrices up to this wide are decomposed in full; larger ones by a randomised decomposition."""


@dataclass(frozen=True)
class Loss:
    """What the cut to a rank loses of one module.

    Attributes:
        module: The module's name.
        norm: Frobenius norm of the difference between the two models.
        lost: Frobenius norm of what is left out.
    """

    module: str
    norm: float
    lost: float

    @property
    def share(self) -> float:
        """Lost norm as a share of the whole, in [0, 1]; 0 where the models do not differ."""
        return self.lost / self.norm if self.norm else 0.0


def total(losses: list[Loss]) -> Loss:
    """Sums up, as if all matrices were one."""
    norm = sum(loss.norm**2 for loss in losses) ** 0.5
    return Loss("total", norm, sum(loss.lost**2 for loss in losses) ** 0.5)


def low_rank(difference: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (A [r, columns], B [rows, r]) with B A the best or nearly best of that rank."""
    rank = min(rank, *difference.shape)
    if min(difference.shape) <= _FULL:
        u, s, v = torch.linalg.svd(difference, full_matrices=False)
        u, s, v = u[:, :rank], s[:rank], v[:rank].T
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            q = min(rank + 16, *difference.shape)
            u, s, v = torch.svd_lowrank(difference, q=q, niter=4)
        u, s, v = u[:, :rank], s[:rank], v[:, :rank]
    root = s.sqrt()
    return (v * root).T, u * root


@torch.no_grad()
def extract(base: Any, aligned: Any, rank: int) -> tuple[Any, list[Loss]]:
    """Makes the adapter that turns one model into the other as far as a rank allows.

    Args:
        base: The base model in float32 or more; it is wrapped.
        aligned: The aligned model.
        rank: The rank; that of narrower matrices is their width.

    Returns:
        The PEFT model, and what each module loses.

    Raises:
        InputError: If the models do not fit, or one has more tokens than the other.
        BacoError: If peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", "lora") from error
    if rank < 1:
        raise InputError(f"rank {rank} is out of range", hint="use at least 1, such as 64")
    check_weights(base, aligned)
    theirs = dict(aligned.named_modules())
    for name, module in base.named_modules():
        if (
            isinstance(module, nn.Linear | nn.Embedding)
            and module.weight.shape != theirs[name].weight.shape
        ):
            raise InputError(
                f"{name} has {len(module.weight)} rows in the base and "
                f"{len(theirs[name].weight)} in the aligned model",
                hint="an adapter keeps the base model's tokens: use the two checkpoints as a pair",
            )
    biased = any(
        module.bias is not None for module in base.modules() if isinstance(module, nn.Linear)
    )
    # PEFT cuts no embeddings where biases go along: then they are kept whole.
    cut = nn.Linear if biased else nn.Linear | nn.Embedding
    matrices = [name for name, module in base.named_modules() if isinstance(module, cut)]
    covered = {f"{name}.{kind}" for name in matrices for kind in ("weight", "bias")}
    whole = sorted(
        {
            name.rpartition(".")[0]
            for name, _ in base.named_parameters(remove_duplicate=False)
            if name not in covered
        }
    )
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=matrices,
        modules_to_save=whole or None,
        lora_bias=biased,
        task_type="CAUSAL_LM",
    )
    before = {name: p.detach().clone() for name, p in base.named_parameters(remove_duplicate=False)}
    with warnings.catch_warnings():
        # PEFT warns that tied layers and layers without a bias do not merge: nothing is merged.
        warnings.simplefilter("ignore")
        model: Any = peft.get_peft_model(base, config)
    made = dict(model.base_model.model.named_modules())
    losses = []
    for name in matrices:
        layer, new = made[name], theirs[name]
        difference = new.weight.float() - before[f"{name}.weight"].float()
        a, b = low_rank(difference, rank)
        lost = difference - b @ a
        losses.append(Loss(name, float(difference.norm()), float(lost.norm())))
        if isinstance(new, nn.Embedding):  # x A^T B^T: PEFT keeps embeddings the other way round
            _fill(layer.lora_embedding_A["default"], b.T)
            _fill(layer.lora_embedding_B["default"], a.T)
        else:
            _fill(layer.lora_A["default"].weight, a)
            _fill(layer.lora_B["default"].weight, b)
            if new.bias is not None:
                bias = new.bias.float() - before[f"{name}.bias"].float()
                layer.lora_B["default"].bias.copy_(bias)
    for name in whole:
        made[name].modules_to_save["default"].load_state_dict(theirs[name].state_dict())
    return model.eval(), losses


def _fill(place: torch.Tensor, values: torch.Tensor) -> None:
    """Puts a matrix of perhaps a smaller rank into one of zeros."""
    place.zero_()
    place[: values.shape[0], : values.shape[1]] = values.to(place.dtype)


def extract_folder(base: str, aligned: str, rank: int, out: Path) -> list[Loss]:
    """Extracts an adapter from two checkpoints and writes its folder.

    Args:
        base: The base model: a folder or a Hub id.
        aligned: The aligned model.
        rank: The rank.
        out: A new folder: the adapter, and the aligned model's tokenizer with its chat template.

    Returns:
        What each module loses.

    Raises:
        InputError: As `extract`, or if the folder is there.
        PairError: If a model cannot be had.
    """
    if out.exists():
        raise InputError(f"{out} is there already", hint="name a new folder")
    loading = Loading(device="cpu", dtype="float32")
    models = [load_model(source, "main", loading) for source in (base, aligned)]
    tokenizer = load_tokenizer(aligned, "main", loading)
    model, losses = extract(models[0], models[1], rank)
    model.save_pretrained(str(out), save_embedding_layers=False)  # the base model has them
    tokenizer.save_pretrained(str(out))
    return losses
