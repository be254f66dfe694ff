"""BaCo inside vLLM: both models of a pair as one model that vLLM serves.

`engine.py` drives vLLM through its public interface and looks like our own engine; `inside` is
what runs in vLLM's processes. Nothing here is imported without ``engine="vllm"``.
"""
