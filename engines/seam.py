"""The engine seam: what the service asks of anything that samples tokens.

Knows no HTTP, no event schema and no tensor library; one request is one choice, pinned to one
adapter from its first token to its last.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from feedback.adapter_files import AdapterFiles
    from feedback.base_description import BaseDescription

FinishReason = Literal["eos", "stop_string", "length", "aborted", "error"]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How one choice is sampled.

    temperature: 0 is greedy; top_p in (0, 1]; top_k 0 means every token; max_tokens in tokens;
    stop: strings that end the text and never appear in it; num_logprobs: None for no alternatives,
    otherwise how many per position; ignore_eos: keep sampling after the end-of-sequence token.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int = 16
    stop: tuple[str, ...] = ()
    num_logprobs: int | None = None
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One choice to sample.

    (seed, sample_index) selects the counter-based random stream, so the choices of one response
    differ and each of them can be sampled again.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    adapter_id: str
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    sample_index: int = 0


@dataclass(frozen=True, slots=True)
class TopLogprob:
    """One alternative at one position; logprob is raw (temperature 1), in nats."""

    token_id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Finish:
    """Why a choice ended; message is for people and only set for `error`."""

    reason: FinishReason
    message: str = ""


@dataclass(frozen=True, slots=True)
class TokenDelta:
    """What a choice gained since its last delta.

    token_ids: every sampled id, the end-of-sequence token included, `[N]`.
    text: what may be shown now. It lags behind token_texts while a stop string or an incomplete
        UTF-8 character is held back; over the whole choice, the texts concatenate to the answer.
    token_texts: what each sampled token added to the text before stop strings cut it, `[N]`: empty
        for the end-of-sequence token and for a token that is only part of a character, so that
        character offsets are sums of lengths.
    logprobs: of the sampled ids at temperature 1 under the whole vocabulary, in nats, `[N]`.
    processed_logprobs: of the same ids under the distribution really sampled from, `[N]`.
    top_logprobs: the num_logprobs most likely tokens per position, best first, `[N][<=num]`.
    finish: set on the last delta and on no other.
    """

    token_ids: tuple[int, ...] = ()
    text: str = ""
    token_texts: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    processed_logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[tuple[TopLogprob, ...], ...] = ()
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine is and can hold; context_length counts prompt and answer tokens together."""

    name: str
    version: str
    dtype: str
    base: BaseDescription
    max_adapters: int
    max_rank: int
    context_length: int
    merged: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """An engine's pulse; heartbeat_age_s is the time since its loop last turned."""

    is_alive: bool
    heartbeat_age_s: float
    num_running: int
    num_waiting: int


class Engine(Protocol):
    """Samples tokens for the service; the base itself is always loaded, under its base id."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what the engine is and can hold."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Return the prompt token ids of text, special tokens as the base expects them."""
        ...

    def generate(self, request: GenerateRequest) -> AsyncIterator[TokenDelta]:
        """Yield deltas up to and including the one with finish.

        Closing the iterator (`aclose`) or cancelling its consumer aborts the choice within one
        token. A failure of the engine in mid-choice is a delta with finish `error`.

        Raises:
            UnknownAdapter: the adapter is not loaded; never silently the base.
            ValueError: the prompt is empty or does not fit the context.
        """
        ...

    async def ensure(self, files: AdapterFiles) -> None:
        """Load an adapter so that requests may name it; loading it twice is a no-op.

        Raises:
            AdapterRefused: the adapter cannot be served; nothing about the others has changed.
        """
        ...

    async def release(self, adapter_id: str) -> None:
        """Free an adapter once no choice uses it; an unknown id is a no-op."""
        ...

    async def health(self) -> Health:
        """Return the engine's pulse without waiting for its work."""
        ...

    async def close(self) -> None:
        """Abort what runs and free everything; closing twice is a no-op."""
        ...


class UnknownAdapter(ValueError):
    """A request names an adapter that the engine has not loaded."""

    def __init__(self, adapter_id: str) -> None:
        super().__init__(f"adapter {adapter_id!r} is not loaded; ensure it first")
        self.adapter_id = adapter_id


class ContextOverflow(ValueError):
    """A prompt and its max_tokens do not fit the engine's context."""

    def __init__(self, num_prompt_tokens: int, max_tokens: int, context_length: int) -> None:
        super().__init__(
            f"the prompt has {num_prompt_tokens} tokens and max_tokens is {max_tokens}: together "
            f"{num_prompt_tokens + max_tokens}, but the context holds {context_length} tokens; "
            "shorten the prompt or lower max_tokens"
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.max_tokens = max_tokens
        self.context_length = context_length


class EngineBusy(RuntimeError):
    """As many choices wait for the engine as it lets; trying again later may help."""

    def __init__(self, max_waiting: int) -> None:
        super().__init__(f"{max_waiting} choices wait already; try again in a moment")


class EngineStopped(RuntimeError):
    """The engine has failed or was closed; it will not answer again."""
