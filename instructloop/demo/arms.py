"""Which answers the final measurement fetches, and from whom; knows no judge and no score.

An arm is one adapter under one temperature. All arms answer the same held-out prompts, over HTTP,
by adapter id: what is measured are the published bytes as they are served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from instructloop.demo.api import DemoApi, Sampling
from instructloop.demo.concurrency import map_bounded
from instructloop.demo.fetch import Answers, fetch_answers
from instructloop.demo.measurement import Arm
from instructloop.demo.prompts import DemoPrompt

BASE = "base T=1"
PPO = "ppo T=1"
SFT = "sft T=1"
SFT_BY_TEMPERATURE = {0.0: "sft T=0", 0.7: "sft T=0.7", 1.0: SFT}
POOL = "sft T=1, four answers"
"""Samples of their own to choose from: chosen ones must not meet themselves."""
BEST_BY_RM = "best of 4 by the RM"
BEST_BY_JUDGES = "best of 4 by the judges"
NUM_POOLED = 4

# Two arms at a time, so that the batch stays full while one of them ends.
_ARMS_IN_FLIGHT = 2
_SEQUENCES_PER_ARM = 96
_POOL_SEED = 1


@dataclass(frozen=True, slots=True)
class Ask:
    """One arm to fetch."""

    arm: str
    model: str
    temperature: float
    num_choices: int
    seed: int


def first_asks(base: str, sft: str, ppo: str | None, num_samples: int, seed: int) -> list[Ask]:
    """List the arms that need no result of another; `ppo` is None where there is no policy.

    `num_samples` is for the two arms of the headline; the others give one answer a prompt.
    """
    asks = [Ask(BASE, base, 1.0, 1, seed)]
    for temperature, arm in SFT_BY_TEMPERATURE.items():
        asks.append(Ask(arm, sft, temperature, num_samples if arm == SFT else 1, seed))
    asks.append(Ask(POOL, sft, 1.0, NUM_POOLED, seed + _POOL_SEED))
    if ppo is not None:
        asks.append(Ask(PPO, ppo, 1.0, num_samples, seed))
    return asks


def best_temperature(mean_utilities: dict[str, float]) -> float:
    """Return the temperature at which SFT does best by the judges: the strongest baseline."""
    return max(SFT_BY_TEMPERATURE, key=lambda t: mean_utilities[SFT_BY_TEMPERATURE[t]])


def matching_ask(ppo: str, temperature: float, seed: int) -> Ask | None:
    """Return PPO's arm at SFT's best temperature; None where that arm is there already."""
    if temperature == 1.0:
        return None
    return Ask(ppo_at(temperature), ppo, temperature, 1, seed)


def ppo_at(temperature: float) -> str:
    """Name PPO's arm at a temperature."""
    return f"ppo T={temperature:g}"


async def fetch_arms(
    api: DemoApi,
    asks: Sequence[Ask],
    prompts: Sequence[DemoPrompt],
    tell: Callable[[str], None] = lambda news: None,
) -> dict[str, Arm]:
    """Fetch every arm, in the order of `asks`.

    Raises:
        RequestFailed: a request failed.
    """

    async def fetch(ask: Ask) -> Answers:
        return await _fetch(api, ask, prompts, tell)

    answers = await map_bounded(fetch, asks, _ARMS_IN_FLIGHT)
    return {ask.arm: given for ask, given in zip(asks, answers, strict=True)}


async def _fetch(
    api: DemoApi, ask: Ask, prompts: Sequence[DemoPrompt], tell: Callable[[str], None]
) -> Answers:
    sampling = Sampling(ask.temperature, ask.num_choices, ask.seed)

    def on_progress(done: int, total: int) -> None:
        tell(f"{ask.arm}, {done}/{total} prompts")

    return await fetch_answers(
        api,
        ask.model,
        prompts,
        sampling,
        max_in_flight=_SEQUENCES_PER_ARM // ask.num_choices,
        on_progress=on_progress,
    )
