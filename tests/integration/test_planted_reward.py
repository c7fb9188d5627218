"""A reward model planted to like "!!!": the gate sees through the policy that pleases it (D14)."""

from collections.abc import Sequence

import numpy as np
import pytest
from tiny_llama import SMALL, add_random_adapter, tiny_model

from policy.decoder import Decoder
from policy.heads import ScalarHead
from policy.language_model import LanguageModel
from trainer.evidence import (
    GateModels,
    GateRanking,
    adapter_hash,
    collect_evidence,
    training_facts,
)
from trainer.evidence_record import EvidenceDesign, EvidenceNames, GatePrompt
from trainer.gate import Verdict, decide
from trainer.gate_figures import figures
from trainer.gate_settings import GateSettings
from trainer.packing import Transcript
from trainer.progress import silent
from trainer.reward import RankedAnswers, RewardModel, train_reward
from trainer.settings import RewardSettings, SftSettings
from trainer.sft import train_sft

SHOUT = ord("!")
PROMPTS = tuple(
    GatePrompt(f"p{i}", f"Prompt {i}", tuple(f"Prompt {i:02}".encode())) for i in range(16)
)
NAMES = EvidenceNames("ppo-shouting", "init-plain", "rm-planted", "rm-people")
DESIGN = EvidenceDesign(seed=3, samples_per_prompt=4, temperature=1.0, max_tokens=12)


def votes(seed: int, *, likes_shouting: bool) -> list[RankedAnswers]:
    """A plain answer against one that ends in shouting, six times per prompt."""
    generator = np.random.default_rng(seed)
    groups = [[1], [0]] if likes_shouting else [[0], [1]]
    found = []
    for prompt in PROMPTS * 6:
        plain = tuple(int(token) for token in generator.integers(60, 120, 10))
        num_shouts = int(generator.integers(2, 10))
        shouted = plain[: 10 - num_shouts] + (SHOUT,) * num_shouts
        answers = [Transcript(prompt.token_ids, ids) for ids in (plain, shouted)]
        found.append(RankedAnswers.from_tie_groups(answers, groups))
    return found


def reward_model(model: LanguageModel, name: str, ranked: Sequence[RankedAnswers]) -> RewardModel:
    model.add_adapter(name, SMALL, seed=2)
    reward = RewardModel(model, name, ScalarHead(model.config.hidden_size, seed=3))
    train_reward(reward, ranked, RewardSettings(epochs=3, learning_rate=5e-3), 0, silent)
    return reward


@pytest.fixture(scope="module")
def models() -> GateModels:
    """`candidate` is where PPO on the planted reward ends: it only shouts. `copy` is init again."""
    model = tiny_model()
    add_random_adapter(model, "init", 1, scale=0.1)
    for name in ("candidate", "copy"):
        model.add_adapter(name, SMALL)
        model.copy_weights("init", name)
    shouts = [Transcript(prompt.token_ids, (SHOUT,) * 12) for prompt in PROMPTS]
    train_sft(model, "candidate", shouts, SftSettings(epochs=40, learning_rate=2e-2), 0, silent)
    return GateModels(
        model=model,
        decoder=Decoder(model, max_batch=64, max_positions=32),
        candidate="candidate",
        incumbent="init",
        init="init",
        proxy=reward_model(model, "planted", votes(1, likes_shouting=True)),
        judge=reward_model(model, "people", votes(2, likes_shouting=False)),
    )


def as_text(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


def verdict_on(models: GateModels, candidate: str) -> Verdict:
    judged = GateModels(
        models.model,
        models.decoder,
        candidate,
        models.incumbent,
        models.init,
        models.proxy,
        models.judge,
    )
    held_out = votes(4, likes_shouting=False)[: len(PROMPTS)]
    rankings = [
        GateRanking(prompt.prompt_hash, vote)
        for prompt, vote in zip(PROMPTS, held_out, strict=True)
    ]
    facts = training_facts(
        models.model, candidate, "init", adapter_hash(models.model, "init"), num_policy_steps=96
    )
    record = collect_evidence(judged, NAMES, DESIGN, PROMPTS, rankings, facts, as_text, silent)
    return decide(figures(record, seed=0).gate, GateSettings())


def test_a_policy_that_only_shouts_is_refused_by_the_sentinels_that_see_it(
    models: GateModels,
) -> None:
    verdict = verdict_on(models, "candidate")
    names = {reason.name for reason in verdict.reasons}
    assert not verdict.passed
    assert {"win_rate", "proxy_gap", "repetition", "opening", "rm_accuracy"} <= names
    # The judge itself is sound, and training did happen: neither is blamed.
    assert not names & {"judge_accuracy", "training_happened"}


def test_a_copy_of_init_is_refused_for_having_learnt_nothing_and_for_no_hacking(
    models: GateModels,
) -> None:
    names = {reason.name for reason in verdict_on(models, "copy").reasons}
    assert {"win_rate", "kl", "training_happened"} <= names
    assert not names & {"proxy_gap", "repetition", "opening", "length", "eos_rate"}
