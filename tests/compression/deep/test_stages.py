"""From a model to a small file, by way of folders that everything else understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import convatlas as ca
from convatlas.compression.deep import stages
from convatlas.compression.deep.pruning import LAMP, sparsity
from convatlas.compression.deep.stages import DeepCompressionSettings, cluster, deep_compression, prune
from convatlas.compression.stages import FineTuning, TrainedModel
from convatlas.compression.target import SizeTarget
from convatlas.errors import UserError
from convatlas.models.codec.container import encoded
from convatlas.models.codec.update import write_update
from convatlas.networks.blocks import layer_weights
from convatlas.runs.options import Runtime, WeightConstraint
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(name="trained", scope="module")
def trained_model(trained: Run) -> TrainedModel:
    return TrainedModel.of(trained)


SETTINGS = DeepCompressionSettings(pruning=LAMP(0.88), codebook_bits=4, rounds=2)
TUNING = FineTuning(epochs=6, lr=2e-3, runtime=Runtime(autotune=False))
BRIEF = replace(TUNING, epochs=2)
"""Where only sizes count."""


def saved(stage: TrainedModel) -> TrainedModel:
    """The same in one file beside its folder."""
    return replace(stage, model=stage.model.save(stage.path.with_suffix(".cva")))


@pytest.fixture(scope="module")
def found(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, ...]:
    return deep_compression(trained, tmp_path_factory.mktemp("deep") / "stages", SETTINGS, fine_tuning=TUNING)


@pytest.fixture
def packed(found: tuple[TrainedModel, ...], tmp_path: Path) -> TrainedModel:
    path = tmp_path / "packed.cva"
    return replace(found[-1], model=found[-1].model.save(path))


def test_all_stages(trained: TrainedModel, found: tuple[TrainedModel, ...], packed: TrainedModel) -> None:
    folder = found[-1].path.parent
    names = ["pruned-1", "pruned-1-tuned", "pruned-2", "pruned-2-tuned", "shared", "shared-tuned"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [stage.model.path.name for stage in found] == names
    zeros = [sparsity(stage.network) for stage in found]
    assert zeros[0] == zeros[1] < zeros[2] == zeros[3] == zeros[4] == zeros[5]
    assert zeros[5] == pytest.approx(0.88, abs=0.02)
    assert all(len(own.unique()) <= 17 for own in layer_weights(found[-1].network).values())
    # It stays about as good, and is far smaller than its 32 bits.
    score = packed.model.card.score
    assert score.accuracy > trained.model.card.score.accuracy - 0.03
    assert packed.model.evaluate().score == score == found[-1].model.card.score
    assert 4 * trained.model.card.params > 20 * packed.path.stat().st_size
    # Once more, nothing is done again.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert deep_compression(trained, folder, SETTINGS, fine_tuning=TUNING)[-1].name == found[-1].name
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


@pytest.mark.slow
def test_a_file_has_the_size_that_was_asked_for(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DeepCompressionSettings(target=SizeTarget(12_000), codebook_bits=4)
    last = deep_compression(trained, tmp_path / "spared", settings, fine_tuning=BRIEF)[-1]
    assert last.path.name == "shared-tuned"
    assert 11_700 < len(encoded(last.model.card, last.network)) <= 12_000
    # Nothing is pruned for a size that few values give.
    names = [
        stage.model.path.name
        for stage in deep_compression(
            trained, tmp_path / "easy", DeepCompressionSettings(target=SizeTarget(60_000)), fine_tuning=BRIEF
        )
    ]
    assert names == ["shared", "shared-tuned"]
    # Also where the last training makes it larger than expected.
    monkeypatch.setattr(stages, "SPARE", -0.03)
    monkeypatch.setattr(stages, "LEAST_SPARE", -400)

    def fine_tuning(source: TrainedModel, constraint: WeightConstraint, out: Path) -> TrainedModel:
        if constraint is WeightConstraint.SHARED:
            monkeypatch.setattr(stages, "SPARE", 0.005)
        return BRIEF(source, constraint, out)

    last = deep_compression(trained, tmp_path / "more", settings, fine_tuning=fine_tuning)[-1]
    assert last.path.name == "fitted"
    assert len(encoded(last.model.card, last.network)) <= 12_000


def test_a_version_that_learned_on_is_a_small_update(packed: TrainedModel, tmp_path: Path) -> None:
    fine_tuning = FineTuning(epochs=1, lr=2e-4, runtime=Runtime(autotune=False))
    learned = fine_tuning(packed, WeightConstraint.SHARED, tmp_path / "second", seed=5)
    new = saved(learned)
    update = write_update(packed.name, new.name, tmp_path / "update.cvu")
    assert update.stat().st_size < 0.3 * new.model.path.stat().st_size


def test_what_was_compressed_can_be_pruned_again(packed: TrainedModel, tmp_path: Path) -> None:
    again = prune(packed, LAMP(0.94), tmp_path / "again")
    assert sparsity(again.network) > sparsity(packed.network)
    assert ca.load(again.name).evaluate().score == again.model.card.score
    shared = cluster(again, 2, tmp_path / "shared")
    assert saved(shared).path.stat().st_size < packed.path.stat().st_size


@pytest.mark.slow
def test_every_family_goes_through_all_stages(some_family: str, finished: Callable[..., Run], tmp_path: Path) -> None:
    source = TrainedModel.of(finished(some_family, compressed=False))
    settings = DeepCompressionSettings(pruning=LAMP(0.7), rounds=1)
    fine_tuning = FineTuning(epochs=1, runtime=Runtime(autotune=False))
    tuned = deep_compression(source, tmp_path / "stages", settings, fine_tuning=fine_tuning)[-1]
    packed = saved(tuned)
    own, read = tuned.network.state_dict(), ca.load(packed.name).network.state_dict()
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert packed.model.evaluate().score == tuned.model.card.score
    assert ca.resume(tuned.name).card == tuned.model.card
    assert packed.model.path.stat().st_size < (tuned.model.path / "weights.safetensors").stat().st_size / 3


def test_a_stage_whose_process_was_killed_is_made_again(trained: TrainedModel, tmp_path: Path) -> None:
    whole = prune(trained, LAMP(0.5), tmp_path / "whole")
    unfinished = replace(whole.model.card, score=None, weights_sha256=None)
    for name, card in (("none", None), ("unfinished", unfinished)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / ".lock").touch()
        if card is not None:
            (folder / "model.json").write_bytes(card.to_json())
            (folder / "weights.safetensors").write_bytes(b"half of them")
        for _ in range(2):
            assert prune(trained, LAMP(0.5), folder).model.card == whole.model.card
            assert not (folder / ".lock").exists()
            (folder / ".lock").touch()


def test_mistakes_are_one_line(trained: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="full holds something already"):
        prune(trained, LAMP(0.0), tmp_path / "full")
    with pytest.raises(UserError, match="`rounds` 0 prunes nothing"):
        DeepCompressionSettings(rounds=0)
