"""Answers are scored by the ids that the record holds; one that is missing is an error."""

import pytest

from feedback.events.completion import CompletionServed
from feedback.events.envelope import new_event
from feedback.events.examples import example_events
from feedback.spool import Spool
from instructloop.demo.scoring import served_choices


@pytest.fixture
def completion():
    events = [event.data for event in example_events().values()]
    (found,) = [data for data in events if isinstance(data, CompletionServed)]
    return found


@pytest.fixture
def data_dir(tmp_path, completion):
    with Spool.open(tmp_path / "spool.sqlite3") as spool:
        spool.append(new_event(completion, source="test")).result(10)
    return tmp_path


def test_what_was_sampled_comes_back_as_it_was(data_dir, completion):
    choice = completion.choices[0]
    found = served_choices(data_dir, [choice.choice_id])
    assert list(found) == [choice.choice_id]
    served = found[choice.choice_id]
    assert served.token_ids == choice.token_ids
    assert served.prompt_ids == completion.prompt.token_ids
    assert served.adapter_id == choice.adapter_id


def test_a_choice_that_nobody_served_is_named(data_dir):
    with pytest.raises(ValueError, match="not in the record, e.g. choice-none"):
        served_choices(data_dir, ["choice-none"])
