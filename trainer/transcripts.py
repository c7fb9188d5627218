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
from trainer.packing import Line, Transcript, lay_out, number_answers, passes, response_indices

MAX_CACHED_TOKENS = 500_000
"""Trunk states kept between passes: 576 values of 2 bytes each are 576 MB for this many tokens."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some transcripts after the shared layers, and where their responses lie.

    rows: which transcripts, `[B]`.
    own_N, before_N: flat indices into `[L * T]` of each response token, and of the position that
        predicts it.
    last_B: where each response's last token stands in `[N]`.
    """

    rows: tuple[int, ...]
    trunk: Trunk
    response_ids_N: Tensor
    own_N: Tensor
    before_N: Tensor
    last_B: Tensor
    is_response_BR: Tensor

    def at_predictions(self, hidden_LTD: Tensor) -> Tensor:
        """Pick the states that predict the response tokens, `[N, D]`."""
        return hidden_LTD.flatten(0, 1)[self.before_N]

    def at_last(self, hidden_LTD: Tensor) -> Tensor:
        """Pick the states of the last response tokens, `[B, D]`."""
        return hidden_LTD.flatten(0, 1)[self.own_N[self.last_B]]

    def response_mean(self, hidden_LTD: Tensor) -> Tensor:
        """Average the states of each response's tokens, `[B, D]` in float32."""
        lengths_B = self.is_response_BR.sum(dim=1)
        row_N = torch.repeat_interleave(torch.arange(len(lengths_B)), lengths_B)
        states = hidden_LTD.flatten(0, 1)[self.own_N].float()
        sums = torch.zeros(len(lengths_B), states.shape[1]).index_add(0, row_N, states)
        return sums / lengths_B[:, None]

    def unflatten(self, values_N: Tensor) -> Tensor:
        """Lay `[N]` values out as `[B, R]`, 0 on padding; differentiable."""
        laid = torch.zeros(self.is_response_BR.shape, dtype=values_N.dtype)
        return laid.masked_scatter(self.is_response_BR, values_N)


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
        return self._build(rows, lay_out(self.transcripts, rows))

    def batches(self, rows: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of similar lengths that fit one pass each."""
        lines = lay_out(self.transcripts, rows)
        for group in passes(lines, lambda line: len(line.ids)):
            yield self._build(_rows_of(group), group)

    def _build(self, rows: Sequence[int], lines: Sequence[Line]) -> Batch:
        trunk = self._trunk(lines)
        found = response_indices(lines, trunk.is_token_BT.shape[1])
        lengths_B = torch.tensor([len(self.transcripts[row].response_ids) for row in rows])
        response_ids = [id_ for row in rows for id_ in self.transcripts[row].response_ids]
        return Batch(
            rows=tuple(rows),
            trunk=trunk,
            response_ids_N=torch.tensor(response_ids),
            own_N=torch.cat([found[row][0] for row in rows]),
            before_N=torch.cat([found[row][1] for row in rows]),
            last_B=lengths_B.cumsum(dim=0) - 1,
            is_response_BR=torch.arange(int(lengths_B.max())) < lengths_B[:, None],
        )

    def _trunk(self, lines: Sequence[Line]) -> Trunk:
        ids_BT, is_token_BT = pad([line.ids for line in lines])
        answers_BT = number_answers(lines, is_token_BT)
        if all(row in self._kept for row in _rows_of(lines)):
            hidden = torch.zeros(*ids_BT.shape, self._model.config.hidden_size)
            hidden = hidden.to(self._model.dtype)
            for i, line in enumerate(lines):
                hidden[i, : len(line.ids)] = self._recall(line)
            return Trunk(hidden, is_token_BT, self._depth, answers_BT)
        trunk = self._model.trunk(ids_BT, is_token_BT, self._depth, answers_BT)
        for i, line in enumerate(lines):
            self._keep(line, trunk.hidden_BTD[i])
        return trunk

    def _recall(self, line: Line) -> Tensor:
        prompt = self._kept[line.rows[0]][: line.prompt_length]
        return torch.cat([prompt, *(self._kept[row][line.prompt_length :] for row in line.rows)])

    def _keep(self, line: Line, hidden_TD: Tensor) -> None:
        for row, (start, stop) in zip(line.rows, line.spans, strict=True):
            length = len(self.transcripts[row].ids)
            # A batch may mix rows that are kept already with new ones.
            if row in self._kept or self._num_kept_tokens + length > MAX_CACHED_TOKENS:
                continue
            self._num_kept_tokens += length
            self._kept[row] = torch.cat([hidden_TD[: line.prompt_length], hidden_TD[start:stop]])


def _rows_of(lines: Sequence[Line]) -> list[int]:
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
