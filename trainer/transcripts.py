"""Prompts with responses as padded batches over a shared trunk; it does not know any loss.

Dims: B transcripts, L rows of a pass (a prompt with one answer or more), T positions of such a row,
R response positions, N real response tokens of the whole batch in order, D hidden size. Batches are
right-padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from policy.decoder import pad
from policy.language_model import LanguageModel, Trunk

MAX_TOKENS_PER_PASS = 1024
"""Padded tokens of one forward and backward pass; larger ones only pad more on two cores."""

MAX_TOKENS_PER_LINE = 256
"""A prompt and the answers that share its row: attention's part grows with the row's length."""

MAX_CACHED_TOKENS = 500_000
"""Trunk states kept between passes: 576 values of 2 bytes each are 576 MB for this many tokens."""


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
class Batch:
    """Some transcripts after the shared layers, and where their responses lie.

    rows: which transcripts, `[B]`.
    before_N, last_B: flat indices into `[L * T]` of the position that predicts each response token,
        and of the last response token.
    """

    rows: tuple[int, ...]
    trunk: Trunk
    response_ids_N: Tensor
    before_N: Tensor
    last_B: Tensor
    is_response_BR: Tensor

    def at_predictions(self, hidden_LTD: Tensor) -> Tensor:
        """Pick the states that predict the response tokens, `[N, D]`."""
        return hidden_LTD.flatten(0, 1)[self.before_N]

    def at_last(self, hidden_LTD: Tensor) -> Tensor:
        """Pick the states of the last response tokens, `[B, D]`."""
        return hidden_LTD.flatten(0, 1)[self.last_B]

    def unflatten(self, values_N: Tensor) -> Tensor:
        """Lay `[N]` values out as `[B, R]`, 0 on padding; differentiable."""
        laid = torch.zeros(self.is_response_BR.shape, dtype=values_N.dtype)
        return laid.masked_scatter(self.is_response_BR, values_N)


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of a pass: a prompt, then its answers one behind the other.

    starts: where each answer begins in `ids`.
    """

    rows: tuple[int, ...]
    ids: tuple[int, ...]
    starts: tuple[int, ...]

    def joined(self, row: int, transcript: Transcript) -> _Line:
        """Return the line with one more answer."""
        ids = self.ids + transcript.response_ids
        return _Line((*self.rows, row), ids, (*self.starts, len(self.ids)))


class TranscriptSet:
    """Transcripts whose states below the first adapted layer are computed once and kept.

    Answers to one prompt lie in one row of a pass, so that the prompt is computed once for all.
    """

    def __init__(self, model: LanguageModel, transcripts: Sequence[Transcript], depth: int) -> None:
        self.transcripts = list(transcripts)
        self._model, self._depth = model, depth
        self._kept: dict[int, Tensor] = {}
        self._num_kept_tokens = 0

    def __len__(self) -> int:
        return len(self.transcripts)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Build the batch of these transcripts, in this order."""
        return self._build(rows, self._lines(rows))

    def batches(self, rows: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of similar lengths that fit one pass each."""
        group: list[_Line] = []
        for line in sorted(self._lines(rows), key=lambda line: (len(line.ids), line.rows)):
            if group and len(line.ids) * (len(group) + 1) > MAX_TOKENS_PER_PASS:
                yield self._build(_rows_of(group), group)
                group = []
            group.append(line)
        if group:
            yield self._build(_rows_of(group), group)

    def _lines(self, rows: Sequence[int]) -> list[_Line]:
        """Lay answers to the same prompt into lines of at most MAX_TOKENS_PER_LINE."""
        lines: list[_Line] = []
        open_line: dict[tuple[int, ...], int] = {}
        for row in rows:
            transcript = self.transcripts[row]
            at = open_line.get(transcript.prompt_ids)
            if at is None or (
                len(lines[at].ids) + len(transcript.response_ids) > MAX_TOKENS_PER_LINE
            ):
                at = open_line[transcript.prompt_ids] = len(lines)
                lines.append(_Line((), transcript.prompt_ids, ()))
            lines[at] = lines[at].joined(row, transcript)
        return lines

    def _build(self, rows: Sequence[int], lines: Sequence[_Line]) -> Batch:
        ids_BT, is_token_BT = pad([line.ids for line in lines])
        answers_BT = self._answers(lines, is_token_BT)
        trunk = self._trunk(lines, ids_BT, is_token_BT, answers_BT)
        return self._locate(tuple(rows), lines, trunk, ids_BT)

    def _answers(self, lines: Sequence[_Line], is_token_BT: Tensor) -> Tensor | None:
        """Number the answers of each line; None where no line has two."""
        if all(len(line.rows) == 1 for line in lines):
            return None
        answers_BT = torch.where(is_token_BT, 0, -1)
        for i, line in enumerate(lines):
            for number, (start, stop) in enumerate(self._spans(line), start=1):
                answers_BT[i, start:stop] = number
        return answers_BT

    def _spans(self, line: _Line) -> list[tuple[int, int]]:
        """Return where each answer of a line begins and ends."""
        lengths = [len(self.transcripts[row].response_ids) for row in line.rows]
        return [(at, at + length) for at, length in zip(line.starts, lengths, strict=True)]

    def _trunk(
        self,
        lines: Sequence[_Line],
        ids_BT: Tensor,
        is_token_BT: Tensor,
        answers_BT: Tensor | None,
    ) -> Trunk:
        if all(row in self._kept for line in lines for row in line.rows):
            hidden = torch.zeros(*ids_BT.shape, self._model.config.hidden_size)
            hidden = hidden.to(self._model.dtype)
            for i, line in enumerate(lines):
                prompt = self._kept[line.rows[0]][: line.starts[0]]
                answers = [self._kept[row][line.starts[0] :] for row in line.rows]
                hidden[i, : len(line.ids)] = torch.cat([prompt, *answers])
            return Trunk(hidden, is_token_BT, self._depth, answers_BT)
        trunk = self._model.trunk(ids_BT, is_token_BT, self._depth, answers_BT)
        for i, line in enumerate(lines):
            self._keep(line, trunk.hidden_BTD[i])
        return trunk

    def _keep(self, line: _Line, hidden_TD: Tensor) -> None:
        for row, (start, stop) in zip(line.rows, self._spans(line), strict=True):
            length = len(self.transcripts[row].ids)
            # A batch may mix rows that are kept already with new ones.
            if row in self._kept or self._num_kept_tokens + length > MAX_CACHED_TOKENS:
                continue
            self._num_kept_tokens += length
            self._kept[row] = torch.cat([hidden_TD[: line.starts[0]], hidden_TD[start:stop]])

    def _locate(
        self, rows: tuple[int, ...], lines: Sequence[_Line], trunk: Trunk, ids_BT: Tensor
    ) -> Batch:
        width = ids_BT.shape[1]
        before: dict[int, Tensor] = {}
        for i, line in enumerate(lines):
            for row, (start, stop) in zip(line.rows, self._spans(line), strict=True):
                before[row] = i * width + torch.arange(start - 1, stop - 1)
                before[row][0] = i * width + line.starts[0] - 1  # the prompt's last token
        lengths = torch.tensor([len(before[row]) for row in rows])
        before_N = torch.cat([before[row] for row in rows])
        last_B = torch.tensor([int(before[row][-1]) + 1 for row in rows])
        return Batch(
            rows=rows,
            trunk=trunk,
            response_ids_N=torch.tensor(
                [id_ for row in rows for id_ in self.transcripts[row].response_ids]
            ),
            before_N=before_N,
            last_B=last_B,
            is_response_BR=torch.arange(int(lengths.max())) < lengths[:, None],
        )


def _rows_of(lines: Sequence[_Line]) -> list[int]:
    return [row for line in lines for row in line.rows]


def shuffled(count: int, *key: int) -> list[int]:
    """Return a permutation of `range(count)` that depends on the key alone."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    return [int(i) for i in generator.permutation(count)]


def dealt(order: Sequence[int], size: int) -> list[list[int]]:
    """Deal an order into the fewest parts of at most `size`, of equal length to within one."""
    count = -(-len(order) // size)
    bounds = [part * len(order) // count for part in range(count + 1)]
    return [list(order[start:stop]) for start, stop in pairwise(bounds)]
