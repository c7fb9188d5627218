"""Settings: precedence, refusal of unknown keys with a hint, nothing secret printed."""

from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from instructloop.settings import (
    ServeSettings,
    SettingsError,
    known_keys,
    load_settings,
    setting_rows,
    variable_of,
)


def written(directory: Path, text: str) -> Path:
    file = directory / "settings.toml"
    file.write_text(text)
    return file


def test_needs_no_configuration() -> None:
    settings = load_settings()
    assert settings.host == "127.0.0.1"
    assert settings.keys_path == settings.data_dir / "keys.json"


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, 'port = 1\nhost = "0.0.0.0"\nchannel = "blue"\n')
    monkeypatch.setenv("INSTRUCTLOOP_PORT", "2")
    monkeypatch.setenv("INSTRUCTLOOP_HOST", "::1")
    settings = load_settings(file, {"port": 3, "host": None})
    assert (settings.port, settings.host, settings.channel) == (3, "::1", "blue")
    assert (
        settings.channel_poll_interval_s
        == ServeSettings.model_fields["channel_poll_interval_s"].default
    )


def test_sections_come_from_the_file_and_single_keys_from_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "[engine]\nmax_rank = 8\nmax_adapters = 2\n")
    monkeypatch.setenv("INSTRUCTLOOP_ENGINE__MAX_RANK", "16")
    engine = load_settings(file).engine
    assert (engine.max_rank, engine.max_adapters) == (16, 2)


def test_the_file_can_be_named_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTRUCTLOOP_CONFIG", str(written(tmp_path, "port = 7")))
    assert load_settings().port == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "prot is unknown; did you mean port?"),
        ("[engine]\nmax_rnk = 1", "engine.max_rnk is unknown; did you mean engine.max_rank?"),
        ("zzzz = 1", "zzzz is unknown; see docs/settings.md"),
        ("port = 70000", "port is 70000"),
        ('channel = "../x"', "channel is '../x'"),
        ("port = [", "cannot be read from"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings(written(tmp_path, text))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_is_an_error_not_the_defaults(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "absent.toml")


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCTLOOP_PROT", "1")
    with pytest.raises(SettingsError, match="did you mean INSTRUCTLOOP_PORT"):
        load_settings()


def test_every_key_is_printed_and_settable_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = dict(setting_rows(load_settings()))
    assert list(printed) == list(known_keys())
    for key, value in printed.items():
        if value != "(unset)":
            monkeypatch.setenv(variable_of(key), value)
    assert dict(setting_rows(load_settings())) == printed


def test_a_secret_is_never_printed() -> None:
    class Hidden(BaseModel):
        token: SecretStr = SecretStr("open sesame")

    assert "sesame" not in str(dict(setting_rows(Hidden())))
