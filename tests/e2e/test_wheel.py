"""The built wheel works on its own: every package, every data file, the command, no checkout."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("feedback", "policy", "engines", "service", "trainer", "instructloop")
DATA_SUFFIXES = {".json", ".jsonl", ".md", ".html", ".css", ".js", ".svg", ".typed", ".txt"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, then the wheel out of that sdist, as a publisher does."""
    out = tmp_path_factory.mktemp("dist")
    # Without isolation the build uses the pinned hatchling and needs no package index.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel without its dependencies into a directory of its own."""
    target = tmp_path_factory.mktemp("site")
    [wheel] = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    return target


def run_outside(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where only the installed wheel, never the checkout, can be imported."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def data_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.splitlines() if Path(name).suffix in DATA_SUFFIXES]


def test_the_wheel_holds_every_module_and_data_file_and_no_test(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(f.relative_to(ROOT)) for p in PACKAGES for f in (ROOT / p).rglob("*.py")}
    assert modules <= names
    assert set(data_files()) <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]


def test_the_sdist_holds_what_a_packager_needs(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "tests/conftest.py"} <= names


def test_every_module_imports_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    code = f"""
import importlib, pathlib, pkgutil
for package in {PACKAGES!r}:
    module = importlib.import_module(package)
    assert pathlib.Path(module.__file__).is_relative_to({str(installed)!r}), module.__file__
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""
    done = run_outside(installed, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_command_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "from instructloop.cli import main; main()"
    done = run_outside(installed, tmp_path, "-c", code, "--help")
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_the_wheel_names_the_console_script(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        assert "instructloop = instructloop.cli:main" in archive.read(name).decode()
