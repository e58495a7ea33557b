"""The rules of the house: who imports whom, what starting loads, and that the README tells the truth."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import grimp
import networkx as nx
import pytest

import convatlas as ca

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


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
    assert not {"torch", "matplotlib", "pooch", "safetensors"} & set(loaded)


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


def test_a_layer_table_takes_no_memory_for_weights(listed: Measured) -> None:
    least = measured("show", "lenet5").megabytes
    # vgg19 has 548 MiB of weights, the whole atlas some 8 GiB.
    assert measured("show", "vgg19").megabytes <= least + 60
    assert listed.megabytes <= least + 60


def test_the_whole_atlas_is_listed_in_under_four_seconds(listed: Measured) -> None:
    assert all(f"\n{variant.name} " in listed.out for variant in ca.variants())
    # Of processor time, which is what a person waits where nothing else runs; the best of three on a busy machine.
    assert listed.seconds < 4 or any(measured("list").seconds < 4 for _ in range(2))


def test_the_public_names_are_there() -> None:
    assert all(getattr(ca, name) is not None for name in ca.__all__)
    assert set(dir(ca)) == set(ca.__all__)
    with pytest.raises(AttributeError, match="no attribute 'pretrained'"):
        _ = ca.pretrained


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
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} <= pinned


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert sum(line.startswith("pip install") for line in commands) == 2
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    main = [sys.executable, "-c", "from convatlas.cli import main; main()"]
    # What the first set-up line leaves behind, in a few epochs.
    subprocess.run([*main, "train", "lenet5", "--epochs", "2"], cwd=tmp_path, check=True, capture_output=True)
    for command in commands:
        if not command.startswith("pip install"):
            program, *arguments = shlex.split(command)
            assert program == "convatlas"
            done = subprocess.run([*main, *arguments], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)
    for block in blocks("python"):
        python(block, cwd=tmp_path)


def table(name: str) -> list[list[str]]:
    """The rows of the README's table after the comment that begins with `name`."""
    after = README[README.index(f"<!-- {name}") :]
    lines = [line for line in after.split("\n\n")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_readmes_networks_are_those_of_the_atlas() -> None:
    rows = [
        [family.name, str(family.paper.year), ", ".join(f"`{variant.name}`" for variant in family.variants)]
        for family in ca.families()
    ]
    assert table("networks") == rows


def test_the_readmes_accuracies_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "results" / "accuracy.json").read_text())["rows"]
    rows = [
        [
            f"`{row['network']}`" if row.get("width", 1) == 1 else f"`{row['network']} --width {row['width']:g}`",
            row["data"],
            f"{row['test_error_percent']['mean']:.2f}"
            + (f" ± {row['test_error_percent']['std']:.2f}" if row["test_error_percent"]["std"] is not None else ""),
            str(len(row["test_error_percent"]["each"])),
            f"≤ {row['wanted_percent']:g}",
            row["paper_percent"],
            f"{row['command_seconds']['median']:.0f} s" if row["command_seconds"] is not None else "",
        ]
        for row in measured
    ]
    assert table("accuracy") == rows


def test_the_readmes_training_steps_are_the_measured_ones() -> None:
    networks = json.loads((ROOT / "benchmarks" / "results" / "train.json").read_text())["networks"]
    ratios = {name: row["ratio"] for name, row in networks.items()}
    rows = [
        [f"`{name}`", *(f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})" for r in at_sizes)]
        for name in dict.fromkeys(key.partition(" at ")[0] for key in ratios)
        for at_sizes in [[ratios[f"{name} at {side} px"] for side in (64, 224)]]
    ]
    assert table("train") == rows


SHRUNK = json.loads((ROOT / "benchmarks" / "results" / "compress.json").read_text())["rows"]
DISTILLED, UPDATED = "distillation", "update"


def of_wanted(figure: str, wanted: float, sign: str) -> str:
    return f"{figure} ({sign} {wanted:g})" if wanted else figure


def test_the_readmes_shrunk_networks_are_the_measured_ones() -> None:
    rows = [
        [
            name,
            f"`{row['network']}`" if row["width"] == 1 else f"`{row['network']} --width {row['width']:g}`",
            row["data"],
            f"{100 * row['accuracy_before']:.2f}",
            f"{100 * row['accuracy_after']:.2f}",
            of_wanted(f"{row['points_lost']:.2f}", row["points_allowed"], "≤"),
            of_wanted(f"{row['times_smaller']:.1f}", row["times_smaller_wanted"], "≥"),
            of_wanted(f"{row['times_faster']:.2f}", row["times_faster_wanted"], "≥"),
        ]
        for name, row in SHRUNK.items()
        if name not in (DISTILLED, UPDATED)
    ]
    assert table("compress") == rows
    assert f"{100 * SHRUNK[UPDATED]['part_of_new']:.0f} % of the new file" in README


@pytest.mark.parametrize("name", [name for name in SHRUNK if name not in (DISTILLED, UPDATED)])
def test_what_was_wanted_of_shrinking_was_measured(name: str) -> None:
    row = SHRUNK[name]
    assert row["points_lost"] <= row["points_allowed"]
    assert row["times_smaller"] >= row["times_smaller_wanted"]
    assert row["times_faster"] >= row["times_faster_wanted"]


def test_gains_of_students_are_those_that_were_measured() -> None:
    def percent(parts: list[float]) -> str:
        return ", ".join(f"{100 * part:.2f}" for part in parts)

    assert table("students") == [
        [
            f"`{row['student']}`" if row["width"] == 1 else f"`{row['student']} --width {row['width']:g}`",
            f"{100 * row['part_of_parameters']:.0f} %",
            str(row["epochs"]),
            f"{row['temperature']:g}",
            percent(row["training_accuracy"]),
            percent(row["accuracy"]),
            percent(row["accuracy_taught"]),
            ", ".join(f"{gain:.2f}" for gain in row["points_gained"]),
        ]
        for row in SHRUNK[DISTILLED]["students"]
    ]


@pytest.mark.xfail(strict=True, reason="0.38 points where 0.5 are wanted")
def test_what_was_wanted_of_learning_from_another_was_measured() -> None:
    first = SHRUNK[DISTILLED]["students"][0]
    assert len(first["points_gained"]) == 3
    assert first["mean"] >= SHRUNK[DISTILLED]["wanted"]


def test_what_was_wanted_of_updates_was_measured() -> None:
    assert SHRUNK[UPDATED]["part_of_new"] <= SHRUNK[UPDATED]["part_allowed"]


MISSED = {"resnet18 on flowers-128": "32.8 % where 30 are wanted"}
"""What the README says is not reached yet; when it is, its line here fails."""


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row, id=name, marks=[pytest.mark.xfail(strict=True, reason=MISSED[name])] if name in MISSED else []
        )
        for row in json.loads((ROOT / "benchmarks" / "results" / "accuracy.json").read_text())["rows"]
        for name in [f"{row['network']} on {row['data']}"]
    ],
)
def test_what_was_wanted_of_the_accuracies_was_measured(row: dict[str, Any]) -> None:
    assert row["test_error_percent"]["mean"] <= row["wanted_percent"]
