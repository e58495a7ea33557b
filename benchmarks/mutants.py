"""How much of the package does the default test suite run, and how many of 60 mutants does it kill?

    pip install coverage==7.17.5
    python benchmarks/mutants.py COMMIT
    python benchmarks/mutants.py EARLIER COMMIT

The suite of COMMIT (HEAD where none is given) runs once in a clone of its own under coverage, child processes
included, and tells which test runs which line. Then each mutant of `sampled_mutants.json` is written into the clone,
and the tests that run its line, those of the file that mirrors it first, look for it until one fails. A test that
also fails without the mutant kills nothing. Both steps go on where they were stopped.

The second command asks an earlier suite about those mutants alone that survive the suite of COMMIT, which is measured
first: where they all survive the earlier suite too, it killed no more.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured
import pytest

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = Path(__file__).with_name("sampled_mutants.json")
ROOMS = ("spec", "models", "data", "training")
BUDGET_S = 100
"""Of tests a mutant, in processor time under coverage: a line of `spec` is run by nearly every test there is."""
LOG, CONTEXT = "MUTANTS_LOG", "MUTANTS_CONTEXT"
"""The variables that tell pytest where to log its tests, and child processes in whose name they run."""
COVERAGE = """
[run]
source = {source}
data_file = {parts}/coverage
parallel = true
context = ${{{context}-}}
patch = _exit
disable_warnings = no-data-collected, module-not-measured, module-not-imported, module-not-python
"""


class Watch:
    """A plugin of pytest that logs every test and says to coverage in whose name the lines run.

    What a fixture of a module or a session runs counts for each test that asks for it, not for the first alone.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.is_worker = hasattr(config, "workerinput")
        self.running, self.begun = None, 0.0
        if "COVERAGE_PROCESS_START" in os.environ:
            import coverage

            self.running = coverage.Coverage.current()

    def cover_as(self, name: str) -> None:
        os.environ[CONTEXT] = name
        if self.running:
            self.running.switch_context(name)

    @contextmanager
    def covered_as(self, name: str) -> Iterator[None]:
        before = os.environ.get(CONTEXT, "")
        self.cover_as(name)
        try:
            yield
        finally:
            self.cover_as(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.begun = processor_s()
        with self.covered_as(item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        names = item.fixturenames if isinstance(item, pytest.Function) else []
        report.user_properties = [("fixtures", names), ("seconds", processor_s() - self.begun)]
        self.begun = processor_s()
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        if fixturedef.scope == "function":
            return (yield)
        with self.covered_as(f"fixture {fixturedef.argname} of {fixturedef.baseid}"):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self.is_worker:
            told = {"test": report.nodeid, "outcome": report.outcome, **dict(report.user_properties)}
            with Path(os.environ[LOG]).open("a") as log:
                log.write(json.dumps(told) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self.running:
            self.running.save()


def processor_s() -> float:
    """Seconds of processor time of this process and of those that it waited for; no busy machine stretches them."""
    return sum(os.times()[:4])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watch(config))


@dataclass(frozen=True)
class Mutant:
    """One line of a file, and what stands there instead."""

    file: str
    line: int
    nth: int
    """Of the lines of the file that read so: its number may change, what it says may not."""
    operator: str
    before: str
    after: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    def written(self, source: str) -> str | None:
        """The file with this mutant, or None where the line is gone."""
        lines = source.split("\n")
        places = [i for i, line in enumerate(lines) if line == self.before]
        if len(places) <= self.nth:
            return None
        lines[places[self.nth]] = self.after
        return "\n".join(lines)


@dataclass
class Ran:
    """A test, and how it went."""

    name: str
    seconds: float = 0.0
    failed: bool = False
    fixtures: Collection[str] = ()

    @property
    def file(self) -> str:
        return self.name.split("::")[0]

    def distance(self, source: str) -> int:
        """0 in the file that mirrors a source file, 1 in its room, else 2."""
        room, stem = Path(source).parts[-2], Path(source).stem
        if self.file in (f"tests/test_{room}.py", f"tests/{room}/test_{stem}.py"):
            return 0
        return 1 if self.file.startswith(f"tests/{room}/") else 2

    def asks_for(self, context: str) -> bool:
        name, base = context.removeprefix("fixture ").split(" of ", 1)
        return name in self.fixtures and self.name.startswith(base)


def read_log(path: Path) -> dict[str, Ran]:
    tests: dict[str, Ran] = {}
    for line in path.read_text().splitlines():
        told = json.loads(line)
        test = tests.setdefault(told["test"], Ran(told["test"]))
        test.seconds += told.get("seconds", 0)
        test.failed |= told["outcome"] == "failed"
        test.fixtures = told.get("fixtures", ())
    return tests


class Suite:
    """The tests of one commit in a clone, below a folder that stays."""

    def __init__(self, commit: str, folder: Path) -> None:
        self.folder, self.tree = folder, folder / "tree"
        if not self.tree.exists():
            subprocess.run(["git", "clone", "-q", "--shared", "--no-checkout", ROOT, self.tree], check=True)
        subprocess.run(["git", "-C", self.tree, "checkout", "-q", "--force", commit], check=True)
        self.settings, self.data, parts = folder / "coveragerc", folder / "coverage", folder / "parts"
        source = self.tree / "src" / "convatlas"
        self.settings.write_text(COVERAGE.format(source=source, parts=parts, context=CONTEXT))
        if not self.data.exists():
            shutil.rmtree(parts, ignore_errors=True)
            parts.mkdir()
            self.pytest("suite", "-n", "auto", COVERAGE_PROCESS_START=str(self.settings))
            self.coverage("combine", "--quiet")
            (parts / "coverage").rename(self.data)
        self.tests = read_log(folder / "suite.jsonl")
        self.usable = self.asked_for_again()

    def coverage(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "coverage", *arguments, f"--rcfile={self.settings}"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def pytest(
        self, name: str, *arguments: str, tests: Collection[str] = (), limit_s: int | None = None, **more: str
    ) -> tuple[int, dict[str, Ran]]:
        """The exit status and the tests that ran; what pytest prints goes to `NAME.out`.

        Args:
            limit_s: processor time of any process, after which the status is negative; ten times that, of a clock.
        """
        log, asked = self.folder / f"{name}.jsonl", self.folder / f"{name}.txt"
        log.write_text("")
        asked.write_text("\n".join(tests))
        paths = os.pathsep.join((str(self.tree / "src"), str(Path(__file__).parent)))
        told = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CONVATLAS_CACHE": str(self.folder / "cache")}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "mutants"]
        command += ["--hypothesis-seed=0", *arguments, *([f"@{asked}"] if tests else [])]
        environment = os.environ | told | {LOG: str(log)} | more
        with log.with_suffix(".out").open("w") as out:
            # In a group of its own, so that what tests started ends with them.
            process = subprocess.Popen(
                ["prlimit", f"--cpu={limit_s or 'unlimited'}", *command],
                cwd=self.tree,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            try:
                status = process.wait(limit_s and 10 * limit_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
        return status, read_log(log)

    def failing(self, names: Collection[str]) -> set[str]:
        """Which of these tests fail without any mutant."""
        return {test.name for test in self.pytest("again", tests=names)[1].values() if test.failed} if names else set()

    def asked_for_again(self) -> set[str]:
        """All tests but those whose names change, and those that fail without coverage too."""
        kept = self.folder / "usable.json"
        if not kept.exists():
            self.pytest("collect", "--collect-only")
            named = self.tests.keys() & (self.folder / "collect.out").read_text().splitlines()
            broken = self.failing(sorted(name for name in named if self.tests[name].failed))
            kept.write_text(json.dumps(sorted(named - broken)))
        return set(json.loads(kept.read_text()))

    def percentage(self, files: str) -> float:
        kept = (f"--data-file={self.data}", f"--include=*/src/convatlas/{files}")
        return float(self.coverage("report", "--format=total", "--precision=2", *kept))

    def contexts(self, file: str, lines: Collection[int]) -> set[str]:
        """Of the tests and fixtures that run any of these lines."""
        import coverage

        data = coverage.CoverageData(str(self.data))
        data.read()
        found = data.contexts_by_lineno(str(self.tree / file))
        return {context for line in lines for context in found.get(line, ())} - {""}

    def candidates(self, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's line and those that mirror its file, as many as fit the budget.

        No test runs a line that runs at import: there it is those that run any function of its module, else of its
        room, and the room's other tests.
        """
        path = self.tree / mutant.file
        text = path.read_text()
        line = [i for i, each in enumerate(text.split("\n"), 1) if each == mutant.before][mutant.nth]
        lines = run_with(text, line)
        contexts = self.contexts(mutant.file, lines)
        if not contexts and line not in lines:
            for other in path.parent.glob("*.py"):
                contexts |= self.contexts(str(other.relative_to(self.tree)), run_with(other.read_text(), 0))
        farthest = 0 if line in lines else 1
        fixtures = {context for context in contexts if context.startswith("fixture ")}
        ranked: list[tuple[bool, int, float, Ran]] = []
        for test in self.tests.values():
            runs_it = test.name in contexts or any(map(test.asks_for, fixtures))
            distance = test.distance(mutant.file)
            if test.name in self.usable and (runs_it or distance <= farthest):
                ranked.append((not runs_it, distance, test.seconds, test))
        chosen: dict[str, list[str]] = {}
        seconds = 0.0
        for *_, test in sorted(ranked, key=lambda each: each[:3]):
            if not chosen or seconds + test.seconds <= BUDGET_S:
                chosen.setdefault(test.file, []).append(test.name)
                seconds += test.seconds
        # A file's tests stay together and in order, for the sake of the fixtures that they share.
        order = {name: number for number, name in enumerate(self.tests)}
        return [name for names in chosen.values() for name in sorted(names, key=order.__getitem__)]

    def verdict(self, mutant: Mutant) -> dict[str, Any]:
        """Whether the mutant was killed, and by what; survived; or is gone, with its line."""
        path = self.tree / mutant.file
        source = path.read_text() if path.exists() else ""
        written = mutant.written(source)
        if written is None:
            return {"verdict": "gone"}
        names = self.candidates(mutant)
        if not names:
            return {"verdict": "survived", "tests": 0}
        limit_s = 60 + 2 * round(sum(self.tests[name].seconds for name in names))
        try:
            write(path, written)
            status, ran = self.pytest("mutant", "-x", tests=names, limit_s=limit_s)
        finally:
            write(path, source)
        failed = [test.name for test in ran.values() if test.failed]
        by = "the time limit" if status < 0 else failed[0] if failed else "the import"
        return {"verdict": "killed" if status else "survived", "tests": len(names)} | ({"by": by} if status else {})

    def verdicts(self, mutants: Collection[Mutant]) -> dict[str, dict[str, Any]]:
        """Of each place; it is asked again where the test that killed the mutant also fails without it."""
        kept = self.folder / "verdicts.json"
        found: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
        while True:
            for number, mutant in enumerate(mutants, 1):
                if mutant.place not in found:
                    found[mutant.place] = self.verdict(mutant)
                    kept.write_text(json.dumps(found, indent=2))
                told = f"{found[mutant.place]['verdict']}: {mutant.place}: {mutant.after.strip()}"
                print(f"{number}/{len(mutants)} {told}", file=sys.stderr, flush=True)
            false = self.failing(self.tests.keys() & {verdict.get("by") for verdict in found.values()})
            if not false:
                return found
            self.usable -= false
            found = {place: verdict for place, verdict in found.items() if verdict.get("by") not in false}


def run_with(source: str, line: int) -> set[int]:
    """The numbers of the lines of its statement; for one that runs at import, of the lines of every function."""
    nodes = list(ast.walk(ast.parse(source)))
    inside: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside.update(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
    if line not in inside:
        return inside
    # A compound statement's own lines end where its body begins.
    spans = [
        range(node.lineno, node.body[0].lineno if hasattr(node, "body") else (node.end_lineno or 0) + 1)
        for node in nodes
        if isinstance(node, ast.stmt | ast.excepthandler)
    ]
    return set(min((span for span in spans if line in span), key=len, default=(line,)))


def write(path: Path, source: str) -> None:
    """Bytecode is told from its source by size and second, which a mutant may share with the file as it was."""
    path.write_text(source)
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def short(commit: str) -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", commit]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    commit, *later = map(short, sys.argv[1:] or ["HEAD"])
    folder = Path(tempfile.gettempdir()) / f"convatlas-mutants-{commit}"
    folder.mkdir(exist_ok=True)
    results = measured.RESULTS / "mutants.json"
    suites = json.loads(results.read_text())["suites"] if results.exists() else {}
    mutants = [Mutant(**each) for each in json.loads(SAMPLE.read_text())]
    if later:
        survivors = {each["place"] for each in suites[later[0]]["survivors"]}
        mutants = [mutant for mutant in mutants if mutant.place in survivors]
    suite = Suite(commit, folder)
    verdicts = suite.verdicts(mutants)
    found = {mutant: verdicts[mutant.place]["verdict"] for mutant in mutants}
    suites[commit] = {
        "tests": len(suite.tests),
        "processor_seconds_under_coverage": round(sum(test.seconds for test in suite.tests.values())),
        "failed_under_coverage": sorted(test.name for test in suite.tests.values() if test.failed),
        "line_coverage": {"package": suite.percentage("*")} | {room: suite.percentage(f"{room}/*") for room in ROOMS},
        "asked": f"those that survive {later[0]}" if later else "all",
        "mutants": len(mutants),
        **{verdict: list(found.values()).count(verdict) for verdict in ("killed", "survived", "gone")},
        "survivors": [
            {"place": mutant.place, "before": mutant.before.strip(), "after": mutant.after.strip()}
            for mutant, verdict in found.items()
            if verdict == "survived"
        ],
    }
    measured.write("mutants", "python benchmarks/mutants.py", {"suites": suites})


if __name__ == "__main__":
    main()
