"""From one version to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convatlas.errors import UserError
from convatlas.models.codec import update
from convatlas.models.codec.bytestream import Choices, Reader
from convatlas.models.codec.container import pack
from convatlas.models.codec.tensors import put_together, taken_apart
from convatlas.models.codec.update import apply_update, write_update
from convatlas.networks.blocks import layer_weights
from convatlas.runs.run import Run

Finished = Callable[..., Run]


def version(run: Run, folder: Path, moved: float, recoded: float, seed: int = 0) -> Run:
    """A run whose values moved a little, and of whose weights some have another value or none."""
    torch.manual_seed(seed)
    folder.mkdir()
    new = Run(folder, run.record)
    network = run.variant.network(run.record.spec)
    network.load_state_dict(run.network.state_dict())
    for weights in layer_weights(network).values():
        values = weights.unique()
        other = (values * (1 + moved * torch.randn(len(values)))).half().float()
        codes = torch.searchsorted(values, weights.contiguous())
        away = (torch.rand(weights.shape) < recoded) & (weights != 0)
        codes = torch.where(away, (codes + 1).clamp(max=len(values) - 1), codes)
        weights.copy_(other[codes])
    for name, value in network.state_dict().items():
        if name.endswith(("bias", "running_mean", "running_var")):
            value.copy_((value + moved * 0.1 * torch.rand(value.shape)).half().float())
    new.record = replace(run.record, results=replace(run.results, weights_sha256=new.write_weights(network)))
    new.write_record()
    return new


@pytest.mark.parametrize("ranges", [True, False])
def test_every_family_is_updated_bit_for_bit(family: str, ranges: bool, finished: Finished, tmp_path: Path) -> None:
    run = finished(family)
    old = pack(run, tmp_path / "old.cva").folder
    new = pack(version(run, tmp_path / "run", 0.01, 0.02), tmp_path / "new.cva", ranges=ranges).folder
    difference = write_update(old, new, tmp_path / "update.cvu")
    made = apply_update(old, difference, tmp_path / "made.cva")
    assert made.folder.read_bytes() == new.read_bytes()
    assert difference.stat().st_size < new.stat().st_size


@pytest.mark.parametrize("recoded", [0.0, 0.02])
def test_a_fine_tuned_version_takes_less_than_a_third(recoded: float, finished: Finished, tmp_path: Path) -> None:
    run = finished("lenet5-modern")
    old = pack(run, tmp_path / "old.cva").folder
    new = pack(version(run, tmp_path / "run", 0.02, recoded), tmp_path / "new.cva").folder
    difference = write_update(old, new, tmp_path / "update.cvu")
    assert difference.stat().st_size < 0.3 * new.stat().st_size


def test_of_no_difference_little_is_written(finished: Finished, tmp_path: Path) -> None:
    old = pack(finished("vgg11"), tmp_path / "old.cva").folder
    assert write_update(old, old, tmp_path / "update.cvu").stat().st_size < 500
    assert apply_update(old, tmp_path / "update.cvu", tmp_path / "made.cva").folder.read_bytes() == old.read_bytes()


def test_versions_with_nothing_in_common_but_their_shapes(finished: Finished, tmp_path: Path) -> None:
    old = pack(finished("lenet5"), tmp_path / "old.cva").folder
    for number, run in enumerate((finished("lenet5", seed=1), finished("lenet5", compressed=False))):
        new = pack(run, tmp_path / f"new{number}.cva").folder
        for one, other in ((old, new), (new, old)):
            write_update(one, other, tmp_path / "update.cvu")
            made = apply_update(one, tmp_path / "update.cvu", tmp_path / "made.cva")
            assert made.folder.read_bytes() == other.read_bytes()


def test_another_old_file_is_refused(finished: Finished, tmp_path: Path) -> None:
    old, new, third = (pack(finished("lenet5", seed=seed), tmp_path / f"{seed}.cva").folder for seed in (0, 1, 2))
    difference = write_update(old, new, tmp_path / "update.cvu")
    for other in (third, new):
        with pytest.raises(UserError, match=r"update.cvu updates another file than .*\.cva"):
            apply_update(other, difference, tmp_path / "made.cva")
    assert not (tmp_path / "made.cva").exists()


def test_mistakes_are_one_line(finished: Finished, tmp_path: Path) -> None:
    old = pack(finished("lenet5"), tmp_path / "old.cva").folder
    other = pack(finished("lenet1"), tmp_path / "other.cva").folder
    with pytest.raises(UserError, match="are not versions of one network"):
        write_update(old, other, tmp_path / "update.cvu")
    with pytest.raises(UserError, match=r"there is no .*missing"):
        apply_update(old, tmp_path / "missing", tmp_path / "made.cva")
    with pytest.raises(UserError, match="is damaged"):
        apply_update(old, old, tmp_path / "made.cva")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        apply_update(old, tmp_path, tmp_path / "made.cva")


def test_nothing_is_overwritten_by_what_is_made_of_it(finished: Finished, tmp_path: Path) -> None:
    old, new = (pack(finished("lenet1", seed=seed), tmp_path / f"{seed}.cva").folder for seed in (0, 1))
    difference = write_update(old, new, tmp_path / "update.cvu")
    (tmp_path / "link.cva").symlink_to(new)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for out in (old, new, tmp_path / "link.cva", tmp_path / "." / "new" / ".." / new.name):
        with pytest.raises(UserError, match="would be overwritten by what is made of it"):
            write_update(old, new, out)
    for out in (old, difference):
        with pytest.raises(UserError, match="would be overwritten by what is made of it"):
            apply_update(old, difference, out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_cut_short_anywhere_is_refused(finished: Finished, tmp_path: Path) -> None:
    old, new = (pack(finished("lenet1", seed=seed), tmp_path / f"{seed}.cva").folder for seed in (0, 1))
    difference = write_update(old, new, tmp_path / "update.cvu")
    content = difference.read_bytes()
    for end in range(0, len(content), 3):
        difference.write_bytes(content[:end])
        with pytest.raises(UserError, match="is damaged"):
            apply_update(old, difference, tmp_path / "made.cva")


FEW = arrays(np.float32, 60, elements=st.sampled_from([0.0, 0.0, -1.0, 0.5, 2.0, 3.1, -0.0]))
ANY = arrays(np.float32, 60, elements=st.floats(width=32))


@given(st.one_of(FEW, ANY), st.one_of(FEW, ANY))
def test_any_tensor_comes_of_any_other(old: np.ndarray, new: np.ndarray) -> None:
    before = taken_apart(old)
    choices = Choices()
    reader = Reader(update.change(before, taken_apart(new), choices))
    found = update.read_change(reader, before)
    reader.finish()
    assert put_together(found, new.shape).tobytes() == new.tobytes()


@given(arrays(np.uint16, 20), arrays(np.uint16, 20))
def test_steps_come_back(old: np.ndarray, new: np.ndarray) -> None:
    steps = update.turned(new - old)
    assert steps.dtype == np.uint16
    assert (old + update.turned_back(steps) == new).all()
    assert update.turned(np.array([0, 65535, 1, 65534], np.uint16)).tolist() == [0, 1, 2, 3]


def test_codes_that_all_moved_by_one_cost_nothing() -> None:
    # A value that is new below all others shifts every code.
    draw = np.random.default_rng(0)
    values = np.array([0, 1, 2, 3], np.float32)
    old = values[draw.integers(0, 4, 4000)]
    new = old.copy()
    new[7] = -5
    change = update.change(taken_apart(old), taken_apart(new), Choices())
    assert len(change) < 80
