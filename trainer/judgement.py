"""Judge a candidate by evidence, write its card and its offline verdict; nothing is promoted here.

It does not know how the candidate was trained, only what the stages say of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feedback.channels import ChannelError
from trainer.card import Refreshed, headline, plain, write_refresh_card
from trainer.evidence import (
    GateModels,
    GateRanking,
    collect_evidence,
    training_facts,
)
from trainer.evidence_record import EvidenceDesign, EvidenceNames, EvidenceRecord
from trainer.gate import Verdict, decide
from trainer.gate_figures import Figures, figures
from trainer.stages import Refresh

SERVED_CHANNEL = "stable"


@dataclass(frozen=True, slots=True)
class Roles:
    """Published adapter ids by role."""

    sft: str
    init: str
    rm: str
    judge: str
    ppo: str
    value: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gate's word and where its evidence lies."""

    passed: bool
    reasons: tuple[str, ...]
    card_dir: Path
    metrics: dict[str, Any]


def judge_candidate(
    refresh: Refresh, roles: Roles, stage_figures: dict[str, dict[str, Any]], seconds: float
) -> Judgement:
    """Compare the published candidate with what is served now, decide, and write it all down.

    The verdict under verdicts/<candidate>/offline.json is what the `candidate` channel asks for.
    """
    record = _collect(refresh, roles, stage_figures["ppo"])
    found = figures(record, refresh.seed)
    verdict = decide(found.gate, refresh.settings.gate)
    refreshed = _refreshed(refresh, roles, stage_figures, seconds)
    card_dir = write_refresh_card(refresh.workshop.registry, refreshed, record, found, verdict)
    _write_verdict(refresh, roles.ppo, verdict, card_dir.name)
    return Judgement(
        passed=verdict.passed,
        reasons=tuple(reason.sentence for reason in verdict.reasons),
        card_dir=card_dir,
        metrics=_metrics(found, verdict),
    )


def incumbent_of(refresh: Refresh, candidate: str, fallback: str) -> str:
    """Return the adapter that `stable` serves; where it is the bare base, the fallback (sft).

    A first refresh must beat its own fine-tuned baseline: to beat a raw base proves little. A
    candidate that is served already is not compared with itself either.
    """
    registry = refresh.workshop.registry
    try:
        served = registry.current(SERVED_CHANNEL).adapter_id
    except ChannelError:
        return fallback
    base = refresh.workshop.loaded.description.adapter_id
    return fallback if served in (base, candidate) else served


def _collect(refresh: Refresh, roles: Roles, ppo_figures: dict[str, Any]) -> EvidenceRecord:
    workshop, settings, material = refresh.workshop, refresh.settings, refresh.material
    gate, max_tokens = settings.gate, settings.ppo.max_response_tokens
    incumbent = incumbent_of(refresh, roles.ppo, roles.sft)
    for adapter_id in (roles.ppo, roles.init, incumbent):
        workshop.loaded_adapter(adapter_id)
    rows = material.prompts["gate"][: gate.max_prompts]
    models = GateModels(
        model=workshop.model,
        decoder=workshop.decoder(max(len(row.token_ids) for row in rows) + max_tokens),
        candidate=roles.ppo,
        incumbent=incumbent,
        init=roles.init,
        proxy=workshop.reward_model(roles.rm),
        judge=workshop.reward_model(roles.judge),
    )
    return collect_evidence(
        models,
        EvidenceNames(roles.ppo, incumbent, proxy=roles.rm, judge=roles.judge),
        EvidenceDesign(refresh.seed, gate.samples_per_prompt, gate.temperature, max_tokens),
        rows,
        [
            GateRanking(prompt_hash, vote)
            for prompt_hash, vote in zip(
                material.comparison_prompts["gate"], material.comparisons["gate"], strict=True
            )
        ],
        training_facts(
            workshop.model,
            roles.ppo,
            roles.init,
            str(ppo_figures["ref_hash_before"]),
            settings.ppo.num_policy_steps,
        ),
        workshop.loaded.decode,
        refresh.stages.begin("gate"),
    )


def _refreshed(
    refresh: Refresh, roles: Roles, stage_figures: dict[str, dict[str, Any]], seconds: float
) -> Refreshed:
    base = refresh.workshop.loaded.description
    timings = {name: float(found["seconds"]) for name, found in stage_figures.items()}
    return Refreshed(
        manifest=refresh.material.snapshot.manifest,
        base={"base_id": base.base_id, "weights_hash": base.weights_hash},
        adapters=asdict(roles),
        settings=refresh.settings.model_dump(mode="json"),
        seeds={"refresh": refresh.seed},
        timings_s={**timings, "total": round(seconds, 3)},
        ppo_history=stage_figures["ppo"]["history"],
        reward_training={name: stage_figures[name] for name in ("rm", "judge")},
        left_out=refresh.material.losses,
    )


def _write_verdict(refresh: Refresh, candidate: str, verdict: Verdict, card_id: str) -> None:
    content = {
        "passed": verdict.passed,
        "card_id": card_id,
        "refused_by": [reason.name for reason in verdict.reasons],
    }
    refresh.workshop.registry.write_verdict(candidate, "offline", content)


def _metrics(found: Figures, verdict: Verdict) -> dict[str, Any]:
    metrics: dict[str, Any] = plain(
        {
            **headline(found.gate),
            "judge_accuracy": found.gate.judge_accuracy.estimate,
            "best_of_4": found.gate.best_of_4.estimate,
            "proxy_win_rate": found.gate.proxy_win_rate.estimate,
            "refused_by": [reason.name for reason in verdict.reasons],
        }
    )
    return metrics
