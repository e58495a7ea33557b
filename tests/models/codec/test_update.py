"""From one version to the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from convatlas.errors import UserError
from convatlas.models.codec import update
from convatlas.models.codec.bytestream import Choices, DamagedFileError, Reader
from convatlas.models.codec.container import read_file, write_file
from convatlas.models.codec.tensors import from_array, to_array
from convatlas.models.codec.update import apply_update, is_update, write_update
from convatlas.models.model import Model
from convatlas.models.network import build
from convatlas.networks.blocks import layer_weights

ModelOf = Callable[..., Model]
FORMATS = Path(__file__).parents[2] / "formats"


def packed(model: Model, path: Path, *, ranges: bool = True) -> Path:
    write_file(path, model.card, model.network, ranges=ranges)
    return path


def version(model: Model, moved: float, recoded: float, seed: int = 0) -> Model:
    """A model whose values moved a little, and of whose weights some have another value or none."""
    torch.manual_seed(seed)
    network = build(model.card).eval()
    network.load_state_dict(model.network.state_dict())
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
    return Model(model.card, load_network=lambda: network)


@pytest.mark.parametrize("ranges", [True, False])
def test_every_family_is_updated_bit_for_bit(some_family: str, ranges: bool, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of(some_family)
    old = packed(model, tmp_path / "old.cva")
    new = packed(version(model, 0.01, 0.02), tmp_path / "new.cva", ranges=ranges)
    difference = write_update(old, new, tmp_path / "update.cvu")
    made = apply_update(old, difference, tmp_path / "made.cva")
    assert made.read_bytes() == new.read_bytes()
    assert difference.stat().st_size < new.stat().st_size


@pytest.mark.parametrize("recoded", [0.0, 0.02])
def test_a_fine_tuned_version_takes_less_than_a_third(recoded: float, model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("lenet5-modern")
    old = packed(model, tmp_path / "old.cva")
    new = packed(version(model, 0.02, recoded), tmp_path / "new.cva")
    difference = write_update(old, new, tmp_path / "update.cvu")
    assert difference.stat().st_size < 0.3 * new.stat().st_size


def test_of_no_difference_little_is_written(model_of: ModelOf, tmp_path: Path) -> None:
    old = packed(model_of("vgg11"), tmp_path / "old.cva")
    assert write_update(old, old, tmp_path / "update.cvu").stat().st_size < 500
    assert apply_update(old, tmp_path / "update.cvu", tmp_path / "made.cva").read_bytes() == old.read_bytes()


def test_versions_with_nothing_in_common_but_their_shapes(model_of: ModelOf, tmp_path: Path) -> None:
    old = packed(model_of("lenet5"), tmp_path / "old.cva")
    for number, model in enumerate((model_of("lenet5", seed=1), model_of("lenet5", compressed=False))):
        new = packed(model, tmp_path / f"new{number}.cva")
        for one, other in ((old, new), (new, old)):
            write_update(one, other, tmp_path / "update.cvu")
            made = apply_update(one, tmp_path / "update.cvu", tmp_path / "made.cva")
            assert made.read_bytes() == other.read_bytes()


def test_an_update_of_an_earlier_version_is_applied_as_then(tmp_path: Path) -> None:
    old, new = FORMATS / "old.cva", FORMATS / "new.cva"
    assert is_update(FORMATS / "old-to-new.cvu")
    made = apply_update(old, FORMATS / "old-to-new.cvu", tmp_path / "made.cva")
    assert made.read_bytes() == new.read_bytes()


def test_files_of_both_versions_are_updated_to_each_other(tmp_path: Path) -> None:
    old = FORMATS / "old.cva"
    file = read_file(FORMATS / "new.cva")
    write_file(tmp_path / "new.cva", file.card, file.network())
    files = old, tmp_path / "new.cva"
    assert [read_file(path).contents.version for path in files] == [1, 2]
    for one, other in (files, files[::-1]):
        write_update(one, other, tmp_path / "update.cvu")
        assert apply_update(one, tmp_path / "update.cvu", tmp_path / "made.cva").read_bytes() == other.read_bytes()


def test_another_old_file_is_refused(model_of: ModelOf, tmp_path: Path) -> None:
    old, new, third = (packed(model_of("lenet5", seed=seed), tmp_path / f"{seed}.cva") for seed in (0, 1, 2))
    difference = write_update(old, new, tmp_path / "update.cvu")
    for other in (third, new):
        with pytest.raises(UserError, match=r"update.cvu updates another file than .*\.cva"):
            apply_update(other, difference, tmp_path / "made.cva")
    assert not (tmp_path / "made.cva").exists()


def test_mistakes_are_one_line(model_of: ModelOf, tmp_path: Path) -> None:
    old = packed(model_of("lenet5"), tmp_path / "old.cva")
    other = packed(model_of("lenet1"), tmp_path / "other.cva")
    with pytest.raises(UserError, match="are not versions of one network"):
        write_update(old, other, tmp_path / "update.cvu")
    with pytest.raises(UserError, match=r"there is no .*missing"):
        apply_update(old, tmp_path / "missing", tmp_path / "made.cva")
    with pytest.raises(UserError, match="is damaged"):
        apply_update(old, old, tmp_path / "made.cva")
    with pytest.raises(UserError, match="is a folder, a device or a pipe, not a file"):
        apply_update(old, tmp_path, tmp_path / "made.cva")


def test_nothing_is_overwritten_by_what_is_made_of_it(model_of: ModelOf, tmp_path: Path) -> None:
    old, new = (packed(model_of("lenet1", seed=seed), tmp_path / f"{seed}.cva") for seed in (0, 1))
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


def test_cut_short_anywhere_is_refused(model_of: ModelOf, tmp_path: Path) -> None:
    old, new = (packed(model_of("lenet1", seed=seed), tmp_path / f"{seed}.cva") for seed in (0, 1))
    difference = write_update(old, new, tmp_path / "update.cvu")
    content = difference.read_bytes()
    for end in range(0, len(content), 11):
        difference.write_bytes(content[:end])
        with pytest.raises(UserError, match="is damaged"):
            apply_update(old, difference, tmp_path / "made.cva")


FEW = arrays(np.float32, 60, elements=st.sampled_from([0.0, 0.0, -1.0, 0.5, 2.0, 3.1, -0.0]))
ANY = arrays(np.float32, 60, elements=st.floats(width=32))


@given(st.one_of(FEW, ANY), st.one_of(FEW, ANY))
def test_any_tensor_comes_of_any_other(old: np.ndarray, new: np.ndarray) -> None:
    before = from_array(old)
    choices = Choices()
    reader = Reader(update.change(before, from_array(new), choices))
    found = update.read_change(reader, before)
    reader.finish()
    assert to_array(found, new.shape).tobytes() == new.tobytes()


@given(arrays(np.uint16, 20), arrays(np.uint16, 20))
def test_steps_come_back(old: np.ndarray, new: np.ndarray) -> None:
    steps = update.zigzag(new - old)
    assert steps.dtype == np.uint16
    assert (old + update.unzigzag(steps) == new).all()
    assert update.zigzag(np.array([0, 65535, 1, 65534], np.uint16)).tolist() == [0, 1, 2, 3]


def test_numbers_that_moved_belong_to_the_old_ones() -> None:
    old = np.arange(0, 2000, 2, dtype=np.uint16)
    written = update.write_keys(old, old + np.uint16(1), Choices())
    assert (update.read_keys(Reader(written), len(old), old) == old + 1).all()
    for other in (old.astype(np.uint32), old[:-1]):
        with pytest.raises(DamagedFileError, match="moved from others than the old ones"):
            update.read_keys(Reader(written), len(old), other)


def test_codes_that_all_moved_by_one_cost_nothing() -> None:
    # A value that is new below all others shifts every code.
    draw = np.random.default_rng(0)
    values = np.array([0, 1, 2, 3], np.float32)
    old = values[draw.integers(0, 4, 4000)]
    new = old.copy()
    new[7] = -5
    change = update.change(from_array(old), from_array(new), Choices())
    assert len(change) < 80
