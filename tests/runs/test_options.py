"""The options of a training: each group refuses what cannot work, with the argument's name."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.files.typed_json import decoded, encoded
from convatlas.runs.options import (
    MAX_TEMPERATURE,
    MAX_THREADS,
    MIN_TEMPERATURE,
    Distillation,
    Execution,
    InitFrom,
    Runtime,
    Validation,
    WeightConstraint,
)


@pytest.mark.at_once(
    ("make", "message"),
    [
        *(
            (lambda value=value: Validation(val_split=value), f"`val_split` {value:g} splits nothing")
            for value in (0.0, 1.0, -0.1, 2.0, math.nan, math.inf)
        ),
        *((lambda value=value: Validation(patience=value), f"`patience` {value} does not work") for value in (0, -1)),
        *(
            (lambda value=value: Distillation(teacher="t", temperature=value), f"`temperature` {value:g} does not work")
            for value in (0.0, -1.0, math.nan, math.inf, 1e200)
        ),
        *(
            (lambda value=value: Distillation(teacher="t", distill_weight=value), f"`distill_weight` {value:g} does")
            for value in (0.0, -1.0, 1.5, math.nan)
        ),
        *(
            (lambda value=value: Distillation(teacher="t", attention_weight=value), f"`attention_weight` {value:g} ")
            for value in (-1.0, math.nan, math.inf)
        ),
        *((lambda value=value: Runtime(micro_batch=value), f"`micro_batch` {value} does not") for value in (0, -3)),
        *((lambda value=value: Runtime(checkpoint_steps=value), f"`checkpoint_steps` {value} ") for value in (0, -3)),
        (lambda: InitFrom(path="p", freeze=True, constraint=WeightConstraint.NONE), "choose one of them"),
    ],
)
def test_what_cannot_work_is_one_line_that_names_the_argument(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    # The command line adds its dashes.
    assert "--" not in str(caught.value)


GROUPS = st.one_of(
    st.builds(
        Validation,
        val_split=st.floats(0, 1, exclude_min=True, exclude_max=True),
        patience=st.none() | st.integers(1, 100),
    ),
    st.builds(
        Distillation,
        teacher=st.text(),
        temperature=st.floats(MIN_TEMPERATURE, MAX_TEMPERATURE),
        distill_weight=st.floats(0, 1, exclude_min=True),
        attention_weight=st.floats(0, 1e9),
    ),
    st.builds(
        Runtime,
        device=st.none() | st.text(),
        autotune=st.booleans(),
        micro_batch=st.none() | st.integers(1, 2**63 - 1),
        checkpoint_steps=st.none() | st.integers(1, 2**63 - 1),
    ),
    st.builds(InitFrom, path=st.text(), freeze=st.booleans(), constraint=st.none()),
    st.builds(
        InitFrom, path=st.text(), freeze=st.just(False), constraint=st.none() | st.sampled_from(WeightConstraint)
    ),
    st.builds(
        Execution,
        threads=st.integers(1, MAX_THREADS),
        channels_last=st.booleans(),
        bfloat16=st.booleans(),
        compiled=st.booleans(),
    ),
)


@given(GROUPS)
def test_what_works_survives_its_file(group: Any) -> None:
    assert decoded(type(group), encoded(group)) == group
    assert hash(decoded(type(group), encoded(group))) == hash(group)


@given(GROUPS)
def test_nothing_changes_a_group(group: Any) -> None:
    for field in fields(group):
        with pytest.raises(FrozenInstanceError):
            setattr(group, field.name, None)


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert (Validation.val_split, Validation.patience) == (0.1, None)
    assert (Distillation.temperature, Distillation.distill_weight, Distillation.attention_weight) == (2.0, 0.9, 0.0)
    assert Runtime() == Runtime(device=None, autotune=True, micro_batch=None, checkpoint_steps=None)
    assert InitFrom(path="p") == InitFrom(path="p", freeze=False, constraint=None)


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(threads=1), "float32, channels last, 1 thread"),
        (Execution(threads=2, bfloat16=True, channels_last=False), "bfloat16, contiguous, 2 threads"),
        (Execution(threads=8, compiled=True), "float32, channels last, 8 threads, compiled"),
    ],
)
def test_an_execution_describes_itself(execution: Execution, words: str) -> None:
    assert execution.describe() == words


def test_options_load_no_torch() -> None:
    # The command line reads its defaults from them.
    code = "import sys, convatlas.runs.options; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
