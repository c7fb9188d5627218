"""Run a refresh and die by SIGKILL when a stage reports a step: `DATA_DIR BASE STAGE STEP`."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from refresh_story import SETTINGS

from trainer.progress import Report
from trainer.refresh import RefreshRequest, run_refresh


class Deadly:
    """Stages of which one ends the process, without a chance to tidy up."""

    def __init__(self, stage: str, step: int) -> None:
        self._stage, self._step = stage, step

    def begin(self, name: str) -> Report:
        def report(step: int, num_steps: int, figures: Mapping[str, float]) -> None:
            if (name, step) == (self._stage, self._step):
                os.kill(os.getpid(), signal.SIGKILL)

        return report


if __name__ == "__main__":
    data_dir, base, stage, step = sys.argv[1:]
    request = RefreshRequest(Path(data_dir), SETTINGS, base, "float32")
    run_refresh(request, Deadly(stage, int(step)))
