"""PPO from the `init` adapter against the reward model (InstructGPT section 3.5, appendix C.4).

Policy, ref, reward and value are adapters on one copy of the base; the KL anchor is `init`, always.

Deviations from the paper: 1. tens of iterations of 64 to 96 episodes or fewer, not 500 of 512,
with the EMA decay and the warm-up shortened to match; 2. LoRA rates; 3. lambda, value clip and the
penalty for a missing EOS come from earlier code (the paper does not say); 4. the critic trains
alone for two iterations first, several passes each; 5. gradients are clipped; 6. the preset `demo`
samples two answers to a prompt: nine tenths of the scores' variance lie between those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policy.decoder import Decoder
from trainer.estimators import ema_decay, policy_loss, value_loss
from trainer.experience import Experience, Models, gather, policy_logprobs, values
from trainer.optimizer import adam, set_rate, warm_up
from trainer.ppo_checks import require_finite, require_first_step_rules
from trainer.ppo_figures import Update, describe
from trainer.progress import Report
from trainer.rollouts import Rollout, sample_rollouts
from trainer.settings import PpoSettings
from trainer.transcripts import shuffled

PAPER_ITERATIONS = 500


@dataclass(slots=True)
class PpoState:
    """All that a resumed run needs beside the adapters themselves."""

    ema: dict[str, Tensor]
    policy_optimizer: torch.optim.Adam
    value_optimizer: torch.optim.Adam
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def begin(models: Models, ppo: PpoSettings) -> PpoState:
    """Return the state before the first iteration; the policy must hold the weights of ref."""
    policy = models.model.adapter_parameters(models.policy)
    return PpoState(
        ema={key: parameter.detach().clone() for key, parameter in policy.items()},
        policy_optimizer=adam(policy.values(), ppo.learning_rate),
        value_optimizer=adam(_value_parameters(models), ppo.value_learning_rate),
    )


def train_ppo(
    models: Models,
    decoder: Decoder,
    prompts: Sequence[tuple[int, ...]],
    ppo: PpoSettings,
    seed: int,
    state: PpoState,
    report: Report,
    save: Callable[[PpoState], None],
) -> None:
    """Run the remaining iterations, each: sample, judge, update, average; then call `save`.

    Raises:
        PpoDiverged: a rule of the first step does not hold, or a figure is not finite.
        ValueError: without a prompt there is nothing to answer.
    """
    if not prompts:
        raise ValueError("there are no prompts to train on: serve some requests with consent first")
    num_iterations = ppo.value_iterations + ppo.iterations
    decay = ema_decay(ppo.ema_decay, PAPER_ITERATIONS, ppo.iterations)
    while state.iteration < num_iterations:
        rollouts, minibatches = collect(models, decoder, prompts, ppo, seed, state.iteration)
        if state.iteration == 0:
            require_first_step_rules(models, minibatches[0], ppo)
        iteration = state.iteration - ppo.value_iterations
        updates = improve(models, minibatches, ppo, state, iteration)
        if iteration >= 0:
            _average(models, state, decay)
        figures = describe(rollouts, minibatches, updates)
        require_finite(figures, state.iteration)
        state.history.append(figures)
        state.iteration += 1
        report(state.iteration, num_iterations, figures)
        save(state)


def collect(
    models: Models,
    decoder: Decoder,
    prompts: Sequence[tuple[int, ...]],
    ppo: PpoSettings,
    seed: int,
    iteration: int,
) -> tuple[list[Rollout], list[list[Experience]]]:
    """Sample one iteration's rollouts and judge them, in the minibatches of the update."""
    rollouts = _sample(models, decoder, prompts, ppo, seed, iteration)
    rows = _minibatches(ppo, seed, iteration)
    return rollouts, gather(models, rollouts, rows, ppo)


def improve(
    models: Models,
    minibatches: Sequence[Sequence[Experience]],
    ppo: PpoSettings,
    state: PpoState,
    iteration: int,
) -> list[Update]:
    """Update on every minibatch; before iteration 0 the critic alone, several times over."""
    num_epochs = 1 if iteration >= 0 else ppo.value_epochs
    return [
        _update(models, minibatch, ppo, state, iteration)
        for _ in range(num_epochs)
        for minibatch in minibatches
    ]


def _sample(
    models: Models,
    decoder: Decoder,
    prompts: Sequence[tuple[int, ...]],
    ppo: PpoSettings,
    seed: int,
    iteration: int,
) -> list[Rollout]:
    """Answer the next prompts of an endless shuffled deck, each `samples_per_prompt` times."""
    first = iteration * ppo.batch_size
    chosen = []
    for index in range(first, first + ppo.batch_size):
        deck, position = divmod(index // ppo.samples_per_prompt, len(prompts))
        chosen.append(prompts[shuffled(len(prompts), seed, deck)[position]])
    return sample_rollouts(
        models.model,
        decoder,
        models.policy,
        chosen,
        max_tokens=ppo.max_response_tokens,
        temperature=ppo.temperature,
        seed=seed,
        first_index=first,
    )


def _minibatches(ppo: PpoSettings, seed: int, iteration: int) -> list[list[int]]:
    """Divide an iteration's episodes at random; those that share a prompt stay together."""
    share, size = ppo.samples_per_prompt, ppo.minibatch_size
    prompts = shuffled(ppo.batch_size // share, seed, iteration, 1)
    order = [prompt * share + sample for prompt in prompts for sample in range(share)]
    return [order[start : start + size] for start in range(0, ppo.batch_size, size)]


def _update(
    models: Models,
    minibatch: Sequence[Experience],
    ppo: PpoSettings,
    state: PpoState,
    iteration: int,
) -> Update:
    """Take one step of the critic and, from iteration 0 on, one of the policy."""
    num_tokens = sum(int(each.batch.is_response_BR.sum()) for each in minibatch)
    update = Update()
    with models.model.training(models.policy, models.value):
        for each in minibatch:
            share = int(each.batch.is_response_BR.sum()) / num_tokens
            if iteration >= 0:
                _policy_backward(models, each, ppo, share, update)
            # A critic that trains alone may go as far as it must: no policy leans on it yet.
            clip = ppo.value_clip if iteration >= 0 else math.inf
            _value_backward(models, each, clip, share, update)
        if iteration >= 0:
            rate = ppo.learning_rate * warm_up(iteration, ppo.warm_up_iterations)
            policy = models.model.adapter_parameters(models.policy).values()
            update.policy_grad_norm = _step(state.policy_optimizer, list(policy), rate, ppo)
        rate = ppo.value_learning_rate
        _step(state.value_optimizer, _value_parameters(models), rate, ppo)
    return update


def _policy_backward(
    models: Models, each: Experience, ppo: PpoSettings, share: float, update: Update
) -> None:
    mask = each.batch.is_response_BR
    logprobs = each.batch.unflatten(policy_logprobs(models, each.batch, ppo))
    loss, ratios = policy_loss(logprobs, each.logprobs_BR, each.advantages_BR, mask, ppo.clip)
    (loss * share).backward()
    update.add_policy(float(loss.detach()) * share, ratios[mask], share, ppo.clip)


def _value_backward(
    models: Models, each: Experience, clip: float, share: float, update: Update
) -> None:
    mask = each.batch.is_response_BR
    predicted = each.batch.unflatten(values(models, each.batch))
    loss = value_loss(predicted, each.values_BR, each.returns_BR, mask, clip)
    (loss * share).backward()
    update.value_loss += float(loss.detach()) * share


def _step(
    optimizer: torch.optim.Adam, parameters: list[nn.Parameter], rate: float, ppo: PpoSettings
) -> float:
    norm = torch.nn.utils.clip_grad_norm_(parameters, ppo.max_grad_norm)
    set_rate(optimizer, rate)
    optimizer.step()
    optimizer.zero_grad()
    return float(norm)


@torch.no_grad()
def _average(models: Models, state: PpoState, decay: float) -> None:
    """Move the averaged policy towards the current one, on adapter tensors only."""
    for key, parameter in models.model.adapter_parameters(models.policy).items():
        state.ema[key].lerp_(parameter, 1 - decay)


def _value_parameters(models: Models) -> list[nn.Parameter]:
    adapter = models.model.adapter_parameters(models.value).values()
    return [*adapter, models.value_head.weight, models.value_head.bias]
