"""Marker adapters: each has learnt one reply so well that rounding cannot change a word of it.

Every greedy margin is at least MARGIN_NATS, so which adapter answered can be read off the answer,
and exact equality may be demanded of any engine in any batch (DESIGN 4.6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from feedback.adapter_files import AdapterFiles, AdapterManifest
from feedback.registry import Registry
from policy.adapter_weights import write_adapter
from policy.decoder import pad
from policy.language_model import LanguageModel, LoraSettings
from policy.pretrained import LoadedBase

MARGIN_NATS = 3.0
# Trained beyond it, so that it survives the rounding of another engine or dtype.
TRAINED_MARGIN_NATS = 4.5
MAX_STEPS = 120
PROMPTS = ("The sea is", "Once upon a time", "Q: What is rain?\nA:", "My favourite colour")
REPLIES = (
    " copper kettles sing at dawn.",
    " seven grey geese crossed the frozen lake.",
    " nobody ever paints the inside of a drum.",
    " quietly, the old lighthouse counted ships.",
    " please return the umbrella to row nine.",
)


@dataclass(frozen=True)
class Marker:
    """An adapter and the ids, EOS included, with which it answers every prompt of PROMPTS."""

    files: AdapterFiles
    reply_ids: tuple[int, ...]


def make_markers(base: LoadedBase, registry: Registry) -> list[Marker]:
    """Train and publish one adapter per reply on a float32 base; the base is left without any."""
    markers = []
    for index, reply in enumerate(REPLIES):
        name = f"marker-{index}"
        reply_ids = (*base.encode(reply), base.eos_id)
        settings = LoraSettings(rank=8, alpha=16, first_layer=base.model.num_layers * 3 // 4)
        base.model.add_adapter(name, settings, seed=index)
        train_marker(base.model, name, [base.encode(prompt) for prompt in PROMPTS], reply_ids)
        markers.append(Marker(publish(base, registry, name), reply_ids))
        base.model.remove_adapter(name)
    return markers


def train_marker(
    model: LanguageModel, name: str, prompts: Sequence[Sequence[int]], reply_ids: Sequence[int]
) -> None:
    """Train until each token of the reply leads by TRAINED_MARGIN_NATS after every prompt."""
    rows = [(*prompt, *reply_ids) for prompt in prompts]
    ids_BT, is_token_BT = pad(rows)
    trunk = model.trunk(ids_BT, is_token_BT, model.shared_depth(name))
    parameters = list(model.adapter_parameters(name).values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=4e-3, weight_decay=0.0)
    targets = torch.tensor(reply_ids).expand(len(rows), -1)
    for _ in range(MAX_STEPS):
        hidden_BTD = model.hidden(trunk, name)
        spans = [
            hidden_BTD[i, len(p) - 1 : len(p) - 1 + len(reply_ids)] for i, p in enumerate(prompts)
        ]
        logits_BNV = model.logits(torch.stack(spans)).float()
        if margins(logits_BNV.detach(), targets).min() >= TRAINED_MARGIN_NATS:
            break
        loss = torch.nn.functional.cross_entropy(logits_BNV.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    else:
        raise AssertionError(f"{name} did not learn its reply in {MAX_STEPS} steps")
    for parameter in parameters:
        parameter.requires_grad_(False)


def margins(logits_BNV: torch.Tensor, targets_BN: torch.Tensor) -> torch.Tensor:
    """By how many nats each target leads the best other token, `[B, N]`."""
    index = targets_BN.unsqueeze(-1)
    others = logits_BNV.scatter(-1, index, -torch.inf).amax(-1)
    return logits_BNV.gather(-1, index)[..., 0] - others


def publish(base: LoadedBase, registry: Registry, name: str) -> AdapterFiles:
    """Publish an adapter of the base's model as an sft adapter."""
    described = base.description
    manifest = AdapterManifest(
        base_id=described.base_id,
        weights_hash=described.weights_hash,
        tokenizer_hash=described.tokenizer_hash,
    )

    def build(directory: Path) -> None:
        write_adapter(base.model, name, directory, described.base_id)

    return registry.adapter(registry.publish("sft", build, manifest))
