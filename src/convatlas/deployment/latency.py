"""How long a network takes in a runtime, for those who make it smaller until that is short enough."""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from convatlas.deployment.engine_process import TimedNetwork, engine_process
from convatlas.deployment.forms import in_form_of, write_network
from convatlas.deployment.manifest import Precision, RuntimeName
from convatlas.images.parallel import available_cores
from convatlas.spec import Spec, Variant

TURNS = 3


@dataclass(frozen=True)
class RuntimeEngine:
    """A runtime, in float32, as the engine that `compress` measures a latency in."""

    runtime: RuntimeName

    def __str__(self) -> str:
        return self.runtime.label

    def latency_s(self, network: nn.Module, variant: Variant) -> float:
        """Seconds that the network takes for one image: the median, in a process of its own."""
        spec = network.spec
        assert isinstance(spec, Spec), "every network of the atlas has one"
        with tempfile.TemporaryDirectory(prefix="convatlas-latency-") as folder:
            timed = TimedNetwork(
                model=variant.name,
                name=self.runtime.label,
                precision=Precision.FLOAT32,
                path=in_form_of(write_network(network, variant, Path(folder)), self.runtime),
                runtime=self.runtime,
                num_bytes=0,
                accuracy=None,
                shape=(spec.in_channels, spec.resolution, spec.resolution),
            )
            with engine_process(timed, available_cores(), (1,)) as process:
                repeats = process.repeats_for(1)
                return statistics.median(second for _ in range(TURNS) for second in process.run(1, repeats))
