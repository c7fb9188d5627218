"""What is replayed: the responses that a swap could have touched come first."""

from datetime import UTC, datetime, timedelta

from feedback.events.completion import CompletionServed
from feedback.events.examples import example_events
from instructloop.demo.replay import closest_to_a_swap

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_responses_closest_to_a_swap_come_first():
    events = [event.data for event in example_events().values()]
    (example,) = [data for data in events if isinstance(data, CompletionServed)]
    served = [
        (NOON + timedelta(seconds=10 * n), example.model_copy(update={"response_id": str(n)}))
        for n in range(10)
    ]
    swaps = [NOON + timedelta(seconds=21), NOON + timedelta(seconds=80)]
    num_choices = len(example.choices)
    chosen = closest_to_a_swap(served, swaps, 4 * num_choices - 1)
    assert {completion.response_id for completion in chosen} == {"8", "2", "3"}
