"""Answers for the measurement: every prompt, marked as evaluation, of one adapter."""

import pytest

from instructloop.demo.api import RequestFailed, Sampling
from instructloop.demo.fetch import fetch_answers
from instructloop.demo.prompts import held_out, load_prompts

PROMPTS = held_out(load_prompts())[:12]


async def test_every_prompt_is_asked_once_as_evaluation_with_the_sampling_given(api, service):
    progress = []
    answers = await fetch_answers(
        api,
        "ppo-1",
        PROMPTS,
        Sampling(temperature=0.7, num_choices=2, seed=5),
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert list(answers) == [prompt.id for prompt in PROMPTS]
    assert {len(given) for given in answers.values()} == {2}
    assert len(service.completions) == 12
    for body in service.completions:
        assert (body["model"], body["temperature"], body["n"]) == ("ppo-1", 0.7, 2)
        assert body["metadata"]["source"] == "eval"
    assert progress[-1] == (12, 12)


async def test_each_prompt_has_a_seed_of_its_own_that_does_not_change(api, service):
    for _ in range(2):
        await fetch_answers(api, "ppo-1", PROMPTS, Sampling(seed=5), max_in_flight=1)
    seeds = [body["seed"] for body in service.completions]
    assert seeds[:12] == seeds[12:]
    assert len(set(seeds)) == 12


async def test_a_measurement_with_a_hole_is_refused(api, service):
    service.failing["/v1/completions"] = [500]
    with pytest.raises(RequestFailed):
        await fetch_answers(api, "ppo-1", PROMPTS, Sampling())


async def test_a_model_that_changes_its_adapter_on_the_way_is_refused(api, service):
    first = service.adapter_id

    def change(done: int, _: int) -> None:
        service.adapter_id = first if done < 6 else "ppo-0000000000000002"

    with pytest.raises(ValueError, match="changed between requests"):
        await fetch_answers(api, "stable", PROMPTS, Sampling(), max_in_flight=1, on_progress=change)
