"""Which models read live, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convatlas.errors import UserError
from convatlas.museum.live import TITLES, live_data, live_model, live_models, steps
from convatlas.runs.run import Run


def test_trained_lenets_are_shown(finished: Callable[..., Run]) -> None:
    models = live_models({name: finished(name, compressed=False).folder for name in TITLES})
    data = {name: live_data(model) for name, model in models.items()}
    assert {one["side"] for one in data.values()} == {28}
    names = {name: [step["name"] for step in steps(model.network)] for name, model in models.items()}
    assert names["lenet5"] == names["lenet5-modern"] == ["input", "C1", "S2", "C3", "S4", "C5", "F6", "output"]
    assert names["lenet1989"] == ["H1", "H2", "H3", "output"]


def test_another_network_is_told(finished: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match=r"cannot be shown live: it is .*; convatlas train lenet5 --data mnist"):
        live_model(finished("squeezenet").folder)
    with pytest.raises(UserError, match=r"cannot be shown live: it is .*; convatlas train lenet1989 --data mnist"):
        live_models({"lenet1989": finished("lenet5", compressed=False).folder})


def test_none_stands_beside_nothing(finished: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match=r"beside lenet5-modern the page shows lenet5; give a model of it too"):
        live_models({"lenet5": None, "lenet5-modern": finished("lenet5-modern", compressed=False).folder})
