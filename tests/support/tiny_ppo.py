"""Policy, ref, reward and value on one tiny base, as PPO finds them before its first iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tiny_llama import add_random_adapter, tiny_model

from policy.decoder import Decoder
from policy.heads import ScalarHead
from policy.language_model import LoraSettings
from trainer import ppo
from trainer.experience import Experience, Models, gather
from trainer.progress import silent
from trainer.reward import RewardModel
from trainer.rollouts import Rollout, sample_rollouts
from trainer.settings import PpoSettings

UPPER = LoraSettings(rank=4, alpha=8, first_layer=1)
HIDDEN = 32
SHORT = PpoSettings(
    iterations=3,
    value_iterations=1,
    batch_size=8,
    minibatch_size=4,
    max_response_tokens=5,
    warm_up_iterations=0,
)
PROMPTS = tuple(tuple(range(10 * i + 1, 10 * i + 2 + i)) for i in range(1, 7))


@dataclass
class TinyPpo:
    """The models with a decoder for them; `policies` holds the policy after every iteration."""

    models: Models
    decoder: Decoder
    policies: list[dict[str, torch.Tensor]] = field(default_factory=list)

    @classmethod
    def new(cls, dtype: torch.dtype = torch.float32, scale: float = 0.1) -> TinyPpo:
        """Let `init` differ from the base by `scale`, and the policy from `init` by nothing."""
        model = tiny_model(dtype=dtype)
        add_random_adapter(model, "init", 1, UPPER, scale)
        add_random_adapter(model, "rm", 2, UPPER, scale)
        for name, source in (("policy", "init"), ("value", "rm")):
            model.add_adapter(name, UPPER)
            model.copy_weights(source, name)
        reward = RewardModel(model, "rm", ScalarHead(HIDDEN, seed=3).requires_grad_(False))
        models = Models(model, "policy", "init", reward, "value", ScalarHead(HIDDEN, seed=3))
        return cls(models, Decoder(model, max_batch=8, max_positions=32))

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """A copy of an adapter's weights."""
        parameters = self.models.model.adapter_parameters(name)
        return {key: parameter.detach().clone() for key, parameter in parameters.items()}

    def rollouts(self, settings: PpoSettings = SHORT, **changes: Any) -> list[Rollout]:
        """One answer per prompt from the policy; `changes` go to the sampler."""
        arguments = {
            "max_tokens": settings.max_response_tokens,
            "temperature": settings.temperature,
            "seed": 0,
        }
        model = self.models.model
        return sample_rollouts(model, self.decoder, "policy", PROMPTS, **(arguments | changes))

    def experience(
        self, rollouts: list[Rollout] | None = None, settings: PpoSettings = SHORT
    ) -> list[Experience]:
        """All rollouts as one minibatch."""
        rollouts = self.rollouts(settings) if rollouts is None else rollouts
        return gather(self.models, rollouts, [range(len(rollouts))], settings)[0]

    def train(
        self,
        settings: PpoSettings = SHORT,
        seed: int = 0,
        state: ppo.PpoState | None = None,
        save: Callable[[ppo.PpoState], None] | None = None,
    ) -> ppo.PpoState:
        """Run PPO to its end and return its state."""
        state = state or ppo.begin(self.models, settings)

        def keep(state: ppo.PpoState) -> None:
            self.policies.append(self.weights("policy"))
            if save is not None:
                save(state)

        ppo.train_ppo(self.models, self.decoder, PROMPTS, settings, seed, state, silent, keep)
        return state
