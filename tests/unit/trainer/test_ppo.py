"""PPO moves the policy alone, towards what is rewarded, the same way every time."""

import pytest
import torch
from tiny_ppo import HIDDEN, PROMPTS, SHORT, TinyPpo

from trainer import ppo
from trainer.evidence import adapter_hash
from trainer.progress import silent


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_ref_and_reward_are_bitwise_what_they_were_and_policy_and_value_are_not() -> None:
    tiny = TinyPpo.new()
    model, head = tiny.models.model, tiny.models.reward.head
    names = ("init", "rm", "policy", "value")
    before = {name: adapter_hash(model, name) for name in names}
    reward_head = [each.clone() for each in head.state_dict().values()]
    unembedding = model.unembedding_VD.clone()
    tiny.train()
    after = {name: adapter_hash(model, name) for name in names}
    changed = [name for name in names if before[name] != after[name]]
    assert changed == ["policy", "value"]
    assert all(map(torch.equal, reward_head, head.state_dict().values()))
    assert torch.equal(model.unembedding_VD, unembedding)


def test_critic_only_iterations_move_the_value_and_leave_the_policy() -> None:
    tiny = TinyPpo.new()
    settings = SHORT.model_copy(update={"value_iterations": 2, "iterations": 1})
    values, init = [tiny.weights("value")], tiny.weights("init")
    averages: list[dict[str, torch.Tensor]] = []

    def save(state: ppo.PpoState) -> None:
        values.append(tiny.weights("value"))
        averages.append({key: value.clone() for key, value in state.ema.items()})

    tiny.train(settings, save=save)
    assert [equal(policy, init) for policy in tiny.policies] == [True, True, False]
    assert [equal(average, init) for average in averages] == [True, True, False]
    assert not any(equal(values[i], values[i + 1]) for i in range(3))


def test_the_average_forgets_by_the_decay_for_this_many_iterations() -> None:
    tiny = TinyPpo.new()
    settings = SHORT.model_copy(update={"value_iterations": 0, "iterations": 4})
    expected = tiny.weights("init")
    state = tiny.train(settings)
    decay = 0.992 ** (500 / 4)
    for policy in tiny.policies:
        expected = {key: decay * expected[key] + (1 - decay) * policy[key] for key in expected}
    for key, value in expected.items():
        torch.testing.assert_close(state.ema[key], value)


def test_a_planted_reward_rises() -> None:
    tiny = TinyPpo.new()
    # Without its adapter the reward model only knows which token came last, and likes some more.
    bare = {key: torch.zeros_like(value) for key, value in tiny.weights("rm").items()}
    tiny.models.model.set_weights("rm", bare)
    settings = SHORT.model_copy(
        update={
            "iterations": 15,
            "batch_size": 32,
            "minibatch_size": 8,
            "max_response_tokens": 1,
            "missing_eos_penalty": 0.0,
            "learning_rate": 1e-2,
            "value_learning_rate": 1e-2,
        }
    )
    scores = [figures["objective/score"] for figures in tiny.train(settings).history]
    first, last = sum(scores[:3]) / 3, sum(scores[-3:]) / 3
    assert last > first + 0.5


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    hashes = []
    for seed in (5, 5, 6):
        tiny = TinyPpo.new()
        tiny.train(seed=seed)
        models = tiny.models
        hashes.append([adapter_hash(models.model, name) for name in (models.policy, models.value)])
    assert hashes[0] == hashes[1]
    assert hashes[1] != hashes[2]


def test_every_prompt_is_answered_once_before_any_is_answered_twice() -> None:
    tiny = TinyPpo.new()
    settings = SHORT.model_copy(update={"batch_size": len(PROMPTS)})
    for iteration in range(2):
        drawn = ppo._sample(tiny.models, tiny.decoder, PROMPTS, settings, 0, iteration)
        assert sorted(each.transcript.prompt_ids for each in drawn) == sorted(PROMPTS)


def test_a_bfloat16_base_trains_with_float32_heads_and_adapters() -> None:
    # CASES D12.
    tiny = TinyPpo.new(torch.bfloat16)
    figures = tiny.train(SHORT).history[-1]
    assert all(map(torch.isfinite, map(torch.tensor, figures.values())))
    assert tiny.models.value_head.weight.shape == (HIDDEN,)
    assert tiny.models.value_head.weight.dtype == torch.float32


def test_answers_to_one_prompt_are_sampled_and_trained_on_together() -> None:
    tiny = TinyPpo.new()
    settings = SHORT.model_copy(
        update={"batch_size": 8, "minibatch_size": 4, "samples_per_prompt": 2}
    )
    for iteration in range(3):
        drawn = ppo._sample(tiny.models, tiny.decoder, PROMPTS, settings, 0, iteration)
        asked = [rollout.transcript.prompt_ids for rollout in drawn]
        assert asked[::2] == asked[1::2]
        assert len({rollout.transcript for rollout in drawn}) > 4  # streams of their own
        parts = ppo._minibatches(settings, 0, iteration)
        assert sorted(row for part in parts for row in part) == list(range(8))
        for part in parts:
            assert len(part) == 4
            assert [row + 1 for row in part[::2]] == part[1::2]
    assert ppo._minibatches(settings, 0, 0) != ppo._minibatches(settings, 0, 1)


def test_without_prompts_it_says_what_to_do() -> None:
    tiny = TinyPpo.new()
    state = ppo.begin(tiny.models, SHORT)
    with pytest.raises(ValueError, match="no prompts to train on: serve some requests"):
        ppo.train_ppo(tiny.models, tiny.decoder, [], SHORT, 0, state, silent, lambda state: None)
