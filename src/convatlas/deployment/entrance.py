"""Preprocessing as a network of its own: from the RGB values of an image of any size to the network's input.

Pillow resizes with filters whose support grows as an image shrinks, first each row and then each column, and rounds to
whole levels after both. Both are matrix products here, so that every runtime that can multiply resizes as Pillow does:
nothing depends on what a runtime calls bilinear. All but the distances are whole numbers until the filter is computed,
so float32 is enough for images of any size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, ResizeMode

LUMA = (19595, 38470, 7471)
"""65,536ths of red, green and blue in gray, as Pillow has them (ITU-R 601-2)."""
WEIGHT_BITS, LOWER_BITS = 22, 11
"""Of Pillow's weights, and of the lower half of them."""
BLOCK = 32
"""Output pixels that are computed together."""
RADIUS = {
    Interpolation.BILINEAR: 1, Interpolation.HAMMING: 1, Interpolation.BICUBIC: 2, Interpolation.LANCZOS: 3,
}  # fmt: skip
"""Of filters, in pixels of the output where an image shrinks, and else of the input."""
Size = int | torch.SymInt
DIVISION = (6, 6, 5, 5)
"""Bits of a weight that each step of a division finds."""


def check_interpolation(interpolation: Interpolation) -> None:
    """
    Raises:
        UserError: it has no graph.
    """
    if interpolation not in RADIUS:
        raise UserError(
            f"{interpolation} interpolation is not exported, for what lies halfway between two pixels Pillow gives to "
            "either; train with bilinear or bicubic"
        )


class ImageEntrance(nn.Module):
    """What `Preprocessing.prepare` does with the decoded image of one file, as a graph of tensor operations.

    An image's ink is not reframed here: that looks for edges and has no place in a graph.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        check_interpolation(preprocessing.interpolation)
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
        pixels = gray(planes) if own.channels == 1 else planes
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
    height, width = pixels.shape[1:]
    decide = (torch.sym_max(height, width),) * 2 if mode is ResizeMode.LETTERBOX else (height, width)
    parts = parts_of(num_pixels(pixels[0, :, 0]), num_pixels(pixels[0, 0]), side, mode)
    rows, columns = (Resampling(longer, side, part, interpolation) for longer, part in zip(decide, parts, strict=True))
    across: Tensor = columns(pixels.mT).mT
    return rows(across)


class AxisPart(NamedTuple):
    """What becomes of one side of an image, in whole numbers that a graph computes."""

    size: Tensor
    """How many pixels there are."""
    begin: Tensor
    """The first pixel of what is resized."""
    length: Tensor
    """How many these are."""
    offset: Tensor
    """The first output pixel that is made of them."""
    scaled: Tensor
    """How many these are."""


def parts_of(height: Tensor, width: Tensor, side: int, mode: ResizeMode) -> list[AxisPart]:
    """Of the rows and of the columns."""
    zero = torch.zeros_like(height)
    match mode:
        case ResizeMode.CROP:
            shorter = torch.minimum(height, width)
            return [AxisPart(size, (size - shorter) // 2, shorter, zero, zero + side) for size in (height, width)]
        case ResizeMode.SQUASH:
            return [AxisPart(size, zero, size, zero, zero + side) for size in (height, width)]
        case ResizeMode.LETTERBOX:
            longer = torch.maximum(height, width)
            scaled = [nearest(size * side, longer).clamp(min=1) for size in (height, width)]
            return [
                AxisPart(size, zero, size, (side - own) // 2, own)
                for size, own in zip((height, width), scaled, strict=True)
            ]


class Resampling:
    """Resizing along one axis: the products of blocks of output pixels with the input pixels that they read.

    One product with all pixels would multiply by zeros most of the time.
    """

    def __init__(self, longer: Size, side: int, part: AxisPart, interpolation: Interpolation) -> None:
        """
        Args:
            longer: pixels of the image's side that decides the scale.
        """
        self.side = side
        radius = RADIUS[interpolation]
        num_blocks = -(-side // BLOCK)
        # Rounding a short side of a letterbox may scale it by half as much again.
        num_read = (3 * (BLOCK + 2 * radius) * longer) // (2 * side) + 2 * radius + 4
        outputs = torch.arange(num_blocks * BLOCK, dtype=torch.int64).view(num_blocks, BLOCK, 1) - part.offset
        unit = 2 * torch.maximum(part.length, part.scaled)
        centers = (2 * outputs + 1) * part.length
        first = part.begin + (centers[:, :1] - radius * unit) // (2 * part.scaled) - 1
        inputs = first + torch.arange(num_read, dtype=torch.int64)
        inside = (outputs >= 0) & (outputs < part.scaled) & (inputs >= 0) & (inputs < part.size)
        # In units of 1 / (2 * scaled) pixels, and so whole numbers. Where an image shrinks, a filter is as wide as the
        # pixels of the output.
        distances = (2 * (inputs - part.begin) + 1) * part.scaled - centers
        self.weights = whole_weights(distances, unit, inside, interpolation)
        self.read = inputs.clamp(min=0).minimum(part.size - 1).view(num_blocks, num_read)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Levels (channels, side, n) of levels (channels, size, n), rounded."""
        num_blocks, num_read = self.read.shape
        read = pixels[:, self.read.flatten()].view(len(pixels), num_blocks, num_read, -1).float()
        # No sum of the upper bits alone, or of the lower ones, is too large for a float32 to be exact.
        upper = (self.weights / 2**LOWER_BITS).floor()
        of_upper, of_lower = (torch.cat((upper, self.weights - upper * 2**LOWER_BITS), 1) @ read).chunk(2, dim=-2)
        carried = ((of_lower + 2 ** (WEIGHT_BITS - 1)) / 2**LOWER_BITS).floor()
        levels: Tensor = ((of_upper + carried) / 2 ** (WEIGHT_BITS - LOWER_BITS)).floor()
        return levels.clamp(0, 255).flatten(1, 2)[:, : self.side]


def num_pixels(line: Tensor) -> Tensor:
    """The length of a line (n,) as a tensor: a graph computes with it, whatever the image's size."""
    return torch.ones_like(line, dtype=torch.int64).sum()


def nearest(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient's nearest integer; of two that are as near the even one, as Python's `round`."""
    quotient, rest = numerator // denominator, numerator % denominator
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (quotient % 2 == 1))
    return quotient + up.long()


def whole_weights(distances: Tensor, unit: Tensor, inside: Tensor, interpolation: Interpolation) -> Tensor:
    """The weights (..., n) of n input pixels in output pixels: whole numbers, 2^22nds.

    Args:
        distances: of their centers, in units in which an output pixel is `unit` / 2 wide, or an input pixel if those
            are wider.
        inside: which count at all.
    """
    if interpolation is Interpolation.BILINEAR:
        shares = (unit - distances.abs()).clamp(min=0) * inside
        sums = shares.sum(-1, keepdim=True)
        return whole_shares(shares, torch.where(sums > 0, sums, 1)).float()
    weights = filter_of(interpolation, distances.float() / unit.float()) * inside
    sums = weights.sum(-1, keepdim=True)
    whole: Tensor = (weights / torch.where(sums > 0, sums, 1.0) * 2**WEIGHT_BITS).round()
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
        case _:
            return torch.where(distance < 3, sinc(x) * sinc(x / 3), 0.0)


def sinc(x: Tensor) -> Tensor:
    angle = math.pi * x
    # Never 0 / 0.
    return torch.where(x == 0, 1.0, angle.sin() / torch.where(x == 0, 1.0, angle))
