"""The demo's own prompts and demonstrations; knows nothing of how they are answered or judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

USE_CASES = (
    "generation",
    "open_qa",
    "brainstorming",
    "chat",
    "rewrite",
    "summarization",
    "classification",
    "other",
    "closed_qa",
    "extract",
)

_TEMPLATE = "### Request:\n{text}\n\n### Answer:\n"


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One request, as a person wrote it; `use_case` is one of the ten of InstructGPT Table 1."""

    id: str
    use_case: str
    text: str
    is_held_out: bool


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One request with the answer that the guideline asks for; never a held-out request."""

    id: str
    use_case: str
    text: str
    completion: str


def prompt_text(prompt: DemoPrompt | Demonstration) -> str:
    """Wrap a request in the one template of the demo: the exact text that the model continues."""
    return _TEMPLATE.format(text=prompt.text)


def load_prompts(path: Path | None = None) -> list[DemoPrompt]:
    """Read prompts from a JSON Lines file, by default the demo's own.

    Raises:
        ValueError: a line is not a prompt; the message names the line.
    """
    lines = _read("prompts.jsonl") if path is None else path.read_text("utf-8")
    return [_prompt(number, row) for number, row in _rows(lines)]


def load_demonstrations() -> list[Demonstration]:
    """Read the demonstrations that were written to the guideline."""
    return [Demonstration(**row) for _, row in _rows(_read("demonstrations.jsonl"))]


def load_guideline() -> str:
    """Read the guideline that the demonstrations follow, as Markdown."""
    return _read("guideline.md")


def training(prompts: Iterable[DemoPrompt]) -> list[DemoPrompt]:
    """Keep the prompts that may be ranked and trained on."""
    return [prompt for prompt in prompts if not prompt.is_held_out]


def held_out(prompts: Iterable[DemoPrompt]) -> list[DemoPrompt]:
    """Keep the prompts that only the final measurement sees."""
    return [prompt for prompt in prompts if prompt.is_held_out]


def evenly_spaced(prompts: Sequence[DemoPrompt], num_prompts: int) -> list[DemoPrompt]:
    """Take `num_prompts` of the prompts, so that every use case keeps its share; all if fewer."""
    step = max(1.0, len(prompts) / num_prompts)
    return [prompts[int(n * step)] for n in range(min(num_prompts, len(prompts)))]


def _read(name: str) -> str:
    return files("instructloop.demo").joinpath("data", name).read_text("utf-8")


def _rows(lines: str) -> list[tuple[int, dict[str, Any]]]:
    return [(n, json.loads(line)) for n, line in enumerate(lines.splitlines(), 1) if line.strip()]


def _prompt(number: int, row: dict[str, Any]) -> DemoPrompt:
    try:
        prompt = DemoPrompt(**row)
    except TypeError as error:
        raise ValueError(
            f"prompts line {number}: expected id, use_case, text, is_held_out"
        ) from error
    if prompt.use_case not in USE_CASES:
        raise ValueError(f"prompts line {number}: unknown use_case {prompt.use_case!r}")
    return prompt
