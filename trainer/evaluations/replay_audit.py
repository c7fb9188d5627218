"""Find served choices that mix versions, by scoring them again under every live adapter.

It believes no engine's word about what it served (DESIGN 4.5): only sampled ids, the logged
log-probabilities and the adapters' own weights count. The rule is in `version_evidence`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from feedback.events.completion import Choice, CompletionServed
from policy.language_model import LanguageModel
from policy.logprobs import chosen_logprobs
from trainer.evaluations.version_evidence import Finding, Floats, weigh
from trainer.packing import Transcript
from trainer.transcripts import TranscriptSet

NOISE_NATS = {"float32": 1e-4, "bfloat16": 0.07}
"""Scale s of |log-probability by decoding - by a full forward pass|: measured tails lie below
exp(-x / s) at every x (docs/LOG.md); the mean in bfloat16 was 0.026."""

CHOICES_PER_PASS = 256
NUM_WORST = 5


@dataclass(frozen=True, slots=True)
class ServedChoice:
    """What the record says about one choice; log-probabilities are raw, at temperature 1."""

    choice_id: str
    adapter_id: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class ReplayAudit:
    """The outcome of an audit.

    num_mixed: choices that the adapter they name cannot have sampled alone.
    num_inseparable: choices that are not mixed, but whose named adapter is so like another live
        one that a swap of the two would not show; nothing is wrong with them.
    num_outscored: choices that are likelier under another adapter: usual at temperature 1, and
        no evidence by itself.
    mean_gap_nats: between logged and re-scored log-probabilities, over all tokens.
    worst: the choices with the strongest evidence against them, mixed or not.
    unaudited: choices that could not be judged, by reason.
    """

    num_choices: int
    num_mixed: int
    num_inseparable: int
    num_outscored: int
    mean_gap_nats: float
    mixed_choice_ids: tuple[str, ...]
    worst: tuple[tuple[ServedChoice, Finding], ...]
    unaudited: dict[str, int]


def audit_completions(
    model: LanguageModel,
    adapters: Mapping[str, str | None],
    completions: Iterable[CompletionServed],
) -> ReplayAudit:
    """Audit every choice of these completions that the record allows to audit.

    Args:
        model: the base with every adapter that was live.
        adapters: adapter_id -> its name on the model, None for the bare base.
        completions: what was served; choices that were aborted are audited as far as they went.
    """
    choices: list[ServedChoice] = []
    unaudited: Counter[str] = Counter()
    for completion in completions:
        for choice in completion.choices:
            if reason := _reason_against(completion, choice, adapters):
                unaudited[reason] += 1
            else:
                choices.append(_served(completion, choice))
    findings = list(_findings(model, adapters, choices))
    return _summarise(choices, findings, dict(sorted(unaudited.items())))


@dataclass(frozen=True, slots=True)
class _Judged:
    finding: Finding
    is_outscored: bool


def _reason_against(
    completion: CompletionServed, choice: Choice, adapters: Mapping[str, str | None]
) -> str | None:
    """Say why a choice cannot be audited, or None."""
    if completion.prompt is None or not completion.prompt.token_ids or not choice.token_ids:
        return "no_token_ids"
    if choice.token_logprobs is None:
        return "no_logprobs"
    if choice.logprobs_kind != "raw":
        return "processed_logprobs"
    return None if choice.adapter_id in adapters else "adapter_not_loaded"


def _served(completion: CompletionServed, choice: Choice) -> ServedChoice:
    assert completion.prompt is not None
    assert choice.token_logprobs is not None
    return ServedChoice(
        choice_id=choice.choice_id,
        adapter_id=choice.adapter_id,
        prompt_ids=completion.prompt.token_ids,
        token_ids=choice.token_ids,
        logprobs=choice.token_logprobs,
        dtype=completion.engine.dtype,
    )


def _findings(
    model: LanguageModel, adapters: Mapping[str, str | None], choices: Sequence[ServedChoice]
) -> Iterator[_Judged]:
    for start in range(0, len(choices), CHOICES_PER_PASS):
        some = choices[start : start + CHOICES_PER_PASS]
        for choice, rescored in zip(some, rescore(model, adapters, some), strict=True):
            scale = max(_noise(choice.dtype), _noise(str(model.dtype).removeprefix("torch.")))
            finding = weigh(choice.adapter_id, np.asarray(choice.logprobs), rescored, scale)
            sums = {adapter_id: float(of_T.sum()) for adapter_id, of_T in rescored.items()}
            yield _Judged(finding, sums[choice.adapter_id] < max(sums.values()))


@torch.no_grad()
def rescore(
    model: LanguageModel, adapters: Mapping[str, str | None], choices: Sequence[ServedChoice]
) -> list[dict[str, Floats]]:
    """Return, per choice, its tokens' log-probabilities `[T]` under every adapter, by id.

    One pass through the layers below all adapters serves them all.
    """
    transcripts = [Transcript(choice.prompt_ids, choice.token_ids) for choice in choices]
    data = TranscriptSet(model, transcripts, model.shared_depth(*adapters.values()))
    found: list[dict[str, Floats]] = [{} for _ in choices]
    for batch in data.batches(range(len(choices))):
        lengths = [len(choices[row].token_ids) for row in batch.rows]
        for adapter_id, name in adapters.items():
            hidden = batch.at_predictions(model.hidden(batch.trunk, name))
            logprobs = chosen_logprobs(hidden, model.unembedding_VD, batch.response_ids_N)
            for row, part in zip(batch.rows, logprobs.split(lengths), strict=True):
                found[row][adapter_id] = part.double().numpy()
    return found


def _noise(dtype: str) -> float:
    """The noise of a dtype; one that we have not measured is as coarse as the coarsest."""
    return NOISE_NATS.get(dtype, max(NOISE_NATS.values()))


def _summarise(
    choices: Sequence[ServedChoice], judged: Sequence[_Judged], unaudited: dict[str, int]
) -> ReplayAudit:
    pairs = [(choice, each.finding) for choice, each in zip(choices, judged, strict=True)]
    num_tokens = sum(len(choice.token_ids) for choice in choices)
    total_gap = sum(len(c.token_ids) * finding.mean_gap_nats for c, finding in pairs)
    by_evidence = sorted(pairs, key=lambda pair: pair[1].worst.nats, reverse=True)
    return ReplayAudit(
        num_choices=len(choices),
        num_mixed=sum(finding.is_mixed for _, finding in pairs),
        num_inseparable=sum(
            bool(finding.inseparable_from) and not finding.is_mixed for _, finding in pairs
        ),
        num_outscored=sum(each.is_outscored for each in judged),
        mean_gap_nats=total_gap / num_tokens if num_tokens else 0.0,
        mixed_choice_ids=tuple(c.choice_id for c, finding in pairs if finding.is_mixed),
        worst=tuple(by_evidence[:NUM_WORST]),
        unaudited=unaudited,
    )
