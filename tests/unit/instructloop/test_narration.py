"""What a newcomer reads: numbered steps, elapsed seconds, news now and then."""

import io
import re

from rich.console import Console

from instructloop.demo.narration import Narrator


def narrator_to(text, **settings):
    return Narrator(Console(file=text, width=100), num_steps=8, **settings)


def test_steps_are_numbered_and_carry_the_seconds():
    text = io.StringIO()
    narrator = narrator_to(text)
    narrator.step("Start")
    narrator.step("Teach")
    lines = text.getvalue().splitlines()
    assert re.fullmatch(r"\[ +\d+ s\] 1/8 Start", lines[0])
    assert re.fullmatch(r"\[ +\d+ s\] 2/8 Teach", lines[1])


def test_brackets_in_a_text_are_text():
    text = io.StringIO()
    narrator_to(text).say("[red]not a colour[/red]")
    assert "[red]not a colour[/red]" in text.getvalue()


def test_without_a_terminal_news_come_as_few_lines_and_never_twice():
    text = io.StringIO()
    with narrator_to(text, quiet_s=0.0).waiting("training") as tell:
        for news in ("", "sft 1/9", "sft 1/9", "sft 2/9"):
            tell(news)
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert lines == ["... training: sft 1/9", "... training: sft 2/9"]


def test_the_conclusion_names_the_paths_that_there_are(tmp_path):
    text = io.StringIO()
    narrator_to(text).conclude("It won.", {"card": tmp_path, "data": None})
    assert "It won." in text.getvalue()
    assert f"card: {tmp_path}" in text.getvalue()
    assert "data" not in text.getvalue().replace(str(tmp_path), "")
