"""Load a base model and say exactly which one it is; it does not know adapters or requests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from feedback.base_description import BaseDescription
from policy import base_files
from policy.attention import register_attention
from policy.gguf import Tell, tell_on_stderr
from policy.language_model import LanguageModel

DtypeName = Literal["auto", "float32", "bfloat16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# bfloat16 costs accuracy, so it must pay: AMX machines measure 2 to 5 (docs/LOG.md).
MIN_BFLOAT16_SPEEDUP = 1.3
# In nats: rounding alone stays below these; a layer computed wrongly is off by whole nats.
MAX_MEAN_DIFFERENCE = {torch.float32: 1e-4, torch.bfloat16: 0.25}
PROBE = "The capital of France is Paris. 2 + 2 = 4, and the sea is blue because of the sky."


@dataclass(frozen=True, slots=True)
class LoadedBase:
    """A base ready for adapters.

    eos_id: the id that ends an answer in training; stop_ids: all ids that end one in decoding.
    """

    model: LanguageModel
    description: BaseDescription
    eos_id: int
    stop_ids: frozenset[int]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a prompt, with the special tokens that the base expects first."""
        clean = text.encode("utf-8", errors="replace").decode()
        fast = getattr(self.model.tokenizer, "backend_tokenizer", None)
        # Calling the wrapper may set padding on it: not safe beside a thread that decodes.
        ids = fast.encode(clean).ids if fast is not None else self.model.tokenizer(clean).input_ids
        return list(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens have none, half a character is U+FFFD."""
        text: str = self.model.tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def load_language_model(
    base: str = base_files.DEFAULT_BASE,
    dtype: DtypeName = "auto",
    *,
    cache: Path | None = None,
    tell: Tell = tell_on_stderr,
) -> LoadedBase:
    """Load a base, check that we compute it as transformers does, and describe it.

    Args:
        base: `smollm2`, a Hugging Face directory, a GGUF file or a hub id. A directory is never
            looked up on a hub.
        dtype: of the weights; `auto` measures whether bfloat16 is faster on this machine.
        cache: where conversions and hashes are kept, `cache_directory()` by default.
        tell: gets a line of progress when something takes long.

    Raises:
        ValueError: if there is no such base, or its architecture is not one we compute exactly.
    """
    cache = cache or base_files.cache_directory()
    base_id, directory = base_files.locate_base(base, cache, tell)
    with _quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        network = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=resolve_dtype(dtype),
            attn_implementation=register_attention(),
            local_files_only=True,
        )
    _require_layers(network)
    model = LanguageModel(network, tokenizer)
    stop_ids = _stop_ids(network, tokenizer)
    weights_hash = base_files.weights_hash(directory, cache)
    loaded = LoadedBase(
        model, describe(base_id, weights_hash, model, network), tokenizer.eos_token_id, stop_ids
    )
    require_same_forward(model, network, loaded.encode(PROBE))
    return loaded


def describe(
    base_id: str, weights_hash: str, model: LanguageModel, network: Any
) -> BaseDescription:
    """Describe a loaded base."""
    config = network.config
    # Layers that look back over a window see all of it only up to the window's length.
    window = getattr(config, "sliding_window", None) or config.max_position_embeddings
    return BaseDescription(
        base_id=base_id,
        weights_hash=weights_hash,
        tokenizer_hash=base_files.tokenizer_hash(model.tokenizer),
        template_hash=base_files.template_hash(model.tokenizer),
        architecture=type(network).__name__,
        num_layers=model.num_layers,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        context_length=min(config.max_position_embeddings, window),
        modules={
            name: (module.out_features, module.in_features)
            for name, module in model.linear_modules().items()
        },
    )


def require_same_forward(model: LanguageModel, network: Any, ids: Sequence[int]) -> None:
    """Compare our layer-by-layer forward with the network's own under transformers' attention.

    Raises:
        ValueError: if they differ by more than rounding: the architecture does something between
            its layers (a scale, a cap, a second norm) that we would leave out silently.
    """
    ids_BT = torch.tensor([list(ids)])
    is_token_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    with torch.inference_mode():
        ours = model.logits(model.hidden(model.trunk(ids_BT, is_token_BT, 0), None))
        ours_logprobs, reference = _logprobs(ours), _logprobs(_reference_logits(network, ids_BT))
    difference = float((ours_logprobs - reference).abs().mean())
    # Not ">": NaN must be refused too.
    if not difference <= MAX_MEAN_DIFFERENCE[model.dtype]:
        raise ValueError(
            f"{type(network).__name__} is not computed exactly by this version (log-probabilities "
            f"differ by {difference:.3g} on average): use a base of the Llama family"
        )


def _reference_logits(network: Any, ids_BT: Tensor) -> Tensor:
    network.set_attn_implementation("eager")
    try:
        logits: Tensor = network(input_ids=ids_BT, use_cache=False).logits
    finally:
        network.set_attn_implementation(register_attention())
    return logits


def _logprobs(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.float(), dim=-1)


def resolve_dtype(name: DtypeName) -> torch.dtype:
    """Return the named dtype; for `auto` the faster of the two, float32 unless it clearly loses."""
    if name != "auto":
        return _DTYPES[name]
    slow, fast = (_matmul_seconds(dtype) for dtype in (torch.float32, torch.bfloat16))
    return torch.bfloat16 if slow / fast >= MIN_BFLOAT16_SPEEDUP else torch.float32


def _matmul_seconds(dtype: torch.dtype) -> float:
    """Time one product of a decode batch and a layer's weight, the best of several."""
    left, right = torch.ones(64, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        times.append(time.perf_counter() - start)
    return min(times)


def _require_layers(network: Any) -> None:
    decoder = getattr(network, "model", None)
    parts = ("embed_tokens", "layers", "rotary_emb", "norm")
    if not all(hasattr(decoder, part) for part in parts) or not hasattr(network, "lm_head"):
        raise ValueError(
            f"{type(network).__name__} is not built of embedding, layers, norm and head as the "
            "Llama family is: use a base of that family"
        )


def _stop_ids(network: Any, tokenizer: Any) -> frozenset[int]:
    if tokenizer.eos_token_id is None:
        raise ValueError("the base's tokenizer has no end-of-sequence token: set eos_token in it")
    declared = getattr(network.generation_config, "eos_token_id", None)
    several = declared if isinstance(declared, list) else [declared]
    return frozenset({tokenizer.eos_token_id, *several} - {None})


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Leave the terminal to our own progress lines."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()
