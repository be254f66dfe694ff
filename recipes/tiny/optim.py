"""Optimisers: Muon for the matrices inside the model, AdamW for everything else."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of matrices close to one (Newton-Schulz iteration).

    Args:
        matrices: A batch of matrices.
        steps: Iterations.

    Returns:
        Matrices with nearly the same singular vectors and values near one.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum whose update is orthogonalised, batched over matrices of one shape.

    Args:
        parameters: Matrices to train.
        lr: Learning rate.
        momentum: Momentum.
        decay: Weight decay.
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        self.lr = lr
        self.momentum = momentum
        self.decay = decay
        shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            shapes[parameter.shape].append(parameter)
        self.batches = list(shapes.values())
        self.buffers = [torch.zeros(len(b), *b[0].shape) for b in self.batches]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update the parameters.

        Args:
            scale: Factor on the learning rate (the schedule).
        """
        for batch, buffer in zip(self.batches, self.buffers, strict=True):
            grads = torch.stack([p.grad for p in batch if p.grad is not None])
            buffer.mul_(self.momentum).add_(grads)
            update = orthogonalise(grads + self.momentum * buffer)
            factor = max(1.0, batch[0].shape[0] / batch[0].shape[1]) ** 0.5
            for parameter, change in zip(batch, update, strict=True):
                parameter.mul_(1 - self.lr * scale * self.decay)
                parameter.sub_(change, alpha=self.lr * scale * factor)


class Optimiser:
    """Muon and AdamW under one schedule.

    Args:
        model: The model to train.
        matrix_lr: Muon's learning rate.
        other_lr: AdamW's learning rate, for embeddings and norms.
        steps: Length of the training.
        warmup: Steps of linear warm-up.
        cooldown: Share of the training at whose end the rate falls to zero.
    """

    def __init__(
        self,
        model: nn.Module,
        matrix_lr: float,
        other_lr: float,
        steps: int,
        warmup: int = 20,
        cooldown: float = 0.5,
    ) -> None:
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        self.model = model
        self.muon = Muon(matrices, matrix_lr)
        self.adamw = torch.optim.AdamW(others, lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.other_lr = other_lr
        self.steps = steps
        self.warmup = warmup
        self.cooldown = cooldown
        self.at = 0

    def step(self) -> None:
        """Update all parameters and clear their gradients."""
        left = (self.steps - self.at) / max(1.0, self.cooldown * self.steps)
        scale = min(1.0, (self.at + 1) / self.warmup, left)
        self.muon.step(scale)
        for group in self.adamw.param_groups:
            group["lr"] = self.other_lr * scale
        self.adamw.step()
        self.model.zero_grad(set_to_none=True)
        self.at += 1
