"""Targets of compression: what a network may cost at most."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from convatlas import measure
from convatlas.compression.latency import latency
from convatlas.errors import UserError
from convatlas.formatting import count, size
from convatlas.spec import Spec, Variant

COUNTS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
BYTES = {"KB": 10**3, "MB": 10**6, "KiB": 2**10, "MiB": 2**20}
SECONDS = {"ms": 1e-3, "us": 1e-6, "s": 1.0}


class CostTarget(ABC):
    """An upper limit for a cost that the spec decides."""

    limit: float

    @abstractmethod
    def cost(self, variant: Variant, spec: Spec) -> float:
        """The cost of a variant's network with that spec."""

    @abstractmethod
    def describe(self, cost: float) -> str:
        """A cost with its unit."""

    def __str__(self) -> str:
        return self.describe(self.limit)


@dataclass(frozen=True)
class MacsTarget(CostTarget):
    """Multiply-accumulates for one image."""

    limit: float

    def cost(self, variant: Variant, spec: Spec) -> float:
        return measure.cost_of(variant.network, spec).macs

    def describe(self, cost: float) -> str:
        return f"{count(round(cost))} MACs"


class Engine(Protocol):
    """What a latency is measured in; `str` is its name."""

    def latency_s(self, network: nn.Module, variant: Variant) -> float:
        """Seconds that the network takes for one image on this machine's CPU, in a batch of one."""
        ...


@dataclass(frozen=True)
class LatencyTarget(CostTarget):
    """Seconds for one image on this machine's CPU, in a batch of one."""

    limit: float
    engine: Engine | None = None
    """None: eager PyTorch, see `latency`."""

    def cost(self, variant: Variant, spec: Spec) -> float:
        # The caller's random numbers are the caller's.
        with torch.random.fork_rng():
            network = variant.network(spec)
        if self.engine is not None:
            return self.engine.latency_s(network.eval(), variant)
        return latency(network, spec).median_s

    def describe(self, cost: float) -> str:
        return f"{1000 * cost:.3g} ms{'' if self.engine is None else f' in {self.engine}'}"


@dataclass(frozen=True)
class SizeTarget:
    """The size of the compressed file."""

    limit: float

    def __str__(self) -> str:
        return size(round(self.limit))


Target = MacsTarget | LatencyTarget | SizeTarget


def parse_target(text: str) -> Target:
    """A target from its text, such as "2 MB", "30 M macs" or "5 ms".

    Raises:
        UserError: it is not a target.
    """
    match = re.fullmatch(
        r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?) ?([A-Za-z]*?)( ?macs)?", text.strip(), re.IGNORECASE
    )
    if match is not None:
        number, unit, macs = float(match[1].replace(",", "")), match[2], match[3]
        units = {name.lower(): value for name, value in (COUNTS if macs else BYTES | SECONDS).items()}
        if number > 0 and unit.lower() in units and (macs or unit):
            limit = number * units[unit.lower()]
            return (
                MacsTarget(limit) if macs else SizeTarget(limit) if unit.upper().endswith("B") else LatencyTarget(limit)
            )
    raise UserError(f"`to` {text!r} is not a target; write one like '2 MB', '30 M macs' or '5 ms'")
