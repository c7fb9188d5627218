"""A card can be checked: its numbers recompute from what lies beside it, and its page is inert."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from evidence_story import record_of

from feedback.registry import Registry
from feedback.snapshot_rows import RowCounts, SnapshotManifest
from trainer.card import Refreshed, card_of, write_refresh_card
from trainer.card_page import CURVES, figure, render_card
from trainer.evidence_record import EvidenceRecord
from trainer.gate import decide
from trainer.gate_figures import figures
from trainer.gate_settings import GateSettings

HOSTILE = "<script>alert('x')</script> & \"quoted\" {{ 7 * 7 }}"
COUNTS = RowCounts(demonstrations=60, rankings=96, prompts=96)
MANIFEST = SnapshotManifest(
    id="snapshot-0123456789abcdef",
    event_ids=("e1", "e2"),
    counts=COUNTS,
    votes_sent=101,
    excluded={"aborted": 3},
    unjoined=2,
    excluded_demonstrations={},
    splits={"train": COUNTS, "judge": COUNTS, "gate": COUNTS},
    labelers_disjoint=True,
    authors_disjoint=True,
    simulated=True,
    base=None,
    settings={},
)
HISTORY = [
    {name: float(i) / 7 for name in CURVES} | {"policy/max_ratio": 1.0 + i} for i in range(8)
]
REFRESHED = Refreshed(
    manifest=MANIFEST,
    base={"base_id": "tiny-llama", "weights_hash": "ab" * 32},
    adapters={"sft": "sft-1", "ppo": "ppo-00000000000000aa"},
    settings={"gate": GateSettings().model_dump()},
    seeds={"refresh": 11},
    timings_s={"ppo": 321.5},
    ppo_history=HISTORY,
    reward_training={"rm": {"rm/loss": 0.6}},
    left_out={"rankings/train: all_tied": 4},
    cost={"ppo_sampled_tokens": 73_728},
)


def content(record: EvidenceRecord, refreshed: Refreshed = REFRESHED) -> dict[str, Any]:
    found = figures(record, seed=0)
    return card_of(refreshed, record, found, decide(found.gate, GateSettings()))


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    """The card of a candidate that is somewhat better."""
    return content(record_of(seed=3))


@pytest.fixture
def write(registry: Registry) -> Callable[[EvidenceRecord], Path]:
    def write_card(record: EvidenceRecord) -> Path:
        found = figures(record, seed=0)
        verdict = decide(found.gate, GateSettings())
        return write_refresh_card(registry, REFRESHED, record, found, verdict)

    return write_card


def page_of(card: dict[str, Any]) -> str:
    return render_card(card | {"card_id": "card-1", "evidence_sha256": "0" * 64})


class Page(HTMLParser):
    """Collects tags with attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def outcome(first: float, second: float) -> float:
    return 1.0 if first > second else 0.5 if first == second else 0.0


def mean_by(evidence: dict[str, Any], score: str) -> float:
    return fmean(
        outcome(ours[score], theirs[score])
        for ours, theirs in product(evidence["candidate"], evidence["incumbent"])
        if ours["prompt_hash"] == theirs["prompt_hash"]
    )


def accuracy_by(evidence: dict[str, Any], scores: str) -> float:
    return fmean(
        outcome(ranking[scores][better], ranking[scores][worse])
        for ranking in evidence["rankings"]
        for better, worse in ranking["pairs"]
    )


def test_the_numbers_recompute_from_the_evidence_beside_the_card(
    write: Callable[[EvidenceRecord], Path],
) -> None:
    directory = write(record_of(seed=3))
    payload = (directory / "evidence.json").read_bytes()
    card, evidence = json.loads((directory / "card.json").read_bytes()), json.loads(payload)
    assert card["evidence_sha256"] == hashlib.sha256(payload).hexdigest()
    rates = card["win_rates"]
    assert rates["by_judge"]["estimate"] == pytest.approx(mean_by(evidence, "judge_score"))
    proxy = rates["by_optimised_reward_model"]["estimate"]
    assert proxy == pytest.approx(mean_by(evidence, "proxy_score"))
    models = card["reward_models"]
    accuracy = accuracy_by(evidence, "proxy_scores")
    baseline = max(accuracy_by(evidence, "lengths"), 1 - accuracy_by(evidence, "lengths"))
    assert models["rm_accuracy"]["estimate"] == pytest.approx(accuracy)
    judged = accuracy_by(evidence, "judge_scores")
    assert models["judge_accuracy"]["estimate"] == pytest.approx(judged)
    assert models["rm_over_length"]["estimate"] == pytest.approx(accuracy - baseline)
    lengths = {
        side: fmean(len(a["ids"]) - a["is_finished"] for a in evidence[side])
        for side in ("candidate", "incumbent")
    }
    ratio = lengths["candidate"] / lengths["incumbent"]
    assert card["headline"]["length_ratio"] == pytest.approx(ratio)
    eos_rate = fmean(a["is_finished"] for a in evidence["candidate"])
    assert card["answers"]["candidate"]["eos_rate"] == pytest.approx(eos_rate)
    kls = [a["kl_nats"] for a in evidence["candidate"] if a["kl_nats"] is not None]
    assert card["headline"]["kl_nats"] == pytest.approx(fmean(kls))


def test_the_same_refresh_has_the_same_card_and_another_one_another(
    write: Callable[[EvidenceRecord], Path],
) -> None:
    first = write(record_of(seed=3))
    assert write(record_of(seed=3)) == first
    assert write(record_of(seed=4)) != first
    assert json.loads((first / "card.json").read_bytes())["card_id"] == first.name
    assert sorted(path.name for path in first.iterdir()) == [
        "card.html",
        "card.json",
        "evidence.json",
    ]


def test_every_win_rate_names_its_judge_and_how_much_it_rests_on(card: dict[str, Any]) -> None:
    for rate in card["win_rates"].values():
        assert rate["judge"].startswith("rm-")
        assert rate["num_prompts"] == 20
        assert rate["num_comparisons"] == 320
        assert rate["low"] <= rate["estimate"] <= rate["high"]


def test_the_samples_are_the_first_prompts_and_first_answers(card: dict[str, Any]) -> None:
    record, samples = record_of(seed=3), card["samples"]
    assert [sample["prompt"] for sample in samples] == [p.text for p in record.prompts[:6]]
    for i, sample in enumerate(samples):
        assert sample["candidate"]["text"] == record.candidate[4 * i].text
        assert sample["incumbent"]["text"] == record.incumbent[4 * i].text


def test_every_iteration_of_ppo_is_kept(card: dict[str, Any]) -> None:
    curves = card["ppo"]["curves"]
    assert curves["objective/kl"] == [i / 7 for i in range(8)]
    assert curves["policy/max_ratio"][-1] == 8.0


def test_a_refusal_names_its_sentinels_on_the_page() -> None:
    record = record_of(seed=3)
    worse = replace(record, candidate=record.incumbent)
    card = content(worse)
    assert not card["passed"]
    assert "win_rate" in card["refused_by"]
    page = Page(page_of(card)).text
    assert "Refused by win rate" in " ".join(page.split())


def test_a_figure_that_is_no_number_is_null_in_json_and_said_in_words() -> None:
    record = record_of(seed=3)
    unmeasured = tuple(replace(answer, kl_nats=None) for answer in record.candidate)
    card = content(replace(record, candidate=unmeasured))
    assert card["headline"]["kl_nats"] is None
    assert "kl" in card["refused_by"]
    json.dumps(card, allow_nan=False)
    assert "not a number" in page_of(card)


def test_texts_of_users_and_models_are_escaped() -> None:
    page = page_of(content(record_of(seed=3, text=HOSTILE)))
    assert "<script" not in page
    parsed = Page(page)
    assert f"{HOSTILE} to question 0?" in parsed.text
    assert f"{HOSTILE} number 0 to p0." in parsed.text


def test_the_page_is_self_contained_and_runs_nothing(card: dict[str, Any]) -> None:
    page = page_of(card)
    for tag, attributes in Page(page).tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "form"}
        assert not {"src", "href"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page


def test_the_page_draws_a_curve_for_each_figure_and_an_interval_for_each_rate(
    card: dict[str, Any],
) -> None:
    tags = Page(page_of(card)).tags
    drawings = [attributes.get("class") for tag, attributes in tags if tag == "svg"]
    assert drawings.count("curve") == len(CURVES)
    assert drawings.count("interval") == 7


def test_a_refresh_without_ppo_figures_has_a_page_without_curves(card: dict[str, Any]) -> None:
    assert 'class="curve"' not in page_of(card | {"ppo": {"curves": {}}})


def test_every_vote_and_all_that_was_left_out_is_accounted_for(card: dict[str, Any]) -> None:
    data = card["data"]
    known = data["votes_in_dataset"] + sum(data["excluded"].values()) + data["unjoined"]
    assert data["votes_sent"] == known + data["votes_lost"]
    assert data["votes_lost"] == 0
    text = " ".join(Page(page_of(card)).text.split())
    assert re.search(r"aborted\s*3", text)
    assert "all tied" in text


def test_the_card_counts_the_work_of_the_gate(card: dict[str, Any]) -> None:
    record = record_of(seed=3)
    answers = record.candidate + record.incumbent
    assert card["cost"]["ppo_sampled_tokens"] == 73_728
    assert card["cost"]["gate_sampled_tokens"] == sum(len(answer.ids) for answer in answers)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.68219, "0.682"),
        (12, "12"),
        (73_728, "73,728"),
        (1.5e-6, "1.5e-06"),
        (0.0, "0"),
        (31.416, "31.42"),
        (None, "not a number"),
        (True, "yes"),
        ("rm-1", "rm-1"),
    ],
)
def test_numbers_are_written_shortly(value: Any, written: str) -> None:
    assert figure(value) == written
