"""The proof of the design: a family that the atlas does not have, DenseNet, comes in as one file and one line.

It comes into a copy of the package, in processes of their own.
"""

import difflib
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "convatlas"
FAMILY = Path(__file__).with_name("densenet.py")
NAMES = ["densenet121", "densenet40-cifar"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with one file more, and its line in `FAMILIES` with the name that this takes."""
    package = tmp_path_factory.mktemp("copy") / "convatlas"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FAMILY, package / "networks")
    families = package / "networks" / "__init__.py"
    text = families.read_text()
    text = text.replace("import alexnet, ", "import alexnet, densenet, ", 1)
    text = text.replace("    mobilenet.FAMILY,\n", "    mobilenet.FAMILY,\n    densenet.FAMILY,\n", 1)
    families.write_text(text)
    return package


def python(package: Path, *arguments: object, cwd: Path = ROOT) -> str:
    """What Python prints where the copy is the package."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        # One thread: many small layers, and whatever else this machine does.
        env={**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def convatlas(package: Path, *arguments: object) -> str:
    """What the command prints."""
    return python(package, "-c", "from convatlas.cli import main; main()", *arguments)


def as_json(package: Path, *arguments: object) -> Any:
    return json.loads(convatlas(package, *arguments, "--json"))


def differences(ours: Path, theirs: Path) -> tuple[set[str], set[str]]:
    """Files that only `theirs` has, and files whose content is another."""
    files = {str(path.relative_to(ours)) for path in ours.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    copies = {str(path.relative_to(theirs)) for path in theirs.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files <= copies
    _, changed, failed = filecmp.cmpfiles(ours, theirs, files, shallow=False)
    assert failed == []
    return copies - files, set(changed)


def test_a_new_family_is_one_file_one_name_and_one_line(package: Path) -> None:
    assert differences(SOURCE, package) == ({"networks/densenet.py"}, {"networks/__init__.py"})
    before, after = ((root / "networks" / "__init__.py").read_text().splitlines() for root in (SOURCE, package))
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    removed, named, line = changes
    assert named[1:].replace("densenet, ", "") == removed[1:]
    assert line.split() == ["+", "densenet.FAMILY,"]


def test_the_file_asks_for_nothing_but_the_blocks_and_the_words_of_the_atlas() -> None:
    asked = set(re.findall(r"^(?:from|import) (convatlas[\w.]*)", FAMILY.read_text(), re.MULTILINE))
    assert asked == {"convatlas.networks.blocks", "convatlas.spec"}


def convolution(below: int, maps: int, kernel: int) -> int:
    return below * maps * kernel**2


def counted(k: int, blocks: dict[int, int], classes: int, compressed: bool) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a DenseNet, block by block: its layers by the side of its maps."""
    if compressed:
        below = 2 * k
        params = convolution(3, below, 7) + 2 * below
        macs = convolution(3, below, 7) * 112**2
    else:
        below = 16
        params = convolution(3, below, 3)
        macs = params * 32**2
    for side, layers in blocks.items():
        for _ in range(layers):
            bottleneck = convolution(below, 4 * k, 1) if compressed else 0
            filters = convolution(4 * k if compressed else below, k, 3)
            # Each convolution has a normalization before it, of two numbers a map.
            params += 2 * below + bottleneck + filters + (2 * 4 * k if compressed else 0)
            macs += (bottleneck + filters) * side**2
            below += k
        params += 2 * below
        if side != min(blocks):
            transition = convolution(below, below // (2 if compressed else 1), 1)
            params += transition
            macs += transition * side**2
            below //= 2 if compressed else 1
    return params + (below + 1) * classes, macs + below * classes


def test_every_verb_that_reads_the_atlas_knows_it(package: Path) -> None:
    where = python(package, "-c", "import convatlas; print(convatlas.__file__)")
    assert Path(where.strip()) == package / "__init__.py"

    rows = {row["name"]: row for row in as_json(package, "list")["variants"]}
    assert [name for name in rows if rows[name]["family"] == "DenseNet"] == NAMES
    sums = {name: (rows[name]["params"], rows[name]["macs"]) for name in NAMES}
    imagenet = counted(32, {56: 6, 28: 12, 14: 24, 7: 16}, classes=1000, compressed=True)
    cifar = counted(12, {32: 12, 16: 12, 8: 12}, classes=10, compressed=False)
    assert sums == {"densenet121": imagenet, "densenet40-cifar": cifar}
    assert imagenet == (7_978_856, 2_834_161_664)

    shown = as_json(package, "show", "densenet121")
    assert (shown["params"], shown["macs"]) == imagenet
    assert [claim["verdict"] for claim in shown["claims"]] == ["holds"] * 5 + ["not tested here"] * 4
    small = convatlas(package, "show", "densenet121", "--resolution", 63, "--width", 0.5, "--depth", 2)
    assert "Small images: below 64 px no pooling follows the first convolution; below 33 px it has stride 1." in small
    assert "blocks.3.31.convs.1" in small

    table = convatlas(package, "compare", "densenet121", "resnet50")
    assert table.split()[:2] == ["densenet121", "resnet50"]
    assert re.search(r"parameters +7,978,856 +25,557,032\n", table)

    ledger = convatlas(package, "claims", "densenet121")
    assert ledger.splitlines()[0] == "densenet121 (2017)"
    assert re.search(r"layers +121 +121 +holds +Table 1\n", ledger)


def test_it_trains_is_evaluated_and_predicts(package: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = ["--width", 0.25, "--depth", 0.1, "--epochs", 1]
    trained = as_json(package, "train", "densenet40-cifar", *sizes, "--out", run, "--quiet")
    assert json.loads((run / "run.json").read_text())["spec"]["blocks"] == [[[3]] * 2] * 3
    assert as_json(package, "evaluate", run)["test_accuracy"] == trained["test_accuracy"]
    (prediction,) = as_json(package, "predict", run, ROOT / "docs" / "five.png")["predictions"]
    assert set(prediction["classes"]) < set("0123456789")


def test_the_tests_of_every_variant_hold_for_it(package: Path) -> None:
    tests = ["tests/networks/test_every_variant.py", "tests/measure/test_claims.py", "tests/test_atlas.py"]
    report = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "densenet", "--no-header")
    passed = re.search(r"^(\d+) passed, \d+ deselected in", report, re.MULTILINE)
    assert passed, report
    # Both variants, and the family.
    assert int(passed[1]) > 60
