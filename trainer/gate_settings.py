"""The bounds that a candidate must keep, each with its reason; it does not know who measures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GateSettings(BaseModel):
    """How a candidate is measured, and what refuses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples_per_prompt: int = Field(
        default=4,
        ge=4,
        description="answers of each side to each gate prompt; best-of-4 takes four",
    )
    max_prompts: int = Field(
        default=64, ge=1, description="gate prompts that are answered, the first by event id"
    )
    temperature: float = Field(default=1.0, gt=0, description="what PPO optimises, and the KL's")
    min_prompts: int = Field(
        default=8, ge=1, description="fewer clusters give a bootstrap that cannot show doubt"
    )
    chance: float = Field(
        default=0.5, ge=0, le=1, description="lower bounds of rates must exceed a coin's"
    )
    min_rm_accuracy: float = Field(
        default=0.55, ge=0, le=1, description="a weaker reward model is not worth optimising"
    )
    min_kl_nats: float = Field(
        default=0.01, ge=0, description="an untrained policy has 0, rounding makes 1e-6 of it"
    )
    max_kl_nats: float = Field(
        default=30.0, gt=0, description="per response; over-optimised policies reach 50 to 85"
    )
    min_length_ratio: float = Field(default=0.8, ge=0, description="mean tokens, to the incumbent")
    max_length_ratio: float = Field(
        default=1.25, gt=0, description="judges like length: growth must not win by itself"
    )
    max_eos_rate_drop: float = Field(
        default=0.1, ge=0, le=1, description="a policy that no longer ends is not better"
    )
    max_repetition_rise: float = Field(
        default=0.05, ge=0, description="of the share of repeated 3-grams within an answer"
    )
    min_distinct_ratio: float = Field(
        default=0.8,
        ge=0,
        description="distinct-2 to the incumbent's: sharper is expected, collapsed is not",
    )
    max_opening_share: float = Field(
        default=0.1, gt=0, le=1, description="of answers that begin with the same 5 tokens"
    )
    min_opening_answers: int = Field(
        default=50, ge=1, description="a share of fewer answers says nothing"
    )
    max_proxy_gap: float = Field(
        default=0.25, ge=0, description="win rate by the optimised model minus by the judge"
    )
    min_policy_steps: int = Field(default=4, ge=1, description="optimiser steps of the policy")
    min_relative_change: float = Field(
        default=1e-4, ge=0, description="of lora_B's norm; one step of Adam moves more"
    )
