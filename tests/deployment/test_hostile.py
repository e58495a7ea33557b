"""Networks' files that were mutated by somebody who kept their checksums right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.deployment.forms import in_form_of
from convatlas.deployment.manifest import RuntimeName

LOAD = """
import random, resource, sys
from pathlib import Path
from convatlas.deployment.manifest import RuntimeName
from convatlas.deployment.runtimes import open_network
from convatlas.errors import UserError

source, place, runtime, first, num = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
whole = source.read_bytes()
loaded = refused = 0
for seed in range(first, first + num):
    draw = random.Random(seed)
    content = bytearray(whole[: draw.randrange(1, len(whole))] if draw.random() < 0.2 else whole)
    for _ in range(draw.choice((1, 1, 3, 20))):
        content[draw.randrange(len(content))] = draw.randrange(256)
    place.write_bytes(content)
    try:
        open_network(place, RuntimeName(runtime), threads=1)
        loaded += 1
    except UserError as error:
        assert "\\n" not in str(error), error
        refused += 1
print(loaded, refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
IN_A_PROCESS = 500
MAX_KIB = 2**22
"""A graph may ask for tensors that no file holds; the systems whose memory they exceed refuse them."""
SECONDS = 600


@pytest.fixture(scope="module")
def file_of(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[RuntimeName, Path]:
    """A network's file for each runtime, with what lies beside it."""
    folder = tmp_path_factory.mktemp("networks")
    for name in ("whole.onnx", "other.onnx"):
        (folder / name).write_bytes((shipped / "model.onnx").read_bytes())
    return {
        RuntimeName.ONNX: folder / "whole.onnx",
        RuntimeName.OPENVINO: in_form_of(folder / "other.onnx", RuntimeName.OPENVINO),
    }


@pytest.mark.parametrize(
    ("runtime", "num"),
    [
        (RuntimeName.ONNX, 20),
        pytest.param(RuntimeName.OPENVINO, 20, marks=pytest.mark.slow),
        *(pytest.param(runtime, 100_000, marks=pytest.mark.fuzz) for runtime in RuntimeName),
    ],
)
def test_mutated_networks_are_loaded_or_refused_in_a_line(
    runtime: RuntimeName, num: int, file_of: dict[RuntimeName, Path]
) -> None:
    source = file_of[runtime]
    # OpenVINO finds the weights by the name of the other file.
    place = source if runtime is RuntimeName.OPENVINO else source.with_name("mutated.onnx")
    whole = source.with_name(f"kept{source.suffix}")
    if not whole.exists():
        whole.write_bytes(source.read_bytes())
    for first in range(0, num, IN_A_PROCESS):
        given = [str(whole), str(place), runtime, str(first), str(min(IN_A_PROCESS, num - first))]
        ended = subprocess.run(
            [sys.executable, "-P", "-c", LOAD, *given], capture_output=True, text=True, timeout=SECONDS
        )
        assert ended.returncode == 0, (first, ended.stderr[-2000:])
        # What a runtime prints stands before it.
        loaded, refused, kib = map(int, ended.stdout.splitlines()[-1].split())
        assert loaded + refused == min(IN_A_PROCESS, num - first)
        assert refused
        assert kib < MAX_KIB
