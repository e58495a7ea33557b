"""Which layers of a network are quantized, and to how many bits."""

from __future__ import annotations

from dataclasses import dataclass

MIN_BITS, MAX_BITS = 2, 8
"""Of quantized weights."""
INPUT_BITS = 8
"""Of a quantized layer's inputs, where they are quantized too."""


@dataclass(frozen=True, kw_only=True)
class LayerQuantization:
    """The quantization of one layer."""

    name: str
    """The layer's name in the network."""
    weight_bits: int
    """From `MIN_BITS` to `MAX_BITS`."""
    input_low: float | None = None
    """The range of its inputs, which are rounded to 8 bits; None: they are 32-bit floats."""
    input_high: float | None = None


Quantization = tuple[LayerQuantization, ...]
"""The quantization of a network: of all layers that multiply inputs by weights, in the network's order."""
