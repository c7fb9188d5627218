"""`instructloop adapters`: facts as JSON, channels move with proof only, damage is found."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feedback.registry import Registry
from instructloop.cli import main

MakeAdapter = Callable[..., str]
Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def command(registry: Registry, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `adapters ...` on the registry; return the status and the JSON, or the error line."""

    def run(*arguments: str) -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["adapters", *arguments, "--json", "--data-dir", str(registry.data_dir)])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, json.loads(out) if out else err

    return run


def test_the_list_says_which_channel_serves_what(
    command: Command, registry: Registry, make_adapter: MakeAdapter
) -> None:
    first, second = make_adapter(seed=1), make_adapter(seed=2)
    registry.promote("stable", second, "test", "better")
    status, rows = command("list")
    assert status == 0
    assert {row["adapter_id"]: row["channels"] for row in rows} == {first: [], second: ["stable"]}


def test_show_tells_provenance_and_verdicts(
    command: Command, registry: Registry, make_adapter: MakeAdapter
) -> None:
    adapter_id = make_adapter(manifest={"snapshot_id": "snapshot-1", "seeds": {"sft": 11}})
    registry.write_verdict(adapter_id, "offline", {"passed": True, "win_rate": 0.7})
    status, facts = command("show", adapter_id)
    assert status == 0
    assert (facts["snapshot_id"], facts["seeds"]) == ("snapshot-1", {"sft": 11})
    assert facts["verdicts"] == {"offline": {"passed": True, "win_rate": 0.7}}


def test_promote_and_rollback_move_a_channel_and_leave_a_history(
    command: Command, registry: Registry, make_adapter: MakeAdapter
) -> None:
    base_id, adapter_id = registry.current("stable").adapter_id, make_adapter()
    assert command("promote", "stable", adapter_id, "--reason", "better")[0] == 0
    assert registry.current("stable").adapter_id == adapter_id
    assert command("rollback", "stable", "--reason", "too long", "--by", "ann")[0] == 0
    _, entries = command("history", "stable")
    assert [entry["adapter_id"] for entry in entries] == [base_id, adapter_id, base_id]
    assert (entries[-1]["by"], entries[-1]["reason"]) == ("ann", "rollback: too long")


def test_a_promotion_without_proof_is_refused_and_the_incumbent_stays(
    command: Command, registry: Registry, make_adapter: MakeAdapter
) -> None:
    incumbent = registry.current("stable")
    status, error = command("promote", "candidate", make_adapter(), "--reason", "please")
    assert status == 1
    assert "verdict" in error
    assert command("promote", "stable", "ppo-0000000000000000", "--reason", "x")[0] == 1
    assert registry.current("stable") == incumbent


def test_an_adapter_trained_elsewhere_is_published_under_its_hash(
    command: Command, registry: Registry, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    known = make_adapter()
    saved_by_peft = tmp_path / "peft"
    saved_by_peft.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(registry.adapter(known).path / name, saved_by_peft)
    assert command("publish", str(saved_by_peft), "--kind", "sft") == (0, {"adapter_id": known})


@pytest.mark.parametrize("kind", ["sft", "lora"])
def test_pickles_and_unknown_kinds_are_not_published(
    command: Command, registry: Registry, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    status, error = command("publish", str(tmp_path), "--kind", kind)
    assert status == 1
    assert error.startswith("error: ")
    assert registry.list_adapters() == []


def test_verify_finds_the_one_that_changed(
    command: Command, registry: Registry, make_adapter: MakeAdapter
) -> None:
    sound, damaged = make_adapter(seed=1), make_adapter(seed=2)
    weights = registry.adapter(damaged).weights_path
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    status, rows = command("verify")
    assert status == 1
    assert {row["adapter_id"]: row["is_intact"] for row in rows} == {sound: True, damaged: False}
    assert command("verify", sound)[0] == 0


def test_people_read_a_table(
    registry: Registry, make_adapter: MakeAdapter, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter_id = make_adapter()
    with pytest.raises(SystemExit):
        main(["adapters", "list", "--data-dir", str(registry.data_dir)])
    assert adapter_id in capsys.readouterr().out
