from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas.errors import UserError, check_within, unknown

NAMES = ("lenet5", "lenet5-modern", "alexnet", "vgg16", "resnet50")


@pytest.mark.parametrize(
    ("typed", "meant"), [("lenet-5", "lenet5"), ("alexnett", "alexnet"), ("vgg", "vgg16"), ("resnet5", "resnet50")]
)
def test_an_unknown_name_is_answered_with_the_near_ones(typed: str, meant: str) -> None:
    message = str(unknown("network", typed, NAMES))
    assert f"there is no network '{typed}'" in message
    assert "did you mean" in message
    assert meant in message.split("did you mean")[1]


def test_a_name_near_to_none_is_answered_with_all_that_are_known() -> None:
    message = str(unknown("recipe", "qqq", ["default", "paper"]))
    assert message == "there is no recipe 'qqq'; known are default, paper"


def test_the_nearest_name_comes_first() -> None:
    assert "did you mean lenet5-modern or" in str(unknown("network", "lenet5-moderm", NAMES))


def test_names_may_come_from_anything_that_can_be_walked_once() -> None:
    assert "known are a, b" in str(unknown("thing", "zzz", (name for name in "ab")))


def test_a_mistake_of_the_user_is_a_value_error() -> None:
    assert isinstance(unknown("network", "x", NAMES), UserError)
    assert issubclass(UserError, ValueError)


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_whatever_was_typed_the_answer_is_one_line(typed: str) -> None:
    assert len(str(unknown("network", typed, NAMES)).splitlines()) == 1


@dataclass(frozen=True)
class Numbers:
    num: int = 5
    part: float | None = None


def test_numbers_within_their_limits_are_passed_and_others_named() -> None:
    check_within(Numbers(), num=(1, 5), part=(0, 1))
    for numbers, said in (
        (Numbers(num=2_000_000), "`num` 2,000,000 does not work; it must be 1 to 5"),
        (Numbers(part=-0.5), "`part` -0.5 does not work; it must be 0 to 1"),
        (Numbers(part=math.nan), "`part` nan does not work; it must be 0 to 1"),
    ):
        with pytest.raises(UserError) as caught:
            check_within(numbers, num=(1, 5), part=(0, 1))
        assert str(caught.value) == said
