from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convatlas import atlas
from convatlas.errors import UserError
from convatlas.training import checkpoint, optimisers
from convatlas.training.recipes import DEFAULT


def trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(steps)
    network = atlas.create("lenet1")
    optimiser = optimisers.build(DEFAULT, network)
    for _ in range(steps):
        F.mse_loss(network(torch.rand(4, 1, 28, 28)), torch.zeros(4, 10)).backward()
        optimiser.step()
        optimiser.zero_grad()
    return network, optimiser


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    network, optimiser = trained(3)
    state = checkpoint.State(step=3, seconds=0.1 + 0.2, epoch_loss=1 / 3, epoch_right=2, epoch_pictures=12)
    checkpoint.save(path, state, network, optimiser)

    other_network, other_optimiser = trained(1)
    assert checkpoint.load(path, other_network, other_optimiser) == state
    for (name, ours), theirs in zip(network.state_dict().items(), other_network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    before, after = optimiser.state_dict()["state"], other_optimiser.state_dict()["state"]
    assert before.keys() == after.keys()
    for index, values in before.items():
        assert all(torch.equal(value, after[index][name]) for name, value in values.items())


@settings(max_examples=40, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_a_damaged_checkpoint_is_refused(tmp_path_factory: pytest.TempPathFactory, where: float, cut: bool) -> None:
    path = tmp_path_factory.mktemp("damaged") / "checkpoint.safetensors"
    network, optimiser = trained(1)
    checkpoint.save(path, checkpoint.State(step=1), network, optimiser)
    content = bytearray(path.read_bytes())
    if cut:
        path.write_bytes(content[: int(where * len(content))])
    else:
        content[int(where * len(content))] ^= 0x55
        path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged; delete it"):
        checkpoint.load(path, *trained(1))


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, checkpoint.State(), *trained(1))
    network = atlas.create("lenet5")
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.load(path, network, optimisers.build(DEFAULT, network))


def test_slow_writes_are_seldom() -> None:
    pace = checkpoint.Pace()
    assert not pace.due()
    pace.written(took_s=10.0)
    assert not pace.due()
    assert pace._wait >= 10.0 / pace.SHARE
