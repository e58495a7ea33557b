"""The network that a card describes."""

from __future__ import annotations

from torch import nn

from convatlas import atlas
from convatlas.files.typed_json import decoded
from convatlas.models.card import Card
from convatlas.networks.quantization import attach_fake_quant
from convatlas.spec import Spec


def spec_of(card: Card) -> Spec:
    """The spec of a card's network.

    Raises:
        MalformedJsonError: its fields are not those of the variant's family.
        UserError: there is no such variant, or its numbers cannot work.
    """
    return decoded(type(atlas.find(card.variant).spec), card.spec, "spec")


def build(card: Card) -> nn.Module:
    """A new network of a card, as it is trained: quantized layers round their inputs and have step sizes.

    Raises:
        MalformedJsonError, UserError: see `spec_of`.
    """
    network = atlas.find(card.variant).network(spec_of(card))
    return attach_fake_quant(network, card.quantization) if card.quantization else network
