"""How fast is a shipped network for one image, against the same network by other libraries and by hand?

    python benchmarks/inference.py [NETWORK...] [--rounds N] [--files FOLDER]

One image of 224 pixels, 1,000 classes, random weights. Rivals are torchvision's networks, and for MobileNet timm's:
eager and compiled in PyTorch, and exported by hand as their guides say, to ONNX Runtime, to OpenVINO, and to OpenVINO
with NNCF's defaults in 8 bits. Ours are the networks that `convatlas export` writes; in 8 bits they come straight from
its quantizer, with images of noise, all layers in 8 bits or all but depthwise convolutions: an export chooses these by
measurement, and its gate may refuse what comes of it. Each engine has a process of its own in each round, and the
processes take turns; a figure is the median over the rounds of the medians in the processes. Then the best of ours and
the best of theirs are started together as often again, and take short turns: they differ by less than the machine
changes its speed from process to process. A target is met if the whole 95 % interval of the ratio meets it.

It needs the packages torchvision and timm beside convatlas's extras. With names of networks only these are measured,
and the others stay as they are. Whether int8 and bfloat16 are accurate is not asked here, where no weights are trained:
`lower_precision.py` asks it, and what the gate refuses there is timed and is not among the best.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import measured
import numpy as np
import torch
from torch import nn

from convatlas import atlas
from convatlas.deployment import int8_child
from convatlas.deployment.engine_process import EAGER
from convatlas.deployment.forms import NETWORK, in_form_of, write_network
from convatlas.deployment.manifest import Precision, RuntimeName
from convatlas.deployment.products import Product, products_of
from convatlas.deployment.runtimes import Array, open_network
from convatlas.runs.options import Execution
from convatlas.spec import Variant
from convatlas.training.step import to_memory_format

SIDE = 224
WARM_UP, REPEATS, MIN_S = 10, 30, 1.0
"""Runs before anything counts, then at least so many, and for at least so long."""
CALIBRATION = 32
"""Images of noise: for the time alone."""
AIM = 9.5
"""Times as fast as the rival's eager network, in the geometric mean of the best artefact of each network."""
BEHIND, BEHIND_NAME = 1.03, "{}: time of the float artefact, in that of the best float rival"
"""How far behind the best float rival a float artefact may be, with the whole interval."""
FASTER, FASTER_NAME = {"efficientnet-b0": 0.833}, "{}: time of the best artefact, in that of the best rival"
"""What the best artefact may take of the time of its best rival, with the whole interval."""
TURNS, TURN_S, WARM_TURN = 20, 0.1, 3
"""Of two that are compared: how often each is to run, for how long, and runs of a turn before anything counts."""
RESAMPLES = 10_000
"""Of the rounds, for an interval."""


class Pair(NamedTuple):
    ours: str
    library: str
    theirs: str


PAIRS = (
    Pair("alexnet-owt", "torchvision", "alexnet"),
    Pair("vgg16", "torchvision", "vgg16"),
    Pair("resnet50-v1.5", "torchvision", "resnet50"),
    Pair("googlenet-bn-3x3", "torchvision", "googlenet"),
    Pair("squeezenet1.0-pytorch", "torchvision", "squeezenet1_0"),
    Pair("mobilenet", "timm", "mobilenetv1_100"),
    Pair("efficientnet-b0", "torchvision", "efficientnet_b0"),
)
FLOAT_RIVALS = ("rival eager", "rival compiled", "rival onnx", "rival openvino")
RIVALS = (
    *FLOAT_RIVALS, "rival eager bfloat16", "rival compiled bfloat16", "rival openvino bfloat16", "rival openvino int8",
)  # fmt: skip
OURS = (
    "onnx", "onnx int8", "openvino", "openvino bfloat16", "openvino int8", "openvino int8, depthwise in float32",
    "openvino mixed",
)  # fmt: skip
FLOAT_OURS = ("onnx", "openvino")


def rival(pair: Pair) -> nn.Module:
    measured.allow_torchvision()
    if pair.library == "timm":
        import timm

        network: nn.Module = timm.create_model(pair.theirs)
    else:
        import torchvision

        more = {"init_weights": False, "aux_logits": False} if pair.theirs == "googlenet" else {}
        network = torchvision.models.get_model(pair.theirs, **more)
    return network.eval()


def image() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def prepare(pair: Pair, folder: Path) -> None:
    """Write the files that the engines of a network load."""
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    variant = atlas.find(pair.ours)
    torch.manual_seed(0)
    ours = variant.network(variant.spec.scaled(resolution=SIDE)).eval()
    noise = np.random.default_rng(0).standard_normal((CALIBRATION, 3, SIDE, SIDE), np.float32)
    write_files(folder, rival(pair), ours, variant, noise)
    (folder / "done").touch()


def write_files(folder: Path, theirs: nn.Module, ours: nn.Module, variant: Variant, calibration: Array) -> None:
    """A network by hand, and as `convatlas export` writes it, in the forms of `FILES`.

    Args:
        theirs, ours: the same network in other libraries' code and in ours.
        calibration: (n, channels, height, width), for int8.
    """
    # Read when NNCF is loaded.
    os.environ["NNCF_CI"] = "1"
    import openvino

    by_hand, example = folder / "rival.onnx", (torch.from_numpy(calibration[:1]),)
    torch.onnx.export(theirs, example, str(by_hand), dynamo=True, external_data=False, verbose=False)
    openvino.save_model(openvino.Core().read_model(str(by_hand)), str(folder / "rival.xml"), compress_to_fp16=False)
    path = write_network(ours, variant, folder)
    depthwise = [product for product in products_of(path, NETWORK) if product.is_depthwise]
    quantize_by_hand(by_hand, folder / "rival-int8.xml", calibration)
    for runtime, suffix in ((RuntimeName.ONNX, ".onnx"), (RuntimeName.OPENVINO, ".xml")):
        quantize(path, folder / f"int8{suffix}", calibration, [], runtime)
    if depthwise:
        quantize(path, folder / "int8-depthwise.xml", calibration, depthwise, RuntimeName.OPENVINO)
    kept = folder / "ours.onnx"
    kept.write_bytes(path.read_bytes())
    in_form_of(path, RuntimeName.OPENVINO)


def quantize_by_hand(path: Path, out: Path, calibration: Array) -> None:
    """As NNCF's guide does, with its defaults."""
    import nncf

    made = nncf.quantize(
        int8_child.read_network(path, RuntimeName.OPENVINO), nncf.Dataset([one[None] for one in calibration])
    )
    int8_child.write_network(made, out, RuntimeName.OPENVINO)


def quantize(path: Path, out: Path, calibration: Array, in_float: list[Product], runtime: RuntimeName) -> None:
    network = int8_child.read_network(path, runtime)
    int8_child.write_network(int8_child.quantized(network, calibration, in_float, False, runtime), out, runtime)


FILES = {
    "rival onnx": ("rival.onnx", RuntimeName.ONNX, Precision.FLOAT32),
    "rival openvino": ("rival.xml", RuntimeName.OPENVINO, Precision.FLOAT32),
    "rival openvino bfloat16": ("rival.xml", RuntimeName.OPENVINO, Precision.BFLOAT16),
    "rival openvino int8": ("rival-int8.xml", RuntimeName.OPENVINO, Precision.INT8),
    "onnx": ("ours.onnx", RuntimeName.ONNX, Precision.FLOAT32),
    "onnx int8": ("int8.onnx", RuntimeName.ONNX, Precision.INT8),
    "openvino": ("model.xml", RuntimeName.OPENVINO, Precision.FLOAT32),
    "openvino bfloat16": ("model.xml", RuntimeName.OPENVINO, Precision.BFLOAT16),
    "openvino int8": ("int8.xml", RuntimeName.OPENVINO, Precision.INT8),
    "openvino int8, depthwise in float32": ("int8-depthwise.xml", RuntimeName.OPENVINO, Precision.INT8),
    "openvino mixed": ("int8-depthwise.xml", RuntimeName.OPENVINO, Precision.MIXED),
}


def in_bfloat16(network: nn.Module) -> nn.Module:
    """The network itself, rounded, with its weights channels last."""
    return to_memory_format(network.to(torch.bfloat16), Execution(threads=torch.get_num_threads()))


def call_of(engine: str, pair: Pair, folder: Path) -> Callable[[], object]:
    """What computes one image."""
    if engine in FILES:
        name, runtime, precision = FILES[engine]
        session, given = open_network(folder / name, runtime, precision), image().numpy()
        return lambda: session.run(given)
    network, images = rival(pair), image()
    if "bfloat16" in engine:
        network = in_bfloat16(network)
        images = images.to(torch.bfloat16, memory_format=torch.channels_last)
    if "compiled" in engine:
        from torch._inductor import config

        config.freezing = True
        network = torch.compile(network, dynamic=False)  # type: ignore[assignment]

    def call() -> object:
        with torch.no_grad():
            return network(images)

    return call


def measure(call: Callable[[], object], warm_up: int, repeats: int, min_s: float) -> float:
    """The median of some runs, in milliseconds."""
    for _ in range(warm_up):
        call()
    times: list[float] = []
    while len(times) < repeats or sum(times) < min_s:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def take_turns(call: Callable[[], object]) -> None:
    """Run for a turn at each line of standard input, and print its median."""
    measure(call, WARM_UP, 1, 0)
    print(flush=True)
    for _ in sys.stdin:
        print(measure(call, WARM_TURN, 1, TURN_S), flush=True)


def in_short_turns(names: Sequence[str], folder: Path) -> float:
    """The time of one engine in that of another, each in a process of its own: the median over their turns.

    Args:
        names: of the networks with the engines, as the command takes them.
    """
    with ExitStack() as stack:
        started = []
        for name in names:
            command = [sys.executable, __file__, name, "--turns", "--files", str(folder)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            started.append(stack.enter_context(process))
            said_by(process)
        ratios = []
        for _ in range(TURNS):
            own, other = (float(said_by(process, "\n")) for process in started)
            ratios.append(own / other)
    return statistics.median(ratios)


def said_by(process: subprocess.Popen[str], given: str = "") -> str:
    """The next line of a process, after this input."""
    assert process.stdin is not None, "a pipe"
    assert process.stdout is not None, "a pipe"
    process.stdin.write(given)
    process.stdin.flush()
    return process.stdout.readline()


def row(pair: Pair, folder: Path, rounds: int) -> dict[str, Any]:
    prepare(pair, folder)
    engines = [one for one in (*RIVALS, *OURS) if one not in FILES or (folder / FILES[one][0]).exists()]
    figures = measured.lines_in_turn(
        __file__, [f"{pair.ours}:{one}" for one in engines], rounds, "--files", str(folder)
    )
    times = {engine: [line[-1] for line in figures[f"{pair.ours}:{engine}"]] for engine in engines}
    return {
        "rival": f"{pair.library} {pair.theirs}",
        "ms": {name: {**measured.spread(ms), "each": [round(one, 3) for one in ms]} for name, ms in times.items()},
        "float": compared(pair, folder, times, FLOAT_OURS, FLOAT_RIVALS, rounds),
        "best": compared(pair, folder, times, accepted(pair.ours, OURS), accepted(pair.ours, RIVALS), rounds),
    }


def compared(
    pair: Pair,
    folder: Path,
    times: Mapping[str, Sequence[float]],
    ours: Sequence[str],
    theirs: Sequence[str],
    rounds: int,
) -> dict[str, Any]:
    """The time of the best of ours in that of the best of theirs."""
    own, other = (best_of(times, engines) for engines in (ours, theirs))
    names = [f"{pair.ours}:{engine}" for engine in (own, other)]
    found = {"ours": own, "theirs": other, **with_interval([in_short_turns(names, folder) for _ in range(rounds)])}
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def accepted(network: str, engines: Sequence[str]) -> list[str]:
    """Those that the gate does not refuse, as far as `lower_precision.py` has asked it."""
    path = measured.RESULTS / "lower_precision.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    found = rows.get(network, {"engines": {}})["engines"]
    return [engine for engine in engines if engine not in found or not found[engine]["refused"]]


def best_of(times: Mapping[str, Sequence[float]], engines: Sequence[str]) -> str:
    """The fastest of those that were timed."""
    return min((engine for engine in engines if engine in times), key=lambda engine: statistics.median(times[engine]))


def with_interval(ratios: Sequence[float]) -> dict[str, Any]:
    """The median with a 95 % interval, for which the rounds are drawn again and again."""
    medians = np.median(np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios))), 1)
    low, high = (float(end) for end in np.percentile(medians, (2.5, 97.5)))
    each = [round(one, 4) for one in ratios]
    return {"ratio": statistics.median(ratios), "low": low, "high": high, "each": each}


def times_eager(row: Mapping[str, Any]) -> float:
    """How many times as fast the best artefact is as the rival in eager PyTorch."""
    return float(row["ms"]["rival eager"]["median"] / row["ms"][row["best"]["ours"]]["median"])


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[measured.Target]:
    """What was wanted: no float artefact behind the best float rival, and the best artefact as fast as possible."""
    behind = [
        measured.Target(BEHIND_NAME.format(name), one["float"]["high"], BEHIND)
        for name, one in rows.items()
    ]  # fmt: skip
    faster = [
        measured.Target(FASTER_NAME.format(name), rows[name]["best"]["high"], wanted)
        for name, wanted in FASTER.items()
        if name in rows
    ]  # fmt: skip
    mean = statistics.geometric_mean(map(times_eager, rows.values()))
    aim = measured.Target(f"times as fast as {EAGER} eager, geometric mean", mean, AIM, at_least=True)
    return [*behind, *faster, aim]


def processor() -> str:
    """Its name, where the system says it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--files", type=Path, default=Path("runs") / "inference")
    parser.add_argument("--turns", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    pairs = {pair.ours: pair for pair in PAIRS}
    if len(asked.networks) == 1 and ":" in asked.networks[0]:
        name, _, engine = asked.networks[0].partition(":")
        call = call_of(engine, pairs[name], asked.files)
        if asked.turns:
            take_turns(call)
        else:
            print(measure(call, WARM_UP, REPEATS, MIN_S))
        return
    path = measured.RESULTS / "inference.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in asked.networks or list(pairs):
        print(name, file=sys.stderr)
        rows[name] = row(pairs[name], asked.files / name, asked.rounds)
        ordered = {known: rows[known] for known in pairs if known in rows}
        measured.write("inference", "python benchmarks/inference.py", {"processor": processor(), "rows": ordered})
    measured.judge(targets(rows))


if __name__ == "__main__":
    main()
