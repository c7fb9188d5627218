"""Prompts with responses as padded batches over a shared trunk; it does not know any loss.

Dims: B transcripts, T positions of prompt + response, R response positions, N real response tokens
of the whole batch in row order, D hidden size. Batches are right-padded.
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
    before_N, last_B: flat indices into `[B * T]` of the position that predicts each response token,
        and of the last response token.
    """

    rows: tuple[int, ...]
    trunk: Trunk
    response_ids_N: Tensor
    before_N: Tensor
    last_B: Tensor
    is_response_BR: Tensor

    def at_predictions(self, hidden_BTD: Tensor) -> Tensor:
        """Pick the states that predict the response tokens, `[N, D]`."""
        return hidden_BTD.flatten(0, 1)[self.before_N]

    def at_last(self, hidden_BTD: Tensor) -> Tensor:
        """Pick the states of the last response tokens, `[B, D]`."""
        return hidden_BTD.flatten(0, 1)[self.last_B]

    def unflatten(self, values_N: Tensor) -> Tensor:
        """Lay `[N]` values out as `[B, R]`, 0 on padding; differentiable."""
        laid = torch.zeros(self.is_response_BR.shape, dtype=values_N.dtype)
        return laid.masked_scatter(self.is_response_BR, values_N)


class TranscriptSet:
    """Transcripts whose states below the first adapted layer are computed once and kept."""

    def __init__(self, model: LanguageModel, transcripts: Sequence[Transcript], depth: int) -> None:
        self.transcripts = list(transcripts)
        self._model, self._depth = model, depth
        self._kept: dict[int, Tensor] = {}
        self._num_kept_tokens = 0

    def __len__(self) -> int:
        return len(self.transcripts)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Build the batch of these transcripts, in this order."""
        chosen = [self.transcripts[row] for row in rows]
        ids_BT, is_token_BT = pad([transcript.ids for transcript in chosen])
        trunk = self._trunk(rows, ids_BT, is_token_BT)
        return _locate(tuple(rows), chosen, trunk, ids_BT)

    def batches(self, rows: Sequence[int]) -> Iterator[Batch]:
        """Yield batches of similar lengths that fit one pass each."""
        lengths = {row: len(self.transcripts[row].ids) for row in rows}
        group: list[int] = []
        for row in sorted(rows, key=lambda row: (lengths[row], row)):
            if group and lengths[row] * (len(group) + 1) > MAX_TOKENS_PER_PASS:
                yield self.batch(group)
                group = []
            group.append(row)
        if group:
            yield self.batch(group)

    def _trunk(self, rows: Sequence[int], ids_BT: Tensor, is_token_BT: Tensor) -> Trunk:
        if all(row in self._kept for row in rows):
            hidden = torch.zeros(*ids_BT.shape, self._model.config.hidden_size)
            hidden = hidden.to(self._model.dtype)
            for i, row in enumerate(rows):
                hidden[i, : len(self._kept[row])] = self._kept[row]
            return Trunk(hidden, is_token_BT, self._depth)
        trunk = self._model.trunk(ids_BT, is_token_BT, self._depth)
        self._keep(rows, trunk)
        return trunk

    def _keep(self, rows: Sequence[int], trunk: Trunk) -> None:
        for i, row in enumerate(rows):
            length = len(self.transcripts[row].ids)
            # A batch may mix rows that are kept already with new ones.
            if row in self._kept or self._num_kept_tokens + length > MAX_CACHED_TOKENS:
                continue
            self._num_kept_tokens += length
            self._kept[row] = trunk.hidden_BTD[i, :length].clone()


def _locate(
    rows: tuple[int, ...], chosen: Sequence[Transcript], trunk: Trunk, ids_BT: Tensor
) -> Batch:
    width = ids_BT.shape[1]
    num_responses_R = max(len(transcript.response_ids) for transcript in chosen)
    before, last = [], []
    is_response = torch.zeros(len(chosen), num_responses_R, dtype=torch.bool)
    for i, transcript in enumerate(chosen):
        start = i * width + len(transcript.prompt_ids)
        stop = start + len(transcript.response_ids)
        before.append(torch.arange(start - 1, stop - 1))
        last.append(stop - 1)
        is_response[i, : stop - start] = True
    before_N = torch.cat(before)
    return Batch(
        rows=rows,
        trunk=trunk,
        response_ids_N=ids_BT.flatten()[before_N + 1],
        before_N=before_N,
        last_B=torch.tensor(last),
        is_response_BR=is_response,
    )


def shuffled(count: int, *key: int) -> list[int]:
    """Return a permutation of `range(count)` that depends on the key alone."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    return [int(i) for i in generator.permutation(count)]


def dealt(order: Sequence[int], size: int) -> list[list[int]]:
    """Deal an order into the fewest parts of at most `size`, of equal length to within one."""
    count = -(-len(order) // size)
    bounds = [part * len(order) // count for part in range(count + 1)]
    return [list(order[start:stop]) for start, stop in pairwise(bounds)]
