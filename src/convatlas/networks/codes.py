"""The output of LeNet-5: distances to a fixed code for each class, a bitmap of its character (LeCun et al. 1998)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from convatlas.networks.blocks import WeightedLayer

# 1998, Figure 3: the ten digits in 7x12 dots, side by side.
BITMAPS = """
.#####. ...##.. .#####. ####### .#####. .#####. ..####. ####### .#####. .#####.
....... ..###.. ....... .....## ....... ....... .##.... .....## ##...## ##..###
..###.. .####.. .#####. ....##. ....... ####### ##..... .....## ##...## ##...##
.##.##. ...##.. ##...## ...##.. .##..## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. #....## ..####. .##..## ##..... ######. ...##.. .#####. ##..###
##...## ...##.. ....##. .....## ###..## .####.. ###..## ...##.. ##...## .######
##...## ...##.. ..###.. .....## ##...## ..####. ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ##...## .....## ##...## ..##... ##...## .....##
.##.##. ...##.. ##..... ##...## ##..### ##...## ###..## ..##... ##...## ....##.
..###.. .###### ####### .#####. .###### .#####. .#####. ..##... .#####. .####..
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
....... ....... ....... ....... .....## ....... ....... ....... ....... .......
"""


def output_codes(num_classes: int) -> Tensor:
    """Codes (num_classes, 84) of +1 and -1: the digits' bitmaps, beyond the tenth class seeded random numbers."""
    rows = [line.split() for line in BITMAPS.split("\n") if line]
    digits = [[1.0 if dot == "#" else -1.0 for row in rows for dot in row[digit]] for digit in range(10)]
    draw = random.Random(1998)
    more = [[draw.choice((-1.0, 1.0)) for _ in range(84)] for _ in range(num_classes - 10)]
    return torch.tensor((digits + more)[:num_classes])


class RBF(WeightedLayer):
    """Minus the squared distance from the input (batch, 84) to each class's code: (batch, num_classes).

    The larger, the nearer. 1998, equation 7, with the sign changed; a radial basis function in the paper's words.
    """

    codes: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("codes", output_codes(num_classes))

    @property
    def num_multiplications(self) -> int:
        return self.codes.numel()

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x @ self.codes.T - x.square().sum(1, keepdim=True) - self.codes.square().sum(1)


@dataclass(frozen=True)
class MaximumAPosteriori:
    """Draws the right class's code near and pushes all others away (1998, equation 9).

    A rubbish class at the constant distance j keeps the distances of the others from growing without end.
    """

    j: float

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        rubbish = outputs.new_full((len(outputs), 1), -self.j)
        competitors = torch.cat([outputs, rubbish], 1).logsumexp(1)
        return competitors - (targets * outputs).sum(1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(1)
