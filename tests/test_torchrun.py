"""Whether a process is one of torchrun's, whatever other launchers left in its environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.torchrun import ADDRESS, COUNTS, NUMBERS, PORT, Worker, leftover

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_MAX_RESTARTS": "3",
}  # fmt: skip
ALONE = Worker()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without torchrun's variables."""
    for name in (*NUMBERS, ADDRESS, PORT, *COUNTS):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def put(environment: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)


def test_torchruns_variables_are_read(environment: pytest.MonkeyPatch) -> None:
    put(environment, TORCHRUN)
    assert Worker.from_env() == Worker(5, 8, 1, 4, restarts=2, max_restarts=3)
    assert not Worker.from_env().is_main
    assert leftover() == ""


@pytest.mark.parametrize("missing", [*NUMBERS, ADDRESS, PORT])
@pytest.mark.parametrize("value", [None, "", "one"])
def test_without_one_of_them_a_process_is_alone(
    missing: str, value: str | None, environment: pytest.MonkeyPatch
) -> None:
    put(environment, TORCHRUN)
    if value is None:
        environment.delenv(missing)
    else:
        environment.setenv(missing, value)
    assert Worker.from_env() == (ALONE if (missing, value) != (ADDRESS, "one") else Worker(5, 8, 1, 4, 2, 3))


@pytest.mark.parametrize(
    "values",
    [
        {"RANK": "8"},
        {"RANK": "-1"},
        {"RANK": "0"},
        {"LOCAL_RANK": "4"},
        {"LOCAL_WORLD_SIZE": "9"},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "0"},
        {"MASTER_PORT": "0"},
        {"TORCHELASTIC_RESTART_COUNT": "x"},
    ],
    ids=str,
)
def test_where_they_contradict_one_another_a_process_is_alone(
    values: dict[str, str], environment: pytest.MonkeyPatch
) -> None:
    put(environment, TORCHRUN | values)
    assert Worker.from_env() == ALONE


@given(st.dictionaries(st.sampled_from(sorted(TORCHRUN)), st.sampled_from(["", "0", "1", "2", "-1", "x", "٣"])))
def test_whatever_is_left_over_a_process_is_one_of_several_or_alone(variables: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in TORCHRUN:
            patch.delenv(name, raising=False)
        put(patch, variables)
        worker = Worker.from_env()
        assert worker == ALONE or (
            worker.rank < worker.world_size > 1 and worker.local_rank < worker.local_world_size <= worker.world_size
        )
        # Only who expects others is told.
        assert bool(leftover()) == (worker == ALONE and variables.get("WORLD_SIZE", "1") != "1")
