"""Which models read live, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convatlas.errors import UserError
from convatlas.museum.live import live_data, live_model
from convatlas.runs.run import Run


def test_a_trained_lenet5_is_shown(finished: Callable[..., Run]) -> None:
    data = live_data(live_model(finished("lenet5", compressed=False).folder))
    assert {"c1", "s2", "c3", "s4", "c5", "f6", "codes"} <= set(data)
    assert (data["background"], data["side"]) == (-0.1, 28)


def test_another_network_is_told(finished: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match=r"cannot be shown live: it is .*; convatlas train lenet5 --data mnist"):
        live_model(finished("squeezenet").folder)
