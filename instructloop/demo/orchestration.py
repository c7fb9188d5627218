"""`instructloop demo`: serve, rank, train, judge, hot-swap and measure, in one command.

Launch: `instructloop demo --quick --seed 11 --report DIR`. It starts every part as a user would and
talks to the service by HTTP alone. The labelers are SIMULATED, and so the data directory is marked.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from pathlib import Path

from rich.console import Console

from feedback.registry import Registry
from feedback.snapshots import SIMULATED_MARKER
from instructloop.demo import steps
from instructloop.demo.api import RequestFailed
from instructloop.demo.narration import Narrator
from instructloop.demo.processes import ProcessFailed
from instructloop.demo.report import Outcome, Requests, problems_of, report_of, write_report
from instructloop.demo.scene import DemoFailed, Scene, set_scene
from instructloop.demo.summary import headline, print_summary
from instructloop.settings import DemoSettings

NUM_STEPS = 8


def run(settings: DemoSettings, console: Console | None = None) -> None:
    """Run the demo from beginning to end; whatever it started has ended when this returns.

    Raises:
        DemoFailed: the loop did not hold: a request failed, a vote got lost, an answer mixed
            versions, a part refused, or the gate let a placebo pass.
    """
    console = console or Console(highlight=False)
    directory = Path(tempfile.mkdtemp(prefix="instructloop-demo-"))
    data_dir = _data_dir(settings, directory)
    report_dir = settings.report_dir or directory / "report"
    narrator = Narrator(console, NUM_STEPS)
    try:
        outcome = asyncio.run(_interruptible(settings, data_dir, narrator))
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    except (ProcessFailed, RequestFailed) as error:
        raise DemoFailed(f"{error} (logs: {data_dir / 'logs'})") from error
    card = _keep_card(outcome.refreshed.card_dir, report_dir)
    report = report_of(outcome, settings.model_dump(mode="json")) | {"card": str(card)}
    path = write_report(report, report_dir)
    if settings.keep_dir is None:
        shutil.rmtree(data_dir)
    print_summary(console, report)
    narrator.conclude(headline(report), {"card": card, "report": path, "data": settings.keep_dir})
    if problems := problems_of(outcome, is_placebo=settings.is_placebo):
        raise DemoFailed("; ".join(problems))


async def play(settings: DemoSettings, data_dir: Path, narrator: Narrator) -> Outcome:
    """Play the whole loop over a fresh data directory."""
    (data_dir / SIMULATED_MARKER).touch()
    narrator.step("Start the service with a real, small language model")
    async with set_scene(settings, data_dir, narrator) as scene:
        began_at = time.monotonic()
        base = Registry.open(data_dir).base()
        narrator.say(f"{base.base_id} answers at {scene.url}; nothing leaves this machine.")
        adapters = await steps.teach(scene)
        first_swap = await steps.serve_sft(scene, adapters["sft"])
        votes = await steps.collect_votes(scene)
        refreshed = await steps.refresh(scene)
        last_swap = await steps.promote(scene, refreshed)
        findings, arms = await steps.measure(scene, base.adapter_id, refreshed)
        replayed = await steps.audit(scene)
        return Outcome(
            model=base.base_id,
            votes=votes,
            refreshed=refreshed,
            first_swap=first_swap,
            last_swap=last_swap,
            findings=findings,
            arms=arms,
            prompts=scene.held_out_prompts,
            replay=replayed,
            requests=_requests(scene, votes),
            wall_seconds=time.monotonic() - began_at,
        )


async def _interruptible(settings: DemoSettings, data_dir: Path, narrator: Narrator) -> Outcome:
    """Let SIGTERM end the demo as Ctrl-C does, so that no process outlives it."""
    playing = asyncio.ensure_future(play(settings, data_dir, narrator))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    try:
        return await playing
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _data_dir(settings: DemoSettings, directory: Path) -> Path:
    data_dir = settings.keep_dir or directory / "data"
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise DemoFailed(f"{data_dir} is not empty; the demo wants a directory of its own")
    data_dir.mkdir(parents=True, exist_ok=True)
    return data_dir


def _keep_card(card_dir: Path, report_dir: Path) -> Path:
    """Copy the refresh card beside the report and return the page to open."""
    kept = report_dir / "card"
    shutil.copytree(card_dir, kept, dirs_exist_ok=True)
    return next(kept.glob("*.html"), kept)


def _requests(scene: Scene, votes: steps.Votes) -> Requests:
    traffic, visits, counts = scene.api.traffic, scene.traffic.visits, votes.counts
    labelers = ("a labeler's request; see labelers.log",) * counts.failures
    return Requests(
        num_total=traffic.num_requests + visits.num_requests + counts.requests,
        failures=(*traffic.failures, *visits.failures, *labelers),
        num_streamed=visits.num_streamed,
    )
