"""A base is found on this machine or refused in a sentence; its hashes depend on content only."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_llama import byte_tokenizer, save_tiny_llama

from policy.base_files import locate_base, template_hash, tokenizer_hash, weights_hash


@pytest.fixture(scope="module")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("bases") / "tiny-llama")


def test_a_directory_is_named_by_its_name_not_its_path(
    tiny_directory: Path, tmp_path: Path
) -> None:
    assert locate_base(str(tiny_directory), tmp_path) == ("tiny-llama", tiny_directory)


@pytest.mark.parametrize("name", ["no-such-thing", "./not/here", "/nor/there", "", "a b/c"])
def test_what_is_no_base_is_refused_without_asking_a_hub(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="base"):
        locate_base(name, tmp_path)


def test_a_hub_id_that_cannot_be_had_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    told: list[str] = []
    with pytest.raises(ValueError, match="give a local directory instead"):
        locate_base("instructloop-tests/there-is-none", tmp_path, told.append)
    assert told


def test_a_directory_without_config_or_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json"):
        locate_base(str(tmp_path), tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="safetensors"):
        locate_base(str(tmp_path), tmp_path)


def test_the_weights_hash_is_the_contents_whatever_the_files(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(2, dtype=torch.bfloat16)}
    hashes = []
    for name, layout in {
        "one": {"model.safetensors": ["a", "b"]},
        "two": {"model-1.safetensors": ["b"], "model-2.safetensors": ["a"]},
    }.items():
        directory = tmp_path / name
        directory.mkdir()
        for file, keys in layout.items():
            save_file({k: tensors[k] for k in keys}, directory / file, metadata={"made": name})
        if name == "two":
            index = '{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors"}}'
            (directory / "model.safetensors.index.json").write_text(index)
        hashes.append(weights_hash(directory, tmp_path / "cache"))
    assert hashes[0] == hashes[1]


def test_any_change_of_a_weight_changes_the_hash_although_it_is_remembered(
    tmp_path: Path,
) -> None:
    file, cache = tmp_path / "model.safetensors", tmp_path / "cache"
    seen = set()
    for tensors in (
        {"a": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"b": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.ones(2, 3)},
    ):
        save_file(tensors, file)
        seen.add(weights_hash(tmp_path, cache))
        seen.add(weights_hash(tmp_path, cache))
    assert len(seen) == 5


def test_the_hash_is_remembered_so_that_later_loads_do_not_read_the_weights(
    tiny_directory: Path, tmp_path: Path
) -> None:
    first = weights_hash(tiny_directory, tmp_path)
    (remembered,) = (tmp_path / "hashes").iterdir()
    remembered.write_text(remembered.read_text().replace(first, "f" * 64))
    assert weights_hash(tiny_directory, tmp_path) == "f" * 64


def test_the_tokenizer_hash_is_about_tokenizing_not_about_its_last_use() -> None:
    tokenizer, used = byte_tokenizer(), byte_tokenizer()
    used(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert tokenizer_hash(used) == tokenizer_hash(tokenizer)
    other = byte_tokenizer()
    other.add_tokens(["<extra>"])
    assert tokenizer_hash(other) != tokenizer_hash(tokenizer)


def test_the_template_hash_tells_templates_apart() -> None:
    plain, chatty = byte_tokenizer(), byte_tokenizer()
    chatty.chat_template = "{{ messages }}"
    assert template_hash(plain) != template_hash(chatty)
    assert template_hash(plain) == template_hash(byte_tokenizer())


def test_the_hashes_survive_saving_and_loading(tmp_path: Path) -> None:
    first = save_tiny_llama(tmp_path / "first")
    save_file(load_file(first / "model.safetensors"), tmp_path / "model.safetensors")
    assert weights_hash(first, tmp_path / "c") == weights_hash(tmp_path, tmp_path / "c")
