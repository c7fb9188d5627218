"""The swap machine never routes to what is not validated and never frees what is in use."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.swap import (
    ChoiceEnded,
    ChoiceStarted,
    Command,
    Done,
    Named,
    Refused,
    SwapState,
    Unnamed,
    Wanted,
    step,
)

BASE = "base-0"
ADAPTERS = ["sft-1", "ppo-2", "ppo-3", "ppo-4"]
CHANNELS = ["stable", "candidate"]


def fresh(capacity=2):
    return step(SwapState(BASE, capacity), Wanted("stable", BASE))[0]


def run_through(state, happening):
    """Apply a happening and let every command succeed until there is nothing left to do."""
    state, commands = step(state, happening)
    done = list(commands)
    while commands:
        state, more = step(state, Done(commands[0].adapter_id))
        commands = (*commands[1:], *more)
        done += more
    return state, [(command.kind, command.adapter_id) for command in done]


def test_a_wanted_adapter_is_validated_loaded_and_probed_before_it_is_routed():
    state, commands = step(fresh(), Wanted("stable", "ppo-2"))
    for expected in ("validate", "load", "canary"):
        assert commands == (Command(expected, "ppo-2"),)
        assert state.routes == {"stable": BASE}
        state, commands = step(state, Done("ppo-2"))
    assert commands == ()
    assert state.routes == {"stable": "ppo-2"}


def test_the_old_version_is_freed_when_its_last_choice_ends():
    state, _ = run_through(fresh(), Wanted("stable", "sft-1"))
    for _ in range(2):
        state, _ = step(state, ChoiceStarted("sft-1"))
    state, commands = run_through(state, Wanted("stable", "ppo-2"))
    assert ("free", "sft-1") not in commands
    state, commands = step(state, ChoiceEnded("sft-1"))
    assert commands == ()
    state, commands = step(state, ChoiceEnded("sft-1"))
    assert commands == (Command("free", "sft-1"),)


@pytest.mark.parametrize("num_done", [0, 1, 2])
def test_a_refusal_at_any_step_leaves_the_incumbent_and_is_not_tried_again(num_done):
    state, _ = run_through(fresh(), Wanted("stable", "sft-1"))
    state, _ = step(state, Wanted("stable", "ppo-2"))
    for _ in range(num_done):
        state, _ = step(state, Done("ppo-2"))
    state, commands = step(state, Refused("ppo-2"))
    assert commands == ((Command("free", "ppo-2"),) if num_done else ())
    if num_done:
        state, commands = step(state, Done("ppo-2"))
        assert commands == ()
    assert state.routes == {"stable": "sft-1"}
    assert set(state.versions) == {"sft-1"}


def test_a_new_promotion_of_a_refused_adapter_is_a_new_attempt():
    state, _ = step(fresh(), Wanted("stable", "ppo-2"))
    state, _ = step(state, Refused("ppo-2"))
    _, commands = step(state, Wanted("stable", "ppo-2"))
    assert commands == (Command("validate", "ppo-2"),)


def test_rolling_back_to_a_draining_version_routes_to_it_at_once():
    state, _ = run_through(fresh(), Wanted("stable", "sft-1"))
    state, _ = step(state, ChoiceStarted("sft-1"))
    state, _ = run_through(state, Wanted("stable", "ppo-2"))
    state, commands = step(state, Wanted("stable", "sft-1"))
    assert state.routes == {"stable": "sft-1"}
    assert commands == (Command("free", "ppo-2"),)


def test_a_superseded_version_is_dropped_on_its_way():
    state, _ = step(fresh(), Wanted("stable", "ppo-2"))
    state, _ = step(state, Wanted("stable", "ppo-3"))
    state, commands = step(state, Done("ppo-2"))
    assert commands == (Command("free", "ppo-2"),)


def test_a_third_version_waits_for_a_place_until_one_has_drained():
    state, _ = run_through(fresh(), Wanted("stable", "sft-1"))
    state, _ = step(state, ChoiceStarted("sft-1"))
    state, _ = run_through(state, Wanted("stable", "ppo-2"))
    state, commands = step(state, Wanted("stable", "ppo-3"))
    assert commands == ()
    state, commands = run_through(state, ChoiceEnded("sft-1"))
    assert state.routes == {"stable": "ppo-3"}
    assert commands[0] == ("free", "sft-1")


def test_an_adapter_that_somebody_named_makes_place_for_a_promotion():
    state, _ = run_through(fresh(), Wanted("stable", "sft-1"))
    state, _ = run_through(state, Named("ppo-2"))
    state, _ = step(state, Unnamed("ppo-2"))
    state, commands = run_through(state, Wanted("stable", "ppo-3"))
    assert commands[0] == ("free", "ppo-2")
    assert state.routes == {"stable": "ppo-3"}


def test_a_named_adapter_is_not_freed_before_who_waits_for_it_got_it():
    state, _ = run_through(fresh(), Wanted("stable", "sft-1"))
    state, _ = run_through(state, Named("ppo-2"))
    state, _ = run_through(state, Named("ppo-3"))
    assert state.is_live("ppo-2")
    state, _ = step(state, ChoiceStarted("ppo-2"))
    state, _ = run_through(state, Unnamed("ppo-2"))
    assert state.is_live("ppo-2")
    state, _ = run_through(state, ChoiceEnded("ppo-2"))
    assert state.is_live("ppo-3")


def test_no_choice_starts_on_an_adapter_that_is_not_live():
    state, _ = step(fresh(), Wanted("stable", "ppo-2"))
    for adapter_id in ("ppo-2", "ppo-4"):
        with pytest.raises(ValueError, match="not live"):
            step(state, ChoiceStarted(adapter_id))


class Swaps(RuleBasedStateMachine):
    """Any order of promotions, names, refusals and choices."""

    def __init__(self):
        super().__init__()
        self.state = fresh()
        self.open_commands = []
        self.loaded = set()
        self.validated = set()
        self.running = []
        self.num_waiting = dict.fromkeys(ADAPTERS, 0)

    def happen(self, happening):
        self.state, commands = step(self.state, happening)
        for command in commands:
            if command.kind == "free":
                assert command.adapter_id not in self.running
                assert command.adapter_id not in self.state.routes.values()
            assert command.adapter_id not in [c.adapter_id for c in self.open_commands]
            self.open_commands.append(command)

    @rule(channel=st.sampled_from(CHANNELS), adapter_id=st.sampled_from([BASE, *ADAPTERS]))
    def promote(self, channel, adapter_id):
        self.happen(Wanted(channel, adapter_id))

    @rule(adapter_id=st.sampled_from(ADAPTERS))
    def name(self, adapter_id):
        self.num_waiting[adapter_id] += 1
        self.happen(Named(adapter_id))

    @precondition(lambda self: any(self.num_waiting.values()))
    @rule(data=st.data())
    def stop_waiting(self, data):
        names = [name for name, count in self.num_waiting.items() if count]
        adapter_id = data.draw(st.sampled_from(names))
        self.num_waiting[adapter_id] -= 1
        self.happen(Unnamed(adapter_id))

    @precondition(lambda self: self.open_commands)
    @rule(data=st.data(), succeeds=st.booleans())
    def finish_a_command(self, data, succeeds):
        command = data.draw(st.sampled_from(self.open_commands))
        self.open_commands.remove(command)
        self.carry_out(command, succeeds)

    def carry_out(self, command, succeeds):
        adapter_id = command.adapter_id
        if command.kind == "free":
            self.loaded.discard(adapter_id)
            self.validated.discard(adapter_id)
            return self.happen(Done(adapter_id))
        if command.kind == "load":
            self.loaded.add(adapter_id)
        if command.kind == "canary" and succeeds:
            self.validated.add(adapter_id)
        return self.happen(Done(adapter_id) if succeeds else Refused(adapter_id))

    @rule(channel=st.sampled_from(CHANNELS))
    def start_a_choice(self, channel):
        if channel in self.state.routes:
            adapter_id = self.state.routes[channel]
            self.running.append(adapter_id)
            self.happen(ChoiceStarted(adapter_id))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end_a_choice(self, data):
        adapter_id = data.draw(st.sampled_from(self.running))
        self.running.remove(adapter_id)
        self.happen(ChoiceEnded(adapter_id))

    @invariant()
    def routes_and_running_choices_are_on_validated_loaded_versions(self):
        for adapter_id in {*self.state.routes.values(), *self.running} - {BASE}:
            assert adapter_id in self.loaded
            assert adapter_id in self.validated

    @invariant()
    def the_engine_is_never_asked_for_more_than_it_holds(self):
        assert len(self.state.versions) <= self.state.capacity
        assert self.loaded <= set(self.state.versions)

    @invariant()
    def the_default_channel_always_has_a_route(self):
        assert self.state.is_live(self.state.routes["stable"])

    @invariant()
    def only_tracked_things_are_kept(self):
        assert set(self.state.refused) <= set(ADAPTERS)
        assert self.state.waiting == {k: v for k, v in self.num_waiting.items() if v}

    def teardown(self):
        """When all is quiet only what is routed, or was named last, is still loaded."""
        for adapter_id in self.running:
            self.happen(ChoiceEnded(adapter_id))
        self.running = []
        for adapter_id, count in self.num_waiting.items():
            for _ in range(count):
                self.happen(Unnamed(adapter_id))
        for _ in range(100):
            if not self.open_commands:
                break
            self.carry_out(self.open_commands.pop(), succeeds=True)
        assert not self.open_commands
        expected = {*self.state.routes.values(), *self.state.pinned} - {BASE}
        assert self.loaded <= expected


Swaps.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSwaps = Swaps.TestCase
