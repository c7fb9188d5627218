"""Each event type refuses what would not mean anything, and names the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from feedback.events.ballot import BallotClaims
from feedback.events.completion import CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import EVENT_MODELS
from feedback.events.examples import example_events
from feedback.events.prompt import ChatMessage, Prompt, hash_prompt
from feedback.events.ranking import (
    OutputFlags,
    PromptAnnotations,
    RankingRetracted,
    RankingSubmitted,
)
from feedback.events.rating import RatingSubmitted


def _data(event_type: str, **changes: Any) -> dict[str, Any]:
    return {**example_events()[event_type].data.model_dump(), **changes}


FIRST, SECOND = (choice["choice_id"] for choice in _data("completion.served")["choices"])


@pytest.mark.parametrize(
    ("tie_groups", "fault"),
    [
        ([[FIRST]], "leaves out"),
        ([[FIRST], [SECOND], ["choice-x"]], "not on the ballot"),
        ([[FIRST, FIRST], [SECOND]], "more than once"),
        ([[FIRST], [SECOND], [FIRST]], "more than once"),
        ([[FIRST], [], [SECOND]], "empty group"),
        ([], "leaves out"),
    ],
)
def test_a_ranking_places_each_choice_of_its_ballot_exactly_once(
    tie_groups: list[list[str]], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        RankingSubmitted.model_validate(_data("ranking.submitted", tie_groups=tie_groups))


def test_ties_are_kept_as_given() -> None:
    tied = RankingSubmitted.model_validate(_data("ranking.submitted", tie_groups=[[SECOND, FIRST]]))
    assert tied.tie_groups == ((SECOND, FIRST),)


def test_all_bad_needs_no_order() -> None:
    RankingSubmitted.model_validate(_data("ranking.submitted", verdict="all_bad", tie_groups=[]))


def test_a_vote_id_of_another_voter_is_refused() -> None:
    """Nobody can replace or withdraw the vote of another."""
    with pytest.raises(ValidationError, match="vote_id"):
        RankingSubmitted.model_validate(_data("ranking.submitted", vote_id="of somebody else"))
    with pytest.raises(ValidationError, match="vote_id"):
        RankingRetracted.model_validate(_data("ranking.retracted", voter="somebody else"))


def test_a_ballot_casts_only_its_own_voters_vote() -> None:
    with pytest.raises(ValidationError, match="not the ballot's voter"):
        RankingSubmitted.model_validate(_data("ranking.submitted", voter="somebody else"))


@pytest.mark.parametrize("likert", [0, 8])
def test_likert_runs_from_one_to_seven(likert: int) -> None:
    with pytest.raises(ValidationError, match="likert"):
        RatingSubmitted.model_validate(_data("rating.submitted", thumb=None, likert=likert))


@pytest.mark.parametrize("scales", [{"thumb": None}, {"thumb": "up", "likert": 3}])
def test_a_rating_uses_exactly_one_scale(scales: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        RatingSubmitted.model_validate(_data("rating.submitted", **scales))


@pytest.mark.parametrize(
    "changes",
    [
        {"shown_order": [FIRST]},
        {"shown_order": [FIRST, FIRST]},
        {"arms": ["incumbent"]},
        {"response_ids": ["cmpl-other"]},
        {"choices": []},
    ],
)
def test_inconsistent_ballot_claims_are_refused(changes: dict[str, Any]) -> None:
    claims = _data("ranking.submitted")["ballot"]
    with pytest.raises(ValidationError):
        BallotClaims.model_validate({**claims, **changes})


def test_without_consent_to_log_an_event_carries_usage_only() -> None:
    no_log = {"consent": {"log": False, "train": False}}
    with pytest.raises(ValidationError, match=r"consent\.log"):
        CompletionServed.model_validate(_data("completion.served", **no_log))
    bare = _data("completion.served", **no_log, prompt=None, choices=[])
    assert CompletionServed.model_validate(bare).usage.completion_tokens > 0


def test_logprobs_align_with_token_ids() -> None:
    document = _data("completion.served")
    short = {**document["choices"][0], "token_logprobs": [-1.0]}
    with pytest.raises(ValidationError, match="one per id"):
        CompletionServed.model_validate({**document, "choices": [short]})


def test_only_a_correction_names_a_choice() -> None:
    with pytest.raises(ValidationError, match="corrects"):
        DemonstrationSubmitted.model_validate(_data("demonstration.submitted", kind="plain"))
    with pytest.raises(ValidationError, match="corrects"):
        DemonstrationSubmitted.model_validate(_data("demonstration.submitted", corrects=None))


@pytest.mark.parametrize(("record", "num_expected"), [(OutputFlags, 11), (PromptAnnotations, 11)])
def test_all_flags_of_the_paper_are_there_and_tri_state(
    record: type[OutputFlags] | type[PromptAnnotations], num_expected: int
) -> None:
    """Paper Table 3 has eleven booleans per output, Table 7 eleven annotations per prompt."""
    assert len(record.model_fields) == num_expected
    assert set(record().model_dump().values()) == {None}
    for name in record.model_fields:
        assert record.model_validate({name: False}).model_dump()[name] is False


@pytest.mark.parametrize("event_type", EVENT_MODELS)
def test_every_field_says_what_it_is(event_type: str) -> None:
    undescribed = [
        name
        for name, field in EVENT_MODELS[event_type].model_fields.items()
        if not field.description
    ]
    assert undescribed == []


def test_prompt_hash_tells_raw_from_chat_and_roles_from_content() -> None:
    hashes = {
        hash_prompt("hi"),
        hash_prompt("hi "),
        hash_prompt(messages=[ChatMessage(role="user", content="hi")]),
        hash_prompt(messages=[ChatMessage(role="system", content="hi")]),
        hash_prompt(messages=[ChatMessage(role="user", content=c) for c in ("hi", "")]),
    }
    assert len(hashes) == 5
    assert all(len(name) == 32 for name in hashes)
    with pytest.raises(ValueError, match="text or messages"):
        hash_prompt()


def test_a_chat_prompt_needs_messages() -> None:
    with pytest.raises(ValidationError, match=r"prompt\.messages"):
        Prompt(format="chat", text="x", prompt_hash="h")
