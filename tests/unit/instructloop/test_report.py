"""The report names every figure, and what must not happen is said in words."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from instructloop.demo.arms import BASE, POOL, PPO, SFT
from instructloop.demo.findings import find, with_chosen
from instructloop.demo.labelers import Counts
from instructloop.demo.personas import Answer
from instructloop.demo.prompts import held_out, load_prompts
from instructloop.demo.replay import Replay
from instructloop.demo.report import Outcome, Requests, problems_of, report_of, write_report
from instructloop.demo.steps import Votes
from instructloop.demo.summary import headline, print_summary
from instructloop.demo.swap import Swap
from instructloop.demo.trainer_process import Accuracy, Refreshed
from instructloop.demo.vote_account import VoteAccount

PROMPTS = held_out(load_prompts())[:8]
REQUESTS = {prompt.id: prompt.text for prompt in PROMPTS}


def arm(name, text, num_answers=1):
    return {
        p.id: tuple(
            Answer(f"{text} {p.text[:40]}.", 30, "stop", f"{name}/{p.id}/{k}")
            for k in range(num_answers)
        )
        for p in PROMPTS
    }


@pytest.fixture
def outcome():
    arms = {
        BASE: arm("base", "Error xqzt"),
        "sft T=0": arm("sft0", "A word on"),
        "sft T=0.7": arm("sft7", "A word on"),
        SFT: arm("sft", "A word on"),
        PPO: arm("ppo", "A kind and happy word for you on"),
        "ppo T=0": arm("ppo0", "A kind word on"),
        POOL: arm("pool", "A word on", 4),
    }
    ids = [a.choice_id for each in arms.values() for given in each.values() for a in given]
    arms = with_chosen(REQUESTS, arms, dict.fromkeys(ids, 0.0))
    return Outcome(
        model="tiny",
        votes=Votes(Counts(votes_sent=9), VoteAccount(9, 7, {"aborted": 1}, 1)),
        refreshed=Refreshed(
            "snapshot-1", {"ppo": "ppo-1"}, True, (), Path(), Accuracy(0.7, 0.6, 0.8), 2.0
        ),
        first_swap=Swap("sft-1", 1.5, 20, 0),
        last_swap=Swap("ppo-1", 0.75, 20, 0),
        findings=find(REQUESTS, arms, dict.fromkeys(ids, 2.0), seed=0),
        arms=arms,
        prompts=PROMPTS,
        replay=Replay(50, 40, 0, 0, (), {}),
        requests=Requests(100, (), 12),
        wall_seconds=61.23,
    )


def settings(*, is_placebo=False):
    return {"seed": 11, "is_placebo": is_placebo}


def test_the_policy_meets_the_best_baseline_as_trained_and_at_that_temperature(outcome):
    report = report_of(outcome, settings())
    rates = {(rate["arm"], rate["against"]): rate["rate"] for rate in report["win_rates"]}
    assert report["sft_best"] == "sft T=0"
    as_trained, at_its_best = rates[PPO, "sft T=0"], rates["ppo T=0", "sft T=0"]
    assert report["win_rate_ppo_vs_sft_best"] == pytest.approx(as_trained, abs=1e-4)
    assert report["win_rate_ppo_vs_sft_at_its_best"] == pytest.approx(at_its_best, abs=1e-4)


def test_every_figure_that_the_demo_promises_is_there_and_is_json(outcome, tmp_path):
    path = write_report(report_of(outcome, settings()), tmp_path / "new" / "report")
    report = json.loads(path.read_text())
    assert report["win_rate_low"] <= report["win_rate_ppo_vs_sft"] <= report["win_rate_high"]
    assert (report["rm_accuracy"], report["rm_accuracy_low"], report["kl_nats"]) == (0.7, 0.6, 2.0)
    assert (report["requests_total"], report["requests_failed"]) == (100, 0)
    assert (report["requests_mixed_versions"], report["choices_audited"]) == (0, 40)
    assert (report["promoted"], report["swap_seconds"]) == ("ppo-1", 0.75)
    assert (report["votes_sent"], report["votes_in_dataset"], report["votes_lost"]) == (9, 7, 0)
    assert report["votes_excluded"] == {"aborted": 1}
    assert (report["model"], report["wall_seconds"]) == ("tiny", 61.2)
    assert report["settings"]["seed"] == 11


def test_the_first_six_prompts_are_shown_with_the_first_answers(outcome):
    samples = report_of(outcome, settings())["samples"]
    assert [sample["prompt"] for sample in samples] == [prompt.text for prompt in PROMPTS[:6]]
    assert samples[0][PPO] == outcome.arms[PPO][PROMPTS[0].id][0].text


def test_nothing_promoted_leaves_its_fields_empty(outcome):
    refused = replace(outcome.refreshed, passed=False, reasons=("its win rate is 0.4",))
    report = report_of(replace(outcome, refreshed=refused, last_swap=None), settings())
    assert (report["promoted"], report["swap_seconds"]) == (None, None)
    assert report["gate_reasons"] == ["its win rate is 0.4"]


def test_a_run_that_held_has_no_problem(outcome):
    assert problems_of(outcome, is_placebo=False) == []


def test_each_way_of_not_holding_is_named(outcome):
    broken = replace(
        outcome,
        requests=Requests(100, ("503 busy",), 12),
        votes=Votes(Counts(), VoteAccount(9, 7, {}, 0)),
        replay=Replay(50, 40, 3, 0, ("a", "b", "c"), {}),
    )
    failed, lost, mixed, passed = problems_of(broken, is_placebo=True)
    assert "1 requests failed, the first: 503 busy" in failed
    assert "2 acknowledged votes are lost" in lost
    assert "3 answers" in mixed
    assert "shuffled" in passed


def test_the_summary_shows_interval_guards_and_prompts(outcome):
    text = io.StringIO()
    report = report_of(outcome, settings())
    print_summary(Console(file=text, width=120), report)
    shown = text.getvalue()
    assert f"{PPO} over {SFT}" in shown
    assert "length ratio to SFT" in shown
    assert PROMPTS[0].text[:60] in shown
    assert "0 lost" in shown
    assert "SIMULATED" in shown


def test_the_headline_has_its_interval_and_says_whose_word_it_is(outcome):
    sentence = headline(report_of(outcome, settings()))
    assert "95% interval" in sentence
    assert "simulated judges" in sentence


def test_the_headline_of_a_placebo_is_the_gates_refusal(outcome):
    refused = replace(outcome, refreshed=replace(outcome.refreshed, passed=False))
    assert "refused, as it must" in headline(report_of(refused, settings(is_placebo=True)))
    assert "LET IT PASS" in headline(report_of(outcome, settings(is_placebo=True)))
