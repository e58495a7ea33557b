"""Weights for a network with other classes, or for gray images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from convatlas.errors import UserError
from convatlas.formatting import count
from convatlas.networks.heads import shaped_by, without_memory
from convatlas.spec import Spec, Variant
from convatlas.weights.mapping import COUNTERS, some


@dataclass(frozen=True)
class Adapted:
    """The tensors that a network takes from another of its kind."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    """Lines for people about what is not taken as it is."""

    def load_into(self, network: nn.Module) -> None:
        """Copy them into the network; what they leave out stays as it is."""
        network.load_state_dict(network.state_dict() | self.tensors)


def adapted(weights: Mapping[str, Tensor], variant: Variant, spec: Spec, where: str) -> Adapted:
    """The weights of a network for one that differs from it in its classes or its input channels.

    The head, and whatever else has other shapes with other classes, is left out unless it fits; so is what only
    training has, the auxiliary classifiers, which files may lack and which have other shapes at other sizes. Of a
    network for color images, one for gray images takes the first filters summed over the colors: gray is as much of
    each.

    Args:
        weights: by our names, of the same variant at the same scale.
        spec: of the network that takes them.
        where: what messages call the weights.

    Raises:
        UserError: they are of another network.
    """
    own = without_memory(variant, spec).state_dict()
    of_classes = shaped_by(variant, spec, "num_classes")
    (first,) = shaped_by(variant, spec, "in_channels")
    # Auxiliary classifiers are defined after the head.
    head = of_classes[0].rpartition(".")[0]
    auxiliary = list(own)[max(place for place, name in enumerate(own) if name.startswith(f"{head}.")) + 1 :]
    tensors: dict[str, Tensor] = {}
    notes: list[str] = []
    left_out, begun_anew = [], []
    for name, expected in own.items():
        given = weights.get(name)
        if given is not None and name == first and given.shape[1:2] == (3,) and expected.shape[1] == 1:
            given = given.sum(1, keepdim=True)
            notes.append("the first filters are summed over the colors, for gray images")
        if given is not None and given.shape == expected.shape:
            tensors[name] = given
        elif given is None and name.endswith(COUNTERS):
            # Most libraries' files have none.
            continue
        elif name in auxiliary and (given is None or name not in of_classes):
            begun_anew.append(name.partition(".")[0])
        elif name in of_classes:
            left_out.append(name)
        elif given is None:
            raise UserError(f"{where} has no {name}: it is not of a {variant.name} of this depth")
        else:
            raise UserError(
                f"{where} does not fit: its {name} has the shape {tuple(given.shape)}, this network's "
                f"{tuple(expected.shape)}; network, width, depth, resolution and number of channels must be the same"
            )
    # The network is whole without a part that is not here at all, as auxiliary classifiers, and without the steps of
    # quantization.
    parts = {name.partition(".")[0] for name in own}
    beyond = [name for name in weights.keys() - own.keys() if name.partition(".")[0] in parts]
    if beyond := sorted(name for name in beyond if name.endswith((".weight", ".bias"))):
        raise UserError(f"{where} has {some(beyond)} beside: it is not of a {variant.name} of this depth")
    if left_out:
        notes.append(f"the head is new, for {count(spec.num_classes)} classes")
    if begun_anew:
        notes.append(f"not taken is what only training has, and begins anew: {', '.join(dict.fromkeys(begun_anew))}")
    return Adapted(tensors, tuple(notes))
