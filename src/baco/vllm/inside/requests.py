"""What a request says: `SamplingParams.extra_args` (HTTP: `vllm_xargs`) as a `ResolvedRequest`.

All keys are flat and begin with ``baco_``. Users may give ``baco_router``, ``baco_gamma``,
``baco_method``, ``baco_seed``, ``baco_index``, ``baco_base_prompt`` (text) or ``baco_base_ids``;
temperature, top-p, top-k and min-p are vLLM's own fields. Our client gives what decides a sample
exactly: ``baco_key``, ``baco_warps``, ``baco_end_rule``, ``baco_blend``.

A router that is a file travels with what the file holds, ``baco_learned``: no process of vLLM opens
a file that a request names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch

from baco.engine.blend import Blend
from baco.engine.noise import row_key
from baco.engine.request import Request
from baco.engine.router import ALONE, Router, Rule
from baco.engine.warp import Warp
from baco.errors import InputError, UnknownNameError, UnsupportedError
from baco.methods.settings import DEFAULT_ROUTER
from baco.routers import learned, parse

METHODS = ("baco", "base", "aligned")

KEYS = (
    "baco_method",
    "baco_router",
    "baco_gamma",
    "baco_learned",
    "baco_seed",
    "baco_index",
    "baco_base_prompt",
    "baco_base_ids",
    "baco_aligned_ids",
    "baco_key",
    "baco_warps",
    "baco_end_rule",
    "baco_turn_rule",
    "baco_blend",
)


BLOCK = "baco_block"
"""The size of a KV block; vLLM's engine says it, no user."""

_LONGEST = 2**16
"""Characters of a learned router's file; `baco router train` writes a few thousand."""


@dataclass(frozen=True)
class ProgramSpec:
    """How a row is decoded; rows of one program go through the step together.

    Attributes:
        method: ``baco``, or one model alone.
        router: The router; of a single model one that reads nothing.
        warps: Of (base, aligned).
        end_rule: Whether ends need the aligned model's consent.
        turn_rule: Whether a line that the base model breaks is an end, too.
        blend: Makes one distribution of both models', or None.
    """

    method: str
    router: Router
    warps: tuple[Warp, Warp]
    end_rule: bool
    turn_rule: bool
    blend: Blend | None = None

    @property
    def needs(self) -> tuple[bool, bool]:
        """Whether (base, aligned) must run."""
        return self.method != "aligned", self.method != "base"

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """What the files of its learned rules hold."""
        return _contents(self.router)


@dataclass(frozen=True)
class ResolvedRequest:
    """One request, all defaults resolved.

    Attributes:
        program: How it is decoded.
        key: Its noise key.
        base_prompt: Token ids.
        aligned_prompt: Token ids.
        block: Size of vLLM's KV blocks, once it is known.
    """

    program: ProgramSpec
    key: int
    base_prompt: Sequence[int]
    aligned_prompt: Sequence[int]
    block: int = 1

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
            "baco_learned": list(program.contents),
            "baco_warps": [_numbers(warp) for warp in program.warps],
            "baco_end_rule": program.end_rule,
            "baco_turn_rule": program.turn_rule,
            "baco_blend": list(program.blend or ()),
            "baco_key": self.key,
            "baco_base_ids": list(self.base_prompt),
            "baco_aligned_ids": list(self.aligned_prompt),
        }


class Fact(NamedTuple):
    """What comes back with a token.

    Attributes:
        source: Who wrote it.
        begins: Whether it begins a unit.
        aligned: How many tokens the aligned side looked ahead for it, below 2048: no router looks
            further.
        base: The same for the base side.
    """

    source: int
    begins: bool
    aligned: int
    base: int

    @classmethod
    def of(cls, code: int) -> Fact:
        """Reads a code."""
        return cls(code & 1, code & 2 > 0, code >> 2 & 2047, code >> 13)


def codes(
    source: torch.Tensor, begins: torch.Tensor, aligned: torch.Tensor, base: torch.Tensor
) -> torch.Tensor:
    """Packs facts of n tokens, int64 [n] each, into numbers that float32 holds exactly: [n]."""
    return source + 2 * begins + 4 * aligned + (base << 13)


def _numbers(warp: Warp) -> list[float]:
    if warp.penalties.on:
        raise UnsupportedError(
            f"vLLM's step knows no {next(iter(warp.penalties.told))}",
            hint="leave it out, or use the engine baco",
        )
    return [x for name, x in asdict(warp).items() if name != "penalties"]


@lru_cache(maxsize=1024)
def _program(
    method: str,
    router: str,
    warps: tuple[tuple[float, ...], ...],
    end_rule: bool,
    turn_rule: bool,
    blend: tuple[Any, ...],
    contents: tuple[str, ...] = (),
) -> ProgramSpec:
    """Makes a program; equal ones are one object."""
    how = Blend(*blend) if blend else None
    return ProgramSpec(method, _made(router, contents), _warps(warps), end_rule, turn_rule, how)


def _warps(numbers: Sequence[Sequence[float]]) -> tuple[Warp, Warp]:
    """Makes (base, aligned) warps of what `_numbers` made of them."""
    names = [f.name for f in fields(Warp) if f.name != "penalties"]
    if any(len(each) > len(names) for each in numbers):
        raise ValueError("too many numbers")
    base, aligned = (
        Warp(**dict(zip(names, (t, p, int(k), *rest), strict=False)))  # type: ignore[arg-type]
        for t, p, k, *rest in numbers
    )
    return base, aligned


def _parse(spec: str, contents: Sequence[str], gamma: Any = None) -> Router:
    """Makes a router without opening files.

    Args:
        spec: Its spec.
        contents: What the files hold that the spec names, in its order.
        gamma: As of `parse`.

    Raises:
        InputError: If there are more files than contents or fewer, or a content is wrong.
    """
    left = list(contents)

    def load(name: str) -> Rule:
        if not name.endswith(learned.SUFFIX):
            raise InputError(
                f"the router {name!r} is a function, and functions that requests name are not run",
                hint="register its rule under the entry point baco.routers, and name it",
            )
        if not left:
            raise InputError(
                f"the router {name!r} is a file, and files that requests name are not opened",
                hint="send what it holds along, as baco_learned: [...]",
            )
        return learned.read(name, left.pop(0).encode(errors="replace"))

    router = parse(spec, gamma, load=load)
    if left:
        raise InputError(
            f"baco_learned holds {len(contents)} files, and the router {spec!r} names "
            f"{len(contents) - len(left)}",
            hint="give one for each name that ends in .json",
        )
    return router


def _made(spec: str, contents: Sequence[str]) -> Router:
    """Makes a router again that was made here, which may be one that no user can name."""
    return ALONE if spec == ALONE.spec else _parse(spec, contents)


def _contents(router: Router) -> tuple[str, ...]:
    """Returns what the files of a router's learned rules hold, in the order of its spec."""
    rules = (rule.decide for rule in router.rules)
    return tuple(rule.to_json() for rule in rules if isinstance(rule, learned.Learned))


def of_request(request: Request, method: str) -> ResolvedRequest:
    """Makes an ask of what our own engine is given.

    Raises:
        UnsupportedError: If the router cannot be told to another process.
    """
    router = request.router
    check_router(router)
    contents = _contents(router)
    try:
        again = _made(router.spec, contents)
    except InputError:
        again = None
    if again is None or _told(again) != _told(router):
        raise UnsupportedError(
            f"the router {router.name!r} is a function of this process, and vLLM's is another",
            hint="register its rule under the entry point baco.routers, and name it",
        )
    warps = tuple(tuple(_numbers(warp)) for warp in request.warps)
    return ResolvedRequest(
        _program(
            method,
            router.spec,
            warps,
            request.end_rule,
            request.turn_rule,
            tuple(request.blend or ()),
            contents,
        ),
        request.key,
        request.base_prompt,
        request.aligned_prompt,
    )


def _told(router: Router) -> list[tuple[Any, ...]]:
    """What tells two routers apart, whichever process made them."""

    def function(rule: Rule) -> Any:
        name = getattr(rule.decide, "__qualname__", None)
        return (rule.decide.__module__, name) if name else rule.decide

    return [
        (rule.name, function(rule), schedule)
        for rule, schedule in zip(router.rules, router.schedules, strict=True)
    ]


def check_router(router: Router) -> None:
    """Refuses routers that need text.

    Raises:
        UnsupportedError: If it asks a judge.
    """
    if router.needs_text:
        raise UnsupportedError(
            f"the router {router.name!r} asks a judge, which vLLM's processes cannot do",
            hint="use p-punc, or the engine baco",
        )


def resolved(args: Mapping[str, Any]) -> ResolvedRequest:
    """Reads what `ResolvedRequest.args` wrote, and the size of a block (`BLOCK`)."""
    warps = tuple(tuple(warp) for warp in args["baco_warps"])
    return ResolvedRequest(
        _program(
            args["baco_method"],
            args["baco_router"],
            warps,
            args["baco_end_rule"],
            args["baco_turn_rule"],
            tuple(args["baco_blend"]),
            tuple(args["baco_learned"]),
        ),
        args["baco_key"],
        args["baco_base_ids"],
        args["baco_aligned_ids"],
        args[BLOCK],
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
        for name in ("baco_router", "baco_gamma", "baco_learned"):
            # Our own client names the router that stands for a single model.
            if name in args and "baco_key" not in args:
                raise InputError(
                    f"the method {method!r} is one model alone and takes no {name}",
                    hint="leave it out",
                )
    for name in ("baco_seed", "baco_index", "baco_key"):
        if not isinstance(args.get(name, 0), int) or isinstance(args.get(name), bool):
            raise InputError(f"{name} must be an integer", hint=f"such as {name}: 0")
    if not -(2**63) <= args.get("baco_key", 0) < 2**63:
        raise InputError("baco_key must fit into 64 bits", hint="or give baco_seed")
    if "baco_base_prompt" in args:
        text = args["baco_base_prompt"]
        if not isinstance(text, str) or not text:
            raise InputError("baco_base_prompt must be text", hint="what the base model continues")
        if "baco_base_ids" in args:
            raise InputError(
                "baco_base_prompt and baco_base_ids are both given", hint="leave out one"
            )
    for name in ("baco_base_ids", "baco_aligned_ids"):
        ids = args.get(name, [0])
        if not isinstance(ids, list) or not ids or not all(type(i) is int and i >= 0 for i in ids):
            raise InputError(f"{name} must be a list of token ids", hint="at least one")
    try:
        _warps(args.get("baco_warps") or [_numbers(Warp())] * 2)
        kind, weight = args.get("baco_blend") or ("linear", 0.5)
        if kind not in ("linear", "geometric", "contrast", "overlap") or not math.isfinite(weight):
            raise ValueError
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(
            "baco_warps or baco_blend is no list of what it should be",
            hint="leave them out: they are for BaCo's own client",
        ) from None
    for rule in ("baco_end_rule", "baco_turn_rule"):
        if not isinstance(args.get(rule, True), bool):
            raise InputError(f"{rule} must be true or false", hint="or leave it out")


def router_of(args: Mapping[str, Any]) -> Router:
    """Returns the router that a user asked for."""
    spec, gamma = args.get("baco_router", DEFAULT_ROUTER), args.get("baco_gamma")
    if not isinstance(spec, str):
        raise InputError("baco_router must be text", hint="such as p-punc@0.3")
    if isinstance(gamma, bool) or not isinstance(gamma, str | int | float | None):
        raise InputError("baco_gamma must be a number or a schedule", hint="such as 0.3")
    contents = args.get("baco_learned", [])
    if not isinstance(contents, list) or not all(isinstance(text, str) for text in contents):
        raise InputError("baco_learned must be a list of texts", hint="what the router files hold")
    if any(len(text) > _LONGEST for text in contents):
        raise InputError(
            f"a router file has more than {_LONGEST} characters",
            hint="send what baco router train wrote",
        )
    return _parse(spec, contents, gamma)


def read(
    args: Mapping[str, Any],
    aligned_prompt: Sequence[int],
    base_prompt: Sequence[int],
    warp: Warp,
    seed: int,
    index: int,
) -> ResolvedRequest:
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
    asked = ALONE if alone else router_of(args)
    end_rule = args.get("baco_end_rule", not alone)
    # Without a prompt of its own the base model continues the aligned one's: no plain template.
    turn_rule = args.get("baco_turn_rule", end_rule and "baco_base_prompt" in args)
    blend = tuple(args.get("baco_blend", ()))
    both = tuple(tuple(w) for w in warps)
    program = _program(method, asked.spec, both, end_rule, turn_rule, blend, _contents(asked))
    return ResolvedRequest(program, key, base_prompt, aligned_prompt)
