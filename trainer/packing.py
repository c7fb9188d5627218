"""Rows of a forward pass in which the answers to a prompt share it; it does not know any model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")

MAX_TOKENS_PER_PASS = 1024
"""Padded tokens of one forward and backward pass; larger ones only pad more on two cores."""

MAX_TOKENS_PER_LINE = 256
"""A prompt and the answers that share its row: attention's part grows with the row's length."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Token ids of one prompt and one response; the response's last id is EOS if it finished."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and response together."""
        return self.prompt_ids + self.response_ids


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a pass: a prompt, then its answers one behind the other.

    rows: which transcripts the answers are of.
    spans: where each answer begins and ends in `ids`.
    """

    rows: tuple[int, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return self.spans[0][0]

    def joined(self, row: int, response_ids: tuple[int, ...]) -> Line:
        """Return the line with one more answer."""
        ids = self.ids + response_ids
        return Line((*self.rows, row), ids, (*self.spans, (len(self.ids), len(ids))))


def lay_out(transcripts: Sequence[Transcript], rows: Sequence[int]) -> list[Line]:
    """Lay answers to the same prompt into lines of at most MAX_TOKENS_PER_LINE tokens.

    One answer that is longer by itself has a line of its own.
    """
    lines: list[Line] = []
    open_line: dict[tuple[int, ...], int] = {}
    for row in rows:
        prompt_ids, response_ids = transcripts[row].prompt_ids, transcripts[row].response_ids
        at = open_line.get(prompt_ids)
        if at is None or len(lines[at].ids) + len(response_ids) > MAX_TOKENS_PER_LINE:
            at = open_line[prompt_ids] = len(lines)
            lines.append(Line((), prompt_ids, ()))
        lines[at] = lines[at].joined(row, response_ids)
    return lines


def passes(items: Iterable[Item], width: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Group items into passes of at most MAX_TOKENS_PER_PASS padded tokens, narrow ones first.

    Args:
        items: are never divided; one that is wider than a pass has a pass of its own.
        width: tokens of an item.
    """
    group: list[Item] = []
    for item in sorted(items, key=width):
        if group and width(item) * (len(group) + 1) > MAX_TOKENS_PER_PASS:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def number_answers(lines: Sequence[Line], is_token_BT: Tensor) -> Tensor | None:
    """Return `[B, T]`: 0 on prompts, 1, 2, ... on a line's answers, -1 on padding.

    None where no line has two answers: it is one sequence then.
    """
    if all(len(line.rows) == 1 for line in lines):
        return None
    answers_BT = torch.where(is_token_BT, 0, -1)
    for i, line in enumerate(lines):
        for number, (start, stop) in enumerate(line.spans, start=1):
            answers_BT[i, start:stop] = number
    return answers_BT


def response_indices(lines: Sequence[Line], width: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Find each transcript's response among the flat positions `[lines * width]`.

    Returns:
        By transcript: the positions of its response tokens, and those that predict them. The first
        is predicted by the prompt's last token, which all answers share.
    """
    found = {}
    for i, line in enumerate(lines):
        for row, (start, stop) in zip(line.rows, line.spans, strict=True):
            own = i * width + torch.arange(start, stop)
            before = own - 1
            before[0] = i * width + line.prompt_length - 1
            found[row] = (own, before)
    return found
