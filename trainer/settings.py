"""Every number of a refresh, with its source; it does not know how stages use them.

LoRA learning rates are 10 to 100 times the paper's full fine-tuning rates; docs/LOG.md records how
they were tuned. Everything else is the paper's unless the field says so.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AdapterShape(Settings):
    """The LoRA shape that all adapters of one refresh share."""

    rank: int = Field(default=16, ge=1, description="rank of every update")
    alpha: int = Field(default=32, ge=1, description="updates are scaled by alpha / rank")
    trained_share: float = Field(
        default=0.5, gt=0, le=1, description="share of the layers, from the top, that adapt"
    )

    def first_layer(self, num_layers: int) -> int:
        """Return the lowest of a base's layers that adapts, from 0; one at least does."""
        return num_layers - max(1, round(num_layers * self.trained_share))


class SftSettings(Settings):
    """Supervised fine-tuning (appendix C.1)."""

    epochs: int = Field(default=16, ge=1, description="paper: 16")
    batch_size: int = Field(default=16, ge=1, description="demonstrations; paper: 32")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak, cosine to a tenth")
    max_grad_norm: float = Field(default=1.0, gt=0)


ReadOut = Literal["last", "last_and_mean"]


class RewardSettings(Settings):
    """The reward model (appendix C.2)."""

    read_out: ReadOut = Field(
        default="last",
        description="states that the score is read from: the response's last token's, not published"
        " but usual; or its mean state as well, for few votes",
    )
    epochs: int = Field(default=1, ge=1, description="paper: 1; a second one overfits")
    batch_size: int = Field(default=8, ge=1, description="prompts; paper: 64")
    learning_rate: float = Field(default=5e-4, gt=0, description="peak, cosine to a tenth")
    max_grad_norm: float = Field(default=1.0, gt=0)


class PpoSettings(Settings):
    """Proximal policy optimisation (appendix C.4)."""

    iterations: int = Field(default=24, ge=1, description="paper: 500")
    value_iterations: int = Field(default=2, ge=0, description="critic-only, before the first")
    value_epochs: int = Field(
        default=4,
        ge=1,
        description="passes of the critic in those; a critic from the RM starts off",
    )
    batch_size: int = Field(default=64, ge=2, description="episodes an iteration; paper: 512")
    minibatch_size: int = Field(default=16, ge=1, description="paper: 64")
    samples_per_prompt: int = Field(
        default=1,
        ge=1,
        description="episodes that share a prompt, which is computed once for them",
    )
    kl_coefficient: float = Field(default=0.02, ge=0, description="beta; paper: 0.02")
    clip: float = Field(default=0.2, gt=0, description="policy ratio; paper: 0.2")
    value_clip: float = Field(default=0.2, gt=0, description="not published; spec 10.1")
    gamma: float = Field(default=1.0, gt=0, le=1, description="no discount")
    lam: float = Field(
        default=0.95, ge=0, le=1, description="not published; spec 10.1, and docs/LOG.md on others"
    )
    temperature: float = Field(default=1.0, gt=0, description="of rollouts and log-probabilities")
    learning_rate: float = Field(default=3e-4, gt=0, description="policy, constant")
    value_learning_rate: float = Field(default=3e-4, gt=0)
    warm_up_iterations: int = Field(default=4, ge=0, description="from a tenth; paper: 10 of 500")
    ema_decay: float = Field(default=0.992, ge=0, lt=1, description="over 500 iterations")
    max_response_tokens: int = Field(default=48, ge=1)
    missing_eos_penalty: float = Field(default=1.0, ge=0, description="taken from the score")
    max_grad_norm: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _no_prompt_is_divided(self) -> PpoSettings:
        for name in ("batch_size", "minibatch_size"):
            if getattr(self, name) % self.samples_per_prompt:
                raise ValueError(f"{name} must be a multiple of samples_per_prompt")
        return self

    @property
    def num_policy_steps(self) -> int:
        """Optimiser steps that the policy takes."""
        return self.iterations * math.ceil(self.batch_size / self.minibatch_size)
