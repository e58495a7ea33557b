"""Where a network computes, and in what."""

from __future__ import annotations

import pytest
import torch

from convatlas.errors import UserError
from convatlas.models.device import computes_bfloat16, resolve_device


def test_the_processor_is_always_there_and_what_is_not_there_says_what_is() -> None:
    assert resolve_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(UserError, match=r"there is no device 'abacus' on this machine; it has .*cpu"):
        resolve_device("abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_without_a_gpu_the_processor_is_the_fastest() -> None:
    with pytest.raises(UserError, match="there is no device 'cuda'"):
        resolve_device("cuda")
    if not torch.backends.mps.is_available():
        assert resolve_device(None) == torch.device("cpu")


@pytest.mark.gpu
def test_each_process_has_a_gpu_of_its_own() -> None:
    assert resolve_device("cuda", 1) == torch.device("cuda", 1)


def test_no_instructions_for_bfloat16_are_known_of_other_devices() -> None:
    assert not computes_bfloat16("mps")
    assert not computes_bfloat16("meta")
