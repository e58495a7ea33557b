"""From a target in words to a network that meets it, with its stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import convatlas as ca
from convatlas.compression.channels import Importance
from convatlas.compression.compress import Compression, compress
from convatlas.compression.deep.pruning import sparsity
from convatlas.compression.stages import FineTuning
from convatlas.errors import UserError
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")

TUNING = FineTuning(epochs=3, runtime=Runtime(autotune=False))


def score_of(made: Compression) -> float:
    """The test accuracy of the last stage."""
    assert made.model.card.score is not None
    return made.model.card.score.accuracy


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_a_target_in_macs_is_met_by_fewer_channels(trained: Run, tmp_path: Path) -> None:
    macs = trained.card.macs
    made = compress(trained.folder, f"{macs // 2} macs", tmp_path / "small", rounds=2, fine_tuning=TUNING)
    names = ["original", "channels-pruned-1", "channels-pruned-1-tuned", "channels-pruned-2", "channels-pruned-2-tuned"]
    assert [stage.name for stage in made.stages] == names
    assert made.stages[0].macs == macs
    assert made.stages[-1].macs == made.model.card.macs <= macs // 2
    assert made.stages[-1].num_bytes < made.stages[0].num_bytes
    assert all(stage.seconds > 0 for stage in made.stages)
    assert score_of(made) > trained.test_accuracy - 0.05
    assert ca.load(tmp_path / "small").evaluate().accuracy == score_of(made)
    stages = tmp_path / "small" / "stages"
    written = json.loads((stages / "stages.json").read_bytes())
    assert [row["macs"] for row in written["stages"]] == [stage.macs for stage in made.stages]
    for name in ("size.svg", "latency.svg"):
        assert b"channels-pruned-1-tuned" in (stages / name).read_bytes()
    # Channels that are gone make the weights smaller, and a compressed file hardly more.
    assert {path.name for path in (tmp_path / "small").iterdir()} == {"model.json", "weights.safetensors", "stages"}
    assert made.file is None


@pytest.mark.slow
def test_a_target_in_bytes_is_met_by_deep_compression(trained: Run, tmp_path: Path) -> None:
    made = compress(trained, "14 KB", tmp_path, rounds=2, bits=5, fine_tuning=TUNING)
    assert (made.model.path, made.file) == (tmp_path, tmp_path / "model.cva")
    assert made.file.stat().st_size == made.stages[-1].num_bytes <= 14_000
    assert score_of(made) > trained.test_accuracy - 0.05
    # By a process that was killed.
    (tmp_path / "stages" / ".lock").touch()
    again = compress(trained, "14 KB", tmp_path, rounds=2, bits=5, fine_tuning=TUNING)
    assert again.stages == made.stages
    assert list(tmp_path.rglob(".lock")) == []
    with pytest.raises(UserError, match="was started with bits 5, not 4; epochs 3, not 9; choose a new place"):
        compress(trained, "14 KB", tmp_path, rounds=2, bits=4, fine_tuning=replace(TUNING, epochs=9))
    # What was compressed can be made faster too.
    narrow = compress(
        made.file,
        "200000 macs",
        tmp_path.with_name("narrow"),
        importance=Importance.MAGNITUDE,
        rounds=1,
        fine_tuning=TUNING,
    )
    assert narrow.model.card.macs <= 200_000


def test_what_cannot_be_reached_says_the_nearest(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"0\.1 KiB cannot be reached; with hardly a weight left it takes [0-9.]+ KiB"):
        compress(trained, "0.1 KB", tmp_path)
    with pytest.raises(UserError, match=r"100 MACs cannot be reached in 1 round of pruning; the narrowest network"):
        compress(trained, "100 macs", tmp_path, rounds=1)
    for to, prune, message in (
        ("small", None, "is not a target"),
        (None, None, "name a target"),
        (None, 1.5, "`prune` 1.5 is not a fraction of the MACs"),
        ("2 MB", 0.0, "`prune` 0 is not a fraction"),
        ("5 ms", 0.5, "channels are pruned to 5 ms; leave `prune` out"),
        ("10 MB", None, "already, which is no more than"),
    ):
        with pytest.raises(UserError, match=message):
            compress(trained, to, tmp_path / "none", prune=prune)
    with pytest.raises(UserError, match="`rounds` 0 prunes nothing"):
        compress(trained, None, tmp_path / "none", sparse="0.9", rounds=0)
    with pytest.raises(UserError, match="`epochs` 0 trains nothing"):
        compress(trained, None, tmp_path / "none", bits=4, fine_tuning=FineTuning(epochs=0))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_channels_go_first_and_then_bits(trained: Run, tmp_path: Path) -> None:
    made = compress(trained, "8 KB", tmp_path, prune=0.3, rounds=1, bits=5, fine_tuning=TUNING)
    names = [
        "channels-pruned-1",
        "channels-pruned-1-tuned",
        "pruned-1",
        "pruned-1-tuned",
        "shared",
        "shared-tuned",
    ]
    assert [stage.name for stage in made.stages[1:]] == names
    assert made.model.card.macs <= 0.7 * trained.card.macs
    assert made.file.stat().st_size <= 8000


@pytest.mark.slow
def test_fewer_bits_are_a_stage_too(trained: Run, tmp_path: Path) -> None:
    made = compress(trained, None, tmp_path / "mixed", bits=3.5, fine_tuning=TUNING)
    assert [stage.name for stage in made.stages] == [
        "original",
        "quantized",
        "quantized-tuned",
    ]
    assert score_of(made) > trained.test_accuracy - 0.05
    assert made.stages[-1].num_bytes < 0.13 * made.stages[0].num_bytes
    # The file's own size is told, not what its bits would take.
    assert made.stages[-1].num_bytes == made.file.stat().st_size
    # Weights of few bits are multiplied like any others.
    assert len({stage.seconds for stage in made.stages}) == 1
    with pytest.raises(UserError, match="`bits` 9 is out of range"):
        compress(trained, None, tmp_path, bits=9)
    with pytest.raises(UserError, match=r"codebook indices cannot have 3\.5 bits"):
        compress(trained, "20 KB", tmp_path, bits=3.5)
    with pytest.raises(UserError, match="leave `int8` or `to` out"):
        compress(trained, "20 KB", tmp_path, int8=True)


@pytest.mark.slow
def test_eight_bits_are_timed_as_they_compute(trained: Run, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    made = compress(trained, None, out, int8=True, fine_tuning=TUNING)
    assert score_of(made) > trained.test_accuracy - 0.02
    assert made.stages[-1].num_bytes < 0.27 * made.stages[0].num_bytes
    assert all(stage.compiled for stage in made.stages)
    before, *after = (stage.seconds for stage in made.stages)
    assert len(set(after)) == 1 != before
    # Killed at its end, and without a compiler for C++ now, there are times of 32 bits, and nothing is lost.
    (out / "model.json").unlink()
    asked = ["--int8", "--out", str(out), "--epochs", "3", "--no-autotune", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "convatlas", "compress", str(trained.folder), *asked],
        env=os.environ | {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "not compiled" in done.stderr
    again = json.loads(done.stdout)["stages"]
    assert not any(stage["compiled"] for stage in again)
    assert again[-1]["test_accuracy"] == score_of(made)


@pytest.mark.parametrize(("sparse", "zeros"), [pytest.param("0.7", 0.7, marks=pytest.mark.slow), ("2:4", 0.45)])
def test_single_weights_go_and_the_file_is_smaller(sparse: str, zeros: float, trained: Run, tmp_path: Path) -> None:
    made = compress(trained, None, tmp_path, sparse=sparse, rounds=1, fine_tuning=TUNING)
    assert [stage.name for stage in made.stages] == ["original", "pruned-1", "pruned-1-tuned"]
    assert sparsity(made.model.network) >= zeros
    # What zeros save shows in the compressed file.
    assert made.file.stat().st_size == made.stages[-1].num_bytes
    assert made.stages[-1].num_bytes < (1 - zeros / 2) * made.stages[0].num_bytes
    assert score_of(made) > trained.test_accuracy - 0.05
    for given, message in (
        ({"sparse": "much"}, "'much' is not a fraction of"),
        ({"sparse": "0.9", "int8": True}, "loses zeros"),
    ):
        with pytest.raises(UserError, match=message):
            compress(trained, None, tmp_path / "none", **given)
