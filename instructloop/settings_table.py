"""The settings page, generated: `python -m instructloop.settings_table docs/settings.md`.

Does not know what a setting does beyond its description.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from instructloop.settings import ENV_SWITCHES, ServeSettings, variable_of

HEAD = """\
# Settings

Generated from `instructloop/settings.py` by `make docs`; a test fails when this page drifts.

Precedence: flags of `instructloop serve`, then variables, then the TOML file named by `--config` or `INSTRUCTLOOP_CONFIG`, then the default. Unknown keys and variables are refused. A key with a dot lies in a section: `engine.max_rank` is `max_rank` under `[engine]`.

| key | default | variable | meaning |
|---|---|---|---|
"""  # noqa: E501 - one paragraph, one line: Markdown


def settings_page() -> str:
    """Return the whole Markdown page."""
    switches = (f"- `{name}`: {meaning}" for name, meaning in ENV_SWITCHES.items())
    table = (*_rows(ServeSettings, ""), "", "Variables that are no settings:", *switches)
    return HEAD + "\n".join(table) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, f"{prefix}{name}.")
        else:
            yield _row(f"{prefix}{name}", field)


def _row(key: str, field: FieldInfo) -> str:
    default = "(unset)" if field.default is None else f"`{field.default}`"
    return f"| `{key}` | {default} | `{variable_of(key)}` | {field.description} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(settings_page(), encoding="utf-8")
