"""Every number of the training recipe, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from recipes.tiny.web import Mess


@dataclass(frozen=True)
class Recipe:
    """The recipe.

    Args:
        width: Hidden size.
        depth: Layers.
        length: Tokens of a training row.
        rows: Rows of a pre-training batch.
        pretrain_steps: Pre-training steps.
        long_every: Every so many pre-training steps, rows are twice as long.
        matrix_lr: Muon's learning rate in pre-training.
        other_lr: AdamW's learning rate in pre-training.
        mess: How rough the pre-training text is.
        sft_tilt: How uneven the contents of the chats are (see ``answer``).
        sft_steps: Fine-tuning steps.
        sft_rows: Rows of a fine-tuning batch.
        sft_matrix_lr: Muon's learning rate in fine-tuning.
        sft_other_lr: AdamW's learning rate in fine-tuning.
        align_steps: Preference optimisation steps.
        align_prompts: Prompts of a step.
        align_group: Roll-outs of a prompt.
        align_limit: Most tokens of a roll-out.
        align_lr: Learning rate.
        kl: Weight of the KL term to the fine-tuned model.
        style: Reward for a second sentence, where one is optional.
        typicality: Reward per nat of mean log-probability under the fine-tuned model.
        lora_steps: Steps of the adapter's distillation.
        lora_rank: Its rank.
        lora_lr: Its learning rate.
        lora_prompts: Prompts of a step.
    """

    width: int = 128
    depth: int = 4
    length: int = 256
    rows: int = 32
    pretrain_steps: int = 700
    long_every: int = 10
    matrix_lr: float = 0.02
    other_lr: float = 0.004
    mess: Mess = field(default_factory=Mess)
    sft_tilt: float = 0.7
    sft_steps: int = 200
    sft_rows: int = 16
    sft_matrix_lr: float = 0.006
    sft_other_lr: float = 0.002
    align_steps: int = 120
    align_prompts: int = 24
    align_group: int = 8
    align_limit: int = 130
    align_lr: float = 5e-4
    kl: float = 0.01
    style: float = 0.05
    typicality: float = 1.0
    lora_steps: int = 500
    lora_rank: int = 16
    lora_lr: float = 2e-3
    lora_prompts: int = 32


def smoke() -> Recipe:
    """Make a recipe that runs in seconds and trains next to nothing.

    Returns:
        The recipe.
    """
    return replace(
        Recipe(),
        width=32,
        depth=1,
        length=64,
        rows=4,
        pretrain_steps=4,
        sft_steps=3,
        sft_rows=2,
        align_steps=2,
        align_prompts=2,
        align_group=2,
        align_limit=8,
        lora_steps=2,
        lora_prompts=2,
        lora_rank=2,
    )
