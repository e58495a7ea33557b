"""How much memory an image may take to be decoded."""

MAX_PIXELS = "CONVATLAS_MAX_PIXELS"
BYTES = 8
"""Of a pixel."""
MOST_BYTES = 28
"""Of a pixel, for a decoder that holds much: OpenJPEG, of four channels of 16 bits."""
SPARE = 64 * 2**20
LONGEST_SIDE = 2**20
"""Pixels; each row takes some memory of its own."""
