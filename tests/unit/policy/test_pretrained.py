"""A base is loaded as described, and refused where our forward would not be its own."""

from pathlib import Path

import pytest
import torch
from tiny_llama import byte_tokenizer, save_tiny_llama, tiny_network
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from policy.pretrained import LoadedBase, load_language_model, resolve_dtype

SMALL = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def load(directory: Path, dtype: str = "float32") -> LoadedBase:
    return load_language_model(str(directory), dtype, cache=directory.parent / "cache")  # type: ignore[arg-type]


def saved(network: torch.nn.Module, directory: Path) -> Path:
    network.save_pretrained(directory)  # type: ignore[operator]
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_is_described_by_its_contents(tmp_path: Path, dtype: str) -> None:
    base = load(save_tiny_llama(tmp_path / "tiny"), dtype)
    described = base.description
    assert str(base.model.dtype) == f"torch.{dtype}"
    assert (described.base_id, described.architecture) == ("tiny", "LlamaForCausalLM")
    assert (described.num_layers, described.hidden_size, described.vocab_size) == (3, 32, 257)
    assert described.context_length == 256
    assert described.modules["model.layers.2.self_attn.k_proj"] == (16, 32)
    assert described.adapter_id == f"base-{described.weights_hash[:16]}"


def test_the_description_does_not_depend_on_path_dtype_or_adapters(tmp_path: Path) -> None:
    one = load(save_tiny_llama(tmp_path / "a" / "tiny"))
    other = load(save_tiny_llama(tmp_path / "b" / "tiny"), "bfloat16")
    assert one.description == other.description
    changed = load(save_tiny_llama(tmp_path / "c" / "tiny", seed=1))
    assert one.description.differences(changed.description) == ["weights_hash"]


def test_text_goes_to_ids_and_back_and_broken_characters_show(tmp_path: Path) -> None:
    base = load(save_tiny_llama(tmp_path / "tiny"))
    ids = base.encode("Grüße 😀")
    assert base.decode(ids) == "Grüße 😀"
    assert base.decode(ids[:-1]).endswith("\ufffd")
    assert base.decode([*ids, base.eos_id]) == "Grüße 😀"
    assert base.decode(base.encode("lone \ud800 surrogate")) == "lone ? surrogate"
    assert base.stop_ids == {base.eos_id} == {0}


@pytest.mark.parametrize(
    "network",
    [
        lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
        lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL)),
        lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=None)),
        lambda: tiny_network(tie_word_embeddings=False, rope_parameters=YARN),
    ],
)
def test_relatives_of_llama_are_computed_exactly(tmp_path: Path, network) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    assert load(saved(network(), tmp_path / "base")).description.num_layers in (2, 3)


YARN = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}


@pytest.mark.parametrize(
    "network",
    [
        lambda: Gemma2ForCausalLM(Gemma2Config(**SMALL)),  # scaled embeddings, capped logits
        lambda: GraniteForCausalLM(GraniteConfig(**SMALL, embedding_multiplier=3.0)),
        lambda: GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=32, n_layer=2, n_head=4)),
    ],
)
def test_an_architecture_we_would_compute_wrongly_is_refused_by_name(
    tmp_path: Path, network
) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    built = network()
    with pytest.raises(ValueError, match=type(built).__name__):
        load(saved(built, tmp_path / "base"))


def test_a_sliding_window_bounds_the_context_in_which_we_are_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MistralForCausalLM(MistralConfig(**SMALL, sliding_window=96))
    assert load(saved(network, tmp_path / "base")).description.context_length == 96


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    directory = save_tiny_llama(tmp_path / "base")
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(directory)
    with pytest.raises(ValueError, match="end-of-sequence"):
        load(directory)


def test_auto_takes_one_of_the_two_and_a_name_is_taken_at_its_word() -> None:
    assert resolve_dtype("auto") in (torch.float32, torch.bfloat16)
    assert resolve_dtype("float32") == torch.float32
    assert resolve_dtype("bfloat16") == torch.bfloat16
