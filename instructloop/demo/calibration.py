"""Tune the personas' noise and tie threshold so that they agree as often as people do.

    python -m instructloop.demo.calibration ANSWERS.jsonl

Each line holds {"text": request, "answers": [{"text", "num_tokens", "finish_reason"}, ...]}, the
answers sampled at temperature 1 as for a ballot. It knows no model; docs/demo.md holds the result.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from feedback.preferences import outcomes_of
from instructloop.demo.personas import Answer, Habit, Persona, rank, training_personas

TARGET_AGREEMENT = 0.73
TARGET_TIE_SHARE = 0.15
_BISECTIONS = 8
_ROUNDS = 3

Ballots = Sequence[tuple[str, Sequence[Answer]]]
"""Requests with the answers in the order shown."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How much the considered personas agree on the same ballots."""

    agreement: float
    """Share of pairs of answers put in the same order, of those that neither persona tied."""
    tie_share: float
    """Share of pairs of answers that a persona ties."""
    first_shown_share: float
    """Share of strict comparisons with the first shown answer that it wins."""
    num_pairs: int
    """Pairs of answers compared, over all pairs of personas, ties left out."""


def measure(
    ballots: Ballots, personas: Sequence[Persona], *, seed: int = 0, num_repeats: int = 10
) -> Agreement:
    """Let every considered persona rank every ballot, and compare all pairs of personas.

    Each repeat shows the answers in a new order, the same for all personas.
    """
    considered = [persona for persona in personas if persona.habit is Habit.CONSIDERED]
    rng = random.Random(seed)
    tally: Counter[str] = Counter()
    for _ in range(num_repeats):
        for request, answers in ballots:
            shown = rng.sample(answers, len(answers))
            rankings = [rank(persona, request, shown, rng) for persona in considered]
            tally.update(_tally([list(outcomes_of(r).values()) for r in rankings], len(shown)))
    return Agreement(
        agreement=tally["same"] / max(1, tally["both strict"]),
        tie_share=tally["tied"] / max(1, tally["pairs"]),
        first_shown_share=tally["first won"] / max(1, tally["first strict"]),
        num_pairs=tally["both strict"],
    )


def _tally(rankings: Sequence[list[float]], num_answers: int) -> Counter[str]:
    """Count over one ballot; a ranking is its pairs' outcomes, those of the first answer first."""
    tally: Counter[str] = Counter()
    for outcomes in rankings:
        firsts = outcomes[: num_answers - 1]
        tally["pairs"] += len(outcomes)
        tally["tied"] += outcomes.count(0.5)
        tally["first won"] += firsts.count(1)
        tally["first strict"] += len(firsts) - firsts.count(0.5)
    for one, other in combinations(rankings, 2):
        strict = [(a, b) for a, b in zip(one, other, strict=True) if 0.5 not in (a, b)]
        tally["both strict"] += len(strict)
        tally["same"] += sum(1 for a, b in strict if a == b)
    return tally


def calibrate(
    ballots: Ballots, personas: Sequence[Persona], *, num_repeats: int = 10
) -> tuple[float, float]:
    """Return the noise scale and the tie threshold that meet both targets on these ballots."""
    measured = partial(_tuned, ballots, personas, num_repeats=num_repeats)
    noise, threshold = 0.1, 0.03
    for _ in range(_ROUNDS):
        noise = _bisect(partial(_missing_agreement, measured, threshold))
        threshold = _bisect(partial(_excess_ties, measured, noise))
    return noise, threshold


def load_ballots(path: Path) -> list[tuple[str, list[Answer]]]:
    """Read ballots from JSON Lines; the order of the answers is the order shown."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [(row["text"], [Answer(**answer) for answer in row["answers"]]) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the calibrated settings and what they and the settings in force measure."""
    parser = argparse.ArgumentParser(prog="python -m instructloop.demo.calibration")
    parser.add_argument("answers", type=Path, help="JSON Lines of requests with their answers")
    ballots = load_ballots(parser.parse_args(arguments).answers)
    personas = training_personas()
    noise, threshold = calibrate(ballots, personas)
    report = {
        "calibrated": {"noise_scale": noise, "tie_threshold": threshold},
        "with_calibrated": asdict(_tuned(ballots, personas, noise, threshold, seed=1)),
        "with_settings_in_force": asdict(measure(ballots, personas, seed=1)),
    }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def _missing_agreement(
    measured: Callable[[float, float], Agreement], threshold: float, noise: float
) -> float:
    return TARGET_AGREEMENT - measured(noise, threshold).agreement


def _excess_ties(
    measured: Callable[[float, float], Agreement], noise: float, threshold: float
) -> float:
    return measured(noise, threshold).tie_share - TARGET_TIE_SHARE


def _tuned(
    ballots: Ballots,
    personas: Sequence[Persona],
    noise: float,
    threshold: float,
    *,
    seed: int = 0,
    num_repeats: int = 10,
) -> Agreement:
    tuned = [replace(p, noise_scale=noise, tie_threshold=threshold) for p in personas]
    return measure(ballots, tuned, seed=seed, num_repeats=num_repeats)


def _bisect(excess: Callable[[float], float], low: float = 0.0, high: float = 0.5) -> float:
    """Find where an increasing function crosses zero between `low` and `high`."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return (low + high) / 2


if __name__ == "__main__":
    raise SystemExit(main())
