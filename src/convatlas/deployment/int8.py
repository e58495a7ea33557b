"""Networks in 8-bit integers: quantized after training, on training images, and only where that pays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convatlas.compression.int8 import has_int8_kernels
from convatlas.deployment import int8_child
from convatlas.deployment.gate import Gate, GateError, last_words, run_python
from convatlas.deployment.manifest import FloatLayer, Int8Latency, PairedLoss, Precision, RuntimeName
from convatlas.deployment.products import Product, products_of
from convatlas.files import ProgressCallback
from convatlas.files.typed_json import encoded
from convatlas.formatting import percent, plural

FRACTIONS = (0.1, 0.25, 0.5)
"""Of the layers that are left in float32, those with the largest errors first, where accuracy is lost otherwise."""
WHOLE = 8
"""Bits of a weight."""
WORTH = 0.97
"""Of the time of the others: what a layer must save that is put into 8 bits, for timings are noisy."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A choice of layers that stay in floats."""

    kept: tuple[Product, ...]
    what: str
    """Which these are, in words."""
    path: Path
    loss: PairedLoss
    latency_s: float


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A network in 8 bits."""

    path: Path
    float_layers: tuple[FloatLayer, ...]
    latency: Int8Latency
    weight_bits: int
    """See `Manifest.weight_bits`."""


def quantize(
    path: Path,
    work: Path,
    network: str,
    runtime: RuntimeName,
    precision: Precision,
    gate: Gate,
    progress: ProgressCallback,
) -> Quantized:
    """Put a network into 8 bits, and leave those layers in floats for which that costs accuracy or time.

    Whether depthwise convolutions, and the products of squeeze-and-excitation, gain by it is measured with and without
    them. If none of that stays within the gate's loss, the layers with the largest errors are left in floats.

    Args:
        path: the network in float32, as ONNX.
        work: an empty folder for all that is tried.
        network: see `products_of`.
        precision: int8 or mixed, which says what floats are.

    Raises:
        GateError: accuracy is lost however many layers stay in floats, or there are no images to calibrate on.
    """
    samples = gate.samples
    if samples.calibration is None or samples.held_out is None:
        raise GateError(f"int8 is calibrated on labeled images, and there are none: {samples.missing}")
    floats = precision.of_floats
    products = products_of(path, network)
    groups = {
        "depthwise convolutions": [product for product in products if product.is_depthwise],
        "squeeze-and-excitation": [product for product in products if product.is_pooled],
    }
    groups = {what: kept for what, kept in groups.items() if kept}
    choices: list[tuple[str, list[Product]]] = [("", [])]
    choices += groups.items()
    if len(groups) > 1:
        choices.append((" and ".join(groups), [product for kept in groups.values() for product in kept]))
    progress.say(f"quantizing the network in {len(choices)} {'way' if len(choices) == 1 else 'ways'}")
    tried, float_latency, errors = try_out(path, work / "groups", runtime, precision, gate, products, choices)
    good = [one for one in tried if not gate.why_not(one.loss)]
    if not good:
        worst = [products[i] for i in np.argsort(-errors, kind="stable")]
        more = [
            (f"the {plural(num, 'layer')} with the largest errors", worst[:num])
            for num in (max(1, round(fraction * len(worst))) for fraction in FRACTIONS)
        ]
        progress.say(f"8 bits cost too much accuracy; leaving the layers with the largest errors in {floats}")
        further, float_latency, _ = try_out(path, work / "errors", runtime, precision, gate, products, more)
        good = [one for one in further if not gate.why_not(one.loss)]
        if not good:
            best = max((*tried, *further), key=lambda one: (-max(one.loss.loss, 0), one.loss.agreement))
            raise GateError(
                f"{precision}, with {best.what or 'no layer'} in {floats}: {gate.why_not(best.loss)}; export it in "
                f"{floats}, or fine-tune it in 8 bits with convatlas compress"
            )
    chosen = good[0]
    for one in good[1:]:
        if one.latency_s < WORTH * chosen.latency_s:
            chosen = one
    return Quantized(
        path=chosen.path,
        float_layers=tuple(FloatLayer(name=product.layer, reason=why(chosen, tried, gate)) for product in chosen.kept),
        latency=Int8Latency(int8_ms=1000 * chosen.latency_s, float32_ms=1000 * float_latency),
        weight_bits=weight_bits(),
    )


def weight_bits() -> int:
    """What weights may use here, see `Manifest.weight_bits`."""
    return WHOLE if has_int8_kernels() else WHOLE - 1


def why(chosen: Candidate, tried: list[Candidate], gate: Gate) -> str:
    """Why the layers of a choice stay in floats."""
    fewer = [one for one in tried if set(one.kept) < set(chosen.kept)]
    good = [one for one in fewer if not gate.why_not(one.loss)]
    if not good:
        loss = next(one.loss for one in fewer if not one.kept)
        cost = f"{loss.loss:.2f} points of accuracy are lost"
        if loss.loss <= gate.max_loss:
            cost = f"the model's class is named for {percent(loss.agreement)} of the images alone"
        return f"of {chosen.what}: with 8 bits everywhere {cost}"
    next_best = min(good, key=lambda one: one.latency_s)
    otherwise = f"with {next_best.what} alone" if next_best.kept else "with 8 bits everywhere"
    times = f"{1000 * chosen.latency_s:.2f} ms an image, against {1000 * next_best.latency_s:.2f} {otherwise}"
    return f"of {chosen.what}: so it takes {times}"


def try_out(
    path: Path,
    folder: Path,
    runtime: RuntimeName,
    precision: Precision,
    gate: Gate,
    products: list[Product],
    choices: list[tuple[str, list[Product]]],
) -> tuple[list[Candidate], float, Any]:
    """Quantize in several ways, in a process of its own.

    Returns:
        The candidates, the latency in float32 in seconds, and the error of each product where all are quantized.
    """
    samples, preprocessing = gate.samples, gate.model.preprocessing
    assert samples.calibration is not None, "checked before"
    assert samples.held_out is not None, "checked before"
    suffix = runtime.suffix
    folder.mkdir()
    np.save(folder / int8_child.CALIBRATION, preprocessing.center(samples.calibration.images[:]))
    np.save(folder / int8_child.HELD_OUT, preprocessing.center(samples.held_out.images[:]))
    request = {
        "runtime": runtime,
        "precision": precision,
        "suffix": suffix,
        "network": str(path.absolute()),
        "preprocessing": encoded(preprocessing),
        "overflow_fix": weight_bits() < WHOLE,
        "products": products,
        "candidates": [[products.index(product) for product in kept] for _, kept in choices],
    }
    (folder / int8_child.REQUEST).write_text(json.dumps(request), "utf-8")
    ended = run_python("-m", int8_child.__name__, str(folder.absolute()))
    if ended.returncode:
        raise GateError(f"it cannot be quantized: {last_words(ended)}")
    with np.load(folder / int8_child.ANSWERS) as answers:
        float_latency, *latencies = answers["latencies"].tolist()
        candidates = [
            Candidate(
                kept=tuple(kept),
                what=what,
                path=folder / f"candidate-{number}{suffix}",
                loss=gate.paired_loss(answers[f"answered {number}"]),
                latency_s=latencies[number],
            )
            for number, (what, kept) in enumerate(choices)
        ]
        return candidates, float_latency, answers["errors"]
