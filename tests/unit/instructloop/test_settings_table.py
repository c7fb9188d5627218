"""The settings page cannot drift from the settings."""

from pathlib import Path

from instructloop.settings import known_keys
from instructloop.settings_table import settings_page

PAGE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "run `make docs`"


def test_every_key_has_a_row_and_a_meaning() -> None:
    rows = [line.split(" | ") for line in settings_page().splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == list(known_keys())
    assert all(len(row[-1]) > 10 for row in rows)
