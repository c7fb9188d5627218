"""The stages of a refresh over one snapshot; each trains, publishes and returns its adapter.

It does not know in which order they run, nor how a candidate is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from feedback.adapter_files import AdapterKind
from feedback.snapshot_rows import Snapshot, Split
from policy.adapter_weights import load_head
from trainer import ppo
from trainer.checkpoints import restore_checkpoint, save_checkpoint
from trainer.dataset import Limits, Tokenizing
from trainer.evidence import adapter_hash
from trainer.experience import Models
from trainer.material import tokenize
from trainer.progress import Stages
from trainer.refresh_settings import RefreshSettings
from trainer.reward import RewardModel, new_head, train_reward
from trainer.sft import train_sft
from trainer.stage_cache import StageResult
from trainer.workshop import Trained, Workshop

SupervisedName = Literal["sft", "init"]
RewardName = Literal["rm", "judge"]
VOTES_OF: dict[RewardName, Split] = {"rm": "train", "judge": "judge"}
JUDGE_SEED_OFFSET = 1_000_003


class Refresh:
    """One snapshot, one base, one set of settings."""

    def __init__(
        self,
        workshop: Workshop,
        snapshot: Snapshot,
        settings: RefreshSettings,
        seed: int,
        stages: Stages,
    ) -> None:
        limits = Limits(settings.max_prompt_tokens, settings.max_answer_tokens)
        self.limits = limits
        self.material = tokenize(snapshot, Tokenizing.of(workshop.loaded, limits))
        self.workshop, self.settings, self.seed, self.stages = workshop, settings, seed, stages

    def supervised(self, name: SupervisedName) -> StageResult:
        """Train the evaluation baseline `sft` or the start of PPO, `init`, on demonstrations."""
        settings = self.settings.sft if name == "sft" else self.settings.init

        def train(_: Path) -> Trained:
            adapter = self._new_adapter(name, self.seed)
            figures = train_sft(
                self.workshop.model,
                adapter,
                self.material.demonstrations,
                settings,
                self.seed,
                self.stages.begin(name),
            )
            return Trained(adapter, figures)

        demonstrations = [row.event_id for row in self.material.snapshot.demonstrations]
        inputs = {"settings": settings.model_dump(), "demonstrations": demonstrations}
        return self._stage(name, name, train, {}, inputs, self.seed)

    def reward(self, name: RewardName, sft: StageResult) -> StageResult:
        """Train a reward model from the SFT weights; the judge has votes and a seed of its own."""
        split = VOTES_OF[name]
        votes = self.material.comparisons[split]
        seed = self.seed + (JUDGE_SEED_OFFSET if name == "judge" else 0)

        def train(_: Path) -> Trained:
            adapter = self._copy_of(sft.adapter_id, name)
            head = new_head(self._hidden_size, self.settings.reward.read_out)
            reward = RewardModel(self.workshop.model, adapter, head)
            report = self.stages.begin(name)
            figures = train_reward(reward, votes, self.settings.reward, seed, report)
            reward.center(self.material.demonstrations)
            return Trained(adapter, {**figures, "votes": len(self.material.votes[split])}, head)

        inputs = {
            "settings": self.settings.reward.model_dump(),
            "snapshot": self.material.snapshot.id,
            "split": split,
        }
        return self._stage(name, "rm", train, {"sft": sft.adapter_id}, inputs, seed)

    def policy(self, init: StageResult, reward: StageResult) -> StageResult:
        """Train the policy by PPO from `init`; publish its average, and the critic beside it."""

        def train(work_path: Path) -> Trained:
            models = self.models(init.adapter_id, reward.adapter_id)
            ref_hash = adapter_hash(models.model, models.ref)
            state = ppo.begin(models, self.settings.ppo)
            restore_checkpoint(work_path, models, state)
            prompts = [prompt.token_ids for prompt in self.material.prompts["train"]]
            longest = max(map(len, prompts), default=0) + self.settings.ppo.max_response_tokens
            ppo.train_ppo(
                models,
                self.workshop.decoder(longest),
                prompts,
                self.settings.ppo,
                self.seed,
                state,
                self.stages.begin("ppo"),
                lambda state: save_checkpoint(work_path, models, state),
            )
            figures = {"history": state.history, "ref_hash_before": ref_hash}
            return self._finish_policy(models, state, parents, figures)

        inputs = {
            "settings": self.settings.ppo.model_dump(),
            "snapshot": self.material.snapshot.id,
        }
        parents = {"init": init.adapter_id, "ref": init.adapter_id, "rm": reward.adapter_id}
        return self._stage("ppo", "ppo", train, parents, inputs, self.seed)

    def models(self, init_id: str, reward_id: str) -> Models:
        """Put policy, ref, reward and value on the base: the first two from init, then from rm."""
        reward = self.workshop.reward_model(reward_id)
        head = load_head(self.workshop.registry.adapter(reward_id))
        value_head = head.folded(self._hidden_size)
        ref = self.workshop.loaded_adapter(init_id)
        return Models(
            model=self.workshop.model,
            policy=self._copy_of(init_id, "policy"),
            ref=ref,
            reward=reward,
            value=self._copy_of(reward_id, "value"),
            value_head=value_head,
        )

    def _finish_policy(
        self, models: Models, state: ppo.PpoState, parents: dict[str, str], figures: dict[str, Any]
    ) -> Trained:
        """Publish the critic and hand over the averaged policy."""
        critic = Trained(models.value, {}, models.value_head)
        snapshot, seeds = self.material.snapshot, {"ppo": self.seed}
        figures["value_adapter"] = self.workshop.publish(
            "value", critic, parents, snapshot, {"stage": "ppo"}, seeds
        )
        models.model.set_weights(models.policy, state.ema)
        return Trained(models.policy, figures)

    @property
    def _hidden_size(self) -> int:
        return self.workshop.loaded.description.hidden_size

    def _new_adapter(self, name: str, seed: int) -> str:
        return self.workshop.new_adapter(f"new-{name}", self.settings.shape, seed)

    def _copy_of(self, adapter_id: str, name: str) -> str:
        adapter = self._new_adapter(name, self.seed)
        self.workshop.model.copy_weights(self.workshop.loaded_adapter(adapter_id), adapter)
        return adapter

    def _stage(
        self,
        name: str,
        kind: AdapterKind,
        train: Callable[[Path], Trained],
        parents: dict[str, str],
        inputs: dict[str, Any],
        seed: int,
    ) -> StageResult:
        inputs = {
            "stage": name,
            "shape": self.settings.shape.model_dump(),
            "limits": asdict(self.limits),
            **inputs,
        }
        return self.workshop.stage(
            kind, train, parents, self.material.snapshot, inputs, {name: seed}
        )
