"""Which answers are fetched: every baseline, two samples where they decide, the pool apart."""

from instructloop.demo.arms import (
    BASE,
    POOL,
    PPO,
    SFT,
    best_temperature,
    fetch_arms,
    first_asks,
    matching_ask,
)
from instructloop.demo.prompts import held_out, load_prompts


def test_every_baseline_is_asked_by_its_own_adapter():
    asks = {ask.arm: ask for ask in first_asks("base-1", "sft-1", "ppo-1", num_samples=2, seed=7)}
    assert set(asks) == {BASE, "sft T=0", "sft T=0.7", SFT, POOL, PPO}
    assert (asks[BASE].model, asks[SFT].model, asks[PPO].model) == ("base-1", "sft-1", "ppo-1")
    assert {asks[arm].temperature for arm in (BASE, SFT, POOL, PPO)} == {1.0}
    singles = (BASE, "sft T=0", "sft T=0.7")
    assert [asks[arm].num_choices for arm in (*singles, SFT, PPO)] == [1, 1, 1, 2, 2]
    assert asks[POOL].num_choices == 4


def test_the_pool_to_choose_from_shares_no_random_stream_with_what_it_meets():
    asks = {ask.arm: ask for ask in first_asks("base-1", "sft-1", "ppo-1", num_samples=2, seed=7)}
    assert asks[POOL].seed not in {ask.seed for arm, ask in asks.items() if arm != POOL}


def test_without_a_policy_its_arm_is_missing():
    arms = [ask.arm for ask in first_asks("base-1", "sft-1", None, num_samples=2, seed=7)]
    assert PPO not in arms


def test_the_strongest_baseline_is_the_temperature_with_the_highest_utility():
    assert best_temperature({"sft T=0": 0.5, "sft T=0.7": 0.7, "sft T=1": 0.6}) == 0.7


def test_ppo_meets_the_strongest_baseline_at_its_own_temperature_too():
    ask = matching_ask("ppo-1", 0.7, seed=7)
    assert (ask.arm, ask.temperature, ask.num_choices) == ("ppo T=0.7", 0.7, 1)
    assert matching_ask("ppo-1", 1.0, seed=7) is None


async def test_arms_come_by_name_over_the_same_prompts(api, service):
    prompts = held_out(load_prompts())[:3]
    news = []
    asks = first_asks("base-1", "sft-1", None, num_samples=2, seed=7)
    arms = await fetch_arms(api, asks, prompts, news.append)
    assert list(arms) == [ask.arm for ask in asks]
    assert all(list(arm) == [prompt.id for prompt in prompts] for arm in arms.values())
    assert {f"{ask.arm}, 3/3 prompts" for ask in asks} <= set(news)
    assert {body["model"] for body in service.completions} == {"base-1", "sft-1"}
