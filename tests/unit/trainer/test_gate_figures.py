"""The figures follow from the record alone, by plain counting."""

from dataclasses import replace
from itertools import product
from statistics import fmean

import pytest
from evidence_story import record_of

from trainer.evidence_record import EvidenceDesign, EvidenceRecord, JudgedRanking
from trainer.gate_figures import answer_figures, figures


def sign(first: float, second: float) -> float:
    return 1.0 if first > second else 0.0 if first < second else 0.5


@pytest.fixture(scope="module")
def record() -> EvidenceRecord:
    return record_of(seed=1)


def test_a_win_rate_is_over_all_pairs_of_answers_to_the_same_prompt(record: EvidenceRecord) -> None:
    found = figures(record, seed=0).gate
    wins = [
        sign(ours.judge_score, theirs.judge_score)
        for ours, theirs in product(record.candidate, record.incumbent)
        if ours.prompt_hash == theirs.prompt_hash
    ]
    assert found.win_rate.estimate == pytest.approx(fmean(wins))
    assert found.win_rate.num_comparisons == len(wins) == len(record.prompts) * 16
    assert found.win_rate.num_prompts == len(record.prompts)
    assert found.win_rate.judge == record.names.judge
    assert found.proxy_win_rate.judge == record.names.proxy


def test_swapping_the_sides_mirrors_the_win_rate(record: EvidenceRecord) -> None:
    swapped = replace(record, candidate=record.incumbent, incumbent=record.candidate)
    ours, theirs = figures(record, seed=0).gate, figures(swapped, seed=0).gate
    assert ours.win_rate.estimate == pytest.approx(1 - theirs.win_rate.estimate)
    assert ours.win_rate.low == pytest.approx(1 - theirs.win_rate.high)


def test_identical_sides_are_even(record: EvidenceRecord) -> None:
    same = figures(replace(record, candidate=record.incumbent), seed=0)
    assert same.gate.win_rate.estimate == 0.5
    assert same.length_controlled_win_rate.estimate == pytest.approx(0.5)


def test_best_of_4_is_perfect_when_proxy_and_judge_agree_and_hopeless_when_they_oppose(
    record: EvidenceRecord,
) -> None:
    agreeing = tuple(replace(a, proxy_score=a.judge_score) for a in record.incumbent)
    opposing = tuple(replace(a, proxy_score=-a.judge_score) for a in record.incumbent)
    assert figures(replace(record, incumbent=agreeing), 0).gate.best_of_4.estimate == 1.0
    assert figures(replace(record, incumbent=opposing), 0).gate.best_of_4.estimate == 0.0


def test_a_reward_model_that_says_one_number_is_as_accurate_as_a_coin(
    record: EvidenceRecord,
) -> None:
    blind = [replace(r, proxy_scores=(1.0,) * len(r.lengths)) for r in record.rankings]
    found = figures(replace(record, rankings=tuple(blind)), seed=0).gate.rm_accuracy
    assert (found.estimate, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_length_baseline_takes_the_better_direction(record: EvidenceRecord) -> None:
    shorter_wins = JudgedRanking("p0", ((0, 1),), (3, 9), (1.0, 0.0), (1.0, 0.0))
    longer_wins = replace(shorter_wins, lengths=(9, 3))
    for ranking in (shorter_wins, longer_wins):
        found = figures(replace(record, rankings=(ranking,)), seed=0)
        assert found.length_accuracy.estimate == 1.0
        assert found.rm_over_length.estimate == 0.0


def test_kl_is_the_mean_over_the_answers_that_were_measured(record: EvidenceRecord) -> None:
    measured = [a.kl_nats for a in record.candidate if a.kl_nats is not None]
    assert 0 < len(measured) < len(record.candidate)
    assert figures(record, seed=0).gate.kl_nats == pytest.approx(fmean(measured))


def test_length_does_not_count_the_end_of_the_answer(record: EvidenceRecord) -> None:
    answer = replace(record.candidate[0], ids=(5, 6, 7, 0), is_finished=True)
    cut = replace(answer, ids=(5, 6, 7), is_finished=False)
    assert answer_figures([answer]).mean_length == answer_figures([cut]).mean_length == 3
    assert answer_figures([answer, cut]).eos_rate == 0.5


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (replace(record_of(1), prompts=(), candidate=(), incumbent=()), "no prompts"),
        (replace(record_of(1), rankings=()), "no ranking"),
        (replace(record_of(1), design=EvidenceDesign(0, 3, 1.0, 8)), "best-of-4"),
    ],
)
def test_missing_material_is_refused_in_words(record: EvidenceRecord, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures(record, seed=0)
