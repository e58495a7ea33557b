"""What is published: a wheel and an sdist that hold what they should, and work where nothing else is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image, ImageDraw

import convatlas as ca

ROOT = Path(__file__).parents[1]
DATA = {
    "data/embedded/README.md",
    "data/embedded/digits.csv.gz",
    "deployment/artefact.md.jinja",
    "deployment/predict.py.jinja",
    "draw/accuracy.svg.jinja",
    "draw/comparison.svg.jinja",
    "draw/page.html.jinja",
    "experiments/engine/report.html.jinja",
    "models/codec/typical-card.txt",
    "models/codec/typical-record.txt",
    "museum/pages/base.html.jinja",
    "museum/pages/compare.html.jinja",
    "museum/pages/compare.js",
    "museum/pages/experiments.html.jinja",
    "museum/pages/ideas.html.jinja",
    "museum/pages/ideas.js",
    "museum/pages/index.html.jinja",
    "museum/pages/live.html.jinja",
    "museum/pages/ink.js",
    "museum/pages/live.js",
    "museum/pages/macros.jinja",
    "museum/pages/maps.js",
    "museum/pages/museum.js",
    "museum/pages/onnx.js",
    "museum/pages/own.html.jinja",
    "museum/pages/own.js",
    "museum/pages/room.html.jinja",
    "museum/pages/room.js",
    "museum/pages/style.css.jinja",
    "py.typed",
    "runs/report.html.jinja",
    "weights/imagenet.csv",
    "weights/published.csv",
}
"""What the wheel holds besides code."""


class Built(NamedTuple):
    wheel: Path
    sdist: Path


def build(source: Path, out: Path) -> Built:
    """Both from a source tree, with the build backend that is installed here: nothing is downloaded."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", out], cwd=source, check=True, capture_output=True
    )
    return Built(*out.glob("*.whl"), *out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    source = ROOT / "src" / "convatlas"
    code = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    info = f"convatlas-{ca.__version__}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    names = zipfile.ZipFile(built.wheel).namelist()
    assert len(names) == len(set(names))
    assert set(names) == {f"convatlas/{name}" for name in code | DATA} | about


def git_files(*options: str) -> set[str]:
    done = subprocess.run(["git", "ls-files", "-z", *options], cwd=ROOT, check=True, capture_output=True)
    return set(done.stdout.decode().split("\0")) - {""}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only git knows which files are the project's")
def test_the_sdist_holds_what_git_holds(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    new = git_files("--others", "--exclude-standard")
    assert names - new == git_files() - {".ci/run"} | {"PKG-INFO"}


def test_the_sdist_makes_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        # Python below 3.11.4 has no filters.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (unpacked,) = tmp_path.iterdir()
    again = build(unpacked, tmp_path / "dist")
    assert again.wheel.name == built.wheel.name
    assert again.wheel.read_bytes() == built.wheel.read_bytes()


def test_the_package_says_what_it_is(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        about = message_from_bytes(archive.read(f"convatlas-{ca.__version__}.dist-info/METADATA"))
        assert archive.read(f"convatlas-{ca.__version__}.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert (about["Name"], about["Version"]) == ("convatlas", ca.__version__)
    assert (about["License-Expression"], about["License-File"]) == ("Apache-2.0", "LICENSE")
    assert about["Description-Content-Type"] == "text/markdown"
    assert about.get_payload(decode=True) == (ROOT / "README.md").read_bytes()
    # No project address is known; an invented one would be somebody else's.
    assert not {"Home-page", "Project-URL", "Author-email"} & set(about)


def test_only_what_is_released_has_a_date() -> None:
    changelog, citation = (ROOT / "CHANGELOG.md").read_text(), (ROOT / "CITATION.cff").read_text()
    [released] = re.findall(rf"^## {re.escape(ca.__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)$", changelog, re.M)
    assert re.findall(r"^date-released: (\S+)$", citation, re.M) == [released] * (released != "unreleased")


TYPED = """
import convatlas as ca

reveal_type(ca.create("lenet5"))
reveal_type(ca.train("lenet5-modern", epochs=1))
ca.train("lenet5", epochs="many")
"""


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """A virtual environment with pip alone."""
    venv.create(folder := tmp_path / "venv", with_pip=True)
    yield folder
    # Pytest keeps folders of tests for a while, and this one grows to a gigabyte.
    shutil.rmtree(folder)


@pytest.mark.slow
def test_the_wheel_does_the_main_job_in_a_clean_environment(built: Built, fresh: Path, tmp_path: Path) -> None:
    programs = fresh / ("Scripts" if os.name == "nt" else "bin")
    work = tmp_path / "work"
    work.mkdir()
    # Of this repository the processes know nothing.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}

    def run(program: str | Path, *words: str | Path, status: int = 0) -> str:
        done = subprocess.run([program, *words], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout

    run(programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", built.wheel)
    convatlas = programs / "convatlas"
    assert run(convatlas, "--version") == f"convatlas {ca.__version__}\n"
    listed = run(convatlas, "list")
    assert all(f"\n{variant.name} " in listed for variant in ca.variants())
    assert "C3" in run(convatlas, "show", "lenet5")
    run(convatlas, "train", "lenet5-modern", "--epochs", "1", "--out", "run")
    assert "test accuracy" in run(convatlas, "evaluate", "run")
    run(convatlas, "report", "run")
    assert "<html" in (work / "run" / "report.html").read_text()
    one = Image.new("L", (28, 28), 255)
    ImageDraw.Draw(one).line((14, 4, 14, 24), 0, 3)
    one.save(work / "one.png")
    assert "one.png" in run(convatlas, "predict", "run", "one.png")
    code = "import convatlas as ca; print(ca.__file__); print(ca.measure.layers(ca.create('lenet5')).params)"
    where, params = run(programs / "python", "-c", code).splitlines()
    assert Path(where).is_relative_to(fresh)
    assert params == "60000"

    (work / "typed.py").write_text(TYPED)
    mypy = ["-m", "mypy", "--strict", "--cache-dir", ".cache", "--python-executable", programs / "python"]
    said = run(sys.executable, *mypy, "typed.py", status=1)
    assert 'typed.py:4: note: Revealed type is "torch.nn.modules.module.Module"' in said
    assert 'typed.py:5: note: Revealed type is "convatlas.runs.run.Run"' in said
    assert 'typed.py:6: error: Argument "epochs" to "train" has incompatible type "str"' in said
    assert "Found 1 error in 1 file" in said
