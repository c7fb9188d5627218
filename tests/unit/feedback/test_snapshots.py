"""A snapshot is the same for the same events, accounts for every vote, and has a placebo."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from feedback.base_description import BaseDescription
from feedback.fold import fold
from feedback.registry import Registry
from feedback.snapshots import (
    SnapshotSettings,
    build_snapshot,
    count_votes_sent,
    permute_rankings,
)


def test_arrival_order_duplicates_and_time_of_building_do_not_change_the_snapshot(
    busy_traffic: Any, tmp_path: Path
) -> None:
    reference = build_snapshot(fold(busy_traffic.events), tmp_path / "0")
    for seed in range(1, 4):
        events = busy_traffic.events + busy_traffic.events[:20]
        shuffled = random.Random(seed).sample(events, len(events))
        again = build_snapshot(fold(shuffled), tmp_path / str(seed))
        assert again == reference


def test_one_more_vote_is_another_snapshot(busy_traffic: Any, tmp_path: Path) -> None:
    before = build_snapshot(fold(busy_traffic.events), tmp_path)
    busy_traffic.vote(busy_traffic.serve("new", user="new"), [[0], [1], [2]], "new")
    assert build_snapshot(fold(busy_traffic.events), tmp_path).id != before.id


def test_rows_are_sorted_by_event_id_and_the_manifest_names_the_events(
    busy_traffic: Any, tmp_path: Path
) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    named = set()
    for rows in (snapshot.demonstrations, snapshot.rankings, snapshot.prompts):
        ids = [row.event_id for row in rows]
        assert ids == sorted(ids)
        named |= set(ids)
    assert snapshot.manifest.event_ids == tuple(sorted(named))
    assert named == {event.id for event in busy_traffic.events}


def test_what_was_sampled_and_ranked_arrives_unchanged(traffic: Any, tmp_path: Path) -> None:
    completion = traffic.serve("why?", ("x", "y", "z"))
    ranking = traffic.vote(completion, [[2], [0, 1]], "bob")
    row = build_snapshot(fold(traffic.events), tmp_path).rankings[0]
    assert row.tie_groups == ((2,), (0, 1))
    assert [choice.text for choice in row.choices] == ["x", "y", "z"]
    assert row.choices[1].token_ids == (6, 0)
    assert row.choices[1].token_logprobs == (-0.1, -1.5)
    assert row.prompt_token_ids == (1, 2, 3)
    assert (row.vote_id, row.voter, row.prompt_text) == (ranking.vote_id, "bob", "why?")


def test_every_vote_sent_is_a_row_or_has_a_reason_or_waits(traffic: Any, tmp_path: Path) -> None:
    for number in range(10):
        traffic.vote(traffic.serve(f"good {number}"), [[0], [1], [2]], f"voter {number}")
    for source in ("eval", "eval", "canary"):
        traffic.vote(traffic.serve(f"{source} prompt", source=source), [[0], [1], [2]], "bob")
    traffic.vote(traffic.serve("secret", consent=False), [[0], [1], [2]], "bob")
    late = traffic.serve("late")
    traffic.vote(late, [[0], [1], [2]], "bob")
    events = [event for event in traffic.events if event.data is not late]
    manifest = build_snapshot(fold(events), tmp_path, votes_sent=count_votes_sent(events)).manifest
    assert manifest.votes_sent == 15
    assert manifest.votes_in_dataset == 10
    assert manifest.excluded == {"canary_traffic": 1, "eval_traffic": 2, "no_consent": 1}
    assert manifest.unjoined == 1
    assert manifest.votes_lost == 0
    assert build_snapshot(fold(traffic.events), tmp_path).manifest.unjoined == 0


def test_changes_of_mind_are_one_vote(traffic: Any) -> None:
    completion = traffic.serve("why?")
    for order in ([[0], [1], [2]], [[1], [0], [2]]):
        traffic.vote(completion, order, "bob")
    assert count_votes_sent(traffic.events) == 1


def test_a_vote_that_the_fold_dropped_would_show_as_lost(busy_traffic: Any, tmp_path: Path) -> None:
    """The number sent is counted in the record, not added up from what is left."""
    kept = fold(busy_traffic.events[2:])
    sent = count_votes_sent(busy_traffic.events)
    assert build_snapshot(kept, tmp_path, votes_sent=sent).manifest.votes_lost == 1


def test_the_splits_hold_every_row_and_share_no_prompt_or_person(
    busy_traffic: Any, tmp_path: Path
) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    manifest = snapshot.manifest
    assert manifest.labelers_disjoint
    assert manifest.authors_disjoint
    assert sum(counts.rankings for counts in manifest.splits.values()) == 40
    assert all(counts.rankings for counts in manifest.splits.values())
    assert manifest.splits["train"].demonstrations == 6
    for field in ("prompt_hash", "voter"):
        held = {(getattr(row, field), row.split) for row in snapshot.rankings}
        assert len(held) == len({value for value, _ in held})
    of_prompt = {row.prompt_hash: row.split for row in snapshot.prompts}
    assert all(of_prompt[row.prompt_hash] == row.split for row in snapshot.rankings)


def test_a_single_labeler_is_recorded_as_such(traffic: Any, tmp_path: Path) -> None:
    for number in range(30):
        traffic.vote(traffic.serve(f"prompt {number}"), [[0], [1], [2]], "the only one")
    manifest = build_snapshot(fold(traffic.events), tmp_path).manifest
    assert not manifest.labelers_disjoint
    assert manifest.splits["gate"].rankings == 6


def test_the_manifest_names_base_mark_and_settings(
    busy_traffic: Any, registry: Registry, tiny_base: BaseDescription
) -> None:
    (registry.data_dir / "simulated").touch()
    settings = SnapshotSettings(split_seed=3)
    manifest = build_snapshot(fold(busy_traffic.events), registry.data_dir, settings).manifest
    assert manifest.simulated
    assert manifest.base is not None
    assert manifest.base["weights_hash"] == tiny_base.weights_hash
    assert manifest.settings["split_seed"] == 3
    assert not manifest.placebo


def test_nothing_to_train_on_is_an_empty_snapshot(tmp_path: Path) -> None:
    manifest = build_snapshot(fold([]), tmp_path).manifest
    assert (manifest.votes_sent, manifest.votes_lost, manifest.event_ids) == (0, 0, ())


def test_shares_that_do_not_add_up_are_refused() -> None:
    for shares in ({"train": 0.9, "judge": 0.2, "gate": 0.1}, {"train": 1.0}, {"test": 1.0}):
        with pytest.raises(ValidationError):
            SnapshotSettings(shares=shares)
    with pytest.raises(ValidationError):
        SnapshotSettings.model_validate({"seed": 3})


def test_the_placebo_deals_places_at_random_and_keeps_everything_else(
    busy_traffic: Any, tmp_path: Path
) -> None:
    snapshot = build_snapshot(fold(busy_traffic.events), tmp_path)
    placebo = permute_rankings(snapshot, seed=1)
    assert placebo.manifest.placebo
    assert placebo.id != snapshot.id
    assert placebo.manifest.settings["permuted_from"] == snapshot.id
    assert (placebo.demonstrations, placebo.prompts) == (snapshot.demonstrations, snapshot.prompts)
    for before, after in zip(snapshot.rankings, placebo.rankings, strict=True):
        assert after.choices == before.choices
        assert [len(g) for g in after.tie_groups] == [len(g) for g in before.tie_groups]
        assert sorted(i for g in after.tie_groups for i in g) == [0, 1, 2]
    assert permute_rankings(snapshot, seed=1) == placebo
    assert permute_rankings(snapshot, seed=2).id != placebo.id


def test_in_the_placebo_every_answer_is_best_equally_often(traffic: Any, tmp_path: Path) -> None:
    """300 rankings with the same winner: after dealing each of three wins about 100."""
    for number in range(300):
        traffic.vote(traffic.serve(f"prompt {number}"), [[0], [1], [2]], "bob")
    placebo = permute_rankings(build_snapshot(fold(traffic.events), tmp_path), seed=0)
    winners = Counter(row.tie_groups[0][0] for row in placebo.rankings)
    assert all(abs(winners[index] - 100) < 35 for index in range(3))


def test_a_placebo_that_changes_no_ranking_still_has_an_id_of_its_own(
    traffic: Any, tmp_path: Path
) -> None:
    traffic.vote(traffic.serve("why?"), [[0, 1, 2]], "bob")
    snapshot = build_snapshot(fold(traffic.events), tmp_path)
    assert permute_rankings(snapshot, seed=0).id != snapshot.id
