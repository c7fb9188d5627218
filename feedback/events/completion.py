"""`completion.served`: what was asked, what was sampled, by which weights, and how it arrived.

One event per prompt. It does not know any vote on its choices.
"""

from __future__ import annotations

from typing import Literal

from pydantic import FiniteFloat, model_validator

from feedback.events.prompt import Prompt
from feedback.events.record import Count, Seconds, Source, WireRecord

StopReason = Literal["eos", "stop_string", "length", "aborted"]
Delivery = Literal["complete", "aborted"]


class SamplingParameters(WireRecord):
    """Every parameter that shaped the sample, with the value in force (not null for "default")."""

    temperature: FiniteFloat = 1.0
    """0 is greedy."""
    top_p: FiniteFloat = 1.0
    """Nucleus mass in (0, 1]; 1 means every token."""
    top_k: Count = 0
    """0 means every token."""
    min_p: FiniteFloat = 0.0
    """Minimum probability relative to the likeliest token; 0 means off."""
    seed: int | None = None
    """The caller's seed; null if none was given."""
    max_tokens: Count = 16
    """Most tokens per choice."""
    n: int = 1
    """Choices returned."""
    best_of: int | None = None
    """Choices sampled of which `n` were kept; null if all were."""
    stop: tuple[str, ...] = ()
    """Strings that end a choice."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end a choice, besides EOS."""
    presence_penalty: FiniteFloat = 0.0
    """OpenAI's presence penalty; 0 means off."""
    frequency_penalty: FiniteFloat = 0.0
    """OpenAI's frequency penalty; 0 means off."""
    repetition_penalty: FiniteFloat = 1.0
    """Multiplicative penalty; 1 means off."""
    logit_bias: dict[str, FiniteFloat] | None = None
    """Token id (as text) to bias; null if none."""
    num_logprobs: int | None = None
    """Alternatives asked for per position; null if none."""
    ignore_eos: bool = False
    """True if sampling went on after EOS."""
    is_stream: bool = False
    """True if the answer was streamed."""


class BaseIdentity(WireRecord):
    """The frozen base model under the adapters."""

    base_id: str
    """Logical name, e.g. a hub id; never a path."""
    weights_hash: str
    """Hash of the base's weights."""
    tokenizer_hash: str
    """Hash of the tokenizer files."""


class Choice(WireRecord):
    """One sampled answer, pinned to one adapter from its first token to its last."""

    choice_id: str
    """Opaque id, the handle of every vote."""
    index: Count
    """Position in the response."""
    arm: str | None = None
    """Experiment arm, e.g. `incumbent`; null outside experiments."""
    adapter_id: str
    """`<kind>-<16 hex>` of the adapter that sampled every token."""
    text: str
    """The text that was delivered: stop string removed."""
    token_ids: tuple[int, ...] = ()
    """[T] sampled ids including EOS; empty where a person's text was imported."""
    num_visible_tokens: Count = 0
    """How many of `token_ids` stand for delivered text: without EOS and the stop string."""
    token_logprobs: tuple[FiniteFloat, ...] | None = None
    """[T] log-probabilities (nats) of `token_ids`; null if dropped for size or not known."""
    logprobs_kind: Literal["raw", "processed"] = "raw"
    """`raw`: of the model at temperature 1; `processed`: after temperature and truncation."""
    is_on_policy: bool = True
    """False under penalties, bias, truncated sampling (top_k, top_p, min_p) or best_of."""
    stop_reason: StopReason
    """Why sampling ended."""
    delivery: Delivery = "complete"
    """`aborted` if the client did not get the whole choice: it cannot be voted on."""

    @model_validator(mode="after")
    def _has_one_logprob_per_token(self) -> Choice:
        if self.token_logprobs is not None and len(self.token_logprobs) != len(self.token_ids):
            raise ValueError(
                f"choice.token_logprobs has {len(self.token_logprobs)} values for "
                f"{len(self.token_ids)} token_ids: send one per id, or null"
            )
        if self.num_visible_tokens > len(self.token_ids):
            raise ValueError(
                f"choice.num_visible_tokens is {self.num_visible_tokens} of "
                f"{len(self.token_ids)} token_ids: send at most their number"
            )
        return self


class Usage(WireRecord):
    """Token counts, as billed."""

    prompt_tokens: Count
    """Tokens of the prompt."""
    completion_tokens: Count
    """Tokens sampled over all choices."""


class EngineIdentity(WireRecord):
    """What ran the model."""

    name: str
    """`embedded`, `vllm`, `tgi`, `scripted`; `import` for imported texts."""
    version: str
    """The engine's version."""
    dtype: str
    """Data type of the weights while serving, e.g. `bfloat16`."""
    merged: bool = False
    """True if the adapter was merged into the base."""


class Latency(WireRecord):
    """Seconds from the arrival of the request."""

    first_token_s: Seconds | None = None
    """To the first token; null if there was none."""
    total_s: Seconds
    """To the end of the last choice."""


class Consent(WireRecord):
    """What the author allows. Without `log` the event carries usage only and has no ballot."""

    log: bool
    """Prompt and answers may be kept."""
    train: bool
    """They may be trained on."""


class ParentChoice(WireRecord):
    """The choice that this turn of a conversation continues."""

    response_id: str
    """Response of the earlier turn."""
    index: Count
    """Index of its choice."""


class CompletionServed(WireRecord):
    """One prompt was answered with one or more choices."""

    response_id: str
    """Id of the response; the partition key."""
    conversation_id: str | None = None
    """Conversation, if the caller named one."""
    turn: Count = 0
    """Turn in the conversation, from 0."""
    parent: ParentChoice | None = None
    """The choice that is continued; null on a first turn."""
    user: str
    """Pseudonym of the prompt's author."""
    org: str | None = None
    """Pseudonym of the author's organisation (its API key)."""
    split_group: str | None = None
    """Keyed hash of the author that decides train, judge or gate; its key never rotates."""
    source: Source
    """Where the traffic comes from."""
    prompt: Prompt | None
    """Null without consent to log, and in a truncated event."""
    sampling: SamplingParameters
    """How it was sampled."""
    base: BaseIdentity
    """The frozen base."""
    choices: tuple[Choice, ...]
    """In order of index; empty without consent to log, and in a truncated event."""
    usage: Usage
    """Token counts."""
    engine: EngineIdentity
    """What ran the model."""
    latency: Latency
    """How long it took."""
    consent: Consent
    """What the author allows."""
    truncated: bool = False
    """True if texts were dropped because the event passed the message limit: no ballot."""

    @model_validator(mode="after")
    def _keeps_texts_only_with_consent(self) -> CompletionServed:
        if not self.consent.log and (self.prompt is not None or self.choices):
            raise ValueError(
                "consent.log is false but the event carries texts: drop prompt and choices"
            )
        return self
