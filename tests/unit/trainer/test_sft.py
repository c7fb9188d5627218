"""Fine-tuning learns the answers with their end, from the answers alone, in its adapter alone."""

import hashlib
import math

import pytest
import torch
from tiny_llama import add_random_adapter, tiny_model

from policy.decoder import Decoder
from policy.language_model import LanguageModel, LoraSettings
from trainer.evidence import adapter_hash
from trainer.packing import Transcript
from trainer.progress import silent
from trainer.rollouts import sample_rollouts
from trainer.settings import SftSettings
from trainer.sft import train_sft

EOS = 0
DEMONSTRATIONS = (
    Transcript((70, 71, 72), (10, 11, 12, EOS)),
    Transcript((80, 81), (20, 21, EOS)),
    Transcript((90, 91, 92, 93), (30, 31, 32, 33, EOS)),
    Transcript((60,), (40, EOS)),
)
SETTINGS = SftSettings(epochs=30, batch_size=2, learning_rate=1e-2)


@pytest.fixture
def model() -> LanguageModel:
    model = tiny_model()
    model.add_adapter("sft", LoraSettings(rank=8, alpha=16, first_layer=1), seed=0)
    add_random_adapter(model, "other", 1)
    return model


def train(
    model: LanguageModel, settings: SftSettings = SETTINGS, seed: int = 0
) -> dict[str, float]:
    return train_sft(model, "sft", DEMONSTRATIONS, settings, seed, silent)


def base_hash(model: LanguageModel) -> str:
    hasher = hashlib.sha256(model.unembedding_VD.numpy().tobytes())
    for module in model.linear_modules().values():
        hasher.update(module.weight.numpy().tobytes())  # type: ignore[union-attr]
    return hasher.hexdigest()


def test_the_loss_falls_from_that_of_the_bare_base(model: LanguageModel) -> None:
    reports: list[tuple[int, int, float]] = []

    def report(step: int, num_steps: int, figures: dict[str, float]) -> None:
        reports.append((step, num_steps, figures["sft/loss"]))

    figures = train_sft(model, "sft", DEMONSTRATIONS, SETTINGS, 0, report)
    assert [step for step, _, _ in reports] == list(range(1, 61))
    assert {num_steps for _, num_steps, _ in reports} == {60}
    assert figures["sft/first_loss"] == reports[0][2] > 2
    assert figures["sft/loss"] < 0.3


def test_answers_end_after_training_though_padding_looks_like_the_end(model: LanguageModel) -> None:
    # CASES D1: pad_token is eos_token; batches of two lengths hold real ends beside padding.
    assert model.tokenizer.pad_token_id == model.eos_id == EOS
    train(model)
    answers = sample_rollouts(
        model,
        Decoder(model, max_batch=4, max_positions=32),
        "sft",
        [each.prompt_ids for each in DEMONSTRATIONS],
        max_tokens=10,
        temperature=0,
        seed=0,
    )
    assert [each.transcript for each in answers] == list(DEMONSTRATIONS)
    assert all(each.is_finished for each in answers)


def test_the_loss_is_the_mean_over_response_tokens_alone(model: LanguageModel) -> None:
    figures = train(model, SftSettings(epochs=1, batch_size=4, learning_rate=1e-9))
    total, count = 0.0, 0
    for each in DEMONSTRATIONS:
        ids_BT = torch.tensor([each.ids])
        with torch.no_grad():
            trunk = model.trunk(ids_BT, torch.ones_like(ids_BT, dtype=torch.bool), 0)
            logprobs = model.logits(model.hidden(trunk, None))[0].log_softmax(-1)
        for position in range(len(each.prompt_ids), len(each.ids)):
            total -= float(logprobs[position - 1, each.ids[position]])
            count += 1
    assert figures["sft/loss"] == pytest.approx(total / count, rel=1e-5)


def test_a_demonstration_that_fills_no_batch_is_trained_on_all_the_same() -> None:
    hashes = []
    for last in DEMONSTRATIONS[3], Transcript((61,), (41, EOS)):
        model = tiny_model()
        model.add_adapter("sft", LoraSettings(rank=8, alpha=16, first_layer=1), seed=0)
        demonstrations = [*DEMONSTRATIONS[:3], last]
        train_sft(model, "sft", demonstrations, SftSettings(epochs=1, batch_size=3), 0, silent)
        hashes.append(adapter_hash(model, "sft"))
    assert hashes[0] != hashes[1]


def test_only_the_trained_adapter_changes(model: LanguageModel) -> None:
    base, other, mine = (base_hash(model), adapter_hash(model, "other"), adapter_hash(model, "sft"))
    train(model, SftSettings(epochs=2, batch_size=2))
    assert (base_hash(model), adapter_hash(model, "other")) == (base, other)
    assert adapter_hash(model, "sft") != mine
    parameters = model.adapter_parameters("sft").values()
    assert not any(each.requires_grad or each.grad is not None for each in parameters)


def test_the_seed_decides_the_weights() -> None:
    hashes = []
    for seed in (3, 3, 4):
        model = tiny_model()
        model.add_adapter("sft", LoraSettings(rank=8, alpha=16, first_layer=1), seed=0)
        train(model, SftSettings(epochs=2, batch_size=2), seed)
        hashes.append(adapter_hash(model, "sft"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_without_demonstrations_it_says_what_to_do(model: LanguageModel) -> None:
    with pytest.raises(ValueError, match="no demonstrations to train on: submit some first"):
        train_sft(model, "sft", [], SETTINGS, 0, silent)


def test_training_on_a_bfloat16_base_is_finite_and_learns() -> None:
    model = tiny_model(dtype=torch.bfloat16)
    model.add_adapter("sft", LoraSettings(rank=8, alpha=16, first_layer=1), seed=0)
    figures = train(model, SftSettings(epochs=20, batch_size=4, learning_rate=1e-2))
    assert math.isfinite(figures["sft/loss"])
    assert figures["sft/loss"] < figures["sft/first_loss"] / 2
