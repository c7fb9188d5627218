"""What every step of the demo works with: settings, directories, processes, clients, narrator."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from instructloop.demo.api import DemoApi, open_client
from instructloop.demo.narration import Narrator
from instructloop.demo.processes import Processes, processes
from instructloop.demo.prompts import DemoPrompt, evenly_spaced, held_out, load_prompts, training
from instructloop.demo.sizes import FULL, QUICK, Sizes
from instructloop.demo.traffic import BackgroundTraffic
from instructloop.demo.trainer_process import TrainerCommand
from instructloop.settings import DemoSettings

CHANNEL = "stable"


class DemoFailed(ValueError):
    """The loop did not hold; the message says in one line where."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything around one run; the service runs while it exists."""

    settings: DemoSettings
    sizes: Sizes
    narrator: Narrator
    data_dir: Path
    processes: Processes
    url: str
    api: DemoApi
    traffic: BackgroundTraffic
    trainer: TrainerCommand

    @property
    def training_prompts(self) -> list[DemoPrompt]:
        """The prompts that labelers ask and rank."""
        return evenly_spaced(training(load_prompts()), self.sizes.num_training_prompts)

    @property
    def held_out_prompts(self) -> list[DemoPrompt]:
        """The prompts that only the measurement asks."""
        return evenly_spaced(held_out(load_prompts()), self.sizes.num_held_out_prompts)


def sizes_of(settings: DemoSettings) -> Sizes:
    """Return how much work is done."""
    return QUICK if settings.is_quick else FULL


@contextlib.asynccontextmanager
async def set_scene(
    settings: DemoSettings, data_dir: Path, narrator: Narrator
) -> AsyncIterator[Scene]:
    """Start the service on a free port and wait until it is ready; end everything afterwards.

    Raises:
        ProcessFailed: the service refused to start; the message is its own.
    """
    sizes = sizes_of(settings)
    async with processes(data_dir / "logs") as running:
        service = await running.start("serve", "instructloop.cli", _serve(settings, data_dir))
        with narrator.waiting("loading the base model; the first time it is converted, too"):
            url = (await service.next_line()).rsplit(maxsplit=1)[-1]
        async with open_client(url) as client:
            prompts = evenly_spaced(training(load_prompts()), sizes.num_training_prompts)
            yield Scene(
                settings=settings,
                sizes=sizes,
                narrator=narrator,
                data_dir=data_dir,
                processes=running,
                url=url,
                api=DemoApi(client),
                traffic=BackgroundTraffic(client, prompts, model=CHANNEL, seed=settings.seed),
                trainer=TrainerCommand(
                    running, data_dir, settings.base, sizes.preset, settings.seed
                ),
            )


def _serve(settings: DemoSettings, data_dir: Path) -> list[str | Path]:
    return ["serve", "--port", "0", "--data-dir", data_dir, "--base", settings.base]
