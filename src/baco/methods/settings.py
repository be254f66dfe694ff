"""From what users give, all of it optional, to a checked `Setting`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict

from baco.engine.loop import draft_is_useless
from baco.engine.partner import Lookahead, Partner
from baco.engine.penalties import Penalties
from baco.engine.router import Router
from baco.engine.schedule import Schedule
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.methods.base import COLDEST, HOTTEST, METHODS, Method, Sampling, Setting, split_spec
from baco.methods.distinct import read
from baco.routers import parse

DEFAULT_ROUTER = "p-punc"
"""The paper's best router (§5.2), with its own default threshold."""

PENALTIES = (*(f.name for f in fields(Penalties)), "xtc_probability", "xtc_threshold")
"""Arguments of `make_setting` that change logits by what was written, by token, or by rank."""

Calibration = Callable[[str, float], Router | float]
"""(router's spec, diversity in [0, 1]) -> the router that reaches it on one pair; for the name of a
method without a router the value of its control."""


class GenerateSettings(TypedDict, total=False):
    """What decides samples, as keywords of `Pair.generate`; see `make_setting`."""

    method: str
    router: str | Router | None
    gamma: float | str | None
    diversity: float | None
    control: float | str | None
    temperature: float | None
    top_p: float | None
    top_k: int
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[int, float] | Mapping[str, float] | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    xtc_probability: float | None
    xtc_threshold: float | None
    max_new_tokens: int
    seed: int
    stop: str | Sequence[str] | None
    ban: str | Sequence[str] | None
    distinct: bool | str | None
    restart_shorter_than: int
    lookahead: Lookahead
    draft: str | Partner | None
    max_rows: int
    turn_rule: bool


def make_setting(
    *,
    method: str = "baco",
    router: str | Router | None = None,
    gamma: float | str | None = None,
    diversity: float | None = None,
    control: float | str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int = 0,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    logit_bias: Mapping[int, float] | Mapping[str, float] | None = None,
    dry_multiplier: float | None = None,
    dry_base: float | None = None,
    dry_allowed_length: int | None = None,
    xtc_probability: float | None = None,
    xtc_threshold: float | None = None,
    max_new_tokens: int = 512,
    seed: int = 0,
    stop: str | Sequence[str] | None = None,
    ban: str | Sequence[str] | None = None,
    restart_shorter_than: int = 0,
    lookahead: Lookahead = "auto",
    draft: str | Partner | None = None,
    max_rows: int = 256,
    turn_rule: bool = True,
    distinct: bool | str | None = None,
    n: int | None = None,
    calibration: Calibration | None = None,
) -> Setting:
    """Checks everything that decides how samples are made.

    Args:
        method: Name of a method.
        router: A spec such as ``p-punc@0.3``, or a router; None for the default.
        gamma: The router's threshold, where the spec gives none.
        diversity: The calibrated control in [0, 1], instead of a threshold, or of the control of a
            method that has none but can be calibrated (`Method.up`).
        control: The value of the method's control, whatever that is: of `baco` another name of
            gamma, of single models another name of temperature, of others their own number.
        temperature: As `Warp`; 1 unless given.
        top_p: As `Warp`; unless given 0.9, or what suits the method.
        top_k: As `Warp`.
        min_p: As `Warp`; 0 unless given.
        repetition_penalty: As `baco.engine.penalties.Penalties`, like all up to the next but one.
        frequency_penalty: As there; 0 unless given.
        presence_penalty: As there; 0 unless given.
        logit_bias: Token id -> what is added to its logit on both sides.
        dry_multiplier: As there; 0 (off) unless given.
        dry_base: As there; 1.75 unless given.
        dry_allowed_length: As there; 2 unless given.
        xtc_probability: As `Warp`; 0 (off) unless given.
        xtc_threshold: As `Warp.xtc`; 0.1 unless given. The method ``xtc`` has it as its control.
        max_new_tokens: Limit on tokens per sample.
        seed: Decides all noise.
        stop: A string, or several, before which a sample is cut off.
        ban: A phrase, or several, that no sample may hold: see `baco.methods.ban`.
        restart_shorter_than: Samples that stop by themselves with fewer tokens are drawn again.
        lookahead: ``auto``, ``off`` or the longest draft.
        draft: A third party that guesses ahead: ``prompt-lookup``, or a small model with the
            pair's tokenizer (a Hub id, a folder or a partner).
        max_rows: Rows decoded at the same time.
        turn_rule: As `Sampling`.
        distinct: ``text`` (or True): no two answers to a prompt have the same text, case and white
            space aside; ``meaning``: none say the same. See `baco.methods.distinct`.
        n: Samples per group; methods whose samples depend on each other must know it.
        calibration: Turns a diversity into a router of the pair; None if it is not calibrated.

    Returns:
        The setting.

    Raises:
        UnknownNameError: If a method or router is unknown.
        InputError: If a value is out of range, or two controls are given.
    """
    chosen = METHODS[method]
    if draft is not None and lookahead == "off":
        raise draft_is_useless()
    if n is not None:
        chosen.check_n(n)
    if restart_shorter_than and not chosen.restarts:
        raise InputError(
            f"the method {method!r} cannot draw short stops again",
            hint="leave out restart-shorter-than",
        )
    if control is not None:
        given = {"gamma": gamma, "temperature": temperature, "min_p": min_p}
        spread = chosen.takes_router or chosen.up is not None
        for name in (chosen.alias, "diversity" if spread else None):
            if name and {**given, "diversity": diversity}[name] is not None:
                what = chosen.control.removeprefix("the ")
                raise InputError(
                    f"control and {name} are both given",
                    hint=f"the control of {method!r} is the {what}: leave out one",
                )
    if chosen.takes_router:
        bound = _router(router, gamma if control is None else control, diversity, calibration)
        value = split_spec(bound)[1]
    else:
        bound = None
        _refuse_router(chosen, router=router, gamma=gamma)
        if diversity is not None:
            control = _spread(chosen, diversity, calibration)
        own = {"temperature": temperature, "min_p": min_p}.get(chosen.alias or "")
        value = _number(chosen, own if control is None else control)
        temperature = value if chosen.alias == "temperature" else temperature
        min_p = value if chosen.alias == "min_p" else min_p
    if chosen.name == "xtc" and xtc_threshold is not None:
        raise InputError(
            "xtc_threshold and the method 'xtc' say two things of one",
            hint="its control is the threshold: leave out one",
        )
    changes: dict[str, Any] = {
        "repetition_penalty": repetition_penalty,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "logit_bias": _bias(logit_bias or {}),
        "dry_multiplier": dry_multiplier,
        "dry_base": dry_base,
        "dry_allowed_length": dry_allowed_length,
    }
    warp = Warp(
        1.0 if temperature is None else temperature,
        chosen.top_p if top_p is None else top_p,
        top_k,
        0.0 if min_p is None else min_p,
        xtc=(0.1 if xtc_threshold is None else xtc_threshold) if xtc_probability else 1.0,
        xtc_probability=xtc_probability or 0.5,
        penalties=Penalties(**{k: v for k, v in changes.items() if v is not None}),
    )
    if warp.asks_for and not chosen.penalises:
        raise InputError(f"the method {method!r} knows no {warp.asks_for}", hint="leave it out")
    if ban and not chosen.bans:
        raise InputError(f"the method {method!r} takes nothing back", hint="leave out ban")
    if 0 < warp.temperature < COLDEST or warp.temperature > HOTTEST:
        raise InputError(
            f"temperature {warp.temperature:g} is out of range",
            hint=f"use 0 (greedy), or {COLDEST:g} to {HOTTEST:g}",
        )
    return Setting(
        chosen,
        bound,
        Sampling(
            warp=warp,
            max_new_tokens=max_new_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            restart_shorter_than=restart_shorter_than,
            seed=seed,
            turn_rule=turn_rule,
            ban=(ban,) if isinstance(ban, str) else tuple(ban or ()),
        ),
        lookahead,
        max_rows,
        value,
        n,
        draft,
        distinct=read(distinct),
    )


def _spread(method: Method, diversity: float, calibration: Calibration | None) -> float:
    """Returns the control that gives a diversity, of a method without a router."""
    if method.up is None:
        _refuse_router(method, diversity=diversity)
    value = _calibrated(f"the method {method.name!r}", method.name, diversity, calibration)
    assert isinstance(value, float)
    return value


def _refuse_router(method: Method, **given: object) -> None:
    """Refuses what only a router makes sense of."""
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"the method {method.name!r} has no {name}",
                hint=f"leave it out: its control is the {method.control}",
            )


def _number(method: Method, value: float | str | None) -> float:
    """Reads the control of a method that has no router; None for its default."""
    if value is None:
        value = method.default
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"the {method.control} {value!r} of the method {method.name!r} is not a number",
            hint=f"use a value in {method.span}",
        ) from None
    method.check_control(number)
    return number


def _bias(given: Mapping[int, float] | Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Reads biases; JSON has ids as text."""
    try:
        return tuple(sorted((int(token), float(bias)) for token, bias in given.items()))
    except (TypeError, ValueError):
        raise InputError(
            "logit_bias must say what is added for each token id", hint="such as {12: -5}"
        ) from None


def _router(
    router: str | Router | None,
    gamma: float | str | None,
    diversity: float | None,
    calibration: Calibration | None,
) -> Router:
    """Settles the router and its one control."""
    router = DEFAULT_ROUTER if router is None else router
    if diversity is None:
        if isinstance(router, Router):
            if gamma is None:
                return router
            if router.gamma is None:
                return router.with_gamma(Schedule.parse(gamma) if isinstance(gamma, str) else gamma)
            return parse(router.spec, gamma)
        return parse(router, gamma)
    if gamma is not None:
        raise InputError("diversity and gamma are both given", hint="give one of the two")
    if isinstance(router, str) and "@" in router.rpartition(">")[2]:
        raise InputError(
            f"router {router!r} names its threshold and diversity gives another",
            hint="leave out one of the two",
        )
    spec = router.name if isinstance(router, Router) else router
    bound = _calibrated(f"router {parse(spec).name!r}", spec, diversity, calibration)
    assert isinstance(bound, Router)
    return bound


def _calibrated(
    what: str, spec: str, diversity: float, calibration: Calibration | None
) -> Router | float:
    """Asks a calibration what gives a diversity."""
    if not 0 <= diversity <= 1:
        raise InputError(f"diversity {diversity:g} is out of range", hint="use a value in [0, 1]")
    if calibration is None:
        raise InputError(
            f"diversity needs a calibration table of {what} for this pair, and there is none",
            hint="give the threshold itself: gamma, or @threshold in the router; of a method "
            "without a router its control",
        )
    return calibration(spec, diversity)
