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
import torch
from convatlas.models.memory import freed_memory_kept, release_memory

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
print(json.dumps({"usual": usual, "kept": kept, "held": within - at_first, "left": resident() - at_first}))
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", FILLED_TEN_TIMES], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_large_tensor_takes_the_memory_of_the_one_before(pages: dict[str, Any]) -> None:
    # Each fault is a page that was zeroed again.
    assert pages["usual"] >= 320
    assert pages["kept"] < pages["usual"] / 20


def test_afterwards_the_memory_is_given_back(pages: dict[str, Any]) -> None:
    assert pages["held"] > 16_000
    assert pages["left"] < 1_000
