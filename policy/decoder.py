"""Continuous batching over one base and many adapters; it does not know text, HTTP or threads.

Samples join and leave between steps. Each is pinned to one adapter and draws from a stream of its
own, so what it says depends on neither its neighbours nor on when it joined.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.attention import additive, causal_mask
from policy.kv_cache import KeyValueCache
from policy.language_model import LanguageModel
from policy.sampling import Warp, draw, uniforms

PREFILL_TOKENS = 2048
# Rows drawn at a time: their distributions over the vocabulary stay in the processor's cache.
ROWS_PER_DRAW = 16


@dataclass(slots=True, eq=False)
class Sample:
    """One answer: what was asked for, then what has been drawn so far.

    seed, sample_index: together the counter of its random stream.
    stop_ids: ids that end it; the one drawn is kept as its last id (EOS is data).
    raw_logprobs: log-probabilities of the drawn ids under the model at temperature 1.
    processed_logprobs: the same after temperature, top_k and top_p.
    finish: "eos" or "length" once it is complete, "aborted" if it was cancelled.
    """

    prompt_ids: tuple[int, ...]
    adapter: str | None
    max_tokens: int
    warp: Warp = field(default_factory=Warp)
    seed: int = 0
    sample_index: int = 0
    stop_ids: frozenset[int] = frozenset()
    num_top_logprobs: int = 0
    ids: list[int] = field(default_factory=list)
    raw_logprobs: list[float] = field(default_factory=list)
    processed_logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[list[tuple[int, float]]] = field(default_factory=list)
    finish: str | None = None
    _uniforms: NDArray[np.float64] | None = None

    def next_uniform(self) -> float:
        """The random number that picks the next id."""
        if self._uniforms is None:
            self._uniforms = uniforms(self.seed, self.sample_index, self.max_tokens)
        return float(self._uniforms[len(self.ids)])

    @property
    def length(self) -> int:
        """Prompt and drawn ids together."""
        return len(self.prompt_ids) + len(self.ids)


class Decoder:
    """The running batch: a queue, dense slots in a key/value cache, one step at a time."""

    def __init__(self, model: LanguageModel, max_batch: int, max_positions: int) -> None:
        config = model.config
        self._model = model
        self._waiting: deque[Sample] = deque()
        self._running: list[Sample] = []
        self._cache = KeyValueCache(
            num_layers=model.num_layers,
            num_slots=max_batch,
            num_heads=config.num_key_value_heads,
            num_positions=max_positions,
            head_dim=getattr(config, "head_dim", config.hidden_size // config.num_attention_heads),
            dtype=model.dtype,
        )

    @property
    def max_positions(self) -> int:
        """Prompt and answer tokens that one sample may have together."""
        return self._cache.num_positions

    @property
    def num_running(self) -> int:
        """Samples that hold a slot."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Samples that wait for a slot."""
        return len(self._waiting)

    def add(self, sample: Sample) -> None:
        """Queue a sample.

        Raises:
            ValueError: if prompt and answer do not fit the cache, or the prompt is empty.
        """
        needed, limit = len(sample.prompt_ids) + sample.max_tokens, self._cache.num_positions
        if not sample.prompt_ids:
            raise ValueError("the prompt is empty: send at least one token")
        if needed > limit:
            raise ValueError(
                f"prompt ({len(sample.prompt_ids)} tokens) and max_tokens ({sample.max_tokens}) "
                f"need {needed} positions, this model has {limit}: shorten one of them"
            )
        self._waiting.append(sample)

    def cancel(self, sample: Sample) -> None:
        """Drop a sample wherever it is; a finished one is left alone."""
        if sample.finish is not None:
            return
        sample.finish = "aborted"
        if sample in self._waiting:
            self._waiting.remove(sample)
        else:
            self._vacate()

    def run(self, samples: Iterable[Sample]) -> None:
        """Queue samples and step until nothing is left to do."""
        for sample in samples:
            self.add(sample)
        while self.step():
            pass

    @torch.inference_mode()
    def step(self) -> list[Sample]:
        """Draw one id for each of the samples returned: those that joined, else all running."""
        advanced = self._join() or self._advance()
        self._vacate()
        return advanced

    def _join(self) -> list[Sample]:
        """Prefill waiting samples into free slots and draw their first ids."""
        joining = self._take_waiting()
        if not joining:
            return []
        prompts: dict[tuple[str | None, tuple[int, ...]], int] = {}
        for sample in joining:
            prompts.setdefault((sample.adapter, sample.prompt_ids), len(prompts))
        last_hidden = self._prefill(list(prompts))
        rows = [prompts[sample.adapter, sample.prompt_ids] for sample in joining]
        first_slot = len(self._running)
        # Back to front: slot first_slot + i is still its own prompt's until i is copied over.
        for i in reversed(range(len(rows))):
            length = len(joining[i].prompt_ids)
            self._cache.copy_slot(first_slot + rows[i], first_slot + i, length)
        self._running.extend(joining)
        self._draw(joining, last_hidden[rows])
        return joining

    def _take_waiting(self) -> list[Sample]:
        taken: list[Sample] = []
        num_free = self._cache.num_slots - len(self._running)
        num_tokens = 0
        while self._waiting and len(taken) < num_free:
            num_tokens += len(self._waiting[0].prompt_ids)
            if taken and num_tokens > PREFILL_TOKENS:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _prefill(self, prompts: list[tuple[str | None, tuple[int, ...]]]) -> Tensor:
        """Run the prompts into the slots after the running ones; last hidden states `[B, D]`."""
        ids_BT, is_token_BT = pad([ids for _, ids in prompts])
        positions = torch.arange(ids_BT.shape[1]).unsqueeze(0)
        self._cache.begin_prefill(len(self._running))
        mask = causal_mask(is_token_BT, self._model.dtype)
        with self._model.route.through_each([adapter for adapter, _ in prompts]):
            hidden = self._model.run_cached(ids_BT, positions, mask, self._cache)
        last = is_token_BT.sum(dim=1) - 1
        return hidden[torch.arange(len(prompts)), last]

    def _advance(self) -> list[Sample]:
        """Draw the next id of every running sample."""
        if not self._running:
            return []
        lengths = torch.tensor([sample.length - 1 for sample in self._running])
        last_ids = torch.tensor([[sample.ids[-1]] for sample in self._running])
        self._cache.begin_step(lengths)
        num_visible = int(lengths.max()) + 1
        is_visible = torch.arange(num_visible)[None, :] <= lengths[:, None]
        mask = additive(is_visible[:, None, None, :], self._model.dtype)
        with self._model.route.through_each([sample.adapter for sample in self._running]):
            hidden = self._model.run_cached(last_ids, lengths.unsqueeze(1), mask, self._cache)
        self._draw(self._running, hidden[:, 0])
        return list(self._running)

    def _draw(self, samples: list[Sample], hidden_BD: Tensor) -> None:
        logits = self._model.logits(hidden_BD)
        for start in range(0, len(samples), ROWS_PER_DRAW):
            rows = slice(start, start + ROWS_PER_DRAW)
            self._draw_rows(samples[rows], logits[rows])

    def _draw_rows(self, samples: list[Sample], logits: Tensor) -> None:
        numbers = torch.tensor([sample.next_uniform() for sample in samples], dtype=torch.float64)
        drawn = draw(logits, [sample.warp for sample in samples], numbers)
        ids = drawn.ids_B.tolist()
        raw, processed = drawn.raw_logprobs_B.tolist(), drawn.processed_logprobs_B.tolist()
        for row, sample in enumerate(samples):
            sample.ids.append(ids[row])
            sample.raw_logprobs.append(raw[row])
            sample.processed_logprobs.append(processed[row])
            if sample.num_top_logprobs:
                best = drawn.raw_logprobs_BV[row].topk(sample.num_top_logprobs)
                top = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                sample.top_logprobs.append(list(top))
            if ids[row] in sample.stop_ids:
                sample.finish = "eos"
            elif len(sample.ids) == sample.max_tokens:
                sample.finish = "length"

    def _vacate(self) -> None:
        """Move the last running sample into each slot whose sample has finished."""
        slot = 0
        while slot < len(self._running):
            if self._running[slot].finish is None:
                slot += 1
                continue
            last = self._running.pop()
            if slot < len(self._running):
                self._running[slot] = last
                self._cache.copy_slot(len(self._running), slot, last.length)


def pad(sequences: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Right-pad id sequences; return ids `[B, T]` and is_token `[B, T]`."""
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    is_token = torch.zeros(len(sequences), width, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        is_token[row, : len(sequence)] = True
    return ids, is_token
