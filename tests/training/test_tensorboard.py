"""Event files for TensorBoard: every epoch's metrics, once."""

import sys
from pathlib import Path

import pytest

import convatlas as ca
from convatlas.errors import UserError
from convatlas.runs.options import Runtime, Validation
from convatlas.training import Progress
from convatlas.training.tensorboard import FOLDER, TensorBoardProgress


def test_every_epoch_is_written_and_passed_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Counted(Progress):
        epochs = 0

        def end_epoch(self, metrics: object, num_epochs: int) -> None:
            self.epochs += 1

    watcher = Counted()
    run = ca.train(
        "lenet5-modern", epochs=3, validation=Validation(), out=tmp_path / "run", progress=TensorBoardProgress(watcher)
    )
    events = EventAccumulator(str(run.folder / FOLDER))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "training/loss", "training/accuracy", "training/lr", "validation/loss", "validation/accuracy",
    }  # fmt: skip
    losses = events.Scalars("training/loss")
    assert [event.step for event in losses] == [1, 2, 3]
    assert losses[-1].value < losses[0].value
    assert watcher.epochs == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_that_tensorboard_cannot_name_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    with pytest.raises(UserError, match=r"TensorBoard writes into no folder as .*; name another with `out`"):
        ca.train("lenet1", epochs=1, runtime=Runtime(autotune=False), out=out, progress=TensorBoardProgress(Progress()))
