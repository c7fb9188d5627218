"""A Llama with random weights and a byte tokenizer: real code paths in milliseconds."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from policy.attention import register_attention
from policy.language_model import LanguageModel, LoraSettings

EOS = "<eos>"
SMALL = LoraSettings(rank=4, alpha=8)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One id per byte, then the end-of-sequence token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {EOS: 0} | {character: i + 1 for i, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Pad equals EOS, as in many released tokenizers (CASES D1).
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS)


def tiny_network(seed: int = 0, **changes: Any) -> Any:
    """A Llama of three layers whose random weights are large enough to say something."""
    settings: dict[str, Any] = {
        "vocab_size": 257,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 0,
        # With one, its row would be zero, and tied to the output: EOS could never be likely.
        "pad_token_id": None,
        "tie_word_embeddings": True,
    }
    torch.manual_seed(seed)
    config = LlamaConfig(**(settings | changes), attn_implementation=register_attention())
    return LlamaForCausalLM(config)


def tiny_model(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> LanguageModel:
    return LanguageModel(tiny_network(seed, **changes).to(dtype), byte_tokenizer())


def add_random_adapter(
    model: LanguageModel, name: str, seed: int, settings: LoraSettings = SMALL, scale: float = 0.3
) -> None:
    """Attach an adapter that changes what the model says (a new one has B = 0)."""
    model.add_adapter(name, settings, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    with torch.no_grad():
        for key, parameter in model.adapter_parameters(name).items():
            if ".lora_B." in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def save_tiny_llama(directory: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a Hugging Face directory."""
    tiny_network(seed, **changes).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory
