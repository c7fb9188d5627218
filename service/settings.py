"""What the service can be told; knows nothing of files, variables and flags."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400

CANARY_PROMPTS = (
    "Explain in one sentence why the sky looks blue.",
    "Write a short, friendly greeting for a new colleague:",
)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Limits and intervals of the HTTP process; the defaults serve a laptop."""

    default_channel: str = "stable"
    """Channel listed first by /v1/models."""
    channels: tuple[str, ...] = ("stable", "candidate")
    """Channels watched; one without an entry in the registry is not served."""
    poll_interval_s: float = 0.25
    """Time between two looks at the registry."""
    retry_interval_s: float = 10.0
    """Time until a swap that failed for no fault of the adapter is tried again."""
    load_timeout_s: float = 60.0
    """How long a request waits for an adapter that it names to be loaded."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Larger request bodies are refused with 413."""
    max_num_choices: int = 16
    """Largest `n`."""
    max_ballot_choices: int = 9
    """A ballot asks for at most so many (spec 2.3: K = 4 to 9); a token stays below 2 KB."""
    ballot_lifetime_s: int = 7 * DAY_S
    """A ballot can be answered for so long."""
    heartbeat_limit_s: float = 30.0
    """An engine whose loop has not turned for longer counts as dead."""
    shutdown_grace_s: float = 20.0
    """After SIGTERM open answers may go on for so long; then they end with an error event."""
    recent_responses: int = 10_000
    """Responses kept in memory to compose ballots and to find a labeler's next task."""
    canary_prompts: tuple[str, ...] = CANARY_PROMPTS
    """A candidate must answer these, and differ from the base on one of them."""
    canary_max_tokens: int = 8
    """Length of a canary answer."""
    min_canary_effect_nats: float = 1e-4
    """Smaller differences from the base are float noise (the bound of DESIGN 4.6): no effect."""
