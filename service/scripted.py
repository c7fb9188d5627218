"""The whole service over a scripted engine and a real data directory: for tests, ours and users'.

Knows no model; everything else is what production uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fastapi import FastAPI

from engines.scripted import ScriptedEngine
from feedback.ballots import BallotKeys
from feedback.pseudonyms import Pseudonyms
from feedback.registry import Registry
from feedback.spool import Spool
from service.access import Access
from service.app import create_app
from service.dependencies import Dependencies, EventLog, now_utc
from service.recent_events import read_recent_events
from service.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class ScriptedService:
    """An application and the parts under it; close it when the application has stopped."""

    app: FastAPI
    engine: ScriptedEngine
    registry: Registry
    spool: Spool

    async def close(self) -> None:
        """Stop the engine and make what was accepted durable."""
        await self.engine.close()
        self.spool.close()


def scripted_service(
    data_dir: Path,
    engine: ScriptedEngine | None = None,
    settings: ServiceSettings | None = None,
    *,
    is_loopback: bool = True,
    clock: Callable[[], datetime] = now_utc,
    event_log_over: Callable[[Spool], EventLog] = lambda spool: spool,
) -> ScriptedService:
    """Return a service over data_dir, which is laid out if it is new.

    event_log_over puts something between the service and its spool, e.g. a disk that fails.
    """
    engine = engine if engine is not None else ScriptedEngine()
    settings = settings if settings is not None else ServiceSettings()
    registry = Registry.open(data_dir)
    registry.bind_base(engine.capabilities.base)
    spool = Spool.open(data_dir / "spool.sqlite3")
    secrets_dir = data_dir / "secrets"
    lifetime = timedelta(seconds=settings.ballot_lifetime_s)
    app = create_app(
        Dependencies(
            engine=engine,
            registry=registry,
            spool=event_log_over(spool),
            ballot_keys=BallotKeys.load_or_create(secrets_dir / "ballot_keys.json", lifetime),
            pseudonyms=Pseudonyms.load_or_create(secrets_dir),
            access=Access(data_dir / "keys.json", is_loopback=is_loopback),
            settings=settings,
            clock=clock,
            recent_events=read_recent_events(spool, settings.recent_responses),
        )
    )
    return ScriptedService(app, engine, registry, spool)
