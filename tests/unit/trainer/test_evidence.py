"""Evidence is what the models said and scored: the same models give the same record, bit by bit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tiny_llama import add_random_adapter, tiny_model

from policy.decoder import Decoder
from policy.heads import ScalarHead
from policy.language_model import LanguageModel
from trainer.evidence import (
    GateModels,
    GateRanking,
    adapter_hash,
    collect_evidence,
    response_kls,
    training_facts,
)
from trainer.evidence_record import (
    EvidenceDesign,
    EvidenceNames,
    EvidenceRecord,
    GatePrompt,
)
from trainer.packing import Transcript
from trainer.progress import silent
from trainer.reward import RankedAnswers, RewardModel
from trainer.rollouts import sample_rollouts
from trainer.transcripts import TranscriptSet

NAMES = EvidenceNames("ppo-1", "init-1", "rm-1", "rm-2")
DESIGN = EvidenceDesign(seed=5, samples_per_prompt=4, temperature=1.0, max_tokens=6)
PROMPTS = tuple(
    GatePrompt(prompt_hash=f"p{i}", text=text, token_ids=tuple(text.encode()))
    for i, text in enumerate(["Why is the sky blue?", "Say hi.", "Count to three"])
)
RANKINGS = (
    GateRanking(
        "p0",
        RankedAnswers.from_tie_groups(
            [Transcript((1, 2), (3,)), Transcript((1, 2), (4, 5)), Transcript((1, 2), (6, 7, 0))],
            [[2], [0, 1]],
        ),
    ),
    GateRanking(
        "p1",
        RankedAnswers.from_tie_groups([Transcript((8,), (9,)), Transcript((8,), (10,))], [[0, 1]]),
    ),
)


@dataclass
class ConstantJudge(RewardModel):
    """A reward model that gives every answer the same score."""

    score: float = 0.0

    def scores_of(self, data: TranscriptSet, rows: Sequence[int]) -> torch.Tensor:
        return torch.full((len(rows),), self.score)


def decode(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))


@pytest.fixture(scope="module")
def models() -> GateModels:
    model = tiny_model()
    for seed, name in enumerate(["ppo", "init", "rm", "judge"]):
        add_random_adapter(model, name, seed)
    return GateModels(
        model=model,
        decoder=Decoder(model, max_batch=8, max_positions=64),
        candidate="ppo",
        incumbent="init",
        init="init",
        proxy=RewardModel(model, "rm", ScalarHead(32, seed=1)),
        judge=RewardModel(model, "judge", ScalarHead(32, seed=2)),
    )


def collect(models: GateModels, **changes: Any) -> EvidenceRecord:
    arguments: dict[str, Any] = {
        "names": NAMES,
        "design": DESIGN,
        "prompts": PROMPTS,
        "rankings": RANKINGS,
        "training": training_facts(
            models.model, "ppo", "init", adapter_hash(models.model, "init"), 12
        ),
        "decode": decode,
        "report": silent,
    }
    return collect_evidence(models, **(arguments | changes))


@pytest.fixture(scope="module")
def record(models: GateModels) -> EvidenceRecord:
    return collect(models)


def changed(models: GateModels, **changes: Any) -> GateModels:
    fields = {name: getattr(models, name) for name in GateModels.__slots__}
    return GateModels(**(fields | changes))


def test_both_sides_answer_every_prompt_equally_often_in_the_order_of_the_prompts(
    record: EvidenceRecord,
) -> None:
    expected = [(f"p{i}", sample) for i in range(3) for sample in range(4)]
    for side in (record.candidate, record.incumbent):
        assert [(answer.prompt_hash, answer.sample_index) for answer in side] == expected


def test_the_same_seed_gives_the_same_record_and_another_seed_other_answers(
    models: GateModels, record: EvidenceRecord
) -> None:
    assert collect(models) == record
    other = collect(models, design=EvidenceDesign(6, 4, 1.0, 6))
    assert [a.ids for a in other.candidate] != [a.ids for a in record.candidate]


def test_an_answer_holds_the_ids_that_its_adapter_samples_alone(
    models: GateModels, record: EvidenceRecord
) -> None:
    (alone,) = sample_rollouts(
        models.model,
        models.decoder,
        "ppo",
        [PROMPTS[1].token_ids],
        max_tokens=6,
        temperature=1.0,
        seed=5,
        first_index=4,
    )
    assert record.candidate[4].ids == alone.transcript.response_ids


def test_scores_are_the_reward_models_own(models: GateModels, record: EvidenceRecord) -> None:
    for i, answer in enumerate(record.incumbent):
        transcript = Transcript(PROMPTS[i // 4].token_ids, answer.ids)
        assert answer.proxy_score == pytest.approx(float(models.proxy.scores([transcript])), 1e-4)
        assert answer.judge_score == pytest.approx(float(models.judge.scores([transcript])), 1e-4)


def test_text_is_decoded_without_eos(record: EvidenceRecord) -> None:
    for answer in record.candidate:
        assert answer.text == decode(answer.visible_ids)
        assert answer.is_finished == (answer.ids[-1] == 0)


def test_rankings_keep_their_comparisons_and_both_models_scores(
    models: GateModels, record: EvidenceRecord
) -> None:
    (ranking,) = record.rankings  # the vote that is all ties has no comparison
    assert ranking.pairs == ((2, 0), (2, 1))
    assert ranking.lengths == (1, 2, 3)
    expected = models.judge.scores(RANKINGS[0].vote.answers).tolist()
    assert ranking.judge_scores == pytest.approx(expected, 1e-4)


def test_identical_adapters_are_zero_nats_apart_and_give_identical_answers(
    models: GateModels,
) -> None:
    record = collect(changed(models, candidate="init"))
    kls = [answer.kl_nats for answer in record.candidate if answer.kl_nats is not None]
    assert kls == [0.0] * 3
    assert [a.ids for a in record.candidate] == [a.ids for a in record.incumbent]


def test_kl_is_the_sum_over_the_answer_of_a_plain_log_softmax_comparison(
    models: GateModels,
) -> None:
    model = models.model
    (rollout,) = sample_rollouts(
        model, models.decoder, "ppo", [(3, 4, 5)], max_tokens=5, temperature=1.0, seed=1
    )
    ids = torch.tensor([rollout.transcript.ids])
    trunk = model.trunk(ids, torch.ones_like(ids, dtype=torch.bool), 0)
    ours, theirs = (
        torch.log_softmax(model.logits(model.hidden(trunk, name))[0].double(), dim=-1)
        for name in ("ppo", "init")
    )
    expected = (ours.exp() * (ours - theirs)).sum(-1)[2:-1].sum()
    (kl,) = response_kls(models, [rollout], temperature=1.0)
    assert kl == pytest.approx(float(expected), rel=1e-4)
    assert kl > 0


def test_the_bare_base_can_be_the_incumbent(models: GateModels) -> None:
    record = collect(changed(models, incumbent=None))
    assert len(record.incumbent) == 12


def test_a_score_that_is_no_number_is_refused_by_the_adapters_name(models: GateModels) -> None:
    broken = ConstantJudge(models.model, "judge", ScalarHead(32), score=math.nan)
    with pytest.raises(ValueError, match="'judge' gives a score that is no number"):
        collect(changed(models, judge=broken))


def test_a_hash_changes_with_a_single_number_of_the_adapter() -> None:
    model = tiny_model()
    add_random_adapter(model, "ref", 3)
    before = adapter_hash(model, "ref")
    assert adapter_hash(model, "ref") == before
    parameter = next(iter(model.adapter_parameters("ref").values()))
    with torch.no_grad():
        parameter.flatten()[0] += 1e-6
    assert adapter_hash(model, "ref") != before


def test_training_facts_measure_the_change_of_lora_b_relative_to_init() -> None:
    model: LanguageModel = tiny_model()
    add_random_adapter(model, "init", 1)
    add_random_adapter(model, "ppo", 2)
    model.copy_weights("init", "ppo")
    before = adapter_hash(model, "init")
    assert training_facts(model, "ppo", "init", before, 3).relative_change == 0.0
    with torch.no_grad():
        for key, parameter in model.adapter_parameters("ppo").items():
            parameter.mul_(1.5 if ".lora_B." in key else 9.0)
    facts = training_facts(model, "ppo", "init", before, 3)
    assert facts.relative_change == pytest.approx(0.5, rel=1e-5)
    assert facts.ref_hash_after == before
    assert facts.num_policy_steps == 3
