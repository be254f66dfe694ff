"""What clients may send: OpenAI's fields that BaCo serves, BaCo's own, and clear refusals.

Fields that OpenAI's API has and BaCo cannot honour are accepted at the value that changes
nothing, and refused otherwise: a client is never answered as if a field had been obeyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Stop = Annotated[str, Field(min_length=1, max_length=200)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Probability = Annotated[float, Field(ge=0, le=1)]


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = Field(False, description="Send token counts in a last chunk.")
    include_obfuscation: bool = Field(False, description="Accepted; there is nothing to hide.")


class Sampling(BaseModel):
    """The fields that both kinds of requests share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    neutral: ClassVar[Mapping[str, Any]] = {}

    model: str = Field(
        description="A pair, with or without a preset: `tiny`, `tiny:diverse`, `tiny:0.6`.",
        min_length=1,
        max_length=300,
    )
    n: int = Field(1, ge=1, description="Number of answers; the server has a limit.")
    temperature: float | None = Field(
        None, ge=0, le=2, description="Default 1; 0 is greedy, else at least 0.001."
    )
    top_p: float | None = Field(None, gt=0, le=1, description="Default 0.9.")
    top_k: int | None = Field(None, ge=0, le=1_000_000, description="Off by default.")
    min_p: Probability | None = Field(None, description="Off by default.")
    max_tokens: int | None = Field(None, ge=1, description="Most tokens of each answer.")
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = Field(
        None, description="Up to four strings; an answer ends before the first that appears."
    )
    seed: Seed | None = Field(None, description="Same seed, same answers. Random by default.")
    stream: bool | None = Field(False, description="Send the answers while they are written.")
    stream_options: StreamOptions | None = None

    diversity: Probability | None = Field(
        None,
        description="How far to move from the aligned model (0) towards the base model (1).",
    )
    router: str | None = Field(
        None, min_length=1, max_length=200, description="Such as `p-punc` or `p-punc@0.3`."
    )
    gamma: float | str | None = Field(
        None, description="The router's own threshold, or a schedule; instead of `diversity`."
    )
    method: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="`baco`, both models together (the default), `base` or `aligned` alone, or any "
        "other of BaCo's methods, at the default of its control.",
    )
    restart_shorter_than: int | None = Field(
        None, ge=0, description="Draw an answer again that stops before this many tokens."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_served(cls, data: Any) -> Any:
        """Takes fields without effect out; refuses those that would have one."""
        if not isinstance(data, dict):
            return data
        _refuse_broken_text(data)
        kept = {k: v for k, v in data.items() if k not in _IGNORED}
        for name, nothing in cls.neutral.items():
            if name in kept and not _same(kept.pop(name), nothing):
                raise ValueError(f"{name!r} is not supported by this server; leave it out")
        return kept

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def _same(value: Any, nothing: tuple[Any, ...]) -> bool:
    """Whether a value is one of those that change nothing (False is not 0 here)."""
    return any(type(value) is type(x) and value == x for x in (*nothing, None))


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


_IGNORED = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "store"})
"""Fields that never change an answer."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
}


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


class ChatRequest(Sampling):
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
        "audio": (),
        "prediction": (),
        "reasoning_effort": ("none",),
        "web_search_options": (),
        "service_tier": ("auto", "default"),
    }

    messages: list[ChatMessage] = Field(
        min_length=1,
        description="In any order that the model's own chat template takes. If the last is the "
        "assistant's, the answer goes on from there.",
    )
    continue_final_message: bool | None = Field(
        None, description="What happens anyway: true where the last message is the assistant's."
    )
    add_generation_prompt: bool | None = Field(
        None, description="What happens anyway: true where the last message is not the assistant's."
    )
    max_completion_tokens: int | None = Field(None, ge=1, description="The same as `max_tokens`.")
    logprobs: bool | None = Field(False, description="Report each token's log-probability.")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="And those of the most likely tokens; needs `logprobs`."
    )

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
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
    def limit(self) -> int | None:
        """Most tokens of each answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to report per token; None: no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


Ids = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class CompletionRequest(Sampling):
    """`POST /v1/completions`: raw text that both models continue, without a chat template."""

    neutral: ClassVar[Mapping[str, Any]] = {
        **_NEUTRAL,
        "echo": (False,),
        "suffix": ("",),
        "best_of": (1,),
    }

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=64)]
    ) = Field(description="Text, token ids, or several of either.")
    logprobs: int | None = Field(
        None, ge=0, le=5, description="Report log-probabilities and so many alternatives."
    )

    @property
    def limit(self) -> int | None:
        """Most tokens of each answer; OpenAI's default for this route is 16."""
        return self.max_tokens or 16

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
