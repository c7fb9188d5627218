"""The memory of recent events is bounded and forgets whole responses, the oldest first."""

from hypothesis import given
from hypothesis import strategies as st

from service.recent import Bounded, Recent


@given(st.lists(st.integers(0, 9)), st.integers(1, 5))
def test_a_bounded_mapping_holds_what_was_set_last(keys, max_size):
    bounded = Bounded(max_size)
    for key in keys:
        bounded.set(key, key)
    last = list(dict.fromkeys(reversed(keys)))[:max_size]
    assert len(bounded) == len(last)
    assert all(bounded.get(key) == key for key in last)


async def test_a_forgotten_response_takes_its_choices_along(running):
    recent = Recent(max_responses=3)
    for _ in range(6):
        await running.complete(n=2)
    events = running.events("completion.served")
    for event in events:
        recent.note(event)
    known = [recent.response(event.data.response_id) is not None for event in events]
    assert known == [False] * 3 + [True] * 3
    for event, is_known in zip(events, known, strict=True):
        for choice in event.data.choices:
            assert (recent.response_of(choice.choice_id) is not None) == is_known
