"""The prompt a completion or demonstration answers; it does not know who wrote it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from feedback.events.record import WireRecord

UseCase = Literal[
    "generation",
    "open_qa",
    "closed_qa",
    "brainstorming",
    "chat",
    "rewrite",
    "summarization",
    "classification",
    "extract",
    "other",
]
"""The ten categories of the paper's Table 1 (spec 1.4)."""

PromptKind = Literal["plain", "few_shot", "user_based", "api"]
"""How the prompt came about (spec 1.1): three labeler-written kinds, and API traffic."""


class ChatMessage(WireRecord):
    """One message of a chat prompt."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """The message's text."""


class Prompt(WireRecord):
    """What the model was asked, as text and as the ids it saw."""

    format: Literal["raw", "chat"] = "raw"
    """`raw`: `text` was tokenized as it is; `chat`: `messages` went through the template."""
    text: str
    """The text that was tokenized: for `chat`, after the template."""
    messages: tuple[ChatMessage, ...] | None = None
    """The chat messages; null for a raw prompt."""
    token_ids: tuple[int, ...] = ()
    """[prompt length] ids as fed to the model; empty where a person's text was imported."""
    prompt_hash: str
    """`hash_prompt` of the text or messages: the key for joins and splits."""
    template_hash: str | None = None
    """Hash of the chat template; null for a raw prompt."""
    use_case: UseCase | None = None
    """Category of the paper's Table 1; null if unknown."""
    kind: PromptKind | None = None
    """How the prompt came about; null if unknown."""
    truncated: bool = False
    """True if the prompt was cut to the context length."""

    @model_validator(mode="after")
    def _has_messages_if_chat(self) -> Prompt:
        if self.format == "chat" and not self.messages:
            raise ValueError("prompt.messages is empty: a chat prompt needs at least one message")
        return self


def hash_prompt(text: str | None = None, messages: Sequence[ChatMessage] | None = None) -> str:
    """Return 32 hex digits that name a prompt: of its messages if given, else of its raw text.

    Raises:
        ValueError: neither text nor messages are given.
    """
    if messages:
        turns = [[message.role, message.content] for message in messages]
        canonical = "chat\n" + json.dumps(turns, ensure_ascii=True, separators=(",", ":"))
    elif text is not None:
        canonical = "raw\n" + text
    else:
        raise ValueError("hash_prompt needs text or messages: pass one of them")
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:32]
