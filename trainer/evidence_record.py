"""What the gate saw, answer by answer, as kept beside the card; it does not know models.

Every number of a verdict recomputes from this record alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trainer.gate import TrainingFacts


@dataclass(frozen=True, slots=True)
class EvidenceNames:
    """Published ids: the two sides, the optimised reward model (proxy) and the judge."""

    candidate: str
    incumbent: str
    proxy: str
    judge: str


@dataclass(frozen=True, slots=True)
class EvidenceDesign:
    """How the answers were drawn: sample i of prompt p has stream (seed, p * samples + i)."""

    seed: int
    samples_per_prompt: int
    temperature: float
    max_tokens: int


@dataclass(frozen=True, slots=True)
class GatePrompt:
    """A held-out prompt of the gate split."""

    prompt_hash: str
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One sampled answer; `ids` include EOS if it finished.

    kl_nats: KL(candidate, init) summed over the answer; None where it was not measured.
    """

    prompt_hash: str
    sample_index: int
    text: str
    ids: tuple[int, ...]
    is_finished: bool
    proxy_score: float
    judge_score: float
    kl_nats: float | None = None

    @property
    def visible_ids(self) -> tuple[int, ...]:
        """The ids without EOS."""
        return self.ids[:-1] if self.is_finished else self.ids


@dataclass(frozen=True, slots=True)
class JudgedRanking:
    """One held-out vote: (better, worse) index pairs and both models' scores of the K answers."""

    prompt_hash: str
    pairs: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]
    proxy_scores: tuple[float, ...]
    judge_scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """The whole of it: prompts in their order, then answers prompt by prompt, then votes."""

    names: EvidenceNames
    design: EvidenceDesign
    prompts: tuple[GatePrompt, ...]
    candidate: tuple[JudgedAnswer, ...]
    incumbent: tuple[JudgedAnswer, ...]
    rankings: tuple[JudgedRanking, ...]
    training: TrainingFacts

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)
