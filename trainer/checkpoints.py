"""Save a PPO run after every iteration and take it up again; it does not know how PPO works.

The file holds tensors only and is replaced atomically: a kill leaves the last whole iteration.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from feedback.durable_files import replace_file
from trainer.experience import Models
from trainer.ppo import PpoState


def save_checkpoint(path: Path, models: Models, state: PpoState) -> None:
    """Write adapters, head, optimisers, average and history so far."""
    content: dict[str, Any] = {
        "policy": models.model.adapter_parameters(models.policy),
        "value": models.model.adapter_parameters(models.value),
        "value_head": models.value_head.state_dict(),
        "ema": state.ema,
        "policy_optimizer": state.policy_optimizer.state_dict(),
        "value_optimizer": state.value_optimizer.state_dict(),
        "iteration": state.iteration,
        "history": state.history,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    replace_file(path, buffer.getvalue())


def restore_checkpoint(path: Path, models: Models, state: PpoState) -> None:
    """Bring models and state to where `path` was saved; do nothing if it does not exist.

    Only tensors and plain values are unpickled, whatever the file holds.
    """
    if not path.is_file():
        return
    content = torch.load(path, weights_only=True)
    models.model.set_weights(models.policy, content["policy"])
    models.model.set_weights(models.value, content["value"])
    models.value_head.load_state_dict(content["value_head"])
    state.ema = content["ema"]
    state.policy_optimizer.load_state_dict(content["policy_optimizer"])
    state.value_optimizer.load_state_dict(content["value_optimizer"])
    state.iteration = content["iteration"]
    state.history = content["history"]
