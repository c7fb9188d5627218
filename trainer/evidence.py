"""Collecting the gate's evidence from the models; it does not know bounds or decide anything.

Candidate and incumbent answer the same held-out prompts from the same random streams; both reward
models score every answer. The candidate must be the published bytes, loaded like any adapter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policy.decoder import Decoder
from policy.language_model import LanguageModel
from policy.logprobs import exact_kls
from trainer.evidence_record import (
    EvidenceDesign,
    EvidenceNames,
    EvidenceRecord,
    GatePrompt,
    JudgedAnswer,
    JudgedRanking,
)
from trainer.gate import TrainingFacts
from trainer.packing import Transcript
from trainer.progress import Report
from trainer.reward import RankedAnswers, RewardModel
from trainer.rollouts import Rollout, sample_rollouts
from trainer.transcripts import TranscriptSet

NUM_STEPS = 4
"""Steps that `collect_evidence` reports: sampling of either side, the KL, the scores."""


@dataclass(frozen=True, slots=True)
class GateModels:
    """Adapters on one base; an incumbent of None is the bare base."""

    model: LanguageModel
    decoder: Decoder
    candidate: str
    incumbent: str | None
    init: str
    proxy: RewardModel
    judge: RewardModel


@dataclass(frozen=True, slots=True)
class GateRanking:
    """A vote of the gate split, with the prompt it clusters by."""

    prompt_hash: str
    vote: RankedAnswers


def collect_evidence(
    models: GateModels,
    names: EvidenceNames,
    design: EvidenceDesign,
    prompts: Sequence[GatePrompt],
    rankings: Sequence[GateRanking],
    training: TrainingFacts,
    decode: Callable[[Sequence[int]], str],
    report: Report,
) -> EvidenceRecord:
    """Sample, score and measure; deterministic in the design's seed.

    Args:
        models: what to measure.
        names: the published ids of the same.
        design: how to sample.
        prompts: of the gate split.
        rankings: of the gate split; those without a comparison are left out.
        training: what `training_facts` found.
        decode: turns ids without EOS into text.
        report: is called after each step.

    Raises:
        ValueError: if a score is not a finite number.
    """
    ours = _sample(models, models.candidate, prompts, design)
    report(1, NUM_STEPS, {})
    theirs = _sample(models, models.incumbent, prompts, design)
    report(2, NUM_STEPS, {})
    kls = response_kls(models, ours[:: design.samples_per_prompt], design.temperature)
    report(3, NUM_STEPS, {})
    kl_of = {i * design.samples_per_prompt: kl for i, kl in enumerate(kls)}
    record = EvidenceRecord(
        names=names,
        design=design,
        prompts=tuple(prompts),
        candidate=_judged(models, prompts, ours, kl_of, decode),
        incumbent=_judged(models, prompts, theirs, {}, decode),
        rankings=_judged_rankings(models, rankings),
        training=training,
    )
    report(4, NUM_STEPS, {})
    return record


@torch.no_grad()
def response_kls(
    models: GateModels, rollouts: Sequence[Rollout], temperature: float
) -> list[float]:
    """Return KL(candidate, init) over the vocabulary, summed over each answer's tokens, in nats.

    The gate measures one answer per prompt: over the whole vocabulary the noise is small, and each
    answer costs two passes through the unembedding.
    """
    model = models.model
    depth = model.shared_depth(models.candidate, models.init)
    data = TranscriptSet(model, [rollout.transcript for rollout in rollouts], depth)
    found = [math.nan] * len(rollouts)
    for batch in data.batches(range(len(data))):
        candidate, init = (
            batch.at_predictions(model.hidden(batch.trunk, adapter))
            for adapter in (models.candidate, models.init)
        )
        kls = batch.unflatten(exact_kls(candidate, init, model.unembedding_VD, temperature))
        for row, kl in zip(batch.rows, kls.sum(dim=1).tolist(), strict=True):
            found[row] = kl
    return found


def adapter_hash(model: LanguageModel, adapter: str) -> str:
    """Return the SHA-256 of an adapter's weights: 64 hex digits that change with any number."""
    hasher = hashlib.sha256()
    for key, parameter in model.adapter_parameters(adapter).items():
        hasher.update(key.encode() + parameter.detach().contiguous().numpy().tobytes())
    return hasher.hexdigest()


@torch.no_grad()
def training_facts(
    model: LanguageModel,
    candidate: str,
    init: str,
    ref_hash_before: str,
    num_policy_steps: int,
) -> TrainingFacts:
    """Compare the candidate with `init`, the KL anchor, hashed once before the training."""
    ours, theirs = _lora_b(model, candidate), _lora_b(model, init)
    return TrainingFacts(
        relative_change=float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)),
        ref_hash_before=ref_hash_before,
        ref_hash_after=adapter_hash(model, init),
        num_policy_steps=num_policy_steps,
    )


def _sample(
    models: GateModels, adapter: str | None, prompts: Sequence[GatePrompt], design: EvidenceDesign
) -> list[Rollout]:
    """Sample answers prompt by prompt."""
    return sample_rollouts(
        models.model,
        models.decoder,
        adapter,
        [prompt.token_ids for prompt in prompts for _ in range(design.samples_per_prompt)],
        max_tokens=design.max_tokens,
        temperature=design.temperature,
        seed=design.seed,
    )


def _judged(
    models: GateModels,
    prompts: Sequence[GatePrompt],
    rollouts: Sequence[Rollout],
    kl_of: dict[int, float],
    decode: Callable[[Sequence[int]], str],
) -> tuple[JudgedAnswer, ...]:
    proxy, judge = _scores(models, [rollout.transcript for rollout in rollouts])
    samples_per_prompt = len(rollouts) // max(1, len(prompts))
    answers = []
    for i, rollout in enumerate(rollouts):
        ids = rollout.transcript.response_ids
        prompt, sample_index = divmod(i, samples_per_prompt)
        answers.append(
            JudgedAnswer(
                prompt_hash=prompts[prompt].prompt_hash,
                sample_index=sample_index,
                text=decode(ids[:-1] if rollout.is_finished else ids),
                ids=ids,
                is_finished=rollout.is_finished,
                proxy_score=proxy[i],
                judge_score=judge[i],
                kl_nats=kl_of.get(i),
            )
        )
    return tuple(answers)


def _judged_rankings(
    models: GateModels, rankings: Sequence[GateRanking]
) -> tuple[JudgedRanking, ...]:
    informative = [ranking for ranking in rankings if ranking.vote.pairs]
    answers = [answer for ranking in informative for answer in ranking.vote.answers]
    proxy, judge = _scores(models, answers)
    found, start = [], 0
    for ranking in informative:
        stop = start + len(ranking.vote.answers)
        found.append(
            JudgedRanking(
                prompt_hash=ranking.prompt_hash,
                pairs=ranking.vote.pairs,
                lengths=tuple(len(answer.response_ids) for answer in ranking.vote.answers),
                proxy_scores=tuple(proxy[start:stop]),
                judge_scores=tuple(judge[start:stop]),
            )
        )
        start = stop
    return tuple(found)


def _scores(
    models: GateModels, transcripts: Sequence[Transcript]
) -> tuple[list[float], list[float]]:
    """Score answers by proxy and judge, over one pass through the layers that both share."""
    depth = models.model.shared_depth(models.proxy.adapter, models.judge.adapter)
    data = TranscriptSet(models.model, transcripts, depth)
    return _finite_scores(models.proxy, data), _finite_scores(models.judge, data)


def _finite_scores(reward: RewardModel, data: TranscriptSet) -> list[float]:
    scores: list[float] = reward.scores_of(data, range(len(data))).tolist()
    if not all(map(math.isfinite, scores)):
        raise ValueError(f"adapter {reward.adapter!r} gives a score that is no number: retrain it")
    return scores


def _lora_b(model: LanguageModel, adapter: str) -> Tensor:
    parameters = model.adapter_parameters(adapter)
    return torch.cat([value.flatten() for key, value in parameters.items() if ".lora_B." in key])
