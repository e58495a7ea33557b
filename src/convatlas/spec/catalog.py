"""The catalog: papers, and the variants and families that the atlas is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convatlas.recipe import Recipe
from convatlas.spec.claims import Claim
from convatlas.spec.network import Objective, Spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Paper:
    authors: str
    title: str
    year: int
    venue: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the atlas: one network, the paper that prints it and what the paper claims of it."""

    name: str
    summary: str
    paper: Paper
    network: Callable[[Any], nn.Module]
    """The class that is built from the spec. Its argument is the family's own spec class."""
    spec: Spec
    objective: Objective
    pixels: tuple[float, float] | None = None
    """What black and white become at the input; None: the training set's mean and deviation, to 0 and 1."""
    recipe: Recipe | None = None
    """The paper's own."""
    claims: tuple[Claim, ...] = ()

    @property
    def published(self) -> str:
        """The first result of training that the paper prints, in words; empty where it prints none."""
        results = (claim for claim in self.claims if claim.count is None)
        return next((f"{claim.printed} {claim.figure.removeprefix('test error ')}" for claim in results), "")


@dataclass(frozen=True, kw_only=True)
class Family:
    name: str
    paper: Paper
    variants: tuple[Variant, ...]
