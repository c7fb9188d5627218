"""A base is described once, in JSON, and what differs is named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from feedback.base_description import BaseDescription, base_adapter_id, read_base_description


def test_a_description_survives_its_json_file(tmp_path: Path, tiny_base: BaseDescription) -> None:
    path = tmp_path / "base.json"
    path.write_text(tiny_base.model_dump_json())
    assert read_base_description(path) == tiny_base


def test_the_base_s_id_comes_from_its_weights(tiny_base: BaseDescription) -> None:
    assert tiny_base.adapter_id == base_adapter_id("0123456789abcdef" * 4)
    assert tiny_base.adapter_id == "base-0123456789abcdef"


def test_differences_are_named(tiny_base: BaseDescription) -> None:
    assert tiny_base.differences(tiny_base) == []
    other = tiny_base.model_copy(update={"template_hash": "x", "num_layers": 3})
    assert tiny_base.differences(other) == ["template_hash", "num_layers"]


@pytest.mark.parametrize(
    "change", [{"weights_hash": "short"}, {"weights_hash": "G" * 16}, {"surprise": 1}]
)
def test_a_hash_that_is_none_and_unknown_fields_are_refused(
    tiny_base: BaseDescription, change: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        BaseDescription.model_validate(tiny_base.model_dump() | change)
