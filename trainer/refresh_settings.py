"""All settings of one refresh in one record; it does not know how they are used."""

from __future__ import annotations

from pydantic import Field

from trainer.gate_settings import GateSettings
from trainer.settings import AdapterShape, PpoSettings, RewardSettings, Settings, SftSettings


class RefreshSettings(Settings):
    """What `instructloop train refresh` does from snapshot to gate."""

    shape: AdapterShape = AdapterShape()
    sft: SftSettings = SftSettings()
    init: SftSettings = SftSettings(epochs=2)
    reward: RewardSettings = RewardSettings()
    ppo: PpoSettings = PpoSettings()
    gate: GateSettings = GateSettings()
    max_prompt_tokens: int = Field(default=512, ge=1, description="longer ones lose their start")
    max_answer_tokens: int = Field(default=256, ge=1, description="longer ones lose their end")
