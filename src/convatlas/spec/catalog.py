"""The catalog: papers, network variants, and families of variants."""

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
    """The publication that prints a network."""

    authors: str
    title: str
    year: int
    venue: str
    """Journal or conference, with volume and pages."""
    url: str


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One network of the atlas, with the paper that prints it and the paper's claims."""

    name: str
    """What people type, as "vgg16-bn"."""
    summary: str
    """What sets it apart within its family, in a few words."""
    paper: Paper
    """The one that prints this network."""
    network: Callable[[Any], nn.Module]
    """The network's class. It takes a spec of the family's own class."""
    spec: Spec
    """Every number of the network that the paper prints."""
    objective: Objective
    """The loss that trains it, and what its outputs mean."""
    input_range: tuple[float, float] | None = None
    """What black and white pixels become at the input. None: inputs are normalized to mean 0 and standard deviation 1
    with the statistics of the training set."""
    recipe: Recipe | None = None
    """The paper's own; None if it prints none."""
    claims: tuple[Claim, ...] = ()
    released: bool = False
    """It is as a library released it, with something that no paper prints."""

    @property
    def published(self) -> str:
        """The first result of training that the paper prints, as "0.95 % on MNIST"; empty if it prints none."""
        results = (claim for claim in self.claims if claim.count is None)
        return next((f"{claim.printed} {claim.figure.removeprefix('test error ')}" for claim in results), "")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Networks of one idea: that of the family's paper, and what later papers made of it."""

    name: str
    """As "ResNet"."""
    paper: Paper
    """The one that the family is known by; a variant may come from another."""
    variants: tuple[Variant, ...]
