"""Preprocessing as a network of its own: from the RGB values of an image of any size to the network's input.

Pillow resizes with filters whose support grows as an image shrinks, first each row and then each column, and rounds to
whole levels after both. Both are matrix products here, so that every runtime that can multiply resizes as Pillow does:
nothing depends on what a runtime calls bilinear. All but the distances are whole numbers until the filter is computed,
so float32 is enough for images of any size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, ResizeMode

LUMA = (19595, 38470, 7471)
"""65,536ths of red, green and blue in gray, as Pillow has them (ITU-R 601-2)."""
WEIGHT_BITS, LOWER_BITS = 22, 11
"""Of Pillow's weights, and of the lower half of them."""
DIVISION = (6, 6, 5, 5)
"""Bits of a weight that each step of a division finds."""


class ImageEntrance(nn.Module):
    """What `Preprocessing.prepare` does with the decoded image of one file, as a graph of tensor operations.

    An image's ink is not reframed here: that looks for edges and has no place in a graph.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.register_buffer("mean", torch.from_numpy(preprocessing.pixel_mean))
        self.register_buffer("std", torch.from_numpy(preprocessing.pixel_std))

    def forward(self, image: Tensor) -> Tensor:
        """
        Args:
            image: (height, width, 3), uint8, RGB.

        Returns:
            (1, channels, crop, crop), float32.
        """
        own = self.preprocessing
        planes = image.permute(2, 0, 1)
        pixels = gray(planes) if own.channels == 1 else planes.float()
        if own.native_side is not None and own.native_side < own.resize:
            pixels = resized(pixels, own.native_side, own.mode, own.interpolation)
        pixels = resized(pixels, own.resize, own.mode, own.interpolation)
        part = slice(own.margin, own.margin + own.crop)
        pixels = pixels[:, part, part]
        if own.channel_order is ChannelOrder.BGR:
            pixels = pixels.flip(0)
        normalized: Tensor = (pixels - self.mean) / self.std
        return normalized[None]


def gray(planes: Tensor) -> Tensor:
    """Gray levels (1, height, width) of RGB values (3, height, width), uint8, rounded as Pillow rounds them."""
    red, green, blue = (plane * weight for plane, weight in zip(planes.int(), LUMA, strict=True))
    levels: Tensor = (red + green + blue + 2**15) // 2**16
    return levels[None].float()


def resized(pixels: Tensor, side: int, mode: ResizeMode, interpolation: Interpolation) -> Tensor:
    """Levels (channels, side, side) of levels (channels, height, width), see `Resize.square`."""
    rows, columns = resampling_matrices(pixels, side, mode, interpolation)
    across: Tensor = resampled(pixels.mT, columns).mT
    return resampled(across, rows)


def resampled(pixels: Tensor, weights: Tensor) -> Tensor:
    """Levels (channels, side, n) of levels (channels, size, n), rounded.

    Args:
        weights: (side, size), whole numbers; those of a row add up to about 2^22.
    """
    # No sum of the upper bits alone, or of the lower ones, is too large for a float32 to be exact.
    upper = (weights / 2**LOWER_BITS).floor()
    sums = torch.cat((upper, weights - upper * 2**LOWER_BITS)) @ pixels
    of_upper, of_lower = sums.chunk(2, dim=-2)
    carried = ((of_lower + 2 ** (WEIGHT_BITS - 1)) / 2**LOWER_BITS).floor()
    levels: Tensor = ((of_upper + carried) / 2 ** (WEIGHT_BITS - LOWER_BITS)).floor()
    return levels.clamp(0, 255)


def resampling_matrices(
    pixels: Tensor, side: int, mode: ResizeMode, interpolation: Interpolation
) -> tuple[Tensor, Tensor]:
    """The weights (side, height) and (side, width) of input rows and columns in output rows and columns."""
    height, width = num_pixels(pixels[0, :, 0]), num_pixels(pixels[0, 0])
    zero = torch.zeros_like(height)
    match mode:
        case ResizeMode.CROP:
            shorter = torch.minimum(height, width)
            parts = [((size - shorter) // 2, shorter, zero, zero + side) for size in (height, width)]
        case ResizeMode.SQUASH:
            parts = [(zero, size, zero, zero + side) for size in (height, width)]
        case ResizeMode.LETTERBOX:
            longer = torch.maximum(height, width)
            parts = []
            for size in (height, width):
                scaled = nearest(size * side, longer).clamp(min=1)
                parts.append((zero, size, (side - scaled) // 2, scaled))
    rows, columns = (
        resampling_matrix(torch.arange(pixels.shape[dim], dtype=torch.int64), side, *part, interpolation)
        for dim, part in zip((1, 2), parts, strict=True)
    )
    return rows, columns


def num_pixels(line: Tensor) -> Tensor:
    """The length of a line (n,) as a tensor: a graph computes with it, whatever the image's size."""
    return torch.ones_like(line, dtype=torch.int64).sum()


def nearest(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient's nearest integer; of two that are as near the even one, as Python's `round`."""
    quotient, rest = numerator // denominator, numerator % denominator
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (quotient % 2 == 1))
    return quotient + up.long()


def resampling_matrix(
    inputs: Tensor,
    side: int,
    begin: Tensor,
    length: Tensor,
    offset: Tensor,
    scaled: Tensor,
    interpolation: Interpolation,
) -> Tensor:
    """The weights (side, n) of n input pixels in `side` output pixels, of which `scaled` from `offset` on are computed:
    whole numbers, 2^22nds.

    Args:
        inputs: (n,), 0 to n - 1.
        begin: the first input pixel of the part that is resized, whose `length` becomes `scaled`.
    """
    outputs = torch.arange(side, dtype=torch.int64)[:, None] - offset
    inside = (outputs >= 0) & (outputs < scaled)
    # In units of 1 / (2 * scaled) pixels, and so whole numbers. Where an image shrinks, a filter is as wide as the
    # pixels of the output.
    distances = (2 * (inputs - begin) + 1) * scaled - (2 * outputs + 1) * length
    unit = 2 * torch.maximum(length, scaled)
    if interpolation is Interpolation.BILINEAR:
        shares = (unit - distances.abs()).clamp(min=0) * inside
        return whole_shares(shares, torch.where(inside, shares.sum(1, keepdim=True), 1)).float()
    weights = filter_of(interpolation, distances.float() / unit.float()) * inside
    shared: Tensor = weights / torch.where(inside, weights.sum(1, keepdim=True), 1.0)
    whole: Tensor = (shared * 2**WEIGHT_BITS).round()
    return whole


def whole_shares(parts: Tensor, sums: Tensor) -> Tensor:
    """Whole numbers `parts` as 2^22nds of their sums, rounded, where 32 bits must hold every step.

    Pillow multiplies such numbers, and halves are frequent: only with its own are they rounded as it rounds them.
    """
    quotient = torch.zeros_like(parts)
    for bits in DIVISION:
        parts = parts * 2**bits
        quotient, parts = quotient * 2**bits + parts // sums, parts % sums
    return quotient + (2 * parts >= sums).long()


def filter_of(interpolation: Interpolation, x: Tensor) -> Tensor:
    """A filter's weights at distances from its center, as in Pillow's Resample.c."""
    distance = x.abs()
    match interpolation:
        case Interpolation.HAMMING:
            return torch.where(distance < 1, sinc(x) * (0.54 + 0.46 * torch.cos(math.pi * x)), 0.0)
        case Interpolation.BICUBIC:
            near = (1.5 * distance - 2.5) * distance * distance + 1
            far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
            return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
        case Interpolation.LANCZOS:
            return torch.where(distance < 3, sinc(x) * sinc(x / 3), 0.0)
    raise UserError(
        f"{interpolation} interpolation is not exported, for what lies halfway between two pixels Pillow gives to "
        "either; choose bilinear or bicubic"
    )


def sinc(x: Tensor) -> Tensor:
    angle = math.pi * x
    # Never 0 / 0.
    return torch.where(x == 0, 1.0, angle.sin() / torch.where(x == 0, 1.0, angle))
