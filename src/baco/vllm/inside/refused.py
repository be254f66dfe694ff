"""Stands for the model where vLLM is not a tested one: whoever asks for a pair is told so."""

from baco.vllm.inside.versions import check

check()
