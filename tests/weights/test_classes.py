"""The classes of the data sets of published weights."""

import pytest

from convatlas.data.standard import CIFAR10
from convatlas.errors import UserError
from convatlas.weights.classes import class_names, wordnet_ids


def test_imagenet_is_ordered_by_wordnet_id() -> None:
    ids = wordnet_ids()
    assert len(ids) == 1000
    assert list(ids) == sorted(set(ids))
    assert all(len(one) == 9 and one[0] == "n" and one[1:].isdigit() for one in ids)


@pytest.mark.parametrize("data", ["ImageNet-1k", "CIFAR-10", "CIFAR-100"])
def test_no_two_classes_have_one_name(data: str) -> None:
    names = class_names(data)
    assert len(names) == len({name.lower() for name in names}) == int(data.split("-")[1].replace("1k", "1000"))
    assert all(name == name.strip() for name in names)
    assert all(name.isprintable() and "_" not in name for name in names)


def test_places_that_everybody_knows() -> None:
    # As in the lists of torchvision and of ImageNet's development kit.
    names, ids = class_names("ImageNet-1k"), wordnet_ids()
    known = {
        0: ("n01440764", "tench"), 1: ("n01443537", "goldfish"), 207: ("n02099601", "golden retriever"),
        281: ("n02123045", "tabby"), 388: ("n02510455", "giant panda"), 701: ("n03888257", "parachute"),
        817: ("n04285008", "sports car"), 954: ("n07753592", "banana"), 999: ("n15075141", "toilet tissue"),
    }  # fmt: skip
    assert {place: (ids[place], names[place]) for place in known} == known


def test_of_two_classes_with_one_word_the_names_say_which() -> None:
    names = class_names("ImageNet-1k")
    assert (names[134], names[517]) == ("crane (bird)", "crane (machine)")
    assert (names[638], names[639]) == ("maillot (tights)", "maillot (tank suit)")
    assert (names[264], names[474]) == ("Cardigan Welsh corgi", "cardigan")


def test_cifar_is_as_in_its_files() -> None:
    assert class_names("CIFAR-10") == CIFAR10.classes
    hundred = class_names("CIFAR-100")
    # The file numbers them in alphabetical order; the blanks are underscores there.
    assert [name.replace(" ", "_") for name in hundred] == sorted(name.replace(" ", "_") for name in hundred)
    assert (hundred[0], hundred[39], hundred[47], hundred[99]) == ("apple", "keyboard", "maple tree", "worm")


def test_classes_that_nobody_listed_are_an_error() -> None:
    with pytest.raises(UserError, match=r"^there is no list of classes of 'ImageNet-12k'; did you mean ImageNet-1k"):
        class_names("ImageNet-12k")
