"""The labelers' process: who asks what, who votes, and what is counted."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructloop.demo.labelers import (
    Round,
    assign,
    post_demonstrations,
    shuffled,
    teams_of,
    vote_round,
)
from instructloop.demo.personas import training_personas
from instructloop.demo.prompts import (
    evenly_spaced,
    load_demonstrations,
    load_prompts,
    prompt_text,
    training,
)

PROMPTS = evenly_spaced(training(load_prompts()), 42)
QUIET = Round(seed=11, votes_per_answer=1, retry_share=0.0, change_share=0.0)


def test_each_prompt_belongs_to_one_team_and_work_is_shared_evenly_within_it():
    assigned = assign(training(load_prompts()), training_personas(), 3)
    assert len({prompt.id for _, prompt in assigned}) == len(assigned) == 320
    teams = [{persona.persona_id for persona in team} for team in teams_of(training_personas())]
    assert len(set.union(*teams)) == sum(map(len, teams)) == 14
    for voters, _ in assigned:
        names = {voter.persona_id for voter in voters}
        assert len(names) == 3
        assert sum(names <= team for team in teams) == 1
    askers = Counter(voters[0].persona_id for voters, _ in assigned)
    for team in teams:
        loads = [askers[name] for name in team]
        assert max(loads) - min(loads) <= 1


async def test_team_mates_rank_the_same_answers_on_ballots_of_their_own(api, service):
    settings = Round(seed=11, votes_per_answer=3, retry_share=0.0, change_share=0.0)
    counts = await vote_round(api, PROMPTS, settings)
    assert len(service.completions) == 42
    assert len(service.composed) == 84
    assert counts.votes_sent == counts.ballots == 126 == len(service.votes_per_ballot)
    by_answers: dict[frozenset, set] = {}
    for body in service.composed:
        by_answers.setdefault(frozenset(body["choices"]), set()).add(body["user"])
    assert all(len(users) == 2 for users in by_answers.values())


def test_evenly_spaced_prompts_keep_the_shares_of_the_use_cases():
    everything = training(load_prompts())
    some = evenly_spaced(everything, 80)
    assert len({prompt.id for prompt in some}) == 80
    for use_case, count in Counter(prompt.use_case for prompt in everything).items():
        assert abs(sum(p.use_case == use_case for p in some) - count / 4) <= 1
    assert evenly_spaced(everything, 10_000) == everything


async def test_each_ballot_gets_one_vote_of_its_asker(api, service):
    counts = await vote_round(api, PROMPTS, QUIET)
    assert (counts.ballots, counts.votes_sent) == (42, 42)
    assert (counts.votes_retried, counts.votes_changed, counts.failures) == (0, 0, 0)
    assert counts.requests == 84
    assert set(service.votes_per_ballot.values()) == {1}
    assigned = assign(PROMPTS, training_personas(), 1)
    owners = {prompt_text(p): voters[0].persona_id for voters, p in assigned}
    for body in service.completions:
        assert body["user"] == owners[body["prompt"]]
        assert (body["n"], body["temperature"], body["max_tokens"]) == (4, 1.0, 32)
        assert body["metadata"]["source"] == "simulated"


async def test_retries_and_changed_minds_are_sent_but_count_as_one_vote(api, service):
    counts = await vote_round(
        api, PROMPTS, Round(seed=1, votes_per_answer=1, retry_share=0.5, change_share=0.5)
    )
    assert counts.votes_sent == counts.ballots == 42 == len(service.votes_per_ballot)
    assert 8 < counts.votes_retried < 34
    assert 8 < counts.votes_changed < 34
    assert len(service.votes) == 42 + counts.votes_retried + counts.votes_changed


async def test_a_changed_mind_ends_with_the_considered_ranking(api, service):
    await vote_round(api, PROMPTS, QUIET)
    considered = {vote["ballot"]: vote["ranking"] for vote in service.votes}
    service.votes.clear()
    service.completions.clear()
    changing = replace(QUIET, change_share=1.0, max_in_flight=1)
    await vote_round(api, PROMPTS, changing)
    assert set(service.votes_per_ballot.values()) == {2}
    for first, last in zip(service.votes[::2], service.votes[1::2], strict=True):
        assert first["ballot"] == last["ballot"]
        assert first["ranking"] == last["ranking"][::-1]
    assert {vote["ballot"]: vote["ranking"] for vote in service.votes} == considered


async def test_the_same_seed_sends_the_same_and_another_seed_asks_anew(api, service):
    async def seeds(seed: int) -> list[int]:
        service.completions.clear()
        await vote_round(api, PROMPTS, Round(seed=seed))
        return sorted(body["seed"] for body in service.completions)

    assert await seeds(3) == await seeds(3) != await seeds(4)


async def test_several_samples_per_prompt_make_as_many_ballots_with_seeds_of_their_own(
    api, service
):
    counts = await vote_round(api, PROMPTS, Round(samples_per_prompt=2, votes_per_answer=1))
    assert counts.votes_sent == 84
    assert len({body["seed"] for body in service.completions}) == 84


async def test_failures_are_counted_and_cost_only_their_own_ballot(api, service):
    service.failing["/v1/completions"] = [500, 500]
    service.failing["/v1/feedback/rankings"] = [400]
    counts = await vote_round(api, PROMPTS, QUIET)
    assert counts.failures == 3
    assert counts.ballots == 40
    assert counts.votes_sent == 39 == len(service.votes_per_ballot)


async def test_a_service_without_ballots_stops_the_round(api, service):
    service.gives_ballots = False
    with pytest.raises(ValueError, match="no ballot"):
        await vote_round(api, PROMPTS, QUIET)


async def test_the_placebo_votes_as_often_but_by_other_rankings(api, service):
    await vote_round(api, PROMPTS, QUIET)
    honest = {vote["ballot"]: vote["ranking"] for vote in service.votes}
    service.votes.clear()
    service.completions.clear()
    await vote_round(api, PROMPTS, replace(QUIET, is_placebo=True))
    assert len(service.votes) == 42
    assert sum(honest[vote["ballot"]] != vote["ranking"] for vote in service.votes) > 20


@given(st.integers(0, 2**31))
def test_shuffling_keeps_the_sizes_of_the_groups_and_every_answer(seed):
    groups = ((2,), (0, 3), (1,))
    dealt = shuffled(groups, random.Random(seed))
    assert [len(group) for group in dealt] == [1, 2, 1]
    assert sorted(index for group in dealt for index in group) == [0, 1, 2, 3]


async def test_demonstrations_are_posted_with_the_template_of_the_prompts(api, service):
    demonstrations = load_demonstrations()
    assert await post_demonstrations(api, demonstrations) == 72
    assert len(service.demonstrations) == 72
    assert service.demonstrations[0]["prompt"] == prompt_text(demonstrations[0])
    assert service.demonstrations[0]["completion"] == demonstrations[0].completion
