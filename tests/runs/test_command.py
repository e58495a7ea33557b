import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convatlas as ca
from convatlas.cli import main
from convatlas.runs.command import command
from convatlas.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ca.train("lenet1", epochs=1, autotune=False, out=tmp_path_factory.mktemp("command") / "run")


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
        width=1.25,
        resolution=32,
        micro_batch=60,
        balance=True,
        patience=1,
        autotune=False,
        out=tmp_path / "first",
    )
    repeated = command(first.record)
    assert repeated is not None
    typed([*shlex.split(repeated), "--no-autotune", "--quiet", "--out", str(tmp_path / "second")], monkeypatch)
    second = ca.load(tmp_path / "second")
    assert second.results.weights_sha256 == first.results.weights_sha256
    assert replace(second.record, results=None) == replace(first.record, results=None)


def test_the_command_names_what_was_switched_on(run: Run) -> None:
    plain = command(run.record)
    assert plain is not None
    assert not {"--balance", "--hold-out", "--skip-bad", "--freeze", "--from", "--patience"} & set(shlex.split(plain))
    record = replace(run.record, skip_bad=True, hold_out=True, start="a run/it's", freeze=True, data="/my images")
    changed = command(record)
    assert changed is not None
    words = shlex.split(changed)
    assert {"--skip-bad", "--hold-out", "--freeze"} <= set(words)
    assert words[words.index("--from") + 1] == "a run/it's"
    assert words[words.index("--data") + 1] == "/my images"


def test_a_run_of_several_processes_is_repeated_by_as_many(run: Run) -> None:
    repeated = command(replace(run.record, processes=4))
    assert repeated is not None
    assert repeated.startswith("torchrun --nproc-per-node 4 -m convatlas train lenet1 ")


multipliers = st.floats(0.1, 10)


@given(width=multipliers, depth=multipliers, phi=st.floats(-3, 7))
def test_the_command_gives_the_multipliers_to_the_last_bit(run: Run, width: float, depth: float, phi: float) -> None:
    repeated = command(replace(run.record, width=width, depth=depth, phi=phi))
    assert repeated is not None
    words = shlex.split(repeated)
    usual = {"width": 1.0, "depth": 1.0, "phi": 0.0}
    typed = {name: float(words[words.index(f"--{name}") + 1]) for name in usual if f"--{name}" in words}
    assert usual | typed == {"width": width, "depth": depth, "phi": phi}


def test_a_record_without_multipliers_has_no_command(run: Run) -> None:
    assert command(run.record) is not None
    assert command(replace(run.record, width=None)) is None
