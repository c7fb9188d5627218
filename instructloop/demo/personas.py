"""SIMULATED labelers: each ranks answers by its own weights, with noise, ties and a bias.

A persona knows only the request and the answers in the order shown; it knows no adapter and no
model. Its noise and its tie threshold are calibrated (`calibration.py`) so that two personas agree
about as often as InstructGPT's labelers did (paper section 3.4: 72.6 +- 1.5%).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import log

from instructloop.demo.preference import Terms, Weights, terms_of, weigh

NUM_TRAINING = 12
NUM_HELD_OUT = 4
WEIGHT_SPREAD = 0.3
PERSONA_SEED = 2203_02155

# Calibrated on answers sampled at temperature 1; docs/demo.md holds the measurement.
NOISE_SCALE = 0.15
TIE_THRESHOLD = 0.078
LEFT_BONUS = 0.05

TieGroups = tuple[tuple[int, ...], ...]


class Habit(StrEnum):
    """How a labeler decides."""

    CONSIDERED = "considered"
    CARELESS = "careless"
    LONGEST = "longest"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as a client sees it; `num_tokens` counts the tokens of its text, not its end."""

    text: str
    num_tokens: int
    finish_reason: str
    choice_id: str = field(default="", compare=False)
    """The service's opaque handle, to find the sampled tokens by; tells a persona nothing."""

    @property
    def is_finished(self) -> bool:
        """Whether the model ended the answer itself."""
        return self.finish_reason == "stop"


@dataclass(frozen=True, slots=True)
class Persona:
    """One simulated labeler; utilities, noise and threshold share the scale [0, 1]."""

    persona_id: str
    weights: Weights
    habit: Habit = Habit.CONSIDERED
    noise_scale: float = NOISE_SCALE
    tie_threshold: float = TIE_THRESHOLD
    left_bonus: float = LEFT_BONUS


def training_personas() -> list[Persona]:
    """List the voters: twelve considered personas, a careless one and one who likes length."""
    rng = random.Random(PERSONA_SEED)
    considered = [
        Persona(f"persona-{n:02d}", _spread_weights(rng)) for n in range(1, NUM_TRAINING + 1)
    ]
    careless = Persona("persona-careless", Weights(), Habit.CARELESS)
    longest = Persona("persona-longest", Weights(), Habit.LONGEST)
    return [*considered, careless, longest]


def held_out_personas() -> list[Persona]:
    """List the judges of the final measurement, who never vote and have neither noise nor bias."""
    rng = random.Random(PERSONA_SEED + 1)
    return [
        Persona(f"held-out-{n}", _spread_weights(rng), noise_scale=0.0, left_bonus=0.0)
        for n in range(1, NUM_HELD_OUT + 1)
    ]


def rank(
    persona: Persona, prompt_text: str, answers: Sequence[Answer], rng: random.Random
) -> TieGroups:
    """Rank answers: indices into the order shown, grouped by tie, best group first.

    Every call with the same generator state gives the same ranking.
    """
    if persona.habit is Habit.CARELESS:
        felt = [rng.random() for _ in answers]
    elif persona.habit is Habit.LONGEST:
        felt = [len(answer.text.split()) / 100 for answer in answers]
    else:
        felt = perceived(persona, [_terms(prompt_text, answer) for answer in answers], rng)
    return tie_groups(felt, persona.tie_threshold)


def perceived(persona: Persona, terms: Sequence[Terms], rng: random.Random) -> list[float]:
    """Return what a persona feels about answers in the order shown: utility, bias and noise.

    Gumbel noise makes choices follow a Bradley-Terry model, the reward model's own assumption.
    """
    felt = [weigh(each, persona.weights) + persona.noise_scale * _gumbel(rng) for each in terms]
    if felt:
        felt[0] += persona.left_bonus
    return felt


def tie_groups(felt: Sequence[float], threshold: float) -> TieGroups:
    """Group indices whose value lies less than `threshold` below the best of their group."""
    groups: list[list[int]] = []
    for index in sorted(range(len(felt)), key=lambda i: (-felt[i], i)):
        if groups and felt[groups[-1][0]] - felt[index] < threshold:
            groups[-1].append(index)
        else:
            groups.append([index])
    return tuple(tuple(sorted(group)) for group in groups)


def _terms(prompt_text: str, answer: Answer) -> Terms:
    return terms_of(prompt_text, answer.text, answer.is_finished, answer.num_tokens)


def _gumbel(rng: random.Random) -> float:
    return -log(-log(rng.random() or 0.5))


def _spread_weights(rng: random.Random) -> Weights:
    """Draw weights within +-30% of the usual ones, scaled back to a sum of 1."""
    drawn = {
        name: usual * rng.uniform(1 - WEIGHT_SPREAD, 1 + WEIGHT_SPREAD)
        for name, usual in asdict(Weights()).items()
    }
    total = sum(drawn.values())
    return Weights(**{name: weight / total for name, weight in drawn.items()})
