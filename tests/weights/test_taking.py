"""Whose network a checkpoint is."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.weights.checkpoint import Checkpoint, Format
from convatlas.weights.published import find_published
from convatlas.weights.taking import take_as


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
