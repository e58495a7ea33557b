"""Whose network a checkpoint is."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.spec import Scale
from convatlas.weights.checkpoint import Checkpoint, Format
from convatlas.weights.published import find_published
from convatlas.weights.taking import check_is_of, check_spelling, take_as, take_for


def with_checksum_of(name: str) -> Checkpoint:
    """A file that is told by its checksum alone."""
    digits = (find_published(name).checksum or "").partition(":")[2]
    return Checkpoint(Path("weights.pth"), Format.PYTORCH, {}, digits.ljust(64, "0"))


def test_a_file_that_is_known_to_be_other_weights_of_the_network_is_refused_by_their_name() -> None:
    checkpoint = with_checksum_of("torchvision:resnet50.v1")
    with pytest.raises(UserError) as caught:
        take_as(checkpoint, "torchvision:resnet50")
    assert str(caught.value) == "weights.pth is torchvision:resnet50.v1, and not torchvision:resnet50.v2; call it so"
    # By its own name it is looked into, and by that of a library that publishes the same weights.
    for name in ("torchvision:resnet50.v1", "timm:resnet50.tv_in1k"):
        with pytest.raises(UserError, match=r"it has no conv1\.weight"):
            take_as(checkpoint, name)


@pytest.mark.parametrize(
    ("name", "network", "scale", "said"),
    [
        (
            "keras:mobilenet_0.50.224",
            "mobilenet-tf",
            Scale(),
            "keras:mobilenet_0.50.224 is mobilenet-tf with `width` 0.5, not 1",
        ),
        (
            "torchvision:resnet18",
            "resnet18",
            Scale(width=0.5, depth=2),
            "torchvision:resnet18 is resnet18 with `width` 1, not 0.5, and `depth` 1, not 2",
        ),
        ("torchvision:resnet50", "resnet50", Scale(), "torchvision:resnet50 is resnet50-v1.5, and not resnet50"),
    ],
)
def test_weights_of_another_width_are_refused_before_they_are_downloaded(
    name: str, network: str, scale: Scale, said: str
) -> None:
    for taking in (
        lambda: check_is_of(name, atlas.find(network), scale),
        lambda: take_for(atlas.find(network), scale, name),
    ):
        with pytest.raises(UserError) as caught:
            taking()
        assert str(caught.value) == said


def test_resolution_is_no_hindrance_and_a_spec_of_ones_own_may_have_any_width() -> None:
    check_is_of("torchvision:resnet18", atlas.find("resnet18"), Scale(resolution=64))
    check_is_of("keras:mobilenet_0.50.224", atlas.find("mobilenet-tf"), Scale(width=0.5))
    check_is_of("keras:mobilenet_0.50.224", atlas.find("mobilenet-tf"), None)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("torchvison", "torchvision"),
        ("Torchvision:resnet50.v1", "torchvision:resnet50.v1"),
        ("tim:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
    ],
)
def test_a_slip_in_a_librarys_name_is_told_from_a_path(
    typed: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        check_spelling(typed)
    assert str(caught.value) == f"there is no {typed}; did you mean {meant}?"
    with pytest.raises(UserError, match=f"did you mean {meant}"):
        take_for(atlas.find("resnet18"), Scale(), typed)
    # What is there is what is meant.
    Path(typed).mkdir()
    check_spelling(typed)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "runs/keras-1", "models/resnet18", "w.pth", "a\0b", ""])
def test_a_path_is_no_slip(name: str) -> None:
    check_spelling(name)
