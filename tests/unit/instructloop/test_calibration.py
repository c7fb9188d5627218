"""Calibration meets the agreement of the paper's labelers on answers of every quality."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from instructloop.demo.calibration import calibrate, load_ballots, main, measure
from instructloop.demo.personas import Answer, training_personas
from instructloop.demo.prompts import load_demonstrations


def answer(text: str, finish_reason: str = "stop") -> Answer:
    return Answer(text, min(48, round(len(text.split()) * 1.3) + 1), finish_reason)


def varied_ballots() -> list[tuple[str, list[Answer]]]:
    """Build ballots of a good, a shortened, an off-topic and a cut-off answer."""
    demonstrations = load_demonstrations()[:40]
    ballots = []
    for one, other in zip(demonstrations, demonstrations[7:] + demonstrations[:7], strict=True):
        first_sentence = one.completion.split(". ")[0].rstrip(".") + "."
        cut_off = other.completion[:70]
        ballots.append(
            (
                one.text,
                [
                    answer(one.completion),
                    answer(first_sentence),
                    answer(other.completion),
                    answer(cut_off, "length"),
                ],
            )
        )
    return ballots


BALLOTS = varied_ballots()


def test_calibrated_personas_agree_on_73_percent_and_tie_15_percent():
    personas = training_personas()
    noise, threshold = calibrate(BALLOTS, personas, num_repeats=3)
    tuned = [replace(p, noise_scale=noise, tie_threshold=threshold) for p in personas]
    measured = measure(BALLOTS, tuned, seed=99)
    assert measured.agreement == pytest.approx(0.73, abs=0.03)
    assert measured.tie_share == pytest.approx(0.15, abs=0.03)


def test_noise_lowers_agreement_and_a_wider_threshold_makes_more_ties():
    def measured(noise: float, threshold: float):
        tuned = [
            replace(p, noise_scale=noise, tie_threshold=threshold) for p in training_personas()
        ]
        return measure(BALLOTS, tuned, num_repeats=2)

    assert measured(0.0, 0.02).agreement > 0.9
    assert measured(0.02, 0.02).agreement > measured(0.2, 0.02).agreement > 0.5
    assert measured(0.1, 0.2).tie_share > measured(0.1, 0.02).tie_share


def test_the_first_answer_shown_is_favoured():
    biased = [replace(p, left_bonus=0.2) for p in training_personas()]
    fair = [replace(p, left_bonus=0.0) for p in training_personas()]
    assert measure(BALLOTS, biased).first_shown_share > 0.6
    assert measure(BALLOTS, fair, num_repeats=30).first_shown_share == pytest.approx(0.5, abs=0.04)


def test_the_report_reads_a_file_of_ballots(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    row = {
        "text": "Describe a fox.",
        "answers": [
            {
                "text": "A fox is a shy and clever animal.",
                "num_tokens": 12,
                "finish_reason": "stop",
            },
            {"text": "fox fox fox", "num_tokens": 48, "finish_reason": "length"},
        ],
    }
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(row) + "\n\n")
    assert load_ballots(path)[0][1][1] == Answer("fox fox fox", 48, "length")
    assert main([str(path)]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {
        "calibrated",
        "with_calibrated",
        "with_settings_in_force",
    }
