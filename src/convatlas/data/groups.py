"""Splits in which no group stands on both sides, such as the images of one patient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class IndivisibleError(ValueError):
    """No split has a class on both sides."""

    def __init__(self, label: int) -> None:
        super().__init__(f"all images of class {label} are of one group")
        self.label = label


def draw_groups(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Draw whole groups with about that fraction of each class, and at least one image of it on each side.

    Groups come in the order of their sizes, those of the same size in an order that the generator draws. Each is drawn
    if that brings the fractions of the classes closer to the wanted one.

    Args:
        labels, groups: (n,), of each image.

    Returns:
        (n,), which images were drawn.

    Raises:
        IndivisibleError: a class would have all of its images on one side.
    """
    classes, of_class = np.unique(labels, return_inverse=True)
    names, of_group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(counts, (of_group, of_class), 1)
    total = counts.sum(0)
    wanted = np.maximum(fraction * total, 1)
    shuffled = generator.permutation(len(names))
    order = shuffled[np.argsort(-counts[shuffled].sum(1), kind="stable")]
    drawn = np.zeros(len(names), bool)
    have = np.zeros(len(classes), np.int64)

    def error(numbers: npt.NDArray[np.int64]) -> float:
        return float((((numbers - wanted) / total) ** 2).sum())

    def take(group: int) -> bool:
        """Draw a group, unless that leaves nothing of a class."""
        if drawn[group] or (have + counts[group] == total).any():
            return False
        drawn[group] = True
        have[:] += counts[group]
        return True

    for group in order:
        if error(have + counts[group]) < error(have):
            take(group)
    for label in np.flatnonzero(have == 0):
        # Of a class in few groups, the smallest.
        if not any(take(group) for group in order[::-1] if counts[group, label]):
            raise IndivisibleError(int(classes[label]))
    return drawn[of_group]
