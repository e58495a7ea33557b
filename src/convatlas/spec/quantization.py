"""Few bits for weights and inputs, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LayerQuantization:
    """Of one layer."""

    name: str
    """The layer's name in the network."""
    weight_bits: int
    input_low: float | None = None
    """The range of its 8-bit inputs; None: they are 32-bit floats."""
    input_high: float | None = None


Quantization = tuple[LayerQuantization, ...]
"""Of all layers that multiply inputs by weights."""
