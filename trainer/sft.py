"""Supervised fine-tuning on demonstrations (InstructGPT section 3.5, appendix C.1 and C.3).

It trains both the evaluation baseline (`sft`, many epochs) and the start of PPO (`init`, two
epochs); the caller decides which by the settings.

Deviations from the paper: 1. only the adapter trains; 2. loss on the response only (the paper does
not say); 3. no dropout, since LoRA at these ranks does not need the paper's residual 0.2;
4. `init` mixes in no pretraining data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from policy.language_model import LanguageModel
from policy.logprobs import chosen_logprobs
from trainer.optimizer import adam, cosine_to_tenth, set_rate
from trainer.packing import Transcript
from trainer.progress import Report
from trainer.settings import SftSettings
from trainer.transcripts import TranscriptSet, dealt, shuffled


def train_sft(
    model: LanguageModel,
    adapter: str,
    transcripts: Sequence[Transcript],
    settings: SftSettings,
    seed: int,
    report: Report,
) -> dict[str, float]:
    """Train `adapter` to continue each prompt with its response and EOS; return its figures.

    Raises:
        ValueError: without a demonstration there is nothing to learn from.
    """
    if not transcripts:
        raise ValueError("there are no demonstrations to train on: submit some first")
    data = TranscriptSet(model, transcripts, model.shared_depth(adapter))
    parameters = list(model.adapter_parameters(adapter).values())
    optimizer = adam(parameters, settings.learning_rate)
    num_steps = settings.epochs * math.ceil(len(data) / settings.batch_size)
    losses: list[float] = []
    with model.training(adapter):
        for epoch in range(settings.epochs):
            for rows in dealt(shuffled(len(data), seed, epoch), settings.batch_size):
                rate = settings.learning_rate * cosine_to_tenth(len(losses), num_steps)
                set_rate(optimizer, rate)
                losses.append(_accumulate(model, adapter, data, rows))
                torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
                report(len(losses), num_steps, {"sft/loss": losses[-1]})
    tail = losses[-max(1, len(losses) // settings.epochs) :]
    return {"sft/first_loss": losses[0], "sft/loss": sum(tail) / len(tail)}


def _accumulate(
    model: LanguageModel, adapter: str, data: TranscriptSet, rows: Sequence[int]
) -> float:
    """Add the gradients of the mean loss per response token of these rows; return that loss."""
    num_tokens = sum(len(data.transcripts[row].response_ids) for row in rows)
    total = 0.0
    for batch in data.batches(rows):
        hidden = batch.at_predictions(model.hidden(batch.trunk, adapter))
        logprobs = chosen_logprobs(hidden, model.unembedding_VD, batch.response_ids_N)
        loss = -logprobs.sum() / num_tokens
        loss.backward()
        total += float(loss.detach())
    return total
