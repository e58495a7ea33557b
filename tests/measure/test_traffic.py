"""What data-parallel processes send in a step, and how long that takes at a bandwidth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from convatlas import atlas, measure


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone, which hands over as much as with neighbors."""
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
def test_every_gradient_is_sent_once_with_four_bytes(name: str, scale: dict[str, float], training_only: bool) -> None:
    variant = atlas.find(name)
    spec = atlas.scale(variant, **scale)  # type: ignore[arg-type]
    table = measure.layers_of(variant.network, spec)
    assert (table.training_only_params > 0) == training_only
    assert measure.allreduce_bytes(variant, spec) == 4 * (table.params + table.training_only_params)


def test_two_machines_send_each_byte_once_and_many_up_to_twice() -> None:
    # 125 million bytes are a billion bits.
    assert measure.ring_allreduce_s(125e6, 1) == pytest.approx(1)
    assert measure.ring_allreduce_s(125e6, 10) == pytest.approx(0.1)
    assert measure.ring_allreduce_s(125e6, 1, num_machines=4) == pytest.approx(1.5)
    assert measure.ring_allreduce_s(125e6, 1, num_machines=1) == 0


@pytest.mark.parametrize(("gigabits_per_s", "num_machines"), [(0, 2), (-1, 2), (math.inf, 2), (math.nan, 2), (1, 0)])
def test_no_bandwidth_and_no_machine_are_errors(gigabits_per_s: float, num_machines: int) -> None:
    with pytest.raises(ValueError, match="num_machines must be at least 1"):
        measure.ring_allreduce_s(1, gigabits_per_s, num_machines)
