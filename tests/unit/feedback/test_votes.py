"""A vote is live, void for a named reason, or waits for what it ranks."""

from __future__ import annotations

from typing import Any

import pytest
from vote_story import (
    EXPIRY_MINUTES,
    SERVED,
    at,
    first_places,
    ranked,
    reasons,
    retracted,
    revealed,
    served,
)

from feedback.events.completion import CompletionServed
from feedback.fold import fold
from feedback.identifiers import vote_id


class TestLiveVote:
    def test_the_latest_vote_wins_and_the_earlier_one_is_history(self) -> None:
        old, new = ranked(1), ranked(2, order=((2,), (1,), (0,)))
        projection = fold([new, served(0), old])
        assert first_places(projection) == [(2,)]
        assert projection.num_votes_sent == 1
        assert projection.superseded == {projection.votes[0].vote_id: (old.id,)}

    def test_of_two_votes_at_one_time_the_higher_id_wins(self) -> None:
        low = ranked(1, order=((0,), (1, 2)), key="a")
        high = ranked(1, order=((1,), (0, 2)), key="b")
        assert first_places(fold([served(0), high, low])) == [(1,)]

    def test_a_retried_event_counts_once_with_its_first_content(self) -> None:
        first = ranked(1, order=((0,), (1, 2)), key="retry")
        again = ranked(5, order=((1,), (0, 2)), key="retry")
        projection = fold([again, served(0), first, first])
        assert first_places(projection) == [(0,)]
        assert projection.superseded == {}

    def test_ties_are_kept(self) -> None:
        projection = fold([served(0), ranked(1, order=((1, 0), (2,)))])
        assert projection.votes[0].tie_groups == ((0, 1), (2,))

    def test_an_unordered_all_bad_is_one_tie_of_all(self) -> None:
        projection = fold([served(0), ranked(1, order=())])
        assert projection.votes[0].tie_groups == ((0, 1, 2),)
        assert projection.votes[0].ranking.verdict == "all_bad"

    def test_every_voter_of_a_ballot_has_a_vote_of_their_own(self) -> None:
        assert len(fold([served(0), ranked(1, "ann"), ranked(1, "bob")]).votes) == 2

    def test_choices_and_completions_follow_the_ballots_order(self) -> None:
        events = [served(0, "r"), served(0, "s"), ranked(1, order=[range(6)], responses=("s", "r"))]
        (vote,) = fold(events).votes
        assert [each.choice_id for each in vote.choices] == [
            each.choice_id for each in vote.ranking.ballot.choices
        ]
        assert [each.response_id for each in vote.completions] == ["s"] * 3 + ["r"] * 3


class TestVoids:
    def test_a_vote_after_the_reveal_is_void_and_the_one_before_stands(self) -> None:
        events = [served(0), ranked(1), revealed(2), ranked(3, order=((2,), (1,), (0,)))]
        projection = fold(events)
        assert first_places(projection) == [(0,)]
        assert reasons(projection) == []
        assert projection.superseded == {projection.votes[0].vote_id: (events[3].id,)}

    def test_a_first_vote_after_the_reveal_is_excluded(self) -> None:
        assert reasons(fold([served(0), revealed(1), ranked(2)])) == ["after_reveal"]

    def test_a_reveal_closes_the_ballot_for_that_voter_only(self) -> None:
        projection = fold([served(0), revealed(1, "ann"), ranked(2, "ann"), ranked(2, "bob")])
        assert [vote.ranking.voter for vote in projection.votes] == ["bob"]

    def test_a_retracted_vote_is_excluded_with_its_own_reason(self) -> None:
        assert reasons(fold([served(0), ranked(1), retracted(2)])) == ["retracted"]

    def test_a_vote_after_the_retraction_stands_again(self) -> None:
        projection = fold([served(0), ranked(1), retracted(2), ranked(3)])
        assert (len(projection.votes), reasons(projection)) == (1, [])

    def test_a_retraction_after_the_reveal_still_withdraws(self) -> None:
        events = [served(0), ranked(1), revealed(2), retracted(3), ranked(4)]
        assert reasons(fold(events)) == ["retracted"]

    def test_a_retraction_of_no_vote_is_no_vote(self) -> None:
        assert fold([served(0), retracted(1)]).num_votes_sent == 0

    def test_a_vote_after_the_expiry_is_excluded(self) -> None:
        assert reasons(fold([served(0), ranked(EXPIRY_MINUTES + 1)])) == ["expired"]
        assert reasons(fold([served(0), ranked(EXPIRY_MINUTES)])) == []

    @pytest.mark.parametrize(
        "fault", [{"delivery": "aborted"}, {"stop_reason": "aborted"}], ids=str
    )
    def test_what_was_not_fully_delivered_cannot_be_voted_on(self, fault: dict[str, Any]) -> None:
        assert reasons(fold([served(0, **fault), ranked(1)])) == ["aborted"]

    @pytest.mark.parametrize("text", ["I am SFT-0123456789ABCDEF.", "ppo-ffffffffffffffff says"])
    def test_an_answer_that_names_an_adapter_voids_the_vote(self, text: str) -> None:
        assert reasons(fold([served(0, text=text), ranked(1)])) == ["identity_leak"]

    def test_a_choice_that_its_completion_does_not_have_is_named(self) -> None:
        assert reasons(fold([served(0, choice_id="other"), ranked(1)])) == ["unknown_choice"]

    def test_without_consent_to_train_the_vote_is_excluded(self) -> None:
        assert reasons(fold([served(0, train=False), ranked(1)])) == ["no_consent"]

    def test_a_completion_logged_without_its_texts_is_a_matter_of_consent(self) -> None:
        bare = SERVED.model_dump() | {
            "response_id": "r",
            "prompt": None,
            "choices": (),
            "consent": {"log": False, "train": False},
        }
        events = [at(0, CompletionServed.model_validate(bare)), ranked(1)]
        assert reasons(fold(events)) == ["no_consent"]


class TestJoin:
    def test_a_vote_waits_for_its_completion_and_joins_when_it_comes(self) -> None:
        vote, completion = ranked(1), served(0)
        waiting = fold([vote])
        assert waiting.unjoined == (vote_id("ballot-r", "v"),)
        assert waiting.num_votes_sent == 1
        assert fold([vote, completion]) == fold([completion, vote])
        assert len(fold([vote, completion]).votes) == 1

    def test_a_composed_ballot_waits_for_all_of_its_completions(self) -> None:
        vote = ranked(1, order=[range(6)], responses=("r", "s"))
        assert len(fold([vote, served(0, "r")]).unjoined) == 1
        assert len(fold([vote, served(0, "r"), served(0, "s")]).votes) == 1

    def test_a_completion_logged_later_than_its_vote_still_joins(self) -> None:
        assert len(fold([ranked(1), served(5)]).votes) == 1

    def test_a_void_vote_needs_no_completion_to_be_counted(self) -> None:
        assert reasons(fold([ranked(1), retracted(2)])) == ["retracted"]
