"""The page of all that was measured: docs/benchmarks.md, from the files in benchmarks/results.

    python benchmarks/tables.py > docs/benchmarks.md

The text stands in benchmarks/page.md.jinja; every figure of a table comes from a result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import accuracy
import cold_start
import compress
import fine_tune
import inference
import jinja2
import load_weights
import measured

from convatlas.experiments.engine.estimate import repeated

SHOWN = 0.02
"""Of a network's time: kinds of layers that take less are not on the page."""
EXPERIMENTS = Path(__file__).parents[1] / "docs" / "experiments"

Results = Mapping[str, Any]
Spread = Mapping[str, float]


def read(name: str) -> Results:
    """The results of a benchmark, `results/NAME.json`."""
    results: Results = json.loads((measured.RESULTS / f"{name}.json").read_text())
    return results


def source(results: Results) -> str:
    """The command, the machine and the days of results."""
    machine, rows = results["machine"], results.get("rows", ())
    dated = list(rows.values() if isinstance(rows, Mapping) else rows)
    days = sorted({row["date"] for row in dated if "date" in row} or {results["date"]})
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return (
        f"`{results['command']}`, {' and '.join(days)}; {machine['processor']} with {machine['capability']}, "
        f"{machine['cores']} cores, {threads}, torch {machine['torch']}"
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; numbers, whose columns end in `:`, are aligned to the right."""
    heads = [column.removesuffix(":") for column in columns]
    line = "|".join("---:" if column.endswith(":") else "---" for column in columns)
    return "\n".join([row_of(heads), f"|{line}|", *map(row_of, rows)])


def row_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def spread(values: Spread, form: str = ",.0f", unit: str = "") -> str:
    """The median and the range, as "486 ms (482 to 493)"."""
    return f"{values['median']:{form}}{unit} ({values['min']:{form}} to {values['max']:{form}})"


def network(row: Results, name: str = "network") -> str:
    """A network as it is typed."""
    return f"`{row[name]}`" if row["width"] == 1 else f"`{row[name]} --width {row['width']:g}`"


def accuracies(results: Results) -> str:
    columns = ("network", "data", "test error, %:", "seeds:", "wanted:", "paper:", "time of a run:", "memory:")
    return table(
        columns,
        [
            (
                network(row),
                row["data"],
                f"{error['mean']:.2f}" + ("" if error["std"] is None else f" ± {error['std']:.2f}"),
                str(len(error["each"])),
                str(accuracy.target(row) or ""),
                row["paper_percent"],
                "" if row["command_seconds"] is None else spread(row["command_seconds"], unit=" s"),
                "" if row["peak_gb"] is None else f"{row['peak_gb']:.2f} GB",
            )
            for row in results["rows"]
            for error in [row["test_error_percent"]]
        ],
    )


def fine_tuned(results: Results) -> str:
    targets = {target.name: f" ({target})" for target in fine_tune.targets(results["rows"])}
    columns = ("", "network", "accuracy, % (wanted):", "95 % interval:", "seconds (wanted):")
    rows = []
    for name, row in results["rows"].items():
        accuracy, seconds = row["accuracy_percent"], row["seconds"]
        low, high = accuracy["interval"]
        rows.append(
            (
                name,
                f"`{row['network']} {row['flags']}".rstrip() + "`",
                f"{accuracy['mean']:.1f}" + targets.get(f"accuracy of {name}, %", ""),
                f"{low:.1f} to {high:.1f}",
                spread(seconds) + targets.get(f"seconds of {name}", ""),
            )
        )
    return table(columns, rows)


def gained(results: Results, row: str, other: str) -> str:
    """How much more accurate one row of fine-tuning is than another on the same splits."""
    ours, theirs = (results["rows"][name]["accuracy_percent"]["each"] for name in (row, other))
    estimate = repeated([a - b for a, b in zip(ours, theirs, strict=True)])
    return f"{estimate.center:+.1f} points ({estimate.low:+.1f} to {estimate.high:+.1f})"


def shrunk(results: Results) -> dict[str, Results]:
    return {name: row for name, row in results["rows"].items() if name not in (compress.DISTILLATION, compress.UPDATE)}


def compressed(results: Results) -> str:
    columns = (
        "", "network", "data", "accuracy before and after, %:", "points lost (wanted):", "times smaller (wanted):",
        "times as fast (wanted):",
    )  # fmt: skip
    rows = []
    for name, row in shrunk(results).items():
        targets = {target.name: f" ({target})" for target in compress.targets(name, row)}
        lost, smaller, faster = (targets.get(f"{name}: {what}", "") for what in compress.FIGURES)
        rows.append(
            (
                name,
                network(row),
                row["data"],
                f"{100 * row['accuracy_before']:.2f}, {100 * row['accuracy_after']:.2f}",
                f"{row['points_lost']:.2f}{lost}",
                f"{row['times_smaller']:.1f}{smaller}",
                f"{row['times_faster']:.2f}{faster}",
            )
        )
    return table(columns, rows)


def sizes(results: Results) -> str:
    columns = (
        "", "parameters:", "bytes of the file:", "MACs before:", "after:", "bits:", "epochs:", "rounds:",
        "epochs of a round:",
    )  # fmt: skip
    return table(
        columns,
        [
            (
                name,
                *(f"{row[field]:,}" for field in ("params", "bytes", "macs_before", "macs")),
                "" if row["bits"] is None else f"{row['bits']:g}",
                *(str(row[field]) for field in ("epochs", "rounds", "epochs_of_a_tuning")),
            )
            for name, row in shrunk(results).items()
        ],
    )


def update_size(results: Results) -> str:
    row = results["rows"][compress.UPDATE]
    (target,) = compress.targets(compress.UPDATE, row)
    return f"{row['bytes'][compress.UPDATE]} bytes, {row['part_of_new']:.2f} of the new file (wanted: {target})"


def students(results: Results) -> str:
    def each(values: Sequence[float], scale: float = 1.0) -> str:
        return ", ".join(f"{scale * value:.2f}" for value in values)

    distillation = results["rows"][compress.DISTILLATION]
    columns = (
        "student", "of the parameters:", "epochs:", "temperature:", "training accuracy, %:", "test accuracy, alone, %:",
        "taught, %:", "points gained:", "mean (wanted):",
    )  # fmt: skip
    (target,) = compress.targets(compress.DISTILLATION, distillation)
    return table(
        columns,
        [
            (
                network(row, "student"),
                f"{100 * row['part_of_parameters']:.0f} %",
                str(row["epochs"]),
                f"{row['temperature']:g}",
                *(each(row[field], 100) for field in ("training_accuracy", "accuracy", "accuracy_taught")),
                each(row["points_gained"]),
                f"{row['mean']:.2f}" + ("" if place else f" ({target})"),
            )
            for place, row in enumerate(distillation["students"])
        ],
    )


def small_epochs(results: Results) -> str:
    ours, *others = results["images_per_s"]
    labels = {
        "lean-0": "the leanest transform we could write, no workers",
        "lean-2": "the same, two workers",
        "torchvision-0": "torchvision's transforms.v2, no workers",
        "torchvision-2": "the same, two workers",
    }
    rows = [("convatlas", spread(results["images_per_s"][ours]), "")]
    rows += [
        (labels[name], spread(results["images_per_s"][name]), spread(results["times_as_fast_as"][name], ".1f"))
        for name in others
    ]
    return table(("", "images per second:", "convatlas is so many times as fast:"), rows)


def steps(results: Results) -> str:
    columns = ("network", "px:", "batch:", "plain, images per second:", "convatlas:", "times as fast:", "n:")
    rows = []
    for name, row in results["networks"].items():
        variant, _, side = name.removesuffix(" px").partition(" at ")
        each = row["images_per_second"]
        form = ",.0f" if each["plain"]["median"] >= 100 else ".1f"
        rows.append(
            (
                f"`{variant}`",
                side,
                str(row["batch_size"]),
                spread(each["plain"], form),
                spread(each["convatlas"], form),
                spread(row["ratio"], ".2f"),
                str(row["ratio"]["n"]),
            )
        )
    return table(columns, rows)


def loading(results: Results) -> str:
    labels = {"lean": "the leanest loader we could write", "torchvision": "torchvision's transforms.v2"}
    first, later = results["first_epoch"], results["later_epochs"]
    rows = [("convatlas", *(spread(epoch["images_per_s"]["convatlas"]) for epoch in (first, later)), "", "")]
    rows += [
        (
            label,
            *(spread(epoch["images_per_s"][name]) for epoch in (first, later)),
            *(spread(epoch["times_as_fast_as"][name], ".2f") for epoch in (first, later)),
        )
        for name, label in labels.items()
    ]
    columns = (
        "", "first epoch, images per second:", "later epochs:", "convatlas is so many times as fast in the first:",
        "in later ones:",
    )  # fmt: skip
    return table(columns, rows)


def starts(results: Results) -> str:
    return table(
        ("command", "seconds:"), [(f"`{name}`", spread(each, ".2f")) for name, each in results["seconds"].items()]
    )


def cold_starts(results: Results) -> str:
    time, room = (
        measured.Target("", reached, wanted)
        for reached, wanted in (
            (results["seconds"]["median"], cold_start.MAX_S),
            (results["environment_mb"], cold_start.MAX_MB),
        )
    )
    return table(
        ("seconds:", "wanted:", "MB of packages:", "wanted:", "kB of the artefact:"),
        [
            (
                spread(results["seconds"], ".2f"),
                str(time),
                str(results["environment_mb"]),
                str(room),
                str(results["artefact_kb"]),
            )
        ],
    )


def builds(results: Results) -> str:
    return table(
        ("network", "convatlas:", "torchvision:", "ratio:"),
        [
            (
                f"`{row['network']}`",
                spread(row["convatlas_ms"], unit=" ms"),
                spread(row["torchvision_ms"], unit=" ms"),
                spread(row["ratio"], ".2f"),
            )
            for row in results["rows"]
        ],
    )


def loaded_weights(results: Results) -> str:
    """Time and memory of each format, with what was wanted of them."""
    rows = []
    for name, row in results["formats"].items():
        time, memory = load_weights.targets(name, row)
        rows.append(
            (
                load_weights.LABELS[name],
                f"{row['bytes'] / 10**6:.0f} MB",
                spread(row["load_ms"], unit=" ms"),
                spread(row["hash_ms"], unit=" ms"),
                f"{spread(row['times_hashing'], '.2f')} ({time})",
                f"{row['memory_times_size']['max']:.2f} ({memory})",
            )
        )
    return table(("format", "size:", "loading:", "hashing:", "times hashing (wanted):", "memory (wanted):"), rows)


def engine_times(results: Results) -> str:
    """Milliseconds of every engine and network."""
    rows = results["rows"]
    return table(
        ("", *(f"`{name}`:" for name in rows)),
        [
            (engine, *(f"{row['ms'][engine]['median']:.2f}" if engine in row["ms"] else "" for row in rows.values()))
            for engine in (*inference.RIVALS, *inference.OURS)
        ],
    )


def answers_kept(results: Results) -> str:
    """How often each engine in lower precision names the class that the network in float32 names."""
    rows = results["rows"]

    def cell(row: Results, engine: str) -> str:
        found = row["engines"].get(engine)
        if found is None:
            return ""
        lost = f", {found['points_lost']:.1f} points lost" if found["points_lost"] > 0 else ""
        return f"{100 * found['agreement']:.1f} %" + (f"{lost}, **refused**" if found["refused"] else "")

    asked = [
        engine for engine in (*inference.RIVALS, *inference.OURS) if any(engine in r["engines"] for r in rows.values())
    ]
    accuracies = ("*accuracy in float32*", *(f"*{100 * row['test_accuracy']:.1f} %*" for row in rows.values()))
    return table(
        ("", *(f"`{name}`:" for name in rows)),
        [accuracies, *((engine, *(cell(row, engine) for row in rows.values())) for engine in asked)],
    )


def float_artefacts(results: Results) -> str:
    """Our float artefacts against the best float rivals, with what was wanted."""
    columns = ("network", "float artefact", "best float rival", "time, in the rival's (wanted):")
    return table(
        columns, [of_best(name, row["float"], inference.BEHIND_NAME, results) for name, row in results["rows"].items()]
    )


def best_artefacts(results: Results) -> str:
    """Our best artefacts against the best rivals of any precision, with what was wanted."""
    columns = ("network", "best artefact", "best rival", "time, in the rival's (wanted):", "times as fast as eager:")
    rows = []
    for name, row in results["rows"].items():
        cells = of_best(name, row["best"], inference.FASTER_NAME, results)
        rows.append((*cells, f"{inference.times_eager(row):.1f}"))
    return table(columns, rows)


def of_best(name: str, compared: Results, wish: str, results: Results) -> tuple[str, ...]:
    """Two that were compared, with the target of that name."""
    targets = {target.name: f" ({target})" for target in inference.targets(results["rows"])}
    wanted = targets.get(wish.format(name), "")
    return f"`{name}`", compared["ours"], compared["theirs"], f"{ratio(compared)}{wanted}"


def ratio(compared: Results) -> str:
    return f"{compared['ratio']:.3f} ({compared['low']:.3f} to {compared['high']:.3f})"


def times_eager(results: Results) -> str:
    """How much faster the best artefacts are, with what was wanted."""
    target = inference.targets(results["rows"])[-1]
    return f"{target.reached:.1f} times (wanted: {target})"


def times_by_layer(results: Results) -> str:
    """Milliseconds of each kind of layer, beside what the multiplications would take at the rate of a large one."""
    columns = ("network", "engine", "all layers, ms:", "at the large one's rate, ms:", "by kind, ms")
    return table(
        columns,
        [
            (
                f"`{name}`",
                engine,
                f"{sum(kinds.values()):.2f}",
                f"{1000 * row['macs'] / results['macs_per_s']['int8' if 'int8' in engine else 'float32']:.2f}",
                ", ".join(f"{kind} {ms:.2f}" for kind, ms in kinds.items() if ms >= SHOWN * sum(kinds.values())),
            )
            for name, row in results["rows"].items()
            for engine, kinds in row["ms"].items()
        ],
    )


def experiments() -> str:
    """How long each topic took at each budget, and how many of its statements that measured."""
    budgets = ("quick", "standard", "full")
    rows, totals = [], dict.fromkeys(budgets, 0.0)
    for topic in sorted({path.parents[1] for path in EXPERIMENTS.glob("*/*/result.json")}):
        cells = []
        for budget in budgets:
            path = topic / budget / "result.json"
            result = json.loads(path.read_text()) if path.exists() else None
            totals[budget] += result["seconds"] if result else 0.0
            cells.append(f"{result['seconds'] / 60:.1f} min, {len(result['statements'])} statements" if result else "")
        rows.append((f"`{topic.name}`", *cells))
    total = (f"{seconds / 60:.0f} min" if seconds else "" for seconds in totals.values())
    return table(("topic", *(f"{budget} budget:" for budget in budgets)), [*rows, ("all", *total)])


def suites(results: Results) -> str:
    """What the default tests of each commit run and find."""
    rooms = ("package", "spec", "models", "data", "training")
    rows = [
        (
            f"`{commit}`",
            f"{suite['tests']:,}",
            *(f"{suite['line_coverage'][room]:.2f} %" for room in rooms),
            f"{suite['killed']} of {suite['mutants']}" + ("" if suite["asked"] == "all" else f" {suite['asked']}"),
        )
        for commit, suite in results["suites"].items()
    ]
    return table(("commit", "tests:", *(f"{room}:" for room in rooms), "mutants killed:"), rows)


def page() -> str:
    """docs/benchmarks.md."""
    functions = (
        source, accuracies, fine_tuned, gained, compressed, sizes, update_size, students, small_epochs, steps,
        loading, starts, cold_starts, builds, loaded_weights, engine_times, answers_kept, float_artefacts,
        best_artefacts, times_eager, times_by_layer, experiments, suites,
    )  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    names = (
        "accuracy",
        "build",
        "cold_start",
        "compress",
        "fine_tune",
        "inference",
        "layer_times",
        "load_weights",
        "lower_precision",
        "mutants",
        "pipeline",
        "start",
        "train",
        "train_small",
    )
    return environment.get_template("page.md.jinja").render(
        {function.__name__: function for function in functions} | {name: read(name) for name in names}
    )


if __name__ == "__main__":
    sys.stdout.write(page())
