"""The classes of the data sets that published weights were trained on, in the order of the networks' outputs.

ImageNet-1k's are ordered by WordNet id, in all libraries here (imagenet.csv). Their names are the first lemma of each
synset in WordNet 3.0, as timm 1.0.31 lists them (Apache 2.0; WordNet: Princeton University). Of the two cranes and the
two maillots we say which is which, and the Cardigan that is a dog has its second lemma. CIFAR's are A. Krizhevsky's,
those of CIFAR-100 in alphabetical order.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

from convatlas.errors import unknown

IMAGENET = "ImageNet-1k"

CIFAR = {
    "CIFAR-10": "airplane automobile bird cat deer dog frog horse ship truck",
    "CIFAR-100": """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
        castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
        elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
        man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
        pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
        skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
        tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """,
}


def class_names(data: str) -> tuple[str, ...]:
    """The names of the classes of a data set, as "goldfish"; no two are the same.

    Args:
        data: as `Published.data` says it, "ImageNet-1k", "CIFAR-10" or "CIFAR-100".

    Raises:
        UserError: its classes are not known here.
    """
    if data == IMAGENET:
        return tuple(imagenet().values())
    if data not in CIFAR:
        raise unknown("list of classes of", data, (IMAGENET, *CIFAR))
    return tuple(name.replace("_", " ") for name in CIFAR[data].split())


def wordnet_ids() -> tuple[str, ...]:
    """ImageNet-1k's, as "n01443537", in the order of `class_names`. Its folders bear them."""
    return tuple(imagenet())


@cache
def imagenet() -> dict[str, str]:
    """Names by WordNet id."""
    with (resources.files("convatlas.weights") / "imagenet.csv").open(encoding="utf-8") as file:
        return {row["wordnet_id"]: row["name"] for row in csv.DictReader(file)}
