"""What clients may send: OpenAI's fields that BaCo serves, BaCo's own, and clear refusals.

Null is as good as absent, and a field that BaCo cannot honour is accepted at the values that change
nothing. What remains is kept by name (`SamplingFields.unmet`) and refused, or, by a lenient server,
answered with a warning: a client is never answered as if a field had been obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Strict,
    model_validator,
)

from baco.errors import clipped
from baco.methods.settings import PENALTIES


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 2.0 is 2."""
    return int(value) if type(value) is float and value.is_integer() else value


# Numbers are numbers, and neither text nor true and false.
Int = Annotated[int, Strict(), BeforeValidator(_whole)]
Float = Annotated[float, Strict()]
Bool = Annotated[bool, Strict()]

ModelName = Annotated[str, Field(max_length=5000)]
"""The id of a model; one that is served from two folders holds both their paths."""

Stop = Annotated[str, Field(min_length=1, max_length=200)]
Seed = Annotated[Int, Field(ge=-(2**63), lt=2**63)]
TokenId = Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,8})$")]
Bias = Annotated[Float, Field(ge=-100, le=100)]
Probability = Annotated[Float, Field(ge=0, le=1)]


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="ignore")

    include_usage: Bool | None = Field(False, description="Send token counts in a last chunk.")
    include_obfuscation: Bool | None = Field(
        False, description="Accepted; there is nothing to hide."
    )


class SamplingFields(BaseModel):
    """The fields that both kinds of requests share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    neutral: ClassVar[Mapping[str, Any]] = {}
    _unmet: tuple[str, ...] = PrivateAttr(())

    model: ModelName = Field(
        description="A pair, with or without a preset: `tiny`, `tiny:diverse`, `tiny:0.6`.",
        min_length=1,
    )
    n: Int = Field(1, ge=1, description="Number of answers; the server has a limit.")
    temperature: Float | None = Field(
        None, ge=0, le=2, description="Default 1; 0 is greedy, else at least 0.001."
    )
    top_p: Float | None = Field(None, gt=0, le=1, description="Default 0.9.")
    top_k: Int | None = Field(
        None, ge=-1, le=1_000_000, description="Off by default, and by 0 and -1."
    )
    min_p: Probability | None = Field(None, description="Off by default.")
    repetition_penalty: Float | None = Field(
        None, ge=0.01, le=100, description="Of tokens of the prompt or the answer; 1 is off."
    )
    frequency_penalty: Float | None = Field(
        None, ge=-2, le=2, description="For each time that the answer holds a token; 0 is off."
    )
    presence_penalty: Float | None = Field(
        None, ge=-2, le=2, description="Once for a token that the answer holds; 0 is off."
    )
    logit_bias: dict[TokenId, Bias] | None = Field(
        None, max_length=1000, description="Token id: what is added to its logit on both sides."
    )
    dry_multiplier: Float | None = Field(
        None, ge=0, le=100, description="DRY's strength against repeated passages; 0 is off."
    )
    dry_base: Float | None = Field(None, ge=1, le=10, description="Default 1.75; 1, or from 1.05.")
    dry_allowed_length: Int | None = Field(None, ge=1, le=100, description="Default 2.")
    xtc_probability: Probability | None = Field(
        None, description="How often top choices are dropped; 0 is off."
    )
    xtc_threshold: Probability | None = Field(
        None, description="From which probability on a token is a top choice; default 0.1."
    )
    max_tokens: Int | None = Field(
        None, ge=-1, description="Most tokens of each answer; -1 is the server's default."
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = Field(
        None, description="Up to four strings; an answer ends before the first that appears."
    )
    ban: Annotated[list[Stop], Field(max_length=1000)] | None = Field(
        None,
        description="Phrases that no answer may hold: words that lead to one are taken back.",
    )
    seed: Seed | None = Field(None, description="Same seed, same answers. Random by default.")
    stream: Bool | None = Field(False, description="Send the answers while they are written.")
    stream_options: StreamOptions | None = None

    diversity: Probability | None = Field(
        None,
        description="How far to move from the aligned model (0) towards the base model (1).",
    )
    router: str | None = Field(
        None, min_length=1, max_length=200, description="Such as `p-punc` or `p-punc@0.3`."
    )
    gamma: Float | Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="The router's own threshold, or a schedule; instead of `diversity`."
    )
    method: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="`baco`, both models together (the default), `base` or `aligned` alone, or any "
        "other of BaCo's methods.",
    )
    control: Float | None = Field(
        None,
        description="The value of the method's own control (`baco methods`); of `baco` another "
        "name of `gamma`.",
    )
    distinct: Bool | Literal["text", "meaning"] | None = Field(
        None,
        description="Draw answers again that are like an earlier one: as text (true), or in "
        "meaning.",
    )
    restart_shorter_than: Int | None = Field(
        None, ge=0, description="Draw an answer again that stops before this many tokens."
    )

    @model_validator(mode="wrap")
    @classmethod
    def _keep_what_is_served(
        cls, data: Any, handler: ModelWrapValidatorHandler[SamplingFields]
    ) -> Any:
        """Takes fields without effect out, and the names of those that would have one."""
        if not isinstance(data, dict):
            return handler(data)
        _refuse_broken_text(data)
        asked = {k: v for k, v in data.items() if v is not None and k not in _IGNORED}
        kept = {k: v for k, v in asked.items() if k in cls.model_fields}
        unmet = [
            clipped(name)
            for name, value in asked.items()
            if name not in kept and not cls._changes_nothing(name, value, asked)
        ]
        for name in ("top_k", "max_tokens"):
            if type(kept.get(name)) is int and kept[name] == -1:
                del kept[name]
        made = handler(kept)
        made._unmet = tuple(unmet)
        return made

    @classmethod
    def _changes_nothing(cls, name: str, value: Any, asked: Mapping[str, Any]) -> bool:
        """Whether a field that is not served has a value that asks for nothing."""
        if name == "best_of":
            return _same(value, asked.get("n", 1))
        return any(_same(value, nothing) for nothing in cls.neutral.get(name, ()))

    @property
    def unmet(self) -> tuple[str, ...]:
        """Names of fields that would change the answer and are not served."""
        return self._unmet

    @property
    def penalties(self) -> dict[str, Any]:
        """What changes logits, as arguments of `make_setting`."""
        given = {name: getattr(self, name) for name in PENALTIES}
        bias = {int(token): value for token, value in (self.logit_bias or {}).items()}
        return given | {"logit_bias": bias}

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def _same(value: Any, nothing: Any) -> bool:
    """Whether two values of JSON are the same (1 is 1.0, and True is not 1)."""
    numbers = all(type(x) in (int, float) for x in (value, nothing))
    return (numbers or type(value) is type(nothing)) and bool(value == nothing)


def _refuse_broken_text(data: Any) -> None:
    """Raises ValueError for text that is not Unicode: half of a surrogate pair."""
    if isinstance(data, str):
        try:
            data.encode()
        except UnicodeEncodeError:
            raise ValueError(
                "the text holds half of a surrogate pair; send whole characters"
            ) from None
    elif isinstance(data, dict):
        for key, value in data.items():
            _refuse_broken_text(key)
            _refuse_broken_text(value)
    elif isinstance(data, list):
        for value in data:
            _refuse_broken_text(value)


_IGNORED = frozenset(
    {
        "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "store", "cache_prompt", "keep_alive", "request_id",
    }
)  # fmt: skip
"""Fields that never change an answer."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "length_penalty": (1,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "use_beam_search": (False,),
    "return_tokens_as_token_ids": (False,),
    "priority": (0,),
    "options": ({},),
    "chat_template_kwargs": ({},),
    "typical_p": (1,),
    "tfs": (1,),
    "top_a": (0,),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "dry_sequence_breakers": (["\n", ":", '"', "*"], '["\\n", ":", "\\"", "*"]'),
    "dynatemp_range": (0,),
    "smoothing_factor": (0,),
}
"""Values of fields that are not served and change nothing, other servers' customary ones too."""


class TextPart(BaseModel):
    """A piece of a message's content."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = Field(
        None, description="Only an assistant's may be missing."
    )
    refusal: str | None = Field(None, description="Counts as what the assistant said.")
    tool_calls: list[dict[str, Any]] | None = Field(
        None, description="Written into the prompt as text, `name(arguments)`."
    )
    function_call: dict[str, Any] | None = Field(None, description="The same, one of them.")
    audio: dict[str, Any] | None = Field(None, description="Not supported.")

    @property
    def text(self) -> str:
        """What it says, tool calls apart."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(SamplingFields):
    """`POST /v1/chat/completions`."""

    neutral: ClassVar[Mapping[str, Any]] = {
        **_NEUTRAL,
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "parallel_tool_calls": (True, False),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "reasoning_effort": ("none", "medium"),
        "verbosity": ("medium",),
        "enable_thinking": (False,),
        "echo": (False,),
        "service_tier": ("auto", "default"),
    }

    messages: list[ChatMessage] = Field(
        fail_fast=True,
        min_length=1,
        max_length=1000,
        description="In any order that the model's own chat template takes. If the last is the "
        "assistant's, the answer goes on from there.",
    )
    continue_final_message: Bool | None = Field(
        None, description="What happens anyway: true where the last message is the assistant's."
    )
    add_generation_prompt: Bool | None = Field(
        None, description="What happens anyway: true where the last message is not the assistant's."
    )
    max_completion_tokens: Int | None = Field(None, ge=1, description="The same as `max_tokens`.")
    logprobs: Bool | None = Field(False, description="Report each token's log-probability.")
    top_logprobs: Int | None = Field(
        None, ge=0, le=20, description="And those of the most likely tokens; needs `logprobs`."
    )

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.max_tokens == 0:
            raise ValueError("max_tokens must be at least 1")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise ValueError("max_tokens and max_completion_tokens differ; give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        prefill = self.messages[-1].role == "assistant"
        for name, anyway in (
            ("continue_final_message", prefill), ("add_generation_prompt", not prefill)
        ):  # fmt: skip
            if getattr(self, name) not in (None, anyway):
                raise ValueError(
                    f"{name} must be {str(anyway).lower()} where the last message is by "
                    f"{self.messages[-1].role}"
                )
        return self

    @property
    def answers(self) -> int:
        """How many answers are asked for."""
        return self.n

    @property
    def longest_text(self) -> int:
        """Bytes of the text that a model is to read."""
        return sum(len(message.text.encode()) for message in self.messages)

    @property
    def limit(self) -> int | None:
        """Most tokens of each answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to report per token; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


Ids = Annotated[list[Annotated[Int, Field(ge=0)]], Field(min_length=1, fail_fast=True)]


class CompletionRequest(SamplingFields):
    """`POST /v1/completions`: raw text that both models continue, without a chat template."""

    neutral: ClassVar[Mapping[str, Any]] = {
        **_NEUTRAL,
        "suffix": ("",),
    }

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64, fail_fast=True)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=64, fail_fast=True)]
    ) = Field(description="Text, token ids, or several of either.")
    logprobs: Int | None = Field(
        None, ge=0, le=5, description="Report log-probabilities and so many alternatives."
    )

    echo: Bool | None = Field(
        False, description="Put the prompt before the answer; with `logprobs`, scored."
    )
    prompt_logprobs: Int | None = Field(
        None, ge=0, le=20, description="Score the prompt's tokens, with so many alternatives each."
    )
    score_side: Literal["aligned", "base"] | None = Field(
        None, description="Whose scores of the prompt; by default those of the one that leads."
    )

    @model_validator(mode="after")
    def _check_scoring(self) -> CompletionRequest:
        if self.max_tokens == 0 and not (self.echo or self.prompt_logprobs is not None):
            raise ValueError("max_tokens must be at least 1, but with echo or prompt_logprobs")
        if self.stream and (self.echo or self.prompt_logprobs is not None):
            raise ValueError("echo and prompt_logprobs are not streamed; leave out stream")
        return self

    @property
    def scored(self) -> int | None:
        """How many alternatives to tell of each token of the prompts; None: they are not scored."""
        wanted = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((k for k in wanted if k is not None), default=None)

    @property
    def answers(self) -> int:
        """How many answers are asked for."""
        return self.n * len(self.prompts)

    @property
    def longest_text(self) -> int:
        """Bytes of the longest text that a model is to read."""
        return max(len(p.encode()) if isinstance(p, str) else 0 for p in self.prompts)

    @property
    def limit(self) -> int | None:
        """Most tokens of each answer; OpenAI's default for this route is 16."""
        return 16 if self.max_tokens is None else max(self.max_tokens, 1)

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to report per token; None: no log-probabilities."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts as a list."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(x, int) for x in self.prompt):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]


class TokenizeRequest(BaseModel):
    """`POST /tokenize`, as vLLM's server has it: raw text, or a conversation."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = Field(min_length=1)
    prompt: str | None = None
    messages: list[ChatMessage] | None = Field(None, fail_fast=True, min_length=1, max_length=1000)
    side: Literal["aligned", "base"] = Field("aligned", description="Whose tokens.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_broken(cls, data: Any) -> Any:
        _refuse_broken_text(data)
        return data

    @model_validator(mode="after")
    def _check(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages, and one of them only")
        return self

    @property
    def longest_text(self) -> int:
        """Bytes of the text that is to be read."""
        return sum(len(m.text.encode()) for m in self.messages or ()) + len(
            (self.prompt or "").encode()
        )
