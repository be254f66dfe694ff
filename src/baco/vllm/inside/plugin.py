"""The entry point `vllm.general_plugins`: tells vLLM of pairs, in each of its processes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from typing import Any

from baco.engine.warp import Warp
from baco.errors import InputError, UnsupportedError
from baco.routers.ahead import DEEPEST
from baco.vllm.inside import requests
from baco.vllm.inside.labels import labels
from baco.vllm.inside.pair import ARCHITECTURE, Inside
from baco.vllm.inside.versions import check

_AHEAD = "baco_ahead"
"""How many slots a request needs beyond its end, to look ahead or to draft."""

CARRIER = "ngram"
"""vLLM's speculative method that needs no model of its own; its drafts are replaced by a pair's."""


def register() -> None:
    """Registers the model. Costs other models nothing.

    A vLLM that is not a tested one is left alone; the model's name leads to the refusal there.
    """
    from vllm import ModelRegistry

    try:
        check()
    except UnsupportedError:
        ModelRegistry.register_model(ARCHITECTURE, f"baco.vllm.inside.refused:{ARCHITECTURE}")
        return
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    ModelRegistry.register_model(ARCHITECTURE, f"baco.vllm.inside.model:{ARCHITECTURE}")
    MODELS_CONFIG_MAP[ARCHITECTURE] = PairConfig
    _hook_requests()


class PairConfig:
    """Sets what pairs need in vLLM's configuration, and refuses what they cannot do."""

    @staticmethod
    def verify_and_update_model_config(model_config: Any) -> None:
        """Part of vLLM's interface; nothing to do that early."""

    @staticmethod
    def verify_and_update_config(vllm_config: Any) -> None:
        """Called once for each engine.

        Raises:
            UnsupportedError: If an option excludes pairs; it names the flag.
        """
        parallel, scheduling = vllm_config.parallel_config, vllm_config.scheduler_config
        drafting = vllm_config.speculative_config
        refused = {
            "speculative decoding by the model runner V1": (
                drafting and not vllm_config.use_v2_model_runner,
                "--speculative-config",
            ),
            "pipeline stages": (
                parallel.pipeline_parallel_size > 1,
                "--pipeline-parallel-size",
            ),
            "LoRA requests": (vllm_config.lora_config, "--enable-lora (merge the adapter instead)"),
            "asynchronous scheduling by the model runner V1": (
                scheduling.async_scheduling and not vllm_config.use_v2_model_runner,
                "--async-scheduling",
            ),
        }
        for what, (asked, flag) in refused.items():
            if asked:
                raise UnsupportedError(
                    f"pairs do not work with {what} in vLLM", hint=f"leave out {flag}"
                )
        if drafting:
            _check_drafting(drafting, scheduling)
        model = vllm_config.model_config
        model.logprobs_mode = "processed_logits"
        model.logits_processors = ["baco.vllm.inside.processor:BacoProcessor"]
        if not vllm_config.use_v2_model_runner:  # its processors see tokens too late
            scheduling.async_scheduling = False
        inside = Inside.of(vllm_config)
        configs = inside.configs
        for config in configs.values():
            _check_kind(config, model)
        _check_alike(configs)
        _check_quantised(inside)
        window = getattr(
            configs["base"].get_text_config(),
            "max_position_embeddings",
            model.max_model_len,
        )
        if window < model.max_model_len:
            raise UnsupportedError(
                f"the base model reads {window} tokens, and vLLM is set to {model.max_model_len}",
                hint=f"give --max-model-len {window}",
            )


def _check_drafting(drafting: Any, scheduling: Any) -> None:
    """Refuses drafts that are not a pair's own, and lets the pair say how many each row has.

    Raises:
        UnsupportedError: If another method than the carrier is asked for.
    """
    if drafting.method != CARRIER:
        raise UnsupportedError(
            f"in a pair one model drafts for the other, and {drafting.method} is another way",
            hint=f'give the method "{CARRIER}", by which vLLM carries their drafts',
        )
    # Else vLLM would put drafts of its own into rows that join.
    drafting.num_speculative_tokens_per_batch_size = [
        (1, scheduling.max_num_seqs, drafting.num_speculative_tokens)
    ]


def _check_kind(config: Any, model: Any) -> None:
    """Refuses one side's model for what it keeps, before any weights are read.

    Raises:
        UnsupportedError: If it keeps more than keys and values by position; it names what.
    """
    from vllm.transformers_utils.config import uses_mrope

    text = config.get_text_config()
    (name, *_) = config.architectures or [config.model_type]
    found, _ = model.registry.inspect_model_cls(config.architectures or [], model)
    state = found.is_hybrid or found.has_inner_state or found.is_attention_free
    what = {
        "a recurrent state": state,
        "latent attention (MLA)": getattr(text, "kv_lora_rank", None) is not None,
        "positions in several dimensions": uses_mrope(config),
    }
    for kind, has in what.items():
        if has:
            raise UnsupportedError(
                f"pairs in vLLM do not work with {kind}, which {name} has",
                hint="use models with plain attention, or the engine baco",
            )


def _check_alike(configs: Mapping[str, Any]) -> None:
    """Refuses pairs whose sides differ in what vLLM sets up once for a model.

    Raises:
        UnsupportedError: If they do.
    """
    base, aligned = configs["base"], configs["aligned"]
    if _has_experts(base) != _has_experts(aligned):
        raise UnsupportedError(
            "in vLLM both sides or neither may be a mixture of experts",
            hint="use two dense models or two mixtures, or the engine baco",
        )


def _check_quantised(inside: Inside) -> None:
    """Refuses pairs whose sides are not quantised alike, wherever their checkpoints say so.

    Raises:
        UnsupportedError: If they are not.
    """
    from vllm.transformers_utils.config import get_hf_file_to_dict

    found = []
    for checkpoint, revision in inside.sources:
        parts = (checkpoint.config, checkpoint.config.get_text_config())
        names = ("quantization_config", "compression_config")
        said = [getattr(part, name, None) for part in parts for name in names]
        said.append(get_hf_file_to_dict("hf_quant_config.json", checkpoint.source, revision))
        found.append(next(filter(None, said), None))
    if found[0] != found[1]:
        raise UnsupportedError(
            "vLLM quantises both sides of a pair alike, and these checkpoints differ",
            hint="use two plain checkpoints, or two that are quantised in the same way",
        )


def _has_experts(config: Any) -> bool:
    """Whether a model is a mixture of experts."""
    text = config.get_text_config()
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any(getattr(text, name, None) for name in names)


def _hook_requests() -> None:
    """Lets requests of pairs be checked where users hand them in, and prepared for the engine.

    Those that look ahead get slots beyond their end with every allocation.
    """
    from vllm.exceptions import VLLMValidationError
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.engine.input_processor import InputProcessor

    if getattr(EngineCore.preprocess_add_request, "baco", False):
        return
    plain_check, plain_prepare = InputProcessor.process_inputs, EngineCore.preprocess_add_request
    plain_slots = KVCacheManager.allocate_slots

    def process_inputs(self: Any, *args: Any, **more: Any) -> Any:
        request = plain_check(self, *args, **more)
        if self.model_config.architecture == ARCHITECTURE:
            try:
                asked(request, self.vllm_config)
            except InputError as error:
                raise VLLMValidationError(str(error)) from error  # HTTP: 400
        return request

    def preprocess_add_request(self: Any, request: Any) -> Any:
        if self.vllm_config.model_config.architecture == ARCHITECTURE:
            request = prepared(request, self.vllm_config)
        return plain_prepare(self, request)

    def allocate_slots(self: Any, request: Any, *args: Any, **more: Any) -> Any:
        given = request.sampling_params and request.sampling_params.extra_args
        if given and given.get(_AHEAD):
            more["num_lookahead_tokens"] = given[_AHEAD]
        return plain_slots(self, request, *args, **more)

    KVCacheManager.allocate_slots = allocate_slots
    preprocess_add_request.baco = True  # type: ignore[attr-defined]
    InputProcessor.process_inputs = process_inputs
    EngineCore.preprocess_add_request = preprocess_add_request


def asked(request: Any, vllm_config: Any) -> requests.ResolvedRequest:
    """Reads all that a request says of its sample.

    Args:
        request: vLLM's `EngineCoreRequest`.
        vllm_config: vLLM's configuration.

    Raises:
        InputError: If a prompt does not fit, or holds ids that do not exist.
    """
    inside = Inside.of(vllm_config)
    params = request.sampling_params
    given = params.extra_args or {}
    aligned = given.get("baco_aligned_ids") or request.prompt_token_ids
    if "baco_base_prompt" in given:
        base = inside.base_ids(given["baco_base_prompt"])
    else:
        base = given.get("baco_base_ids") or request.prompt_token_ids
    warp = Warp(params.temperature, params.top_p, max(params.top_k, 0), params.min_p)
    ask = requests.read(given, aligned, base, warp, params.seed or 0, _index(request))
    window, size = vllm_config.model_config.max_model_len, inside.size
    for name, ids in (("base", ask.base_prompt), ("aligned", ask.aligned_prompt)):
        if len(ids) >= window:
            raise InputError(
                f"the {name} prompt has {len(ids)} tokens, the context window {window}",
                hint="shorten the prompt, or raise --max-model-len",
            )
        if max(ids) >= size:
            raise InputError(
                f"the {name} prompt has the token id {max(ids)}, and there are {size}",
                hint="use the ids of the pair's tokenizer",
            )
    return ask


def prepared(request: Any, vllm_config: Any) -> Any:
    """Returns an engine's request with labels for its prompt, and all that decides its sample.

    Args:
        request: vLLM's `EngineCoreRequest`; left as it is.
        vllm_config: vLLM's configuration.
    """
    ask = asked(request, vllm_config)
    params = copy(request.sampling_params)
    params.__dict__.clear()  # what vLLM worked out of the fields that change here
    # The step draws with its own noise; what vLLM draws from is one-hot.
    params.temperature, params.top_p, params.top_k, params.min_p = 0.0, 1.0, 0, 0.0
    params.seed = None
    ends = Inside.of(vllm_config).ends
    params.stop_token_ids = sorted({*(params.stop_token_ids or ()), *ends})
    block = vllm_config.cache_config.block_size
    params.extra_args = ask.args() | {
        _AHEAD: DEEPEST if ask.program.router.looks_ahead else vllm_config.num_speculative_tokens,
        requests.BLOCK: block,
    }
    room = vllm_config.model_config.max_model_len - ask.length
    params.max_tokens = min(params.max_tokens or room, room)
    made = copy(request)
    made.sampling_params = params
    made.prompt_token_ids = labels(
        ask.base_prompt,
        ask.aligned_prompt,
        block=block,
        kind=ask.program.method,
        unique=request.request_id,
    )
    return made


def _index(request: Any) -> int:
    """Returns a request's place among its siblings of ``n > 1``, which vLLM puts into its id."""
    found = re.match(r"(\d+)_", request.request_id)
    if found and request.external_req_id and not request.external_req_id.startswith(found[0]):
        return int(found[1])
    return 0
