"""The SIMULATED labelers' process: asks, ranks and votes over HTTP only, like any client.

    python -m instructloop.demo.labelers --base-url http://127.0.0.1:8000 --seed 11

It knows no adapter, no model file and no training. Besides plain votes it does what people do: it
sends some votes twice, and changes its mind about some. The last line it prints is the JSON of
`Counts`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from instructloop.demo.api import (
    Ballot,
    DemoApi,
    Reply,
    RequestFailed,
    Sampling,
    open_client,
)
from instructloop.demo.concurrency import map_bounded
from instructloop.demo.personas import Persona, TieGroups, rank, training_personas
from instructloop.demo.prompts import (
    Demonstration,
    DemoPrompt,
    evenly_spaced,
    load_demonstrations,
    load_prompts,
    training,
)

CHOICES_PER_BALLOT = 4
NUM_TEAMS = 4
DEMONSTRATION_AUTHOR = "demonstration-writer"


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of voting asks for."""

    model: str = "stable"
    seed: int = 0
    samples_per_prompt: int = 1
    """Times that each prompt is asked, for four answers each."""
    votes_per_answer: int = 3
    """Labelers of a team who rank the same four answers, each on a ballot of their own."""
    retry_share: float = 0.1
    """Share of votes sent a second time, unchanged."""
    change_share: float = 0.1
    """Share of votes that were first sent the wrong way round."""
    is_placebo: bool = False
    """Shuffle each ranking's answers, so that nothing can be learned from them."""
    max_in_flight: int = 40
    """Ballots worked on at a time, of four sequences each: some decode while others are ranked."""


@dataclass(slots=True)
class Counts:
    """What the labelers did. Each ballot carries one vote, however often it was sent."""

    ballots: int = 0
    votes_sent: int = 0
    votes_retried: int = 0
    votes_changed: int = 0
    requests: int = 0
    failures: int = 0


def teams_of(personas: Sequence[Persona]) -> list[list[Persona]]:
    """Divide the personas into teams; each team works on prompts of its own.

    So no labeler and no prompt falls into two splits, although answers are ranked by several.
    """
    return [list(personas[n::NUM_TEAMS]) for n in range(NUM_TEAMS)]


def assign(
    prompts: Sequence[DemoPrompt], personas: Sequence[Persona], votes_per_answer: int
) -> list[tuple[tuple[Persona, ...], DemoPrompt]]:
    """Give each prompt to some members of one team: the first asks it, all of them rank.

    The assignment is fixed, without a seed, so that no persona and no prompt is ever drawn into
    another split by a later round. Use cases spread evenly, since prompts are sorted by them.
    """
    teams = teams_of(personas)
    assigned = []
    for n, prompt in enumerate(prompts):
        turn, team = divmod(n, len(teams))
        members = teams[team]
        size = min(votes_per_answer, len(members))
        chosen = tuple(members[(turn + i) % len(members)] for i in range(size))
        assigned.append((chosen, prompt))
    return assigned


async def vote_round(
    api: DemoApi,
    prompts: Sequence[DemoPrompt],
    settings: Round,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Counts:
    """Ask every prompt, rank its answers and vote; a failure is counted and costs one ballot."""
    counts = Counts()
    assigned = assign(prompts, training_personas(), settings.votes_per_answer)
    samples = range(settings.samples_per_prompt)
    tasks = [(voters, prompt, sample) for sample in samples for voters, prompt in assigned]
    total = sum(len(voters) for voters, _, _ in tasks)

    async def work(task: tuple[tuple[Persona, ...], DemoPrompt, int]) -> None:
        try:
            await _ask_and_vote(api, *task, settings, counts)
        except RequestFailed:
            return  # api.traffic counted it, and the counts show it
        on_progress(counts.votes_sent, total)

    await map_bounded(work, tasks, settings.max_in_flight)
    counts.requests, counts.failures = api.traffic.num_requests, api.traffic.num_failed
    return counts


async def post_demonstrations(api: DemoApi, demonstrations: Sequence[Demonstration]) -> int:
    """Send demonstrations and return how many were acknowledged: all of them.

    Raises:
        RequestFailed: one was not acknowledged.
    """
    for demonstration in demonstrations:
        await api.demonstrate(demonstration, user=DEMONSTRATION_AUTHOR)
    return len(demonstrations)


async def _ask_and_vote(
    api: DemoApi,
    voters: tuple[Persona, ...],
    prompt: DemoPrompt,
    sample: int,
    settings: Round,
    counts: Counts,
) -> None:
    """Let the first labeler ask and rank, then the others rank the same answers."""
    reply = await _ask(api, voters[0], prompt, sample, settings)
    for voter in voters:
        # A generator of its own per vote: none depends on which answer comes first.
        rng = _generator(settings, voter, prompt, sample)
        is_asker = voter is voters[0]
        ballot = reply.ballot if is_asker else await api.compose(reply, user=voter.persona_id)
        if ballot is None:
            raise ValueError(f"the service gave no ballot for {CHOICES_PER_BALLOT} choices")
        counts.ballots += 1
        groups = rank(voter, prompt.text, ballot.answers, rng)
        if settings.is_placebo:
            groups = shuffled(groups, rng)
        await _vote(api, ballot, groups, settings, rng, counts)


async def _ask(
    api: DemoApi, persona: Persona, prompt: DemoPrompt, sample: int, settings: Round
) -> Reply:
    seed = _generator(settings, persona, prompt, sample).getrandbits(31)
    sampling = Sampling(num_choices=CHOICES_PER_BALLOT, seed=seed)
    return await api.complete(
        settings.model, prompt, sampling, source="simulated", user=persona.persona_id
    )


def _generator(settings: Round, persona: Persona, prompt: DemoPrompt, sample: int) -> random.Random:
    return random.Random(f"{settings.seed}/{persona.persona_id}/{prompt.id}/{sample}")


async def _vote(
    api: DemoApi,
    ballot: Ballot,
    groups: TieGroups,
    settings: Round,
    rng: random.Random,
    counts: Counts,
) -> None:
    is_changed = rng.random() < settings.change_share
    is_retried = rng.random() < settings.retry_share
    duration_ms = rng.randint(4_000, 40_000)
    hasty = [groups[::-1]] if is_changed else []
    again = [groups] if is_retried else []
    vote_ids = set()
    for sent, order in enumerate([*hasty, groups, *again]):
        vote_ids.add(await api.vote(ballot, order, duration_ms=duration_ms))
        counts.votes_sent += sent == 0
    counts.votes_changed += is_changed
    counts.votes_retried += is_retried
    if len(vote_ids) > 1:
        raise ValueError(f"one ballot and voter got several vote ids: {sorted(vote_ids)}")


def shuffled(groups: TieGroups, rng: random.Random) -> TieGroups:
    """Deal the answers anew into groups of the same sizes: the placebo's rankings."""
    indices = [index for group in groups for index in group]
    rng.shuffle(indices)
    dealt = iter(indices)
    return tuple(tuple(sorted(next(dealt) for _ in group)) for group in groups)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process; return 1 where a request failed."""
    options = _parser().parse_args(arguments)
    counts = asyncio.run(_main(options))
    sys.stdout.write(json.dumps(asdict(counts)) + "\n")
    return 1 if counts.failures else 0


async def _main(options: argparse.Namespace) -> Counts:
    settings = Round(
        model=options.model,
        seed=options.seed,
        samples_per_prompt=options.samples_per_prompt,
        votes_per_answer=options.votes_per_answer,
        retry_share=options.retry_share,
        change_share=options.change_share,
        is_placebo=options.placebo,
        max_in_flight=options.max_in_flight,
    )
    prompts = training(load_prompts(options.prompts))
    if options.max_prompts:
        prompts = evenly_spaced(prompts, options.max_prompts)
    async with open_client(options.base_url) as client:
        api = DemoApi(client)
        if options.demonstrations:
            await post_demonstrations(api, load_demonstrations())
        return await vote_round(api, prompts, settings, on_progress=_report_progress)


def _report_progress(done: int, total: int) -> None:
    if done % 20 == 0 or done == total:
        sys.stderr.write(f"{done}/{total} ballots\n")


def _parser() -> argparse.ArgumentParser:
    usual = Round()
    parser = argparse.ArgumentParser(prog="python -m instructloop.demo.labelers")
    add = parser.add_argument
    add("--base-url", required=True, help="where the service listens")
    add("--model", default=usual.model, help="channel or adapter to ask")
    add("--prompts", type=Path, help="JSON Lines of prompts; the demo's own by default")
    add("--max-prompts", type=int, help="ask only so many training prompts, evenly spaced")
    add("--seed", type=int, default=usual.seed)
    add("--samples-per-prompt", type=int, default=usual.samples_per_prompt)
    add("--votes-per-answer", type=int, default=usual.votes_per_answer, help="labelers an answer")
    add("--max-in-flight", type=int, default=usual.max_in_flight, help="ballots at a time")
    add("--retry-share", type=float, default=usual.retry_share)
    add("--change-share", type=float, default=usual.change_share)
    add("--placebo", action="store_true", help="vote by shuffled rankings")
    add("--demonstrations", action="store_true", help="send the demonstrations first")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
