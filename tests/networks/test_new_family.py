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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "convatlas"
COMMANDS = Path(__file__).parents[1] / "watched_commands.py"
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


def environment(package: Path) -> dict[str, str]:
    """Of a process where the copy is the package, with one thread: many small layers, whatever else runs."""
    return {**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}


def python(package: Path, *arguments: str) -> str:
    """What Python prints where the copy is the package."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment(package), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def convatlas(package: Path) -> Iterator[Callable[..., str]]:
    """`convatlas("list")` is what the command prints where the copy is the package."""
    with subprocess.Popen(
        [sys.executable, str(COMMANDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(package),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def command(*arguments: object) -> str:
            asked = {"words": [*map(str, arguments)], "folder": str(ROOT), "environment": {}}
            print(json.dumps(asked), file=process.stdin, flush=True)
            done = json.loads(process.stdout.readline())
            assert done["status"] == 0, done["out"] + done["err"]
            return str(done["out"])

        yield command


def as_json(convatlas: Callable[..., str], *arguments: object) -> Any:
    return json.loads(convatlas(*arguments, "--json"))


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


def convolution(in_channels: int, out_channels: int, kernel: int) -> int:
    return in_channels * out_channels * kernel**2


def counted(k: int, blocks: dict[int, int], classes: int, compressed: bool) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a DenseNet, block by block: its layers by the side of its feature maps."""
    if compressed:
        channels = 2 * k
        params = convolution(3, channels, 7) + 2 * channels
        macs = convolution(3, channels, 7) * 112**2
    else:
        channels = 16
        params = convolution(3, channels, 3)
        macs = params * 32**2
    for side, layers in blocks.items():
        for _ in range(layers):
            bottleneck = convolution(channels, 4 * k, 1) if compressed else 0
            filters = convolution(4 * k if compressed else channels, k, 3)
            # Each convolution has a normalization before it, of two numbers a channel.
            params += 2 * channels + bottleneck + filters + (2 * 4 * k if compressed else 0)
            macs += (bottleneck + filters) * side**2
            channels += k
        params += 2 * channels
        if side != min(blocks):
            transition = convolution(channels, channels // (2 if compressed else 1), 1)
            params += transition
            macs += transition * side**2
            channels //= 2 if compressed else 1
    return params + (channels + 1) * classes, macs + channels * classes


@pytest.mark.slow
def test_every_verb_that_reads_the_atlas_knows_it(convatlas: Callable[..., str], tmp_path: Path) -> None:
    rows = {row["name"]: row for row in as_json(convatlas, "list")["variants"]}
    assert [name for name in rows if rows[name]["family"] == "DenseNet"] == NAMES
    sums = {name: (rows[name]["params"], rows[name]["macs"]) for name in NAMES}
    imagenet = counted(32, {56: 6, 28: 12, 14: 24, 7: 16}, classes=1000, compressed=True)
    cifar = counted(12, {32: 12, 16: 12, 8: 12}, classes=10, compressed=False)
    assert sums == {"densenet121": imagenet, "densenet40-cifar": cifar}
    assert imagenet == (7_978_856, 2_834_161_664)

    shown = as_json(convatlas, "show", "densenet121")
    assert (shown["params"], shown["macs"]) == imagenet
    assert [claim["verdict"] for claim in shown["claims"]] == ["holds"] * 5 + ["not tested here"] * 4
    small = convatlas("show", "densenet121", "--resolution", 63, "--width", 0.5, "--depth", 2)
    assert "Small images: below 64 px no pooling follows the first convolution; below 33 px it has stride 1." in small
    assert "blocks.3.31.convs.1" in small

    table = convatlas("compare", "densenet121", "resnet50")
    assert table.split()[:2] == ["densenet121", "resnet50"]
    assert re.search(r"parameters +7,978,856 +25,557,032\n", table)

    convatlas("show", "densenet121", "--svg", tmp_path / "network.svg")
    assert "24 times Dense Layer to 1024×14×14, its input led past it" in (tmp_path / "network.svg").read_text()
    convatlas("list", "--svg", tmp_path / "list.svg")
    chart = (tmp_path / "list.svg").read_text()
    assert 'data-network="densenet121"' in chart
    assert "2017 DenseNet: one crop" in chart

    ledger = convatlas("claims", "densenet121")
    assert ledger.splitlines()[0] == "densenet121 (2017)"
    assert re.search(r"layers +121 +121 +holds +Table 1\n", ledger)


@pytest.fixture(scope="module")
def run(convatlas: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a small DenseNet, trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    sizes = ["--width", 0.5, "--depth", 0.2, "--resolution", 28, "--epochs", 1]
    trained = as_json(convatlas, "train", "densenet40-cifar", *sizes, "--no-autotune", "--out", folder, "--quiet")
    assert as_json(convatlas, "evaluate", folder)["test_accuracy"] == trained["test_accuracy"]
    return folder


def compressed(convatlas: Callable[..., str], run: Path, out: Path, *options: object) -> list[dict[str, Any]]:
    """The stages of a run that is made smaller."""
    short = ["--rounds", 1, "--epochs", 1, "--no-autotune", "--quiet"]
    stages = as_json(convatlas, "compress", run, *options, *short, "--out", out)["stages"]
    assert isinstance(stages, list)
    return stages


def predicts(convatlas: Callable[..., str], model: Path) -> bool:
    (prediction,) = as_json(convatlas, "predict", model, ROOT / "docs" / "five.png")["predictions"]
    return set(prediction["classes"]) < set("0123456789")


def test_it_trains_is_evaluated_and_predicts(convatlas: Callable[..., str], run: Path) -> None:
    assert json.loads((run / "model.json").read_text())["spec"]["blocks"] == [[[6]] * 3] * 3
    assert predicts(convatlas, run)


@pytest.mark.slow
def test_its_channels_are_pruned(convatlas: Callable[..., str], run: Path, tmp_path: Path) -> None:
    first, *_, last = compressed(convatlas, run, tmp_path, "--prune", 0.4)
    assert last["macs"] <= 0.6 * first["macs"]
    blocks = json.loads((tmp_path / "model.json").read_text())["spec"]["blocks"]
    assert [len(block) for block in blocks] == [3] * 3
    assert blocks != [[[6]] * 3] * 3
    assert as_json(convatlas, "evaluate", tmp_path)["test_accuracy"] == last["test_accuracy"]


@pytest.mark.slow
def test_it_is_made_small_by_every_method(convatlas: Callable[..., str], run: Path, tmp_path: Path) -> None:
    macs = compressed(convatlas, run, tmp_path / "macs", "--to", "2 M macs", "--importance", "batch-norm")
    assert macs[-1]["macs"] <= 2e6
    weights = (run / "weights.safetensors").stat().st_size
    for name, options, least in (
        ("bits", ["--bits", 3.5], 4),
        ("int8", ["--int8", "--prune", 0.3], 3.5),
        ("sparse", ["--sparse", 0.8], 2),
        ("size", ["--to", f"{weights / 8000:.1f} KB"], 8),
    ):
        last = compressed(convatlas, run, tmp_path / name, *options)[-1]
        file = tmp_path / name / "model.cva"
        assert file.stat().st_size <= weights / least, name
        assert as_json(convatlas, "evaluate", file)["test_accuracy"] == last["test_accuracy"]
        assert predicts(convatlas, file)
        convatlas("unpack", file, "--out", tmp_path / name / "unpacked")
        assert as_json(convatlas, "evaluate", tmp_path / name / "unpacked")["test_accuracy"] == last["test_accuracy"]


@pytest.mark.slow
def test_bottlenecks_and_normalization_before_convolutions_are_pruned_and_folded(package: Path) -> None:
    code = """
import torch, convatlas as ca
from torch import nn
from convatlas.compression.channel_groups import graph_of, groups_of, traceable, with_channels
from convatlas.compression.channels import above, without

def num_norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())

torch.manual_seed(0)
network = ca.create("densenet121", width=0.25, depth=0.25, resolution=64, num_classes=5).double().eval()
for module in network.modules():
    if isinstance(module, nn.BatchNorm2d):
        for value in (module.weight, module.bias, module.running_mean, module.running_var):
            nn.init.uniform_(value, 0.5, 1.5)
images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
folded = ca.fold_batch_norm(network)
torch.testing.assert_close(folded(images), network(images))
# The normalization of a bottleneck, and the one after the first convolution.
layers = sum(map(len, network.spec.blocks))
assert num_norms(network) - num_norms(folded) == layers + 1

traced = traceable(network.float())
graph = graph_of(traced, network.spec)
groups = groups_of(graph, traced, network.spec, lambda group: torch.rand(len(group[0].idxs)))
# The first convolution, both of each layer, and those of the transitions.
assert len(groups) == 1 + 2 * layers + 3
narrow = without(traced, graph, groups, 1.0, type(network)(with_channels(network.spec, groups, above(1.0))))
assert narrow(images.float()).shape == (2, 5)
"""
    python(package, "-c", code)


@pytest.mark.slow
def test_the_tests_of_every_variant_hold_for_it(package: Path) -> None:
    tests = ["tests/networks/test_every_variant.py", "tests/measure/test_claims.py", "tests/test_atlas.py"]
    # By its name, and where one test goes through all variants.
    chosen = "densenet or at_once"
    report = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", chosen, "--no-header")
    passed = re.search(r"^(\d+) passed, \d+ deselected in", report, re.MULTILINE)
    assert passed, report
    # Both variants, and the family.
    assert int(passed[1]) > 60


@pytest.mark.slow
def test_the_tests_of_compression_hold_for_it(package: Path) -> None:
    tests = ["test_channels.py", "test_counts.py", "test_int8.py", "test_every_family.py"]
    paths = [f"tests/compression/{name}" for name in tests]
    options = ["-q", "-p", "no:cacheprovider", "-m", "not gpu", "-k", "densenet", "--no-header"]
    report = python(package, "-m", "pytest", *options, *paths)
    passed = re.search(r"^(\d+) passed, \d+ deselected in", report, re.MULTILINE)
    assert passed, report
    assert int(passed[1]) >= 8
