"""A process that reads Keras's files: for each path that it is sent, it answers how that ended and what it took. It is
a program, for a memory limit and for hangs. What the package leaves to a process a file is done here in this one."""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from convatlas.weights.checkpoint import CheckpointError
from convatlas.weights.formats import keras, keras_child


def held_bytes(name: str) -> int:
    """What this process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def tried(path: Path) -> dict[str, Any]:
    answer: dict[str, Any] = {"trouble": ""}
    # As the package limits the process of a file: HDF5's library may go around in a circle.
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + keras_child.MOST_SECONDS, most))
    Path("/proc/self/clear_refs").write_text("5")
    begun, before = time.process_time(), held_bytes("VmRSS")
    try:
        tensors = keras.views(path, keras_child.answer(str(path)))
        # Reading a place that the file does not have would end this process.
        answer["numbers"] = sum(tensor.numel() for tensor in tensors.values() if tensor.sum().numel())
        answer["end"] = "read"
    except CheckpointError as error:
        answer["end"] = "damaged" if "damaged or cut short" in str(error) else "refused"
        if len(str(error).splitlines()) != 1 or len(str(error)) > 1000:
            answer["trouble"] = str(error)
    except Exception:
        answer |= {"end": "trouble", "trouble": traceback.format_exc()}
    return answer | {"seconds": time.process_time() - begun, "bytes": held_bytes("VmHWM") - before}


def main() -> None:
    limit = held_bytes("VmSize") + keras_child.MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        print(json.dumps(tried(Path(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
