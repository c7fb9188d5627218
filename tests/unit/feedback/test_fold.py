"""Every honest vote counts once, whatever order events arrive in and however often."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.events.ballot import BallotChoice, BallotClaims, BallotRevealed, BallotSkipped
from feedback.events.completion import Choice, CompletionServed
from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event, EventData, new_event
from feedback.events.erasure import SubjectErased
from feedback.events.examples import example_events
from feedback.events.ranking import RankingRetracted, RankingSubmitted
from feedback.events.rating import RatingSubmitted
from feedback.fold import fold
from feedback.identifiers import vote_id
from feedback.projection import Projection

START = datetime(2026, 11, 30, tzinfo=UTC)
EXPIRY_MINUTES = 1000
_SERVED = example_events()["completion.served"].data
_DEMONSTRATION = example_events()["demonstration.submitted"].data
assert isinstance(_SERVED, CompletionServed)
assert isinstance(_DEMONSTRATION, DemonstrationSubmitted)
SERVED, DEMONSTRATION = _SERVED, _DEMONSTRATION


def at(minutes: int, data: EventData, key: str | None = None) -> Event:
    return new_event(data, source="test", key=key, time=START + timedelta(minutes=minutes))


def choice(response: str, index: int, **changes: Any) -> Choice:
    fields = SERVED.choices[0].model_dump() | {
        "choice_id": f"{response}-{index}",
        "index": index,
        "text": f" answer {index}",
        **changes,
    }
    return Choice.model_validate(fields)


def served(
    minutes: int, response: str = "r", user: str = "author", train: bool = True, **changes: Any
) -> Event:
    """A completion with three choices; `changes` go to its second choice."""
    choices = [choice(response, 0), choice(response, 1, **changes), choice(response, 2)]
    fields = SERVED.model_dump() | {
        "response_id": response,
        "user": user,
        "choices": choices,
        "consent": {"log": True, "train": train},
    }
    return at(minutes, CompletionServed.model_validate(fields))


def ballot(voter: str, responses: Sequence[str] = ("r",)) -> BallotClaims:
    choices = tuple(
        BallotChoice(
            choice_id=f"{response}-{index}",
            adapter_id="sft-0123456789abcdef",
            index=index,
            response_id=response,
        )
        for response in responses
        for index in range(3)
    )
    return BallotClaims(
        ballot_id="ballot-" + "-".join(responses),
        response_ids=tuple(responses),
        prompt_hash=SERVED.prompt.prompt_hash if SERVED.prompt else "",
        choices=choices,
        shown_order=tuple(each.choice_id for each in choices),
        voter=voter,
        issued_at=START,
        expires_at=START + timedelta(minutes=EXPIRY_MINUTES),
    )


def ranked(
    minutes: int,
    voter: str = "v",
    order: Sequence[Sequence[int]] = ((0,), (1,), (2,)),
    responses: Sequence[str] = ("r",),
    key: str | None = None,
) -> Event:
    claims = ballot(voter, responses)
    groups = [[claims.choices[place].choice_id for place in group] for group in order]
    ranking = RankingSubmitted.model_validate(
        {
            "vote_id": vote_id(claims.ballot_id, voter),
            "ballot": claims,
            "voter": voter,
            "verdict": "ranked" if groups else "all_bad",
            "tie_groups": groups,
        }
    )
    return at(minutes, ranking, key)


def revealed(minutes: int, voter: str = "v", response: str = "r") -> Event:
    return at(minutes, BallotRevealed(ballot_id=f"ballot-{response}", voter=voter))


def retracted(minutes: int, voter: str = "v", response: str = "r") -> Event:
    name = f"ballot-{response}"
    vote = vote_id(name, voter)
    return at(minutes, RankingRetracted(vote_id=vote, ballot_id=name, voter=voter))


def skipped(minutes: int, voter: str = "v", response: str = "r") -> Event:
    return at(minutes, BallotSkipped(ballot=ballot(voter, (response,)), voter=voter, reason="x"))


def erased(minutes: int, pseudonym: str) -> Event:
    return at(minutes, SubjectErased(pseudonym=pseudonym))


def reasons(projection: Projection) -> list[str]:
    return list(projection.excluded.values())


def first_places(projection: Projection) -> list[tuple[int, ...]]:
    return [vote.tie_groups[0] for vote in projection.votes]


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


class TestErasure:
    def test_an_erased_authors_texts_and_the_votes_on_them_go(self) -> None:
        projection = fold([served(0, user="ann"), ranked(1, "bob"), erased(2, "ann")])
        assert projection.completions == {}
        assert reasons(projection) == ["erased"]
        assert projection.erased == {"ann"}

    def test_an_erased_voters_votes_go_and_other_votes_stay(self) -> None:
        events = [served(0), ranked(1, "ann"), ranked(1, "bob"), erased(2, "ann")]
        projection = fold(events)
        assert [vote.ranking.voter for vote in projection.votes] == ["bob"]
        assert reasons(projection) == ["erased"]

    def test_no_text_of_an_erased_person_is_left_anywhere(self) -> None:
        mark = "a very private sentence"
        correction = DEMONSTRATION.model_copy(
            update={"corrects": "r-0", "author": "bob", "completion": mark, "response_id": None}
        )
        events = [
            served(0, user="ann", text=mark),
            ranked(1, "ann"),
            at(1, correction),
            at(1, DEMONSTRATION.model_copy(update={"author": "ann", "completion": mark})),
            at(1, RatingSubmitted(response_id="r", choice_id="r-0", thumb="up", voter="bob")),
            skipped(1, "ann"),
            erased(2, "ann"),
        ]
        assert mark in repr(fold(events[:-1]))
        projection = fold(events)
        assert mark not in repr(projection)
        assert (projection.demonstrations, projection.ratings, projection.skips) == ((), (), ())

    def test_who_comes_back_after_the_erasure_is_heard_again(self) -> None:
        events = [served(0), ranked(1, "ann"), erased(2, "ann"), ranked(3, "ann")]
        assert len(fold(events).votes) == 1

    def test_an_erased_organisation_takes_all_of_its_users_along(self) -> None:
        assert SERVED.org is not None
        assert fold([served(0), erased(1, SERVED.org)]).completions == {}


class TestOtherFeedback:
    def test_a_correction_is_a_demonstration_and_no_comparison(self) -> None:
        projection = fold([served(0), at(1, DEMONSTRATION)])
        assert [each.data.kind for each in projection.demonstrations] == ["correction"]
        assert projection.num_votes_sent == 0

    def test_the_latest_version_of_a_demonstration_counts(self) -> None:
        better = DEMONSTRATION.model_copy(update={"completion": "better"})
        projection = fold([at(2, better), at(1, DEMONSTRATION)])
        assert [each.data.completion for each in projection.demonstrations] == ["better"]

    def test_a_demonstration_without_consent_to_train_is_excluded(self) -> None:
        private = DEMONSTRATION.model_dump() | {"consent": {"log": True, "train": False}}
        projection = fold([at(1, DemonstrationSubmitted.model_validate(private))])
        assert list(projection.excluded_demonstrations.values()) == ["no_consent"]

    def test_a_rating_is_absolute_and_the_latest_per_voter_counts(self) -> None:
        def rated(minutes: int, voter: str, likert: int) -> Event:
            rating = RatingSubmitted(response_id="r", choice_id="r-0", likert=likert, voter=voter)
            return at(minutes, rating)

        projection = fold([rated(2, "ann", 6), rated(1, "ann", 2), rated(1, "bob", 3), served(0)])
        assert [each.data.likert for each in projection.ratings] == [3, 6]
        assert projection.num_votes_sent == 0

    def test_skips_are_counted_once_per_ballot_and_voter(self) -> None:
        projection = fold([served(0), skipped(1, "ann"), skipped(2, "ann"), skipped(1, "bob")])
        assert len(projection.skips) == 2
        assert projection.num_votes_sent == 0

    def test_no_event_gives_the_empty_state(self) -> None:
        assert fold([]).num_events == 0


VOTERS = st.sampled_from(["ann", "bob", "cid"])
RESPONSES = st.sampled_from(["r", "s"])
MINUTES = st.integers(0, 6) | st.just(EXPIRY_MINUTES + 1)
ORDERS = st.sampled_from([((0,), (1,), (2,)), ((2,), (0, 1)), ((1, 2, 0),), ()])
FAULTS = st.sampled_from(
    [{}, {}, {}, {"delivery": "aborted"}, {"text": "rm-0123456789abcdef"}, {"choice_id": "other"}]
)
KEYS = st.none() | st.sampled_from(["key-1", "key-2"])
EVENTS = st.one_of(
    st.builds(
        lambda minutes, response, user, train, fault: served(
            minutes, response, user, train, **fault
        ),
        MINUTES,
        RESPONSES,
        VOTERS,
        st.booleans(),
        FAULTS,
    ),
    st.builds(
        lambda minutes, voter, order, response, key: ranked(
            minutes, voter, order, (response,), key
        ),
        MINUTES,
        VOTERS,
        ORDERS,
        RESPONSES,
        KEYS,
    ),
    st.builds(
        lambda minutes, voter: ranked(minutes, voter, [range(6)], ("r", "s")), MINUTES, VOTERS
    ),
    st.builds(revealed, MINUTES, VOTERS, RESPONSES),
    st.builds(retracted, MINUTES, VOTERS, RESPONSES),
    st.builds(skipped, MINUTES, VOTERS, RESPONSES),
    st.builds(erased, MINUTES, VOTERS),
    st.builds(at, MINUTES, st.just(DEMONSTRATION)),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), events=st.lists(EVENTS, max_size=25))
def test_any_order_and_any_repetition_give_the_same_projection(
    data: st.DataObject, events: list[Event]
) -> None:
    repeated = events + (data.draw(st.lists(st.sampled_from(events))) if events else [])
    shuffled = data.draw(st.permutations(repeated))
    one, other = fold(events), fold(shuffled)
    assert one == other
    assert repr(one.votes) == repr(other.votes)
    assert list(one.excluded.items()) == list(other.excluded.items())


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENTS, max_size=25, unique_by=lambda event: event.id))
def test_every_distinct_vote_is_in_exactly_one_place(events: list[Event]) -> None:
    """Sent = eligible + excluded by reason + unjoined; none lost, none counted twice."""
    projection = fold(events)
    sent = {event.data.vote_id for event in events if isinstance(event.data, RankingSubmitted)}
    places = [
        *(vote.vote_id for vote in projection.votes),
        *projection.excluded,
        *projection.unjoined,
    ]
    assert sorted(places) == sorted(sent)
    assert projection.num_votes_sent == len(sent)
    assert sum(projection.num_excluded_by_reason.values()) == len(projection.excluded)


@settings(max_examples=100, deadline=None)
@given(events=st.lists(EVENTS, max_size=20), more=st.lists(EVENTS, max_size=5))
def test_a_live_vote_is_one_that_was_submitted_unchanged(
    events: list[Event], more: list[Event]
) -> None:
    submitted = {event.id: event.data for event in events + more}
    for vote in fold(events + more).votes:
        assert vote.event_id in submitted
        assert isinstance(vote.ranking, RankingSubmitted)
        assert len(vote.choices) == len(vote.ranking.ballot.choices)
        assert sorted(i for group in vote.tie_groups for i in group) == list(
            range(len(vote.choices))
        )
