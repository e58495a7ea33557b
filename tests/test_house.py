"""The rules of the house: who imports whom, what starting loads, and that versions agree."""

import ast
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import grimp
import networkx as nx
import pytest

import convatlas as ca

ROOT = Path(__file__).parents[1]


def python(code: str, **options: object) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options)
    return done.stdout


def command(*words: str) -> str:
    """Code that runs the command and goes on."""
    return (
        f"import sys; sys.argv = {['convatlas', *words]}\n"
        "try:\n    from convatlas.cli import main; main()\nexcept SystemExit:\n    pass\n"
    )


HELP = [["--help"], *([verb, "--help"] for verb in ("list", "show", "compare", "claims", "train"))]


def test_no_file_is_imported_by_what_it_imports() -> None:
    # Imports for type checkers count, and those inside functions.
    graph = grimp.build_graph("convatlas", cache_dir=None)
    edges = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    cycles = [sorted(names) for names in nx.strongly_connected_components(nx.DiGraph(edges)) if len(names) > 1]
    assert cycles == []


def test_no_file_is_long() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in (ROOT / "src").rglob("*.py")}
    assert {path.name: lines for path, lines in sizes.items() if lines > 450} == {}


def test_one_class_name_has_one_meaning() -> None:
    files: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                files.setdefault(node.name, []).append(path.name)
    assert {name: where for name, where in files.items() if len(where) > 1} == {}


def test_every_room_stands_in_the_layers() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = {room for layer in settings["contracts"][0]["layers"] for room in layer.split(" | ")}
    source = ROOT / "src" / "convatlas"
    rooms = {path.name for path in source.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms |= {path.stem for path in source.glob("*.py") if path.stem != "__init__"}
    assert layers == {f"convatlas.{room}" for room in rooms}
    families = {f"convatlas.networks.{path.stem}" for path in (source / "networks").glob("*.py")}
    assert set(settings["contracts"][1]["modules"]) == families - {
        "convatlas.networks.__init__",
        "convatlas.networks.blocks",
        "convatlas.networks.codes",
        "convatlas.networks.connections",
        "convatlas.networks.features",
        "convatlas.networks.heads",
        "convatlas.networks.quantization",
    }


@pytest.mark.parametrize(
    "code",
    [
        "import convatlas; dir(convatlas)",
        "import convatlas.errors, convatlas.recipe, convatlas.spec, convatlas.files, convatlas.images",
        "import convatlas.models.card, convatlas.runs.options, convatlas.files.typed_json",
        *(command(*words) for words in HELP),
    ],
    ids=["import", "low rooms", "cards and options", *map(" ".join, HELP)],
)
def test_torch_is_not_loaded(code: str) -> None:
    loaded = python(f"{code}\nimport sys\nprint('\\n', *sys.modules)").rsplit("\n", 2)[1].split()
    assert "convatlas" in loaded
    assert not {"torch", "matplotlib", "safetensors"} & set(loaded)


class Measured(NamedTuple):
    """A command in a process of its own."""

    out: str
    megabytes: int
    """What it held in memory at most; 0 where no system says it."""
    seconds: float
    """Of processor time."""


def measured(*words: str) -> Measured:
    # Not getrusage: a child's begins with its parent's.
    reading = (
        "import time; from pathlib import Path; status = Path('/proc/self/status')\n"
        "lines = status.read_text().splitlines() if status.exists() else []\n"
        "peak = sum(int(line.split()[1]) for line in lines if line.startswith('VmHWM:'))\n"
        "print(peak // 1024, time.process_time(), file=sys.stderr)"
    )
    code = command(*words) + reading
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes, seconds = done.stderr.split()
    return Measured(done.stdout, int(megabytes), float(seconds))


@pytest.fixture(scope="module")
def listed() -> Measured:
    return measured("list")


@pytest.mark.slow
def test_a_layer_table_takes_no_memory_for_weights(listed: Measured) -> None:
    least = measured("show", "lenet5").megabytes
    # vgg19 has 548 MiB of weights, the whole atlas some 8 GiB.
    assert measured("show", "vgg19").megabytes <= least + 60
    assert listed.megabytes <= least + 60


@pytest.mark.slow
def test_the_whole_atlas_is_listed_in_under_four_seconds(listed: Measured) -> None:
    assert all(f"\n{variant.name} " in listed.out for variant in ca.variants() if not variant.released)
    # Of processor time, which is what a person waits where nothing else runs; the best of three on a busy machine.
    assert listed.seconds < 4 or any(measured("list").seconds < 4 for _ in range(2))


def test_the_public_names_are_there() -> None:
    assert all(getattr(ca, name) is not None for name in ca.__all__)
    assert set(dir(ca)) == set(ca.__all__)
    with pytest.raises(AttributeError, match="no attribute 'pretrained'"):
        _ = ca.pretrained


@pytest.mark.slow
def test_what_trains_and_measures_is_public_from_the_first_use() -> None:
    # In a process of its own: here other tests may have imported what is asked for already.
    code = (
        "import convatlas as ca\n"
        "for name in ('find_lr', 'sweep', 'Request', 'Recipe', 'experiments'):\n"
        "    found = getattr(ca, name)\n"
        "    print(found.__name__, bool(found.__doc__))\n"
        "print(ca.find_lr.__module__, ca.sweep.__module__, ca.experiments.find('vanishing').id)\n"
    )
    assert python(code).split("\n")[:-1] == [
        "find_lr True",
        "sweep True",
        "Request True",
        "Recipe True",
        "convatlas.experiments True",
        "convatlas.training.lr_finder convatlas.training.sweep vanishing",
    ]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "src" / "convatlas" / "py.typed").exists()


def test_changelog_citation_and_package_tell_the_same_version() -> None:
    assert f"## {ca.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {ca.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_constraints_name_every_dependency_exactly() -> None:
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} <= pinned
