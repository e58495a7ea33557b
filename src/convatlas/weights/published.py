"""The catalog of published weights: where each file lies, what it was trained on, and how its images were prepared.

The rows are published.csv, one a file. Addresses, checksums and accuracies are those that the publishers print, in the
code of torchvision 0.29.1, timm (aa4b585) and Keras (3422977) and in the readmes of the others.

Accuracies are of the preprocessing in the row, on the validation images of ImageNet-1k or the test images of CIFAR. Of
timm's weights, that is the size at which it tests them, which may be above that of their training. Keras says of no
network how it cut images for its table; its rows have a center crop of 7/8.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from convatlas.errors import unknown
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, ResizeMode

TABLE = "published.csv"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A file of published weights."""

    library: str
    """As "torchvision"."""
    network: str
    """The library's name, as "resnet50"."""
    tag: str
    """Which of the library's weights for this network, as "v2"; "": it has these only."""
    is_default: bool
    """Whether this is what the name without a tag means."""
    address: str
    member: str
    """The name of the file of weights in the archive (zip) that lies at the address; "": that is the file itself."""
    checksum: str | None
    """Of the file of weights: the algorithm, and the digest or its beginning, as "sha256:7be5be79". None: none is
    published."""
    params: int
    """Of the network with these classes, without what only training has."""
    data: str
    """What the classes are of, as "ImageNet-1k"."""
    preprocessing: Preprocessing
    top1: float | None
    """Accuracy in percent as published; None: not known for this preprocessing."""
    top5: float | None
    license: str
    """As far as known, by its SPDX identifier where it has one; "": not known."""
    note: str
    """What else one has to know."""

    @property
    def name(self) -> str:
        """What people type, as "timm:resnet50.a1_in1k"."""
        return f"{self.library}:{self.network}{'.' if self.tag else ''}{self.tag}"

    @property
    def file_name(self) -> str:
        """Of the file of weights."""
        return (self.member or self.address).rpartition("/")[2]

    def is_of_file(self, sha256: str) -> bool:
        """Whether that is the SHA-256 of this file, as far as it is published."""
        algorithm, _, digits = (self.checksum or "").partition(":")
        return algorithm == "sha256" and sha256.startswith(digits)


def published() -> tuple[Published, ...]:
    """All that is known, by library and network."""
    return tuple(dict.fromkeys(by_name().values()))


def find_published(name: str) -> Published:
    """The weights of this name. Without a tag, it is the default of the library's network.

    Raises:
        UserError: there are none; the message gives the nearest names.
    """
    rows = by_name()
    if name not in rows:
        begun = [known for known in rows if known.startswith(name)]
        raise unknown("file of published weights", name, begun or rows)
    return rows[name]


@cache
def by_name() -> dict[str, Published]:
    """With each default under its name without a tag as well."""
    rows: dict[str, Published] = {}
    with (resources.files("convatlas.weights") / TABLE).open(encoding="utf-8") as file:
        for values in csv.DictReader(file):
            row = read(values)
            if row.is_default:
                rows[f"{row.library}:{row.network}"] = row
            rows[row.name] = row
    return rows


def read(values: dict[str, str]) -> Published:
    """A row of the table. In it, blanks stand between the numbers of channels, and a colon behind an algorithm."""
    numbers: dict[str, Any] = {name: tuple(map(float, values[name].split())) for name in ("mean", "std")}
    return Published(
        library=values["library"],
        network=values["network"],
        tag=values["tag"],
        is_default=values["default"] == "yes",
        address=values["address"],
        member=values["member"],
        checksum=values["checksum"] or None,
        params=int(values["params"]),
        data=values["data"],
        preprocessing=Preprocessing(
            resize=int(values["resize"]),
            crop=int(values["crop"]),
            channels=3,
            value_range=float(values["value_range"]),
            mode=ResizeMode(values["mode"]),
            interpolation=Interpolation(values["interpolation"]),
            channel_order=ChannelOrder(values["channel_order"]),
            **numbers,
        ),
        top1=float(values["top1"]) if values["top1"] else None,
        top5=float(values["top5"]) if values["top5"] else None,
        license=values["license"],
        note=values["note"],
    )
