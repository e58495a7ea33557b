"""What the museum shows: a network of each family, what its paper says in short, and the stops of its sliders."""

from __future__ import annotations

from dataclasses import dataclass

from convatlas import atlas
from convatlas.spec import Family, Variant


@dataclass(frozen=True, kw_only=True)
class Debt:
    """What a network took from others."""

    text: str
    room: str = ""
    """The one that it took it from, if that has a room here."""


@dataclass(frozen=True, kw_only=True)
class StopValues:
    """Where the sliders of a network stop: at its paper's own scales and a few between."""

    width: tuple[float, ...]
    depth: tuple[float, ...]
    resolution: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A network with a room of its own."""

    name: str
    """Of the variant; the room's file is called by it."""
    title: str
    """As people write it, "VGG-16"."""
    brought: str
    """What was new, in one line."""
    idea: tuple[str, ...]
    """In five sentences."""
    took: tuple[Debt, ...]
    """From earlier work, as the paper says."""
    stops: StopValues

    @property
    def variant(self) -> Variant:
        return atlas.find(self.name)

    @property
    def family(self) -> Family:
        return next(family for family in atlas.families() if self.variant in family.variants)

    @property
    def years(self) -> tuple[int, int]:
        """When the first and the last of the family's papers came out."""
        years = [variant.paper.year for variant in self.family.variants if not variant.released]
        return min(years), max(years)


EXHIBITS = (
    Exhibit(
        name="lenet5",
        title="LeNet-5",
        brought="Convolutions, subsampling and a classifier, trained together by back-propagation.",
        idea=(
            "LeNet-5 reads handwritten digits from their pixels, without features that somebody designed.",
            "A unit of a convolution sees only 5x5 units of the layer before, and all units of a feature map share "
            "their weights, so that a feature is found wherever it is.",
            "Subsampling sums squares of 2x2 and halves the resolution, so that the exact place of a feature matters "
            "less.",
            "Each of the sixteen maps of C3 reads only some of the six maps of S2, which saves connections and makes "
            "the maps differ.",
            "The outputs are distances to fixed bitmaps of the ten digits, and everything before them is learned from "
            "examples.",
        ),
        took=(
            Debt(text="local receptive fields and alternating layers, from Fukushima's neocognitron (1980)"),
            Debt(text="back-propagation through shared weights, from the zip code network of 1989, its own family"),
        ),
        stops=StopValues(width=(0.5, 0.75, 1, 1.5, 2), depth=(1, 2, 3), resolution=(28, 32, 48, 64)),
    ),
    Exhibit(
        name="alexnet",
        title="AlexNet",
        brought="A large network with ReLU on two graphics processors, trained on a million photographs.",
        idea=(
            "Five convolutional and three fully connected layers learned the thousand classes of ImageNet from 1.2 "
            "million photographs.",
            "ReLU, which does not saturate, replaces tanh: a four-layer network learned six times faster with it.",
            "Two graphics processors hold half of the channels each, and only the third convolution and the fully "
            "connected layers read both halves.",
            "Neighboring channels compete through local response normalization, and pooling windows overlap.",
            "Dropout, and images that are cut out, mirrored and recolored at random, keep 60 million parameters from "
            "overfitting.",
        ),
        took=(Debt(text="convolutions with shared weights, and back-propagation", room="lenet5"),),
        stops=StopValues(width=(0.25, 0.5, 0.75, 1, 1.25), depth=(1, 2, 3), resolution=(128, 160, 192, 227, 256)),
    ),
    Exhibit(
        name="vgg16",
        title="VGG-16",
        brought="Depth from nothing but 3x3 filters.",
        idea=(
            "VGG asks what depth does if little else changes, and goes from 11 to 19 layers with weights.",
            "All filters are 3x3: two in a row see as much of the input as one of 5x5, three as much as one of 7x7, "
            "with fewer weights and more ReLUs between.",
            "Five stages of them end in max pooling, and their channels double from 64 until they are 512.",
            "The error falls as the networks get deeper, and no longer from 16 to 19 layers.",
            "Most of the 138 million parameters of the network with 16 layers lie in its first fully connected layer.",
        ),
        took=(
            Debt(text="ReLU, dropout and most of the training", room="alexnet"),
            Debt(text="but not its local response normalization, which did not help"),
        ),
        stops=StopValues(width=(0.25, 0.5, 0.75, 1), depth=(0.5, 1, 1.5, 2), resolution=(128, 160, 192, 224, 256)),
    ),
    Exhibit(
        name="googlenet",
        title="GoogLeNet",
        brought="Filters of several sizes side by side, affordable by 1x1 convolutions.",
        idea=(
            "An Inception module looks at its input with 1x1, 3x3 and 5x5 filters and a max pooling at once, and "
            "concatenates what they find.",
            "1x1 convolutions before the larger filters reduce the channels that these read, which makes it "
            "affordable.",
            "Nine such modules give 22 layers with weights, and about a ninth of AlexNet's parameters.",
            "The mean over all positions replaces large fully connected layers at the end.",
            "Two auxiliary classifiers in the middle give the lower layers a shorter way to the loss in training, and "
            "are left out afterwards.",
        ),
        took=(
            Debt(text="1x1 convolutions and the mean over all positions, from Network in Network (Lin et al. 2013)"),
            Debt(text="ReLU, local response normalization and dropout", room="alexnet"),
        ),
        stops=StopValues(width=(0.25, 0.5, 0.75, 1, 1.25), depth=(0.5, 1, 2), resolution=(128, 160, 192, 224, 256)),
    ),
    Exhibit(
        name="resnet34",
        title="ResNet-34",
        brought="Shortcuts, with which a hundred layers train as well as twenty.",
        idea=(
            "Plain networks get worse when they get deeper, in training too: one of 34 layers has a higher error than "
            "one of 18.",
            "A residual unit learns what to add to its input instead of what to make of it.",
            "A shortcut carries the input past two convolutions unchanged, or through a 1x1 convolution where the "
            "shape changes.",
            "Doing nothing is then easy to learn, since weights of zero do it.",
            "So 34 layers become better than 18, and an ensemble of networks with up to 152 layers won the ImageNet "
            "competition of 2015.",
        ),
        took=(
            Debt(text="3x3 filters, and twice the channels where the maps are halved", room="vgg16"),
            Debt(text="batch normalization (Ioffe and Szegedy 2015)"),
        ),
        stops=StopValues(width=(0.25, 0.5, 0.75, 1, 1.25), depth=(0.5, 1, 2), resolution=(128, 160, 192, 224, 256)),
    ),
    Exhibit(
        name="squeezenet",
        title="SqueezeNet",
        brought="AlexNet's accuracy with about fifty times fewer parameters.",
        idea=(
            "SqueezeNet reaches AlexNet's accuracy on ImageNet with about fifty times fewer parameters.",
            "Most of its filters are 1x1, which have nine times fewer weights than 3x3.",
            "A Fire module squeezes its input into few channels and expands these with filters of both sizes, so that "
            "the 3x3 filters read few channels.",
            "It pools late, so that most layers have large feature maps.",
            "No layer is fully connected: a 1x1 convolution gives a map for each class, and its mean is the answer.",
        ),
        took=(
            Debt(text="modules of 1x1 and larger filters", room="googlenet"),
            Debt(text="shortcuts, for its variants with a bypass", room="resnet34"),
            Debt(text="the accuracy to reach", room="alexnet"),
        ),
        stops=StopValues(width=(0.25, 0.5, 0.75, 1, 1.25), depth=(0.5, 1, 2), resolution=(128, 160, 192, 227, 256)),
    ),
    Exhibit(
        name="mobilenet",
        title="MobileNet",
        brought="A whole network of depthwise separable convolutions, with two multipliers.",
        idea=(
            "A convolution filters its input and combines channels in one step.",
            "A depthwise separable one does it in two: a 3x3 filter for each channel, then a 1x1 convolution.",
            "With N output channels that takes 1/N + 1/9 of the multiplications.",
            "Nearly all that is left to compute are 1x1 convolutions, which are products of matrices.",
            "Two multipliers trade accuracy for cost: alpha thins every layer, and rho shrinks the input.",
        ),
        took=(
            Debt(text="depthwise separable convolutions (Sifre 2014)"),
            Debt(text="their use in the first layers of later Inception networks", room="googlenet"),
            Debt(text="batch normalization (Ioffe and Szegedy 2015)"),
        ),
        stops=StopValues(width=(0.25, 0.5, 0.75, 1, 1.25), depth=(0.5, 1, 2), resolution=(128, 160, 192, 224, 256)),
    ),
    Exhibit(
        name="efficientnet-b0",
        title="EfficientNet-B0",
        brought="One number that scales depth, width and resolution together.",
        idea=(
            "A network gains most from more operations if its depth, width and resolution all grow.",
            "One number phi scales them by 1.2, 1.1 and 1.15 to the power of phi, which about doubles the operations "
            "with each step.",
            "The network to begin with, B0, comes from a search for accuracy at few operations.",
            "Its inverted bottlenecks expand their input, filter it depthwise, weight its channels by "
            "squeeze-and-excitation and project it down again.",
            "Scaled up to B7, such a network reached 84.3 % top-1 accuracy on ImageNet, by its paper.",
        ),
        took=(
            Debt(text="scaling by width", room="mobilenet"),
            Debt(text="scaling by depth", room="resnet34"),
            Debt(text="inverted bottlenecks (MobileNetV2, Sandler et al. 2018) and the way of searching (MnasNet)"),
            Debt(text="squeeze-and-excitation (Hu et al. 2018)"),
        ),
        stops=StopValues(
            # Those of B0, B2, B3, B4 and B7.
            width=(1, 1.1, 1.2, 1.4, 2),
            depth=(1, 1.2, 1.4, 1.8, 3.1),
            resolution=(224, 260, 300, 380, 600),
        ),
    ),
)
"""One of each family, oldest first."""
