"""In processes of their own: these settings are a process's."""

import json
import platform
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")

FILLED_TEN_TIMES = """
import json, resource
from pathlib import Path
import sys
import torch
import convatlas as ca
from convatlas.models.memory import freed_memory_kept, release_memory
from convatlas.training import Progress

SIZE = 2**26

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

release_memory()
at_first, usual = resident(), faults()
with freed_memory_kept():
    faults()
    kept, within = faults(), resident()
left = resident() - at_first


class Counting(Progress):
    def end_epoch(self, metrics, epochs):
        faults()
        self.faults = faults()


progress = Counting()
run = ca.train("lenet5", epochs=1, out=sys.argv[1], progress=progress)
with run.model.network_on(torch.device("cpu")):
    faults()
    used = faults()
figures = {"training": progress.faults, "used": used}
print(json.dumps(figures | {"usual": usual, "kept": kept, "held": within - at_first, "left": left}))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [sys.executable, "-c", FILLED_TEN_TIMES, str(tmp_path_factory.mktemp("memory") / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_large_tensor_takes_the_memory_of_the_one_before(pages: dict[str, Any]) -> None:
    # Each fault is a page that was zeroed again.
    assert pages["usual"] >= 320
    assert pages["kept"] < pages["usual"] / 20


@pytest.mark.parametrize("where", ["training", "used"])
def test_so_it_is_in_training_and_where_a_model_is_used(where: str, pages: dict[str, Any]) -> None:
    assert pages[where] < pages["usual"] / 20


def test_afterwards_the_memory_is_given_back(pages: dict[str, Any]) -> None:
    assert pages["held"] > 16_000
    assert pages["left"] < 1_000
