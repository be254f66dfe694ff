"""What runs in vLLM's own processes. Everything of vLLM that is private is touched only here.

A request's stream is as long as the longer of the two prompts plus the answer: the shorter prompt
is padded on the left, and its side drops the padding (`attention.py`). The ids that vLLM itself
sees in place of the prompt are labels (`labels.py`), so that its prefix cache never confuses two
pairs of prompts. `model.py` is both models as one; `processor.py` lets the step choose and puts
its choice into the logits; `rows.py` is what they share; `requests.py` is what a request says.
"""
