"""From a run to a small file, by way of run folders that everything else understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import convatlas as ca
from convatlas.compression.deep import stages
from convatlas.compression.deep.pruning import LAMP, sparsity
from convatlas.compression.deep.stages import Settings, compress_deeply, prune, quantize
from convatlas.compression.stages import FineTuning
from convatlas.compression.target import Bytes
from convatlas.errors import UserError
from convatlas.models.codec.container import load, pack, unpack
from convatlas.models.codec.update import write_update
from convatlas.networks.blocks import layer_weights
from convatlas.runs.options import WeightConstraint
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = Settings(pruning=LAMP(0.88), bits=4, steps=2)
TUNING = FineTuning(epochs=15, lr=2e-3, autotune=False)


def test_all_stages(trained: Run, tmp_path: Path) -> None:
    *found, packed = compress_deeply(trained, tmp_path, SETTINGS, fine_tuning=TUNING)
    names = ["pruned-1", "pruned-1-tuned", "pruned-2", "pruned-2-tuned", "shared", "shared-tuned"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.cva", *names]
    assert [run.folder.name for run in found] == names
    zeros = [sparsity(run.network) for run in found]
    assert zeros[0] == zeros[1] < zeros[2] == zeros[3] == zeros[4] == zeros[5]
    assert zeros[5] == pytest.approx(0.88, abs=0.02)
    assert all(len(own.unique()) <= 17 for own in layer_weights(found[-1].network).values())
    # It stays about as good, and is far smaller than its 32 bits.
    assert packed.test_accuracy > trained.test_accuracy - 0.03
    assert packed.evaluate().accuracy == packed.test_accuracy == found[-1].test_accuracy
    assert 4 * trained.results.params > 20 * packed.folder.stat().st_size
    # Once more, nothing is done again.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}
    assert compress_deeply(trained, tmp_path, SETTINGS, fine_tuning=TUNING)[-1].folder == packed.folder
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("run.json")}


def test_a_file_has_the_size_that_was_asked_for(trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(target=Bytes(12_000), bits=4)
    *_, last, packed = compress_deeply(trained, tmp_path / "spared", settings, fine_tuning=TUNING)
    assert last.folder.name == "shared-tuned"
    assert 11_700 < packed.folder.stat().st_size <= 12_000
    # Nothing is pruned for a size that few values give.
    names = [
        run.folder.name
        for run in compress_deeply(trained, tmp_path / "easy", Settings(target=Bytes(60_000)), fine_tuning=TUNING)
    ]
    assert names == ["shared", "shared-tuned", "network.cva"]
    # Also where the last training makes it larger than expected.
    monkeypatch.setattr(stages, "SPARE", -0.03)
    monkeypatch.setattr(stages, "LEAST_SPARE", -400)

    def fine_tuning(run: Run, kept: WeightConstraint, out: Path) -> Run:
        if kept is WeightConstraint.VALUES:
            monkeypatch.setattr(stages, "SPARE", 0.005)
        return TUNING(run, kept, out)

    *_, last, packed = compress_deeply(trained, tmp_path / "more", settings, fine_tuning=fine_tuning)
    assert last.folder.name == "fitted"
    assert packed.folder.stat().st_size <= 12_000


def test_a_version_that_learned_on_is_a_small_update(trained: Run, tmp_path: Path) -> None:
    packed = compress_deeply(trained, tmp_path / "first", SETTINGS, fine_tuning=TUNING)[-1]
    run = unpack(packed, tmp_path / "unpacked")
    learned = FineTuning(epochs=1, lr=2e-4, autotune=False)(run, WeightConstraint.VALUES, tmp_path / "second", seed=5)
    new = pack(learned, tmp_path / "second.cva")
    update = write_update(packed.folder, new.folder, tmp_path / "update.cvu")
    assert update.stat().st_size < 0.3 * new.folder.stat().st_size


def test_what_was_compressed_can_be_pruned_again(trained: Run, tmp_path: Path) -> None:
    packed = compress_deeply(trained, tmp_path / "first", SETTINGS, fine_tuning=TUNING)[-1]
    again = prune(packed, LAMP(0.94), tmp_path / "again")
    assert sparsity(again.network) > sparsity(packed.network)
    assert ca.load(again.folder).evaluate().accuracy == again.test_accuracy
    shared = quantize(again, 2, tmp_path / "shared")
    assert pack(shared, tmp_path / "small.cva").folder.stat().st_size < packed.folder.stat().st_size


def test_every_family_goes_through_all_stages(family: str, finished: Callable[..., Run], tmp_path: Path) -> None:
    run = finished(family, compressed=False)
    settings = Settings(pruning=LAMP(0.7))
    *_, autotuned, packed = compress_deeply(
        run, tmp_path / "stages", settings, fine_tuning=FineTuning(epochs=1, autotune=False)
    )
    own, read = autotuned.network.state_dict(), load(packed.folder).network.state_dict()
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert packed.evaluate().accuracy == autotuned.test_accuracy
    assert ca.resume(autotuned.folder).results == autotuned.results
    assert packed.folder.stat().st_size < (autotuned.folder / "weights.safetensors").stat().st_size / 3


def test_a_stage_whose_process_was_killed_is_made_again(trained: Run, tmp_path: Path) -> None:
    whole = prune(trained, LAMP(0.5), tmp_path / "whole")
    for name, record in (("none", None), ("unfinished", replace(whole.record, results=None))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / ".lock").touch()
        if record is not None:
            (folder / "run.json").write_bytes(record.to_json())
            (folder / "weights.safetensors").write_bytes(b"half of them")
        assert prune(trained, LAMP(0.5), folder).results == whole.results


def test_mistakes_are_one_line(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="full holds something already"):
        prune(trained, LAMP(0.0), tmp_path / "full")
    with pytest.raises(UserError, match="0 steps prune nothing"):
        Settings(steps=0)
