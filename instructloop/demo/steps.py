"""The steps of the demo, in the order of the loop; each tells what it does in a line or two."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass

from instructloop.demo import arms as names
from instructloop.demo.arms import Ask, best_temperature, fetch_arms, first_asks, matching_ask
from instructloop.demo.findings import Findings, find, with_chosen
from instructloop.demo.labelers import Counts, post_demonstrations
from instructloop.demo.measurement import Arm, describe
from instructloop.demo.prompts import load_demonstrations
from instructloop.demo.replay import Replay, replay
from instructloop.demo.scene import Scene
from instructloop.demo.scoring import MODULE as SCORING
from instructloop.demo.scoring import Scores, ScoringRequest
from instructloop.demo.swap import Swap, swap
from instructloop.demo.traffic import Pace
from instructloop.demo.trainer_process import Refreshed, last_json
from instructloop.demo.vote_account import VoteAccount, count_votes

LABELERS = "instructloop.demo.labelers"
# A short question now and then: the service stays in use, the trainer keeps the machine. One every
# 8 s took a sixth of two cores, since products on both of them wait for each other.
_LIGHT = Pace(num_clients=1, pause_s=20.0, max_tokens=8)


@dataclass(frozen=True, slots=True)
class Votes:
    """What the labelers say they did, and what the record says of it."""

    counts: Counts
    account: VoteAccount


async def teach(scene: Scene) -> dict[str, str]:
    """Send the demonstrations and train the first adapters on them; return ids by role."""
    say = scene.narrator.say
    scene.narrator.step("Teach by example: supervised fine-tuning (SFT)")
    num_sent = await post_demonstrations(scene.api, load_demonstrations())
    say(f"{num_sent} example answers were posted; a small adapter learns to answer like them.")
    async with scene.traffic.running(_LIGHT):
        with scene.narrator.waiting("training") as tell:
            adapters = await scene.trainer.supervise(tell)
    say(f"Published {adapters['sft']}: its name is the hash of its content.")
    return adapters


async def serve_sft(scene: Scene, sft: str) -> Swap:
    """Let `stable` serve the SFT adapter."""
    scene.narrator.step("Swap it in while visitors keep asking")
    swapped = await swap(scene, sft, "demo: the policy that labelers rank")
    _tell_swap(scene, swapped)
    return swapped


async def collect_votes(scene: Scene) -> Votes:
    """Let the simulated labelers ask, rank and vote, in a process of their own."""
    say = scene.narrator.say
    num_prompts = len(scene.training_prompts)
    scene.narrator.step("Collect rankings from SIMULATED labelers")
    say(f"A process of its own asks {num_prompts} prompts; labelers rank 4 answers to each.")
    options = ["--base-url", scene.url, "--seed", str(scene.settings.seed)]
    options += ["--max-prompts", str(num_prompts)]
    labelers = await scene.processes.start("labelers", LABELERS, options)
    with scene.narrator.waiting("ranking") as tell:
        counts = Counts(**last_json(await labelers.finish(tell)))
    account = await asyncio.to_thread(count_votes, scene.data_dir, counts.votes_sent)
    excluded = "".join(f", {n} left out ({reason})" for reason, n in account.excluded.items())
    say(
        f"{account.sent} votes acknowledged: {account.in_dataset} in the dataset{excluded}, "
        f"{account.unjoined} waiting, {account.lost} lost. "
        f"{counts.votes_retried} were sent twice, {counts.votes_changed} were changed."
    )
    return Votes(counts, account)


async def refresh(scene: Scene) -> Refreshed:
    """Train reward model and policy on the votes, and let the gate decide."""
    say = scene.narrator.say
    scene.narrator.step("Train on the rankings: reward model, PPO, gate")
    if scene.settings.is_placebo:
        say("PLACEBO: the rankings are shuffled first. There is nothing to learn: it must refuse.")
    async with scene.traffic.running(_LIGHT):
        with scene.narrator.waiting("training") as tell:
            done = await scene.trainer.refresh(is_placebo=scene.settings.is_placebo, tell=tell)
    for reason in done.reasons:
        say(f"The gate refuses: {reason}")
    if done.passed:
        say("The gate's judge, a reward model that PPO never met, prefers the new policy.")
    return done


async def promote(scene: Scene, refreshed: Refreshed) -> Swap | None:
    """Promote the policy if the gate let it pass, under traffic; None if it did not."""
    if not refreshed.passed:
        scene.narrator.step("No promotion: the old version keeps serving")
        return None
    scene.narrator.step("Promote it while visitors keep asking")
    reason = f"gate passed, snapshot {refreshed.snapshot_id}"
    swapped = await swap(scene, refreshed.adapters["ppo"], reason, through=("candidate",))
    _tell_swap(scene, swapped)
    return swapped


async def measure(scene: Scene, base: str, refreshed: Refreshed) -> tuple[Findings, dict[str, Arm]]:
    """Fetch answers to held-out prompts from every arm and compare them."""
    prompts, sizes, seed = scene.held_out_prompts, scene.sizes, scene.settings.seed
    requests = {prompt.id: prompt.text for prompt in prompts}
    sft, ppo = refreshed.adapters["sft"], refreshed.adapters.get("ppo")
    scene.narrator.step(f"Measure on {len(prompts)} prompts that nobody trained on")
    scene.narrator.say("Four other simulated judges, who never voted, compare the answers.")
    with scene.narrator.waiting("asking") as tell:
        arms = await fetch_arms(
            scene.api, first_asks(base, sft, ppo, sizes.num_samples, seed), prompts, tell
        )
        utilities = {
            arm: describe(requests, arms, arm).mean_utility
            for arm in names.SFT_BY_TEMPERATURE.values()
        }
        again = _same_temperature(ppo, best_temperature(utilities), seed)
        arms |= await fetch_arms(scene.api, again, prompts, tell)
    scores = await _score(scene, refreshed.adapters["rm"], arms)
    arms = with_chosen(requests, arms, scores.rewards)
    return find(requests, arms, scores.base_nats, seed=seed), arms


async def audit(scene: Scene) -> Replay:
    """Replay served answers: each must come from the version that it names."""
    scene.narrator.step("Check that no answer mixed two versions")
    with scene.narrator.waiting("scoring served answers anew") as tell:
        replayed = await replay(scene, tell)
    scene.narrator.say(
        f"{replayed.num_audited} of {replayed.num_served} answers, those closest to a swap, were "
        f"scored anew under every version: {replayed.num_mixed} cannot come from the one they name."
    )
    return replayed


def _same_temperature(ppo: str | None, temperature: float, seed: int) -> list[Ask]:
    ask = None if ppo is None else matching_ask(ppo, temperature, seed)
    return [] if ask is None else [ask]


async def _score(scene: Scene, reward_adapter: str, arms: dict[str, Arm]) -> Scores:
    request = ScoringRequest(
        data_dir=str(scene.data_dir),
        base=scene.settings.base,
        reward_adapter=reward_adapter,
        rewarded=_choice_ids(arms[names.POOL]),
        weighed=(*_choice_ids(arms[names.SFT]), *_choice_ids(arms.get(names.PPO, {}))),
    )
    path = scene.data_dir / "work" / "scoring.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(request)), encoding="utf-8")
    scoring = await scene.processes.start("scoring", SCORING, [path])
    with scene.narrator.waiting("scoring") as tell:
        return Scores(**last_json(await scoring.finish(tell)))


def _choice_ids(arm: Arm) -> tuple[str, ...]:
    return tuple(answer.choice_id for answers in arm.values() for answer in answers)


def _tell_swap(scene: Scene, swapped: Swap) -> None:
    scene.narrator.say(
        f"{swapped.adapter_id} answered {swapped.seconds:.1f} s after its promotion; "
        f"{swapped.num_requests} requests went on meanwhile, {swapped.num_failed} failed."
    )
