"""Stands for the model where vLLM is not a tested one: requests for a pair are refused."""

from baco.vllm.inside.versions import check

check()
