"""The body of POST /v1/completions: what is accepted, and what is refused by name.

Knows no engine; numbers keep OpenAI's defaults.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from engines.seam import SamplingParameters
from feedback.events.prompt import UseCase
from service.requests import RequestBody

MAX_STOP_STRINGS = 4
MAX_LOGPROBS = 5

# What OpenAI has and we do not: accepted only with the value that changes nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "echo": (False,),
    "suffix": ("",),
    "frequency_penalty": (0, 0.0),
    "presence_penalty": (0, 0.0),
    "logit_bias": ({},),
}

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class StreamOptions(RequestBody):
    """OpenAI's stream_options."""

    include_usage: bool = False


class Metadata(RequestBody):
    """What the caller says about the traffic.

    source: `eval` never trains; `simulated` trains only in a data directory marked simulated;
    `canary` is the service's own and cannot be claimed. use_case: category of the prompt.
    """

    source: Literal["api", "chat", "labeler", "playground", "eval", "simulated"] = "api"
    use_case: UseCase | None = None


class CompletionRequest(RequestBody):
    """The body of POST /v1/completions.

    Beyond OpenAI's: top_k, metadata (see Metadata) and store (false: neither prompt nor answers
    are kept, and there is no ballot).
    """

    model: str
    prompt: str
    n: Annotated[int, Field(ge=1)] = 1
    best_of: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    seed: Int64 | None = None
    stop: list[str] = Field(default=[], max_length=MAX_STOP_STRINGS)
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: Metadata = Metadata()
    store: bool = True
    echo: bool = False
    suffix: str = ""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, float] = Field(default={})

    @field_validator("prompt", mode="before")
    @classmethod
    def _is_one_text(cls, prompt: Any) -> Any:
        if isinstance(prompt, list):
            raise ValueError("prompt must be one string; lists and token ids are not supported yet")
        if prompt == "":
            raise ValueError("prompt is empty; send at least one character")
        return prompt

    @field_validator("stop", mode="before")
    @classmethod
    def _is_a_list(cls, stop: Any) -> Any:
        stop = [stop] if isinstance(stop, str) else stop
        if isinstance(stop, list) and "" in stop:
            raise ValueError("stop holds an empty string; leave it out")
        return stop

    @field_validator(*_NEUTRAL)
    @classmethod
    def _changes_nothing(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in _NEUTRAL[str(info.field_name)]:
            raise ValueError(f"{info.field_name} is not supported; leave it out")
        return value

    @field_validator("best_of")
    @classmethod
    def _equals_n(cls, best_of: int | None, info: ValidationInfo) -> int | None:
        n = info.data.get("n")
        if best_of is not None and n is not None and best_of != n:
            raise ValueError(
                f"best_of is {best_of} and n is {n}; choosing among more samples is not supported, "
                "leave best_of out or set it to n"
            )
        return best_of

    @field_validator("stream_options")
    @classmethod
    def _only_for_streams(
        cls, options: StreamOptions | None, info: ValidationInfo
    ) -> StreamOptions | None:
        if options is not None and not info.data.get("stream", False):
            raise ValueError("stream_options is only allowed when stream is true; leave it out")
        return options

    @property
    def includes_usage(self) -> bool:
        """Say whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self) -> SamplingParameters:
        """Return the engine's parameters."""
        return SamplingParameters(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            seed=self.seed,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop),
            num_logprobs=self.logprobs,
        )
