"""One engine with one network, in a process of its own, which computes when it is told to.

    python -P -m convatlas.deployment.bench_child

The first line of standard input is the engine, and each further one asks for repetitions; each is answered by a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.deployment.manifest import Precision, RuntimeName

Call = Callable[[Any], object]
MAX_SAID = 300
"""Characters of what an engine says that fails."""


def torch_call(engine: Mapping[str, Any]) -> tuple[Call, Callable[[np.ndarray[Any, Any]], Any]]:
    """A model in PyTorch, and what makes its input of an array."""
    import torch

    from convatlas.compression.folding import fold_batch_norm
    from convatlas.compression.int8 import compiled
    from convatlas.networks.quantization import remove_fake_quant
    from convatlas.runs.run import load_model

    torch.set_num_threads(engine["threads"])
    network = load_model(engine["path"]).network
    dtype = torch.bfloat16 if engine["precision"] == Precision.BFLOAT16 else torch.float32
    if engine["compiled"]:
        network = remove_fake_quant(fold_batch_norm(network))
    layout = torch.channels_last if engine["compiled"] or dtype is torch.bfloat16 else torch.contiguous_format
    network = network.to(dtype).to(memory_format=layout)  # type: ignore[call-overload]
    calls: dict[tuple[int, ...], Call] = {}

    def call(images: torch.Tensor) -> object:
        shape = tuple(images.shape)
        if shape not in calls:
            calls[shape] = compiled(network, images) if engine["compiled"] else network
        with torch.no_grad():
            return calls[shape](images)

    def given(array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(dtype, memory_format=layout)

    return call, given


def runtime_call(engine: Mapping[str, Any]) -> tuple[Call, Callable[[np.ndarray[Any, Any]], Any]]:
    from convatlas.deployment.runtimes import open_network

    path, runtime, precision = Path(engine["path"]), RuntimeName(engine["runtime"]), Precision(engine["precision"])
    return open_network(path, runtime, precision, threads=engine["threads"]).run, lambda array: array


def say(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def peak_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not say it."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `getrusage` says on Linux may be of the process that started this one.
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    if os.name != "posix":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def answer(engine: Mapping[str, Any]) -> None:
    # Read when a runtime's threads start.
    os.environ["OMP_NUM_THREADS"] = str(engine["threads"])
    before, began = peak_bytes(), time.perf_counter()
    call, given = runtime_call(engine) if engine["runtime"] else torch_call(engine)
    loaded = time.perf_counter()
    generator = np.random.default_rng(0)
    inputs = {
        size: given(generator.standard_normal((size, *engine["shape"]), np.float32)) for size in engine["batch_sizes"]
    }
    first: dict[int, float] = {}
    for size, images in inputs.items():
        start = time.perf_counter()
        call(images)
        first[size] = time.perf_counter() - start
    say({"load_s": loaded - began, "first_s": first, "peak_bytes": peak_bytes() - before})
    for line in sys.stdin:
        request = json.loads(line)
        images, seconds = inputs[request["batch_size"]], []
        for _ in range(request["repeats"]):
            start = time.perf_counter()
            call(images)
            seconds.append(time.perf_counter() - start)
        say({"seconds": seconds, "peak_bytes": peak_bytes() - before})


def main() -> None:
    engine = json.loads(sys.stdin.readline())
    try:
        answer(engine)
    except Exception as error:
        # Whatever a runtime or a compiler raises: the other engines can still be timed.
        said = str(error).strip().splitlines() or [type(error).__name__]
        say({"error": said[0][:MAX_SAID]})


if __name__ == "__main__":
    main()
