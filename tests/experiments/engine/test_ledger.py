"""Results on disk: what is done is not done again, and what was asked otherwise is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.draw import Bars, Lines, Series, Surface
from convatlas.errors import UserError
from convatlas.experiments import Budget, Experiment, Result, Verdict
from convatlas.experiments.engine import ledger
from convatlas.experiments.engine.experiment import Measured, NotTestable, Part, Setting, at_least

CHARTS = (
    Lines(name="lines", title="Lines", x="x", y="y", series=(Series("a", (1.0, 2.0), (3.0, 4.0), (0.1, 0.2)),)),
    Bars(name="bars", title="Bars", y="y", labels=("a", "b"), series=(Series("c", (), (1.0, 2.0)),)),
    Surface(
        name="surface", title="Surface", x="x", y="y", places=(-1.0, 1.0), panels=(("p", ((1.0, 2.0), (3.0, 4.0))),)
    ),
)


class Counting:
    """A part's measurement that counts how often it is made."""

    def __init__(self, *values: float) -> None:
        self.values, self.count = values, 0

    def __call__(self, setting: Setting) -> Measured:
        self.count += 1
        return Measured(values=self.values, figures=(("name", "1.5 s"),), charts=CHARTS, note="a note")


def part(name: str, measure: Callable[[Setting], Measured]) -> Part:
    return Part(id=name, claim=f"claim of {name}", statistic="statistic", threshold=at_least(1), measure=measure)


def experiment(*parts: Part) -> Experiment:
    return Experiment(
        id="some", title="Some", claim="c", source="s", done="d", limits="l", minutes=(0.1, 0.1), parts=parts
    )


def seen(result: Result) -> list[tuple[str, Verdict]]:
    return [(one.part.id, one.verdict) for one in result.parts]


def test_a_result_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    def cannot(setting: Setting) -> Measured:
        raise NotTestable("why")

    asked = experiment(part("one", Counting(2.0, 2.5)), part("two", Counting(0.5)), part("three", cannot))
    result = ledger.run(asked, out=tmp_path)
    assert seen(result) == [
        ("one", Verdict.REPRODUCED), ("two", Verdict.NOT_REPRODUCED), ("three", Verdict.NOT_TESTABLE),
    ]  # fmt: skip
    assert ledger.read(asked, tmp_path / "some") == result
    # Charts for a teacher: text in the one, pixels in the other.
    for chart in CHARTS:
        assert b"<svg" in (tmp_path / "some" / f"{chart.name}.svg").read_bytes()
        assert (tmp_path / "some" / f"{chart.name}.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "some" / "result.json").read_text())
    assert (told["verdict"], told["seeds"], told["budget"]) == ("not reproduced", 3, "quick")
    assert told["parts"][0]["measured"]["n"] == 2
    for one in told["parts"]:
        assert {"processor", "cores", "threads"} <= one["machine"].keys()
        assert {"torch", "convatlas"} <= one["versions"].keys()


def test_a_finished_part_is_not_run_twice(tmp_path: Path) -> None:
    first, second = Counting(2.0), Counting(3.0)
    # Killed after the first part.
    ledger.run(experiment(part("one", first)), out=tmp_path)
    whole = experiment(part("one", first), part("two", second))
    result = ledger.run(whole, out=tmp_path)
    assert (first.count, second.count) == (1, 1)
    assert ledger.run(whole, out=tmp_path) == result
    assert (first.count, second.count) == (1, 1)


def test_what_is_known_stays_where_an_earlier_part_is_asked_anew(tmp_path: Path) -> None:
    first, second, third = Counting(2.0), Counting(3.0), Counting(4.0)
    one, two = part("one", first), part("two", second)
    before = ledger.run(experiment(one, two, part("three", third)), out=tmp_path)

    def killed(setting: Setting) -> Measured:
        raise KeyboardInterrupt

    # One is measured anew, then two is asked anew as well and is killed: three is not lost by either.
    moved = replace(one, threshold=at_least(5))
    with pytest.raises(KeyboardInterrupt):
        ledger.run(experiment(moved, replace(two, claim="another", measure=killed), part("three", third)), out=tmp_path)
    kept = ledger.read(experiment(moved, part("three", third)), tmp_path / "some")
    assert seen(kept) == [("one", Verdict.NOT_REPRODUCED), ("three", Verdict.REPRODUCED)]
    assert kept.parts[1] == before.parts[2]
    ledger.run(experiment(moved, two, part("three", third)), out=tmp_path)
    assert (first.count, second.count, third.count) == (2, 2, 1)


def test_a_part_measured_anew_leaves_the_others_their_day_and_machine(tmp_path: Path) -> None:
    one, two = part("one", Counting(2.0)), part("two", Counting(2.0))
    ledger.run(experiment(one, two), out=tmp_path)
    path = tmp_path / "some" / "result.json"
    told = json.loads(path.read_text())
    # As an older version wrote it: the conditions once.
    own = [{name: each.pop(name) for name in ("when", "machine", "versions")} for each in told["parts"]]
    path.write_text(json.dumps(told | own[0] | {"when": "2001-02-03", "format": 1}))
    ledger.run(experiment(one, replace(two, threshold=at_least(5))), out=tmp_path)
    told = json.loads(path.read_text())
    assert [each["when"] for each in told["parts"]] == ["2001-02-03", own[1]["when"]]
    assert "when" not in told


def test_each_budget_has_a_result_of_its_own(tmp_path: Path) -> None:
    counting = Counting(2.0)
    asked = experiment(part("one", counting))
    quick = ledger.run(asked, out=tmp_path)
    full = ledger.run(asked, Budget.FULL, out=tmp_path, num_seeds=5)
    assert counting.count == 2
    assert ledger.read(asked, tmp_path / "some") == quick
    assert ledger.read(asked, tmp_path / "some" / "full") == full
    assert (tmp_path / "some" / "full" / "lines.svg").exists()


def test_other_seeds_do_not_overwrite_what_was_measured(tmp_path: Path) -> None:
    asked = experiment(part("one", Counting(2.0)))
    before = ledger.run(asked, out=tmp_path)
    with pytest.raises(UserError, match="holds a result of --budget quick --seeds 3, which would be lost"):
        ledger.run(asked, out=tmp_path, num_seeds=5)
    assert ledger.read(asked, tmp_path / "some") == before


def test_what_was_asked_otherwise_is_measured_anew(tmp_path: Path) -> None:
    counting = Counting(2.0)
    asked = part("one", counting)
    ledger.run(experiment(asked), out=tmp_path)
    # A threshold cannot be moved under a result.
    moved = experiment(replace(asked, threshold=at_least(5)))
    assert ledger.read(moved, tmp_path / "some").parts == ()
    assert seen(ledger.run(moved, out=tmp_path)) == [("one", Verdict.NOT_REPRODUCED)]
    assert counting.count == 2


def test_each_part_is_told_as_it_is_done(tmp_path: Path) -> None:
    told: list[str] = []
    asked = experiment(part("one", Counting(2.0)), part("two", Counting(2.0)))
    ledger.run(
        asked,
        out=tmp_path,
        begins=lambda part: told.append(f"{part.id} begins"),
        ends=lambda result: told.append(f"{result.part.id} ends"),
    )
    assert told == ["one begins", "one ends", "two begins", "two ends"]


def test_no_seed_measures_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--seeds 0 measures nothing"):
        ledger.run(experiment(part("one", Counting(1.0))), out=tmp_path, num_seeds=0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is damaged or was not written by convatlas"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"format": 99}', "was written by a newer convatlas"),
        ('{"format": 1, "id": "other", "parts": []}', "is of the experiment other"),
        ('{"format": 1, "id": "some", "parts": [{"id": "one"}], "budget": "vast", "seeds": 1}', "is damaged"),
    ],
)
def test_a_damaged_result_is_one_line(content: str, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "result.json").write_text(content)
    with pytest.raises(UserError, match=words):
        ledger.run(experiment(part("one", Counting(1.0))), out=tmp_path)


def test_where_there_is_none_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="convatlas experiment run some makes one"):
        ledger.read(experiment(part("one", Counting(1.0))), tmp_path / "some")
