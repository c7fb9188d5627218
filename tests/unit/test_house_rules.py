"""The rules of the house that no linter knows: sizes, names, docstrings, commands, no machine."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("feedback", "policy", "engines", "service", "trainer", "instructloop")
MAX_LINES = 400
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "manager", "core", "misc"}
# A path or a host that only one machine has; written so that this file does not match itself.
MACHINE = re.compile(r"(?<![\w.])/(?:work|root)/|pypi\.o[r]g|files\.pythonhosted")


def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--"]
    listed = subprocess.run([*command, *patterns], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the list of tracked files is unknown")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file()]


def modules() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_no_python_file_is_longer_than_400_lines() -> None:
    sizes = {relative(file): len(file.read_text().splitlines()) for file in tracked("*.py")}
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}


def test_every_module_says_in_a_docstring_what_it_is_for() -> None:
    bare = [relative(f) for f in modules() if not ast.get_docstring(ast.parse(f.read_text()))]
    assert bare == []


def test_no_module_has_a_vague_name_or_the_name_of_its_package() -> None:
    bad = [
        relative(file)
        for file in modules()
        if file.stem in VAGUE_NAMES or file.stem == file.parent.name
    ]
    assert bad == []


def test_a_package_file_holds_only_its_docstring() -> None:
    packages = [file for file in modules() if file.name == "__init__.py"]
    full = [relative(file) for file in packages if len(ast.parse(file.read_text()).body) != 1]
    assert full == []


def test_there_is_no_package_file_under_tests() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_unit_test_is_named_after_a_module_of_its_package() -> None:
    orphans = []
    for package in PACKAGES:
        homes = {file.stem for file in (ROOT / package).rglob("*")}
        tests = sorted((ROOT / "tests" / "unit" / package).rglob("test_*.py"))
        # A folder of tests may mirror a subpackage as a whole.
        orphans += [
            relative(file)
            for file in tests
            if not {file.stem.removeprefix("test_"), file.parent.name} & homes
        ]
    assert orphans == []


def test_nothing_is_left_unfinished() -> None:
    mark = re.compile("NotImplemented" + "Error|TO" + "DO|FIX" + "ME|pragma: no " + "cover")
    assert [relative(f) for f in tracked("*.py") if mark.search(f.read_text())] == []


def test_no_tracked_file_names_a_machine_or_a_package_host() -> None:
    found = {}
    for file in tracked():
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        if hit := MACHINE.search(text):
            found[relative(file)] = hit.group()
    assert found == {}


def test_every_make_command_of_the_readme_is_a_target() -> None:
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


def test_the_links_of_the_pages_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    broken = [
        f"{relative(page)}: {target}"
        for page in tracked("*.md")
        for target in link.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_pinned_version_lies_within_the_range_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras]]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if "==" in line)
    for requirement in wanted:
        if requirement.name == project["name"]:
            continue
        name = requirement.name.lower()
        version = pins.get(name) or pins.get(name.replace("-", "_"))
        assert version is not None, f"{requirement.name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_every_definition_that_the_paper_map_names_exists() -> None:
    named = re.findall(r"`([a-z_/]+\.py):(\w+)`", (ROOT / "PAPERS.md").read_text())
    assert len(named) > 10
    missing = [
        f"{file}:{name}"
        for file, name in named
        if not re.search(rf"^\s*(def {name}\(|class {name}\b)", (ROOT / file).read_text(), re.M)
    ]
    assert missing == []
