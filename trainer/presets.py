"""Named settings of a refresh; each says what it is for. It does not know how they are used."""

from __future__ import annotations

from typing import Literal, get_args

from trainer.gate_settings import GateSettings
from trainer.refresh_settings import RefreshSettings
from trainer.settings import AdapterShape, PpoSettings, RewardSettings, SftSettings

PresetName = Literal["default", "demo", "quick", "paper"]

PRESETS: dict[PresetName, RefreshSettings] = {
    # A data directory with thousands of votes and some hours of one machine.
    "default": RefreshSettings(),
    # Fixed work for two CPU cores in a quarter of an hour; docs/LOG.md says how it was tuned.
    "demo": RefreshSettings(
        shape=AdapterShape(trained_share=0.4),
        sft=SftSettings(epochs=8, batch_size=8),
        init=SftSettings(epochs=4, batch_size=4),
        # Few votes need many steps: docs/LOG.md, "The reward model decides".
        reward=RewardSettings(read_out="last_and_mean", epochs=2, batch_size=2, learning_rate=1e-3),
        ppo=PpoSettings(
            iterations=6,
            batch_size=96,
            minibatch_size=24,
            samples_per_prompt=2,
            kl_coefficient=0.1,
            value_epochs=2,
            learning_rate=8e-4,
            value_learning_rate=1e-3,
            warm_up_iterations=1,
            missing_eos_penalty=0.5,
            max_response_tokens=32,
        ),
        gate=GateSettings(max_prompts=40),
    ),
    # The whole path in a few minutes, for CI and a first look; proves nothing about quality.
    "quick": RefreshSettings(
        shape=AdapterShape(trained_share=0.2),
        sft=SftSettings(epochs=3, batch_size=8),
        init=SftSettings(epochs=2, batch_size=4),
        reward=RewardSettings(read_out="last_and_mean", batch_size=2, learning_rate=1e-3),
        ppo=PpoSettings(
            iterations=3,
            value_iterations=1,
            value_epochs=1,
            batch_size=16,
            minibatch_size=8,
            warm_up_iterations=1,
            max_response_tokens=32,
        ),
        max_prompt_tokens=128,
    ),
    # The paper's numbers where they are published (spec section 0), LoRA rates aside.
    "paper": RefreshSettings(
        shape=AdapterShape(trained_share=1.0),
        sft=SftSettings(epochs=16, batch_size=32),
        init=SftSettings(epochs=2, batch_size=32),
        reward=RewardSettings(batch_size=64),
        ppo=PpoSettings(iterations=500, batch_size=512, minibatch_size=64, warm_up_iterations=10),
    ),
}


def preset(name: str) -> RefreshSettings:
    """Return the settings of a name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    if name not in PRESETS:
        known = ", ".join(get_args(PresetName))
        raise ValueError(f"preset {name!r} is unknown: use one of {known}")
    return PRESETS[name]
