"""Predictions that are kept with a result."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convatlas.experiments.engine.answers import Answers, packed
from convatlas.experiments.engine.estimate import combined_errors

IMAGES = st.integers(1, 60)


@given(data=st.data(), num_images=IMAGES)
def test_predictions_are_read_as_they_were_written(data: st.DataObject, num_images: int) -> None:
    labels = data.draw(arrays.arrays(np.uint8, num_images))
    seeds = data.draw(st.dictionaries(st.text(max_size=5), st.integers(1, 4), max_size=3))
    answers = Answers(
        labels, {name: data.draw(arrays.arrays(np.uint8, (num, num_images))) for name, num in seeds.items()}
    )
    again = Answers.from_json(json.loads(json.dumps(answers.to_json())))
    assert again == answers
    for name in seeds:
        assert (again.errors(name) == (answers.predictions[name] != labels)).all()


def test_other_predictions_are_not_equal(known_arm: Callable) -> None:
    one, other = (Answers.of({"a": known_arm(error, 10.0)}) for error in (5.0, 6.0))
    assert one != other
    assert one != Answers.of({"b": known_arm(5.0, 10.0)})
    assert one.errors("a").mean(1).tolist() == [0.05, 0.1]


def test_a_rise_is_that_of_each_seed(known_arm: Callable) -> None:
    answers = Answers.of({"whole": known_arm(10.0, 20.0, 30.0), "without": known_arm(15.0, 25.0, 35.0)})
    rise = answers.rise("without", "whole")
    assert (100 * rise.mean(1)).tolist() == pytest.approx([5.0, 5.0, 5.0])
    # However much the seeds differ, each rises as much; two networks would have all of their variance.
    paired = combined_errors((1.0, rise))
    apart = combined_errors((1.0, answers.errors("without")), (-1.0, answers.errors("whole")))
    assert paired.center == apart.center == pytest.approx(5.0)
    assert 3 * paired.standard_error < apart.standard_error


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "AAAA"},
        {"labels": packed(np.zeros(3, np.uint8))[:-8]},
        {"num_images": 7},
        {"predictions": {"a": packed(np.zeros(5, np.uint8))}},
        {"predictions": {"a": packed(np.zeros(0, np.uint8))}},
        {"predictions": {"a": "*"}},
    ],
)
def test_damage_is_noticed(change: dict[str, object]) -> None:
    values = Answers(np.zeros(3, np.uint8), {"a": np.zeros((2, 3), np.uint8)}).to_json()
    with pytest.raises(ValueError, match=r"predictions|cannot|Incorrect|Only|Invalid|Excess"):
        Answers.from_json(values | change)
