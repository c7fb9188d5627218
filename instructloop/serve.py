"""Compose the service from its real parts: the one place that knows them all.

Everything is made from `ServeSettings`; a test passes another engine.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from datetime import timedelta

from engines.seam import Engine
from feedback.ballots import BallotKeys
from feedback.pseudonyms import Pseudonyms
from feedback.registry import Registry
from feedback.spool import Spool
from instructloop.logs import configure_logs
from instructloop.settings import ServeSettings
from service.access import Access, is_loopback, refuse_open_address
from service.app import create_app
from service.dependencies import Dependencies
from service.recent_events import read_recent_events
from service.server import open_listener, run_server
from service.settings import ServiceSettings

OpenEngine = Callable[[ServeSettings], Engine]


def open_embedded(settings: ServeSettings) -> Engine:
    """Load the base and start the embedded engine; imports torch.

    Raises:
        ValueError: there is no such base, or its extra is not installed.
    """
    try:
        from engines.embedded import EmbeddedEngine
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the embedded engine needs {error.name}: pip install 'instructloop[embedded]'"
        ) from error
    limits = settings.engine
    return EmbeddedEngine.load(
        settings.base,
        limits.dtype,
        max_adapters=limits.max_adapters,
        max_rank=limits.max_rank,
        context_length=limits.max_context_tokens,
        max_batch=limits.max_running,
        max_waiting=limits.max_waiting,
        num_threads=limits.num_threads,
    )


def run(settings: ServeSettings, open_engine: OpenEngine = open_embedded) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted is durable when this returns.

    Prints `listening on URL` to standard output once requests are taken, so that whoever asked
    for port 0 learns the port.

    Raises:
        ValueError: a part refuses, e.g. an open address without a key, a port in use, a damaged
            spool, or a data directory of another base.
    """
    configure_logs(settings.log_level, settings.log_format)
    # Cheap refusals come before the model is loaded.
    refuse_open_address(settings.host, settings.keys_path)
    registry = Registry.open(settings.data_dir, max_rank=settings.engine.max_rank)
    with (
        open_listener(settings.host, settings.port) as listener,
        Spool.open(settings.data_dir / "spool.sqlite3") as spool,
    ):
        asyncio.run(_serve(settings, listener, registry, spool, open_engine))


async def _serve(
    settings: ServeSettings,
    listener: socket.socket,
    registry: Registry,
    spool: Spool,
    open_engine: OpenEngine,
) -> None:
    service_settings = service_settings_of(settings)
    secrets_dir = settings.data_dir / "secrets"
    lifetime = timedelta(seconds=settings.feedback.ballot_lifetime_s)
    engine = open_engine(settings)
    try:
        registry.bind_base(engine.capabilities.base)
        app = create_app(
            Dependencies(
                engine=engine,
                registry=registry,
                spool=spool,
                ballot_keys=BallotKeys.load_or_create(secrets_dir / "ballot_keys.json", lifetime),
                pseudonyms=Pseudonyms.load_or_create(secrets_dir),
                access=Access(settings.keys_path, is_loopback=is_loopback(settings.host)),
                settings=service_settings,
                recent_events=read_recent_events(spool, service_settings.recent_responses),
            )
        )
        await run_server(app, listener, _announce(settings.host))
    finally:
        await engine.close()


def service_settings_of(settings: ServeSettings) -> ServiceSettings:
    """Translate the operator's settings into the service's."""
    channels = dict.fromkeys((settings.channel, "stable", "candidate"))
    return ServiceSettings(
        default_channel=settings.channel,
        channels=tuple(channels),
        poll_interval_s=settings.channel_poll_interval_s,
        max_body_bytes=settings.max_body_bytes,
        ballot_lifetime_s=settings.feedback.ballot_lifetime_s,
        shutdown_grace_s=settings.shutdown_grace_s,
    )


def _announce(host: str) -> Callable[[int], None]:
    def announce(port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"listening on http://{shown}:{port}\n")
        sys.stdout.flush()

    return announce
