"""The refresh card: what went in, what came out, how it was judged; it does not know the stages.

A card is three files: evidence.json (every answer with its scores), card.json (every number,
recomputable from the evidence) and card.html (the same for people, self-contained).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from feedback.canonical_json import canonical_json, digest, readable_json
from feedback.registry import Registry
from feedback.snapshot_rows import SnapshotManifest
from trainer.card_page import render_card
from trainer.evidence_record import EvidenceRecord, JudgedAnswer
from trainer.gate import GateEvidence, Verdict, ratio
from trainer.gate_figures import Figures

FORMAT = 1
NUM_SHOWN_PROMPTS = 6
CHANCE = 0.5


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did, as the stages tell it; plain JSON values.

    adapters: adapter ids by role (sft, init, rm, judge, value, ppo).
    settings, seeds: all that were used.  timings_s: seconds by stage.
    left_out: what of the snapshot was not trained on, counted by name.
    cost: work counted by name; what the gate did is added.
    reward_training: figures by reward model.  ppo_history: figures of each iteration.
    """

    manifest: SnapshotManifest
    base: Mapping[str, Any]
    adapters: Mapping[str, str]
    settings: Mapping[str, Any]
    seeds: Mapping[str, int]
    timings_s: Mapping[str, float]
    ppo_history: Sequence[Mapping[str, float]]
    reward_training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


def write_refresh_card(
    registry: Registry,
    refreshed: Refreshed,
    record: EvidenceRecord,
    figures: Figures,
    verdict: Verdict,
) -> Path:
    """Write the card under the hash of its content; return its directory."""
    evidence = canonical_json(plain(record.as_json())) + b"\n"
    card = card_of(refreshed, record, figures, verdict)
    card["evidence_sha256"] = hashlib.sha256(evidence).hexdigest()
    card["card_id"] = f"card-{digest(card)[:16]}"
    files = {
        "evidence.json": evidence,
        "card.json": readable_json(card),
        "card.html": render_card(card).encode(),
    }
    return registry.write_card(card["card_id"], files)


def card_of(
    refreshed: Refreshed, record: EvidenceRecord, figures: Figures, verdict: Verdict
) -> dict[str, Any]:
    """Return the content of card.json without its id; a figure that is no number becomes null."""
    gate = figures.gate
    card = {
        "format": FORMAT,
        "passed": verdict.passed,
        "refused_by": list(dict.fromkeys(reason.name for reason in verdict.reasons)),
        "sentinels": [asdict(check) for check in verdict.checks],
        "headline": headline(gate),
        "win_rates": {
            "by_judge": asdict(gate.win_rate),
            "by_judge_at_equal_length": asdict(figures.length_controlled_win_rate),
            "by_optimised_reward_model": asdict(gate.proxy_win_rate),
        },
        "reward_models": _reward_models(figures, refreshed),
        "answers": {"candidate": asdict(gate.candidate), "incumbent": asdict(gate.incumbent)},
        "training": asdict(gate.training),
        "ppo": {"curves": _curves(refreshed.ppo_history)},
        "samples": _samples(record),
        "data": _data(refreshed),
        "lineage": {
            "snapshot": refreshed.manifest.id,
            "base": dict(refreshed.base),
            "adapters": dict(refreshed.adapters),
            "judged": asdict(record.names),
        },
        "sampling": asdict(record.design),
        "settings": dict(refreshed.settings),
        "seeds": dict(refreshed.seeds),
        "timings_s": dict(refreshed.timings_s),
        "cost": {**refreshed.cost, **_gate_work(record)},
    }
    found: dict[str, Any] = plain(card)
    return found


def headline(gate: GateEvidence) -> dict[str, float]:
    """Return the few numbers that a report quotes."""
    return {
        "win_rate": gate.win_rate.estimate,
        "win_rate_low": gate.win_rate.low,
        "rm_accuracy": gate.rm_accuracy.estimate,
        "rm_accuracy_low": gate.rm_accuracy.low,
        "kl_nats": gate.kl_nats,
        "length_ratio": ratio(gate.candidate.mean_length, gate.incumbent.mean_length),
    }


def plain(value: Any) -> Any:
    """Return the value with JSON's types only: lists for tuples, null for NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _reward_models(figures: Figures, refreshed: Refreshed) -> dict[str, Any]:
    gate = figures.gate
    return {
        "rm_accuracy": asdict(gate.rm_accuracy),
        "judge_accuracy": asdict(gate.judge_accuracy),
        "best_of_4": asdict(gate.best_of_4),
        "length_accuracy": asdict(figures.length_accuracy),
        "random_accuracy": CHANCE,
        "rm_over_length": asdict(figures.rm_over_length),
        "judge_over_length": asdict(figures.judge_over_length),
        "training": {name: dict(found) for name, found in refreshed.reward_training.items()},
    }


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for iteration in history for name in iteration)
    return {name: [iteration.get(name) for iteration in history] for name in names}


def _samples(record: EvidenceRecord) -> list[dict[str, Any]]:
    """Return the first answers of both sides to the first prompts: never selected ones."""
    sides = {"candidate": record.candidate, "incumbent": record.incumbent}
    first = {
        name: {answer.prompt_hash: answer for answer in answers if answer.sample_index == 0}
        for name, answers in sides.items()
    }
    return [
        {"prompt": prompt.text}
        | {name: _shown(answers[prompt.prompt_hash]) for name, answers in first.items()}
        for prompt in record.prompts[:NUM_SHOWN_PROMPTS]
    ]


def _shown(answer: JudgedAnswer) -> dict[str, Any]:
    return {
        "text": answer.text,
        "is_finished": answer.is_finished,
        "num_tokens": len(answer.visible_ids),
        "judge_score": answer.judge_score,
        "proxy_score": answer.proxy_score,
    }


def _data(refreshed: Refreshed) -> dict[str, Any]:
    """Return the counts of the snapshot; the event ids stay in its own manifest."""
    manifest = refreshed.manifest
    counted = manifest.model_dump(mode="json", exclude={"event_ids", "settings", "base"})
    return counted | {
        "votes_in_dataset": manifest.votes_in_dataset,
        "votes_lost": manifest.votes_lost,
        "left_out": dict(refreshed.left_out),
    }


def _gate_work(record: EvidenceRecord) -> dict[str, int]:
    answers = record.candidate + record.incumbent
    num_ranked = sum(len(ranking.lengths) for ranking in record.rankings)
    return {
        "gate_sampled_tokens": sum(len(answer.ids) for answer in answers),
        "gate_scored_answers": 2 * (len(answers) + num_ranked),
    }
