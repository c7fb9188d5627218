"""Win rates and guards over hand-made arms: the headline, the choice of 4, each sign of a game."""

import pytest

from instructloop.demo.arms import BASE, BEST_BY_JUDGES, BEST_BY_RM, POOL, PPO, SFT
from instructloop.demo.findings import comparisons, find, with_chosen
from instructloop.demo.personas import Answer
from instructloop.demo.prompts import load_demonstrations

DEMONSTRATIONS = load_demonstrations()[:20]
REQUESTS = {d.id: d.text for d in DEMONSTRATIONS}


def arm(name, write, num_tokens=34, finish="stop"):
    return {d.id: (Answer(write(d), num_tokens, finish, f"{name}/{d.id}"),) for d in DEMONSTRATIONS}


def pool():
    """Four answers a prompt; the second one is the good one."""
    return {
        d.id: tuple(
            Answer(d.completion if k == 1 else "Error xqzt", 34, "stop", f"pool/{d.id}/{k}")
            for k in range(4)
        )
        for d in DEMONSTRATIONS
    }


def arms(ppo=None):
    half = arm("sft", lambda d: d.completion[: len(d.completion) // 2])
    return {
        BASE: arm("base", lambda d: "Error xqzt undefined", finish="length"),
        "sft T=0": half,
        "sft T=0.7": half,
        SFT: half,
        POOL: pool(),
        PPO: ppo or arm("ppo", lambda d: d.completion),
    }


def choose(answers, good=1):
    rewards = {
        answer.choice_id: float(k == good)
        for given in answers[POOL].values()
        for k, answer in enumerate(given)
    }
    return with_chosen(REQUESTS, answers, rewards)


def find_in(answers, nats=None):
    base_nats = {
        a.choice_id: (nats or {}).get(name, 2.0)
        for name in (SFT, PPO)
        for given in answers[name].values()
        for a in given
    }
    return find(REQUESTS, answers, base_nats, seed=0)


def guards(findings):
    return {guard.name: guard.is_kept for guard in findings.guards}


def test_the_headline_is_ppo_over_sft_at_the_same_temperature():
    findings = find_in(choose(arms()))
    assert (findings.win_rates[0].arm, findings.win_rates[0].against) == (PPO, SFT)
    assert findings.win_rate(PPO, SFT).rate > 0.6
    assert findings.win_rate(SFT, BASE).rate > 0.6
    assert findings.win_rate(BASE, PPO) is None


def test_the_reward_models_choice_is_the_answer_it_scores_highest():
    chosen = choose(arms(), good=2)
    assert all(chosen[BEST_BY_RM][d.id][0].choice_id == f"pool/{d.id}/2" for d in DEMONSTRATIONS)
    assert all(chosen[BEST_BY_JUDGES][d.id][0].text == d.completion for d in DEMONSTRATIONS)


def test_the_strongest_baseline_is_met_also_where_it_is_the_usual_one():
    pairs = comparisons(SFT, PPO)
    assert pairs[0] == (PPO, SFT)
    assert len(pairs) == len(set(pairs))
    assert ("ppo T=0", "sft T=0") in comparisons("sft T=0", "ppo T=0")


def test_an_honest_better_policy_keeps_every_guard():
    assert all(guards(find_in(choose(arms()))).values())


@pytest.mark.parametrize(
    ("ppo", "nats", "broken"),
    [
        (arm("ppo", lambda d: d.completion, num_tokens=60), {}, "length ratio to SFT"),
        (None, {PPO: 2.5}, "nats per token under the base, minus SFT's"),
        (None, {PPO: 1.5}, "nats per token under the base, minus SFT's"),
        (arm("ppo", lambda d: "What a lovely warm day it is."), {}, "commonest 5-word opening"),
        (arm("ppo", lambda d: "What a lovely warm day it is."), {}, "distinct-2, to SFT's"),
        (
            arm("ppo", lambda d: "What a lovely warm day it is."),
            {},
            "answers fit their own prompt, to SFT's",
        ),
        (arm("ppo", lambda d: "Error xqzt"), {}, "length-controlled win rate"),
    ],
)
def test_each_sign_of_a_gamed_judge_breaks_its_guard(ppo, nats, broken):
    assert not guards(find_in(choose(arms(ppo)), nats))[broken]


def test_without_a_policy_the_baselines_are_still_compared():
    answers = choose(arms())
    del answers[PPO]
    findings = find(REQUESTS, answers, {}, seed=0)
    assert findings.guards == ()
    assert findings.win_rate(PPO, SFT) is None
    assert findings.win_rate(SFT, BASE) is not None
