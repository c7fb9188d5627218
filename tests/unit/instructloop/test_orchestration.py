"""The demo starts on a directory of its own or not at all."""

import pytest

from instructloop.demo.orchestration import run
from instructloop.demo.scene import DemoFailed
from instructloop.settings import DemoSettings


def test_a_directory_that_holds_something_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(DemoFailed, match="not empty"):
        run(DemoSettings(keep_dir=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
