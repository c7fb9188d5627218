"""The page of commands cannot drift from the --help texts."""

from pathlib import Path

from instructloop.commands_page import commands_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "commands.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == commands_page(), "run `make docs`"
