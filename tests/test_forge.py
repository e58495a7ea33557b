"""What a forge and Docker read: it asks for no more rights than it needs, and names what is there."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = {path.stem: path.read_text() for path in sorted((ROOT / ".github" / "workflows").iterdir())}


def workflow(name: str) -> dict[Any, Any]:
    values = yaml.safe_load(WORKFLOWS[name])
    assert isinstance(values, dict)
    return values


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def supported() -> list[str]:
    """The versions of Python that the package says it runs on."""
    prefix = "Programming Language :: Python :: "
    return [name.removeprefix(prefix) for name in PROJECT["classifiers"] if re.fullmatch(rf"{prefix}\d+\.\d+", name)]


def test_a_change_is_checked_by_the_one_command_on_three_systems() -> None:
    job = workflow("check")["jobs"]["check"]
    assert job["strategy"]["matrix"]["system"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert job["runs-on"] == "${{ matrix.system }}"
    assert commands(job)[-1] == "bash scripts/check"
    # On Windows too.
    assert job["defaults"]["run"]["shell"] == "bash"


def test_a_change_is_checked_with_the_oldest_and_the_newest_python() -> None:
    versions = supported()
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert workflow("check")["jobs"]["check"]["strategy"]["matrix"]["python"] == [versions[0], versions[-1]]
    release = workflow("release")["jobs"]["build"]["steps"]
    assert [step["with"]["python-version"] for step in release if "setup-python" in step.get("uses", "")] == [
        versions[-1]
    ]
    assert f"FROM python:{versions[-1]}-slim" in (ROOT / "Dockerfile").read_text()


def test_a_tag_publishes_without_a_password_what_was_tried() -> None:
    # YAML 1.1 reads the word `on` as true.
    assert workflow("release")[True] == {"push": {"tags": ["v*"]}}
    jobs = workflow("release")["jobs"]
    built = commands(jobs["build"])
    tried = next(i for i, line in enumerate(built) if "tests/test_package.py" in line)
    assert tried < built.index("python -m hatchling build --directory dist")
    publish = jobs["publish"]
    assert (publish["needs"], publish["environment"]) == ("build", "pypi")
    assert publish["permissions"] == {"id-token": "write"}
    assert not re.search(r"secrets\.|password", WORKFLOWS["release"].partition("\nname:")[2])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_no_more_rights_and_time_than_it_needs(name: str) -> None:
    assert "it has not run yet" in " ".join(WORKFLOWS[name].replace("#", "").split())
    values = workflow(name)
    assert values["permissions"] == {"contents": "read"}
    assert "concurrency" in values
    for title, job in values["jobs"].items():
        assert job["timeout-minutes"] <= 60
        assert "permissions" not in job or (name, title) == ("release", "publish")
        # What others can name, as a branch, never becomes part of a command.
        assert not any("${{" in line for line in commands(job))
        for step in job["steps"]:
            assert re.search(r"@(v\d+|release/v1)$", step.get("uses", "@v1"))
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_files_that_a_workflow_names_are_there(name: str) -> None:
    named = set(re.findall(r"(?:scripts|tests)/[\w./]+|[\w-]+\.(?:txt|toml)", WORKFLOWS[name]))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


POSIX = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
"""Modules that Windows lacks."""


def test_the_package_and_its_tests_load_on_every_system() -> None:
    tests = [path for name in ("test_*.py", "conftest.py") for path in (ROOT / "tests").rglob(name)]
    for path in [*(ROOT / "src").rglob("*.py"), *tests]:
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not POSIX & set(names), path


def test_docker_copies_what_is_there_and_is_not_left_out() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {path for line in lines if line.startswith("COPY ") for path in shlex.split(line)[1:-1]}
    assert copied >= {"pyproject.toml", "src", *PROJECT["license-files"], PROJECT["readme"]}
    assert [path for path in copied if not (ROOT / path).exists()] == []
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == copied


def test_docker_runs_the_command_and_not_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "Not built yet" in lines[0]
    assert lines.index("USER convatlas") < lines.index('ENTRYPOINT ["convatlas"]')
