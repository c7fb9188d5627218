"""A run that goes on from its file ends bit by bit where an uninterrupted one does."""

import pickle
from pathlib import Path

import pytest
import torch
from tiny_ppo import SHORT, TinyPpo

from trainer import ppo
from trainer.checkpoints import restore_checkpoint, save_checkpoint
from trainer.evidence import adapter_hash


class Killed(Exception):
    """Stands for the end of the process after an iteration was saved."""


def outcome(tiny: TinyPpo, state: ppo.PpoState) -> tuple[object, ...]:
    models = tiny.models
    average = {key: value.tolist() for key, value in state.ema.items()}
    head = [each.tolist() for each in models.value_head.state_dict().values()]
    hashes = [adapter_hash(models.model, name) for name in ("policy", "value", "init", "rm")]
    return hashes, head, average, state.history, state.iteration


@pytest.mark.parametrize("num_saved", [1, 2, 4])
def test_going_on_after_any_iteration_changes_nothing(tmp_path: Path, num_saved: int) -> None:
    path = tmp_path / "ppo.pt"
    whole = TinyPpo.new()
    expected = outcome(whole, whole.train())
    killed = TinyPpo.new()

    def save(state: ppo.PpoState) -> None:
        save_checkpoint(path, killed.models, state)
        if state.iteration == num_saved:
            raise Killed

    with pytest.raises(Killed):
        killed.train(save=save)
    resumed = TinyPpo.new()
    state = ppo.begin(resumed.models, SHORT)
    restore_checkpoint(path, resumed.models, state)
    assert state.iteration == num_saved
    assert outcome(resumed, resumed.train(state=state)) == expected
    assert len(resumed.policies) == SHORT.value_iterations + SHORT.iterations - num_saved


def test_without_a_file_nothing_is_restored(tmp_path: Path) -> None:
    tiny = TinyPpo.new()
    state = ppo.begin(tiny.models, SHORT)
    before = outcome(tiny, state)
    restore_checkpoint(tmp_path / "none.pt", tiny.models, state)
    assert outcome(tiny, state) == before


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ppo.pt"
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    torch.save({"policy": Bomb()}, path)
    tiny = TinyPpo.new()
    with pytest.raises(pickle.UnpicklingError):
        restore_checkpoint(path, tiny.models, ppo.begin(tiny.models, SHORT))
    assert not ran.exists()
