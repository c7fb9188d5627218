"""Publishing is all or nothing, whoever publishes at once and whenever the process dies."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from feedback.adapter_files import AdapterManifest, AdapterRefused
from feedback.registry import Registry

MakeAdapter = Callable[..., str]
MANIFEST = AdapterManifest(base_id="tiny", weights_hash="0" * 64, tokenizer_hash="1" * 64)
SPAWN = multiprocessing.get_context("spawn")


def build_large(directory: Path) -> None:
    """Write an adapter of some megabytes, so that a kill can fall into the middle of it."""
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    tensors = {f"t{number}": np.full((64, 1024), number, np.float32) for number in range(16)}
    save_file(tensors, directory / "adapter_model.safetensors")


def publish_large(data_dir: Path) -> str:
    return Registry.open(data_dir).publish("sft", build_large, MANIFEST)


def test_publishing_twice_gives_the_same_id_and_keeps_the_first_manifest(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    first = make_adapter(manifest={"code_version": "1"})
    assert make_adapter(manifest={"code_version": "2"}) == first
    assert registry.adapter(first).manifest.code_version == "1"
    assert registry.list_adapters() == [first]
    assert list(registry.incoming_directory.iterdir()) == []


def test_a_published_adapter_reads_back_with_the_logical_base(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    files = registry.adapter(make_adapter(kind="rm", manifest={"parents": {"init": "x"}}))
    assert files.kind == "rm"
    assert files.config["base_model_name_or_path"] == "tiny-llama"
    assert files.manifest.parents == {"init": "x"}
    assert files.weights_path.is_file()
    assert files.head_path is not None
    assert files.head_path.is_file()
    registry.verify(files.adapter_id)


def test_concurrent_publishes_of_the_same_content_converge(tmp_path: Path) -> None:
    with ProcessPoolExecutor(max_workers=4, mp_context=SPAWN) as pool:
        ids = set(pool.map(publish_large, [tmp_path] * 8))
    registry = Registry.open(tmp_path)
    assert len(ids) == 1
    assert registry.list_adapters() == sorted(ids)
    registry.verify(*ids)
    assert list(registry.incoming_directory.iterdir()) == []


def test_after_kill_9_at_any_moment_nothing_half_written_is_visible(tmp_path: Path) -> None:
    for delay_s in (0.0, 0.005, 0.01, 0.02, 0.04):
        process = SPAWN.Process(target=publish_large, args=(tmp_path,))
        process.start()
        registry = Registry.open(tmp_path)
        deadline = time.monotonic() + 60
        while not list(registry.incoming_directory.iterdir()) and process.is_alive():
            assert time.monotonic() < deadline
        time.sleep(delay_s)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        for path in (tmp_path / "adapters").iterdir():
            registry.verify(path.name)
    registry.verify(publish_large(tmp_path))


def test_what_crashed_publishers_left_is_swept_after_a_day(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    for name, age_s in (("old", 90_000), ("young", 60)):
        left = registry.incoming_directory / name
        left.mkdir()
        (left / "adapter_config.json").write_text("{")
        os.utime(left, (time.time() - age_s,) * 2)
    make_adapter()
    assert [path.name for path in registry.incoming_directory.iterdir()] == ["young"]


@pytest.mark.parametrize(
    "name", ["adapter_model.bin", "pytorch_model.pt", "x.pkl", "code.py", "head.safetensors"]
)
def test_pickles_and_strange_files_are_refused_and_leave_nothing(
    registry: Registry, name: str
) -> None:
    def build(directory: Path) -> None:
        build_large(directory)
        (directory / name).write_bytes(b"\x80\x02.")

    with pytest.raises(AdapterRefused, match="not part of an adapter") as caught:
        registry.publish("sft", build, MANIFEST)
    assert caught.value.reason_code == "not_safetensors"
    assert registry.list_adapters() == []
    assert list(registry.incoming_directory.iterdir()) == []


def test_links_and_folders_are_refused(registry: Registry, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")

    def link(directory: Path) -> None:
        (directory / "adapter_config.json").symlink_to(secret)

    def folder(directory: Path) -> None:
        (directory / "default").mkdir()

    for build in (link, folder):
        with pytest.raises(AdapterRefused):
            registry.publish("sft", build, MANIFEST)


def test_the_model_card_that_peft_writes_is_dropped(registry: Registry) -> None:
    def build(directory: Path) -> None:
        build_large(directory)
        (directory / "README.md").write_text("# card")

    assert registry.publish("sft", build, MANIFEST) == registry.publish(
        "sft", build_large, MANIFEST
    )


def test_a_build_that_fails_leaves_nothing(registry: Registry) -> None:
    def build(directory: Path) -> None:
        (directory / "adapter_config.json").write_text("{}")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        registry.publish("sft", build, MANIFEST)
    assert list(registry.incoming_directory.iterdir()) == []


def test_a_scoring_adapter_without_its_head_is_not_published(registry: Registry) -> None:
    for kind in ("rm", "value"):
        with pytest.raises(AdapterRefused) as caught:
            registry.publish(kind, build_large, MANIFEST)
        assert caught.value.reason_code == "missing_head"


def test_an_unknown_kind_is_refused(registry: Registry) -> None:
    with pytest.raises(ValueError, match="use one of sft"):
        registry.publish("dpo", build_large, MANIFEST)  # type: ignore[arg-type]


def test_publishing_over_a_damaged_copy_says_so(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    path = registry.adapter(make_adapter()).weights_path
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    with pytest.raises(AdapterRefused) as caught:
        make_adapter()
    assert caught.value.reason_code == "hash_mismatch"


def test_an_adapter_without_a_sound_manifest_is_refused(
    registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter()
    manifest = registry.adapter(adapter_id).path / "manifest.json"
    for content in ("{", "{}"):
        manifest.write_text(content)
        with pytest.raises(AdapterRefused, match="damaged"):
            registry.adapter(adapter_id)
    manifest.unlink()
    with pytest.raises(AdapterRefused, match=r"has no manifest\.json"):
        registry.adapter(adapter_id)
