"""Feature maps from inside a network, for whoever builds on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from convatlas.errors import unknown


class Features(nn.Module):
    """A network that gives the outputs of some of its layers in place of its own.

    Its parameters are the network's: training it trains the network.
    """

    def __init__(self, network: nn.Module, at: str | Sequence[str]) -> None:
        """
        Args:
            at: names of layers, as `convatlas show` lists them, or of the modules around them, as "stages.3"; or one.

        Raises:
            UserError: the network has no such layer.
        """
        super().__init__()
        self.network = network
        self.at = (at,) if isinstance(at, str) else tuple(at)
        names = [name for name, _ in network.named_modules() if name]
        for name in self.at:
            if name not in names:
                raise unknown("layer", name, names)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The outputs of the layers by their names, of images (batch, channels, height, width)."""
        return self.with_output(x)[1]

    def with_output(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's own output, and those of the layers."""
        outputs: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            return lambda layer, inputs, output: outputs.__setitem__(name, output)

        hooks = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in self.at]
        try:
            output: Tensor = self.network(x)
        finally:
            for hook in hooks:
                hook.remove()
        return output, outputs


def features(network: nn.Module, at: str | Sequence[str]) -> Features:
    """A network that gives the outputs of some of its layers; see `Features`."""
    return Features(network, at)
