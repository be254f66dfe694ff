"""What a request says: from `SamplingParams.extra_args` (HTTP: `vllm_xargs`) to an `Ask`.

All keys are flat and begin with ``baco_``. Users may give ``baco_router``, ``baco_gamma``,
``baco_method``, ``baco_seed``, ``baco_index``, ``baco_base_prompt`` (text) or ``baco_base_ids``;
temperature, top-p, top-k and min-p are vLLM's own fields. Our client gives what decides a sample
exactly: ``baco_key``, ``baco_warps``, ``baco_end_rule``, ``baco_blend``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from baco.engine.blend import Blend
from baco.engine.noise import row_key
from baco.engine.rows import Request
from baco.engine.warp import Warp
from baco.errors import InputError, UnknownNameError, UnsupportedError
from baco.methods.settings import DEFAULT_ROUTER
from baco.routers import names_file, parse
from baco.routers.base import Router

METHODS = ("baco", "base", "aligned")

KEYS = (
    "baco_method",
    "baco_router",
    "baco_gamma",
    "baco_seed",
    "baco_index",
    "baco_base_prompt",
    "baco_base_ids",
    "baco_aligned_ids",
    "baco_key",
    "baco_warps",
    "baco_end_rule",
    "baco_blend",
)


@dataclass(frozen=True)
class Program:
    """How a row is decoded; rows of one program go through the step together.

    Attributes:
        method: ``baco``, or one model alone.
        router: The router; of a single model one that reads nothing.
        warps: Of (base, aligned).
        end_rule: Whether ends need the aligned model's consent.
        blend: Makes one distribution of both models', or None.
    """

    method: str
    router: Router
    warps: tuple[Warp, Warp]
    end_rule: bool
    blend: Blend | None = None

    @property
    def needs(self) -> tuple[bool, bool]:
        """Whether (base, aligned) must run."""
        return self.method != "aligned", self.method != "base"


@dataclass(frozen=True)
class Ask:
    """One request, all defaults resolved.

    Attributes:
        program: How it is decoded.
        key: Its noise key.
        base_prompt: Token ids.
        aligned_prompt: Token ids.
    """

    program: Program
    key: int
    base_prompt: Sequence[int]
    aligned_prompt: Sequence[int]

    @property
    def length(self) -> int:
        """Length of the stream before the answer."""
        return max(len(self.base_prompt), len(self.aligned_prompt))

    def args(self) -> dict[str, Any]:
        """Returns the `extra_args` that `resolved` reads again."""
        program = self.program
        return {
            "baco_method": program.method,
            "baco_router": program.router.spec,
            "baco_warps": [_numbers(warp) for warp in program.warps],
            "baco_end_rule": program.end_rule,
            "baco_blend": list(program.blend or ()),
            "baco_key": self.key,
            "baco_base_ids": list(self.base_prompt),
            "baco_aligned_ids": list(self.aligned_prompt),
        }


def _numbers(warp: Warp) -> list[float]:
    return list(asdict(warp).values())


@lru_cache(maxsize=1024)
def _program(
    method: str,
    router: str,
    warps: tuple[tuple[float, ...], ...],
    end_rule: bool,
    blend: tuple[Any, ...],
) -> Program:
    """Makes a program; equal ones are one object."""
    made = [Warp(t, p, int(k), *rest) for t, p, k, *rest in warps]
    how = Blend(*blend) if blend else None
    return Program(method, parse(router), (made[0], made[1]), end_rule, how)


def of_request(request: Request, method: str) -> Ask:
    """Makes an ask of what our own engine is given.

    Raises:
        UnsupportedError: If the router cannot be told to another process.
    """
    router = request.router
    check_router(router)
    try:
        again = parse(router.spec)
    except InputError:
        again = None
    if again is None or _told(again) != _told(router):
        raise UnsupportedError(
            f"the router {router.name!r} is a function of this process, and vLLM's is another",
            hint="register its rule under the entry point baco.routers, and name it",
        )
    warps = tuple(tuple(_numbers(warp)) for warp in request.warps)
    return Ask(
        _program(method, router.spec, warps, request.end_rule, tuple(request.blend or ())),
        request.key,
        request.base_prompt,
        request.aligned_prompt,
    )


def _told(router: Router) -> list[tuple[Any, ...]]:
    """What tells two routers apart, whichever process made them."""
    return [
        (rule.name, rule.decide.__module__, rule.decide.__qualname__, schedule)
        for rule, schedule in zip(router.rules, router.schedules, strict=True)
    ]


def check_router(router: Router) -> None:
    """Refuses routers that need more than one step's scores.

    Raises:
        UnsupportedError: Always for such a router.
    """
    if router.needs_text:
        raise UnsupportedError(
            f"the router {router.name!r} asks a judge, which vLLM's processes cannot do",
            hint="use p-punc, or the engine baco",
        )
    if router.looks_ahead or router.needs_history:
        what = "looks ahead" if router.looks_ahead else "counts sentences"
        raise UnsupportedError(
            f"the router {router.name!r} {what}, which is not possible inside vLLM",
            hint="use p-punc with a number or a schedule over tokens, or the engine baco",
        )
    if names_file(router.name):
        raise _file_refusal(router.name)


def _file_refusal(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"the router {name!r} is a file, and vLLM's processes read none",
        hint="use a router by name, or the engine baco",
    )


def resolved(args: Mapping[str, Any]) -> Ask:
    """Reads what `Ask.args` wrote."""
    warps = tuple(tuple(warp) for warp in args["baco_warps"])
    return Ask(
        _program(
            args["baco_method"],
            args["baco_router"],
            warps,
            args["baco_end_rule"],
            tuple(args["baco_blend"]),
        ),
        args["baco_key"],
        args["baco_base_ids"],
        args["baco_aligned_ids"],
    )


def check(args: Mapping[str, Any]) -> None:
    """Checks what a user wrote.

    Raises:
        InputError: If a key is unknown, or a value is wrong.
        UnsupportedError: If the router asks a judge.
    """
    for name in args:
        if name.startswith("baco") and name not in KEYS:
            raise UnknownNameError("vllm_xargs key", name, KEYS)
    method = args.get("baco_method", "baco")
    if method not in METHODS:
        raise UnknownNameError("method", str(method), METHODS)
    if method == "baco":
        check_router(router_of(args))
    else:
        for name in ("baco_router", "baco_gamma"):
            # Our own client names the router that stands for a single model.
            if name in args and "baco_key" not in args:
                raise InputError(
                    f"the method {method!r} is one model alone and takes no {name}",
                    hint="leave it out",
                )
    for name in ("baco_seed", "baco_index", "baco_key"):
        if not isinstance(args.get(name, 0), int) or isinstance(args.get(name), bool):
            raise InputError(f"{name} must be an integer", hint=f"such as {name}: 0")
    if "baco_base_prompt" in args:
        text = args["baco_base_prompt"]
        if not isinstance(text, str) or not text:
            raise InputError("baco_base_prompt must be text", hint="what the base model continues")
        if "baco_base_ids" in args:
            raise InputError(
                "baco_base_prompt and baco_base_ids are both given", hint="leave out one"
            )
    ids = args.get("baco_base_ids", [0])
    if not isinstance(ids, list) or not ids or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise InputError("baco_base_ids must be a list of token ids", hint="at least one")


def router_of(args: Mapping[str, Any]) -> Router:
    """Returns the router that a user asked for."""
    spec, gamma = args.get("baco_router", DEFAULT_ROUTER), args.get("baco_gamma")
    if not isinstance(spec, str):
        raise InputError("baco_router must be text", hint="such as p-punc@0.3")
    if names_file(spec):
        raise _file_refusal(spec)
    return parse(spec, gamma)


def read(
    args: Mapping[str, Any],
    aligned_prompt: Sequence[int],
    base_prompt: Sequence[int],
    warp: Warp,
    seed: int,
    index: int,
) -> Ask:
    """Reads a user's request.

    Args:
        args: Checked by `check`.
        aligned_prompt: The request's own prompt.
        base_prompt: The base side's.
        warp: From the request's own fields.
        seed: Used where `baco_seed` is not given.
        index: The sample's place in its group, where `baco_index` is not given.
    """
    method = args.get("baco_method", "baco")
    alone = method != "baco"
    if alone:
        aligned_prompt = base_prompt = base_prompt if method == "base" else aligned_prompt
    key = args.get("baco_key")
    if key is None:
        name = "ids:" + json.dumps(list(aligned_prompt))
        key = row_key(args.get("baco_seed", seed), name, args.get("baco_index", index))
    warps = args.get("baco_warps") or [_numbers(warp)] * 2
    router = "rand@0" if alone else router_of(args).spec
    end_rule = args.get("baco_end_rule", not alone)
    blend = tuple(args.get("baco_blend", ()))
    program = _program(method, router, tuple(tuple(w) for w in warps), end_rule, blend)
    return Ask(program, key, base_prompt, aligned_prompt)
