"""Run a scripted service in a process of its own: arguments DATA_DIR [DELAY_S] [GRACE_S].

Prints the port once it listens; DELAY_S > 0 makes answers endless, a token every DELAY_S.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from engines.scripted import Script, ScriptedEngine, speak_in_its_voice
from engines.seam import GenerateRequest
from service.scripted import scripted_service
from service.server import open_listener, run_server
from service.settings import ServiceSettings


async def main(data_dir: Path, delay_s: float, grace_s: float) -> None:
    def script_of(request: GenerateRequest) -> Script:
        script = speak_in_its_voice(request)
        return replace(script, is_endless=True, delay_s=delay_s) if delay_s else script

    settings = ServiceSettings(poll_interval_s=0.02, shutdown_grace_s=grace_s)
    service = scripted_service(data_dir, ScriptedEngine(script_of), settings)
    try:
        listener = open_listener("127.0.0.1", 0)
        await run_server(service.app, listener, lambda port: print(port, flush=True))
    finally:
        await service.close()
    print("closed", flush=True)


if __name__ == "__main__":
    arguments = [*sys.argv[1:], "0", "5"][:3]
    asyncio.run(main(Path(arguments[0]), float(arguments[1]), float(arguments[2])))
