"""Every honest vote counts once, whatever order events arrive in and however often."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from vote_story import (
    DEMONSTRATION,
    EXPIRY_MINUTES,
    SERVED,
    at,
    erased,
    ranked,
    reasons,
    retracted,
    revealed,
    served,
    skipped,
)

from feedback.events.demonstration import DemonstrationSubmitted
from feedback.events.envelope import Event
from feedback.events.ranking import RankingSubmitted
from feedback.events.rating import RatingSubmitted
from feedback.fold import fold


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
