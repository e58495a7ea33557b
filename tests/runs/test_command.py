"""The command that repeats a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convatlas as ca
from convatlas.cli import main
from convatlas.images import ResizeMode
from convatlas.runs.command import command, options
from convatlas.runs.options import Distillation, InitFrom, Runtime, Validation, WeightConstraint
from convatlas.runs.record import Record
from convatlas.runs.run import Run, load_run
from convatlas.spec import Scale


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("command") / "run"
    return ca.train("lenet1", epochs=1, runtime=Runtime(autotune=False), out=out)


def words_of(run: Run, **changes: Any) -> list[str]:
    """The command's words, for a record with these changes."""
    repeated = command(replace(run, record=replace(run.record, **changes)))
    assert repeated is not None
    return shlex.split(repeated)


def typed(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [*words])
    with pytest.raises(SystemExit) as exit:
        main()
    assert not exit.value.code


def test_the_command_trains_the_same_weights_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ca.train(
        "lenet1",
        epochs=2,
        batch_size=100,
        lr=0.1 / 3,
        seed=7,
        scale=Scale(width=1.25, resolution=32),
        class_weights="balanced",
        validation=Validation(val_split=0.2, patience=1),
        runtime=Runtime(micro_batch=60, checkpoint_steps=9, autotune=False),
        out=tmp_path / "first",
    )
    repeated = command(first)
    assert repeated is not None
    typed([*shlex.split(repeated), "--quiet", "--out", str(tmp_path / "second")], monkeypatch)
    second = load_run(tmp_path / "second")
    assert second.card == first.card
    assert second.card.weights_sha256 is not None
    assert asked(second) == asked(first)


def asked(run: Run) -> Record:
    """The record without what came of the training."""
    return replace(run.record, results=None, metrics_sha256=None)


@pytest.mark.slow
def test_the_command_of_a_student_trains_the_same_weights_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ca.train(
        "lenet1",
        epochs=1,
        init_from=InitFrom(path=str(run.folder)),
        distillation=Distillation(teacher=str(run.folder), temperature=3.5, distill_weight=0.25),
        runtime=Runtime(autotune=False),
        out=tmp_path / "it's first",
    )
    repeated = command(first)
    assert repeated is not None
    typed([*shlex.split(repeated), "--quiet", "--out", str(tmp_path / "second")], monkeypatch)
    second = load_run(tmp_path / "second")
    assert second.card == first.card
    assert asked(second) == asked(first)


def test_the_command_names_what_was_asked_for_and_nothing_else(run: Run) -> None:
    switches = {
        *("--class-weights", "--val-split", "--skip-bad", "--freeze", "--from", "--patience", "--teacher"),
        *("--micro-batch", "--checkpoint-steps", "--width", "--depth", "--phi", "--autotune"),
    }
    assert not switches & set(words_of(run))
    # A choice that was made for the run is named, so that it is made again.
    assert {"--device", "--no-autotune", "--resolution"} <= set(words_of(run))
    assert "--no-autotune" not in words_of(run, runtime=Runtime(device="cpu"))
    assert "--resize" not in words_of(run)
    squashed = replace(run.card, preprocessing=replace(run.card.preprocessing, mode=ResizeMode.SQUASH))
    repeated = shlex.split(command(replace(run, card=squashed)) or "")
    assert repeated[repeated.index("--resize") + 1] == "squash"
    skipping = replace(run.card, provenance=replace(run.card.provenance, skip_bad=True))
    changed = command(
        replace(
            run,
            card=skipping,
            record=replace(
                run.record,
                validation=Validation(),
                class_weights="balanced",
                init_from=InitFrom(path="a run/it's", freeze=True),
                data="/my images",
            ),
        )
    )
    assert changed is not None
    words = shlex.split(changed)
    assert {"--skip-bad", "--freeze"} <= set(words)
    for name, value in (
        ("--val-split", "0.1"),
        ("--class-weights", "balanced"),
        ("--from", "a run/it's"),
        ("--data", "/my images"),
    ):
        assert words[words.index(name) + 1] == value
    assert words.count("--data") == 1


EVERYTHING = (
    Scale(width=0.3, depth=2.0, resolution=64, phi=1.5),
    Validation(val_split=0.25, patience=3),
    InitFrom(path="x", freeze=True),
    Distillation(teacher="t", temperature=3.0, distill_weight=0.5, attention_weight=2.0),
    Runtime(device="cpu", autotune=False, micro_batch=5, checkpoint_steps=7),
)


@pytest.mark.parametrize("group", EVERYTHING, ids=lambda group: type(group).__name__)
def test_every_field_of_a_group_is_an_option(group: Scale | Validation | InitFrom | Distillation | Runtime) -> None:
    from typer.main import get_command

    from convatlas.cli.app import app

    # A constraint is for programs: see `command`.
    names = {field.name for field in fields(group)} - {"constraint"}
    words = options(group)
    assert len([word for word in words if word.startswith("--")]) == len(names)
    train = get_command(app).commands["train"]  # type: ignore[attr-defined]
    known = {name for option in train.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_a_run_of_several_processes_is_repeated_by_as_many(run: Run) -> None:
    words = words_of(run, num_processes=4)
    assert words[:7] == ["torchrun", "--nproc-per-node", "4", "-m", "convatlas", "train", "lenet1"]


multipliers = st.floats(0.1, 10)


@given(width=multipliers, depth=multipliers, phi=st.floats(-3, 7))
def test_the_command_gives_the_multipliers_to_the_last_bit(run: Run, width: float, depth: float, phi: float) -> None:
    words = words_of(run, scale=Scale(width=width, depth=depth, phi=phi))
    usual = {"width": 1.0, "depth": 1.0, "phi": 0.0}
    written = {name: float(words[words.index(f"--{name}") + 1]) for name in usual if f"--{name}" in words}
    assert usual | written == {"width": width, "depth": depth, "phi": phi}


def test_what_no_command_can_ask_for_has_none(run: Run) -> None:
    assert command(run) is not None
    # Format 1, and a spec or a recipe of a program's own.
    assert command(replace(run, record=replace(run.record, scale=None))) is None
    assert command(replace(run, record=replace(run.record, stop_at_error=0.0))) is None
    kept = InitFrom(path="x", constraint=WeightConstraint.ZEROS)
    assert command(replace(run, record=replace(run.record, init_from=kept))) is None
