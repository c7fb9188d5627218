"""What breaks PPO's rules is refused by name before an update, or in the iteration it happens."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_ppo import SHORT, TinyPpo

from trainer.experience import exact_kl, policy_logprobs
from trainer.packing import Transcript
from trainer.ppo_checks import PpoDiverged, require_finite, require_first_step_rules
from trainer.rollouts import Rollout

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_before_the_first_update_every_ratio_is_1_and_the_exact_kl_0(dtype: torch.dtype) -> None:
    tiny = TinyPpo.new(dtype)
    minibatch = tiny.experience()
    with torch.no_grad():
        for each in minibatch:
            logprobs = each.batch.unflatten(policy_logprobs(tiny.models, each.batch, SHORT))
            assert ((logprobs - each.logprobs_BR).exp() - 1).abs().max() <= 1e-5
    assert abs(exact_kl(tiny.models, minibatch, SHORT)) <= 1e-6
    require_first_step_rules(tiny.models, minibatch, SHORT)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bare_base_or_any_other_policy_than_init_is_refused(dtype: torch.dtype) -> None:
    # CASES D3, D5: the reference must be the adapter that PPO starts from, not the base.
    tiny = TinyPpo.new(dtype)
    bare = {key: torch.zeros_like(value) for key, value in tiny.weights("policy").items()}
    tiny.models.model.set_weights("policy", bare)
    with pytest.raises(PpoDiverged, match=r"KL\(policy, ref\) before the first update is"):
        require_first_step_rules(tiny.models, tiny.experience(), SHORT)
    with pytest.raises(PpoDiverged, match=r"KL\(policy, ref\)"):
        tiny.train()


@pytest.mark.parametrize("dtype", DTYPES)
def test_another_temperature_in_the_rollouts_than_in_training_is_refused(
    dtype: torch.dtype,
) -> None:
    tiny = TinyPpo.new(dtype)
    warmer = tiny.experience(tiny.rollouts(temperature=1.5))
    with pytest.raises(PpoDiverged, match="per-token KL between sampler and training forward"):
        require_first_step_rules(tiny.models, warmer, SHORT)
    settings = SHORT.model_copy(update={"temperature": 1.5})
    same = tiny.experience(tiny.rollouts(settings), settings)
    require_first_step_rules(tiny.models, same, settings)


def test_log_probabilities_that_belong_to_the_neighbouring_token_are_refused() -> None:
    # CASES D13: a shift by one.
    tiny = TinyPpo.new()
    rollouts = tiny.rollouts()
    shifted = [replace(each, logprobs=each.logprobs[1:] + each.logprobs[:1]) for each in rollouts]
    with pytest.raises(PpoDiverged, match="sampler and training"):
        require_first_step_rules(tiny.models, tiny.experience(shifted), SHORT)


def test_log_probabilities_that_are_no_numbers_are_refused() -> None:
    tiny = TinyPpo.new()
    unknown = [Rollout(Transcript((5, 6), (7, 0)), (math.nan, math.nan), True)]
    with pytest.raises(PpoDiverged, match="sampler and training forward is nan"):
        require_first_step_rules(tiny.models, tiny.experience(unknown), SHORT)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_is_refused_by_its_name(value: float) -> None:
    require_finite({"objective/kl": 1.0}, 3)
    with pytest.raises(PpoDiverged, match="value/loss is .* in iteration 3: lower the learning"):
        require_finite({"objective/kl": 1.0, "value/loss": value}, 3)


def test_a_run_that_diverges_stops_in_that_iteration_and_saves_nothing() -> None:
    tiny = TinyPpo.new()
    with torch.no_grad():
        tiny.models.reward.head.bias.fill_(math.nan)
    with pytest.raises(PpoDiverged, match="objective/score is nan in iteration 0"):
        tiny.train()
    assert tiny.policies == []
