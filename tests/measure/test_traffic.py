"""What processes that train together send in a step, and how long that takes on a line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from convatlas import atlas, measure


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """Of this process alone: it hands over as much as it would to a neighbor."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("name", "scale", "training_only"),
    [
        # More than one bucket of 25 million bytes, auxiliary heads, and output codes that are not trained.
        ("alexnet", {"width": 0.4}, False),
        ("googlenet", {"width": 0.25, "resolution": 64}, True),
        ("lenet5", {}, False),
    ],
)
def test_every_trained_number_is_sent_once_with_four_bytes(
    name: str, scale: dict[str, float], training_only: bool
) -> None:
    variant = atlas.find(name)
    spec = atlas.scale(variant, **scale)  # type: ignore[arg-type]
    table = measure.layers_of(variant.network, spec)
    assert (table.training_only_params > 0) == training_only
    assert measure.sent_bytes(variant, spec) == 4 * (table.params + table.training_only_params)


def test_two_machines_send_all_and_many_send_twice_as_much() -> None:
    # 125 million bytes are a billion bits.
    assert measure.ring_seconds(125e6, 1) == pytest.approx(1)
    assert measure.ring_seconds(125e6, 10) == pytest.approx(0.1)
    assert measure.ring_seconds(125e6, 1, machines=4) == pytest.approx(1.5)
    assert measure.ring_seconds(125e6, 1, machines=1) == 0


@pytest.mark.parametrize(("gigabits", "machines"), [(0, 2), (-1, 2), (math.inf, 2), (math.nan, 2), (1, 0)])
def test_no_line_and_no_machine_send_nothing(gigabits: float, machines: int) -> None:
    with pytest.raises(ValueError, match="send nothing"):
        measure.ring_seconds(1, gigabits, machines)
