"""How likely answers are under one adapter or the bare base; it does not know who sampled them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from policy.language_model import LanguageModel
from policy.logprobs import chosen_logprobs
from trainer.transcripts import Transcript, TranscriptSet


def answer_nats(
    model: LanguageModel, adapter: str | None, transcripts: Sequence[Transcript]
) -> list[float]:
    """Return each response's negative log-likelihood at temperature 1, in nats, EOS included."""
    return [-sum(logprobs) for logprobs in answer_logprobs(model, adapter, transcripts)]


@torch.no_grad()
def answer_logprobs(
    model: LanguageModel, adapter: str | None, transcripts: Sequence[Transcript]
) -> list[list[float]]:
    """Return the log-probability at temperature 1 of every response id, in nats.

    Args:
        model: the base with its adapters.
        adapter: an adapter's name on the model; None for the bare base.
        transcripts: prompts with the ids that were sampled.
    """
    depth = model.num_layers if adapter is None else model.shared_depth(adapter)
    data = TranscriptSet(model, transcripts, depth)
    found: list[list[float]] = [[] for _ in transcripts]
    for batch in data.batches(range(len(data))):
        hidden = batch.at_predictions(model.hidden(batch.trunk, adapter))
        logprobs = chosen_logprobs(hidden, model.unembedding_VD, batch.response_ids_N)
        lengths = batch.is_response_BR.sum(dim=1).tolist()
        for row, part in zip(batch.rows, logprobs.split(lengths), strict=True):
            found[row] = part.tolist()
    return found
