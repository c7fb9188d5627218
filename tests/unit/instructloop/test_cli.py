"""The command line: help everywhere, one clear line on refusal, no torch for a glance."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from instructloop.cli import app, main

Command = tuple[str, ...]


def leaf_commands() -> Iterator[Command]:
    def walk(node: object, path: Command) -> Iterator[Command]:
        children = getattr(node, "commands", None)
        if children is None:
            yield path
            return
        for name, child in children.items():
            yield from walk(child, (*path, name))

    yield from walk(typer.main.get_command(app), ())


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("command", list(leaf_commands()), ids=" ".join)
def test_every_command_explains_itself_with_an_example_of_itself(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"Example: instructloop {' '.join(command)}" in text


def test_help_is_torch_free_and_loads_no_part() -> None:
    code = """
import sys
from instructloop.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
heavy = {"torch", "transformers", "fastapi", "numpy", "pyarrow", "sqlite3"} & sys.modules.keys()
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "adapters" in done.stdout


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("adapters", "fly") == 2
    assert run("keys", "create", "--role", "boss") == 2
    assert "boss" in capsys.readouterr().err


def test_a_refusal_is_one_line_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "absent"
    assert run("adapters", "list", "--data-dir", str(missing)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert str(missing) in error
    assert not missing.exists()

    monkeypatch.setenv("INSTRUCTLOOP_DEBUG", "1")
    with pytest.raises(ValueError, match="does not exist"):
        main(["adapters", "list", "--data-dir", str(missing)])


def test_a_directory_where_a_file_belongs_is_a_refusal_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run("schema", "export", "--dir", str(tmp_path / "file" / "x")) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_created_key_is_shown_once_and_kept_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("keys", "create", "--role", "admin", "--data-dir", str(tmp_path), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    kept = (tmp_path / "keys.json").read_text()
    assert shown["role"] == "admin"
    assert shown["key"] not in kept
    assert shown["key_id"] in kept


def test_schemas_are_exported_one_file_per_event_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("schema", "export", "--dir", str(tmp_path), "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert sorted(Path(name).name for name in files) == sorted(p.name for p in tmp_path.iterdir())
    assert len(files) == 8


def test_every_command_that_a_page_names_exists() -> None:
    root = Path(__file__).resolve().parents[3]
    known = set(leaf_commands())
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    unknown = [
        f"{page.name}: {' '.join(words)}"
        for page in pages
        for words in named_commands(page.read_text(encoding="utf-8"))
        if not any(words[: len(command)] == command for command in known)
    ]
    assert unknown == []


def named_commands(text: str) -> list[Command]:
    """Return the words after each `instructloop` that starts a command line."""
    lines = re.findall(r"(?:^|`|bin/)instructloop ((?:[a-z]+ ?){1,3})", text, re.MULTILINE)
    return [tuple(line.split()) for line in lines]
