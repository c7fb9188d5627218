"""A preset is found by its name; `paper` holds the numbers that the paper publishes."""

from typing import get_args

import pytest
from pydantic import ValidationError

from trainer.presets import PRESETS, PresetName, preset
from trainer.refresh_settings import RefreshSettings
from trainer.settings import PpoSettings, SftSettings


def test_every_name_has_settings_and_default_means_the_defaults() -> None:
    assert set(PRESETS) == set(get_args(PresetName))
    assert all(preset(name) is PRESETS[name] for name in PRESETS)
    assert preset("default") == RefreshSettings()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fast' is unknown: use one of default, demo, quick, pap"):
        preset("fast")


def test_paper_holds_the_published_numbers() -> None:
    paper = preset("paper")
    # Appendix C.1, C.2 and C.4 of Ouyang et al. 2022.
    assert (paper.sft.epochs, paper.sft.batch_size) == (16, 32)
    assert paper.init.epochs == 2
    assert (paper.reward.epochs, paper.reward.batch_size) == (1, 64)
    ppo = paper.ppo
    assert ppo.iterations * ppo.batch_size == 256_000
    assert (ppo.batch_size, ppo.minibatch_size, ppo.kl_coefficient) == (512, 64, 0.02)
    assert (ppo.clip, ppo.gamma, ppo.temperature) == (0.2, 1.0, 1.0)
    assert (ppo.warm_up_iterations, ppo.ema_decay) == (10, 0.992)


def test_quick_does_less_of_everything_than_demo() -> None:
    quick, demo = preset("quick"), preset("demo")
    assert quick.sft.epochs <= demo.sft.epochs
    episodes = [each.ppo.iterations * each.ppo.batch_size for each in (quick, demo)]
    assert episodes[0] < episodes[1]
    assert quick.shape.trained_share <= demo.shape.trained_share


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RefreshSettings, {"learning_rate": 1e-4}),
        (PpoSettings, {"beta": 0.1}),
        (PpoSettings, {"batch_size": 1}),
        (PpoSettings, {"temperature": 0}),
        (PpoSettings, {"batch_size": 9, "samples_per_prompt": 2}),
        (SftSettings, {"epochs": 0}),
    ],
)
def test_unknown_and_impossible_settings_are_refused(kind: type, values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        kind(**values)
