"""One frozen base with many LoRA adapters on it; it does not know decoding, losses or files.

Dims: B sequences, T positions, D hidden size, V vocabulary. `is_token_BT` is True on real tokens;
sequences are right-padded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from torch import Tensor, nn

from policy.attention import answer_positions, causal_mask
from policy.lora import Route, RoutedLinear

ALL_PROJECTIONS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """Shape of a new adapter.

    first_layer: the lowest decoder layer that gets an update. The layers below are the same for
        every adapter, so one pass through them serves policy, reference, reward and value.
    """

    rank: int = 16
    alpha: int = 32
    first_layer: int = 0
    target_modules: tuple[str, ...] = ALL_PROJECTIONS


@dataclass(frozen=True, slots=True)
class Trunk:
    """A batch as it leaves the `depth` lowest layers, which no adapter touches.

    answers_BT: where a row holds several answers to one prompt: 0 on the prompt, 1, 2, ... on the
        answers, -1 on padding. None: a row is one sequence.
    """

    hidden_BTD: Tensor
    is_token_BT: Tensor
    depth: int
    answers_BT: Tensor | None = None


class LanguageModel:
    """A causal language model of the Llama family and the adapters loaded on it."""

    def __init__(self, network: Any, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.config = network.config
        self.route = Route()
        self._network = network.eval()
        self._network.requires_grad_(False)
        self._decoder = network.model
        self._tuner: LoraModel | None = None
        self._first_layers: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the base weights and of the hidden states."""
        dtype: torch.dtype = self._decoder.embed_tokens.weight.dtype
        return dtype

    @property
    def eos_id(self) -> int:
        """The id that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    @property
    def num_layers(self) -> int:
        """How many decoder layers the base has."""
        return len(self._decoder.layers)

    @property
    def unembedding_VD(self) -> Tensor:
        """The weight that turns hidden states into logits."""
        weight: Tensor = self._network.lm_head.weight
        return weight

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters that are loaded now."""
        return tuple(self._first_layers)

    def linear_modules(self) -> dict[str, nn.Module]:
        """The linear layers inside decoder layers, by the name an adapter file uses for them."""
        return {
            name.removesuffix(".base_layer"): module
            for name, module in self._network.named_modules()
            if ".layers." in name and hasattr(module, "weight") and hasattr(module, "in_features")
            if "lora_" not in name and not isinstance(module, RoutedLinear)
        }

    # Adapters

    def add_adapter(self, name: str, settings: LoraSettings, seed: int = 0) -> None:
        """Attach a new adapter whose B is zero, so that the model is unchanged (Hu et al. 2021)."""
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(settings.target_modules),
            layers_to_transform=list(range(settings.first_layer, self.num_layers)),
            layers_pattern="layers",
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
        self.attach(name, config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, parameter in self.adapter_parameters(name).items():
                if ".lora_A." in key:
                    nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)

    def attach(self, name: str, config: LoraConfig) -> None:
        """Attach an adapter of the shape of a PEFT config; one at a time (CASES B11)."""
        if name in self._first_layers:
            raise ValueError(f"adapter {name!r} is already attached")
        config._register_custom_module({nn.Linear: RoutedLinear})
        with self._lock:
            self._inject(name, config)
            for module in self._routed_modules().values():
                module.route = self.route
            parameters = self.adapter_parameters(name)
            self._first_layers[name] = min(_layer_of(key) for key in parameters)
            for parameter in parameters.values():
                parameter.data = parameter.data.float()
                parameter.requires_grad_(False)

    def _inject(self, name: str, config: LoraConfig) -> None:
        if self._tuner is None:
            self._tuner = LoraModel(self._network, {name: config}, name)
            return
        self._tuner.peft_config[name] = config
        try:
            self._tuner.inject_adapter(self._network, name)
        except ValueError:  # no module matches: nothing was attached
            del self._tuner.peft_config[name]
            raise

    def remove_adapter(self, name: str) -> None:
        """Detach an adapter and free its weights."""
        with self._lock:
            del self._first_layers[name]
            assert self._tuner is not None
            self._tuner.delete_adapter(name)

    def adapter_config(self, name: str) -> LoraConfig:
        """The PEFT config an adapter was attached with."""
        assert self._tuner is not None
        return cast("LoraConfig", self._tuner.peft_config[name])

    def adapter_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """An adapter's fp32 parameters by their PEFT file keys, sorted by key."""
        found = {}
        for path, module in self._routed_modules().items():
            for side in ("lora_A", "lora_B"):
                factors = getattr(module, side)
                if name in factors:
                    found[f"base_model.model.{path}.{side}.weight"] = factors[name].weight
        return dict(sorted(found.items()))

    def copy_weights(self, source: str, target: str) -> None:
        """Copy one adapter's weights into another of the same shape."""
        self.set_weights(target, self.adapter_parameters(source))

    def set_weights(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Write weights into an adapter.

        Raises:
            ValueError: if a key is missing, unknown or of another shape; nothing is written then.
        """
        parameters = self.adapter_parameters(name)
        if missing := sorted(parameters.keys() ^ weights.keys()):
            raise ValueError(f"adapter {name!r} and its weights differ in {missing[0]}")
        for key, parameter in parameters.items():
            if parameter.shape != weights[key].shape:
                raise ValueError(
                    f"adapter {name!r}: {key} is {list(weights[key].shape)}, "
                    f"not {list(parameter.shape)}"
                )
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(weights[key])

    def _routed_modules(self) -> dict[str, RoutedLinear]:
        return {
            path: module
            for path, module in self._network.named_modules()
            if isinstance(module, RoutedLinear)
        }

    @contextmanager
    def training(self, *names: str) -> Iterator[None]:
        """Let gradients reach these adapters for the length of the block."""
        parameters = [p for name in names for p in self.adapter_parameters(name).values()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)
                parameter.grad = None

    # Forward passes

    def trunk(
        self, ids_BT: Tensor, is_token_BT: Tensor, depth: int, answers_BT: Tensor | None = None
    ) -> Trunk:
        """Run the first `depth` layers, which must carry no adapter, without gradients.

        answers_BT: as in `Trunk`; a prompt is then computed once for all of its answers.
        """
        with torch.no_grad(), self.route.through(None):
            embedded = Trunk(self._decoder.embed_tokens(ids_BT), is_token_BT, depth, answers_BT)
            hidden = self._run(embedded, 0, depth)
        return Trunk(hidden, is_token_BT, depth, answers_BT)

    def hidden(self, trunk: Trunk, adapter: str | None) -> Tensor:
        """Run the remaining layers under one adapter; `[B, T, D]` after the final norm.

        Raises:
            ValueError: if the adapter updates a layer inside the trunk.
        """
        if adapter is not None and self._first_layers[adapter] < trunk.depth:
            raise ValueError(f"adapter {adapter!r} changes layers below {trunk.depth}")
        with self.route.through(adapter):
            hidden = self._run(trunk, trunk.depth, self.num_layers)
        normed: Tensor = self._decoder.norm(hidden)
        return normed

    def shared_depth(self, *adapters: str | None) -> int:
        """How many of the lowest layers are the bare base under every one of the adapters."""
        depths = [self.num_layers if a is None else self._first_layers[a] for a in adapters]
        return min(depths, default=self.num_layers)

    def logits(self, hidden: Tensor) -> Tensor:
        """Turn hidden states `[..., D]` into logits `[..., V]` in the base's dtype."""
        return nn.functional.linear(hidden, self.unembedding_VD)

    def run_cached(self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Run every layer against a key/value cache under the current route; `[B, T, D]`."""
        hidden = self._decoder.embed_tokens(ids_BT)
        angles = self._decoder.rotary_emb(hidden, position_ids=positions_BT)
        for layer in self._decoder.layers:
            hidden = layer(
                hidden,
                attention_mask=mask,
                position_embeddings=angles,
                past_key_values=cache,
                use_cache=True,
            )
        normed: Tensor = self._decoder.norm(hidden)
        return normed

    def _run(self, trunk: Trunk, start: int, stop: int) -> Tensor:
        hidden, answers = trunk.hidden_BTD, trunk.answers_BT
        if answers is None:
            positions = torch.arange(hidden.shape[1]).unsqueeze(0)
        else:
            positions = answer_positions(answers)
        angles = self._decoder.rotary_emb(hidden, position_ids=positions)
        mask = causal_mask(trunk.is_token_BT, hidden.dtype, answers)
        for layer in self._decoder.layers[start:stop]:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=angles)
        return hidden


def _layer_of(key: str) -> int:
    """Read the decoder layer from a PEFT file key."""
    return int(key.partition(".layers.")[2].partition(".")[0])
