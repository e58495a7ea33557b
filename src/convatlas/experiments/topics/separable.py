"""MobileNet: depthwise separable convolutions and two multipliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from convatlas import atlas
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.comparison import compare, failed_precondition, figures_of, weighted_errors
from convatlas.experiments.engine.estimate import in_words
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.timings import NUM_PROCESSES
from convatlas.experiments.engine.verdict import Threshold, at_least, at_most, exactly
from convatlas.experiments.topics import imagenette_folds
from convatlas.experiments.topics.equal_cost import at_cost, macs
from convatlas.experiments.topics.resolution_multiplier import (
    MAX_RHO_TRAINING_ERROR,
    RHO_ALPHA,
    RHO_RECIPE,
    RHO_SIDES,
    resolutions,
    rho,
)
from convatlas.experiments.topics.separable_costs import (
    ALPHAS,
    accuracy_chart,
    cost,
    maps,
    multipliers,
    time,
    whole_network,
    with_macs,
)
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.recipe import Recipe
from convatlas.training import Request
from convatlas.training.recipes import SMALL_IMAGES

# --- what is trained -------------------------------------------------------------------------------------------------

SEPARABLE, FULL_WIDTH, THINNED = "separable", "full convolutions", "full convolutions, thinned"
MAX_TRAINING_ERROR = 40.0
"""In percent: half-way from guessing to what a quarter of the width comes to in 8 epochs, about 20."""
THIN_ALPHA = 0.75
"""Table 5: about as many MACs as the network with five layers fewer."""


@dataclass(frozen=True, kw_only=True)
class MobileNetBed:
    """On what the networks are trained."""

    alpha: float
    """Of the largest network."""
    alphas: tuple[float, ...]
    """Of the width multiplier, the smallest first."""
    side: int
    data: str
    recipe: Recipe
    rates: tuple[float, ...] = ()

    @classmethod
    def of(cls, setting: Setting) -> MobileNetBed:
        return AT_FULL if setting.full else AT_STANDARD

    def spec(self, network: str, alpha: float) -> MobileNetSpec:
        spec = atlas.find(network).spec
        assert isinstance(spec, MobileNetSpec), "it is one of the family"
        return replace(spec.scaled(width=alpha, resolution=self.side), num_classes=10)

    def arm(self, network: str, spec: MobileNetSpec) -> Arm:
        def request(seed: int) -> Request:
            return Request(
                network=network, spec=spec, data=self.data, recipe=self.recipe, seed=seed, runtime=protocol.RUNTIME
            )

        return Arm(request=request, rates=self.rates)


AT_STANDARD = MobileNetBed(
    alpha=0.25,
    alphas=(0.125, 0.1875, 0.25),
    side=32,
    data=protocol.DATA,
    recipe=protocol.recipe(8),
    rates=protocol.RATES,
)
AT_FULL = MobileNetBed(alpha=1.0, alphas=ALPHAS, side=64, data="cifar10", recipe=SMALL_IMAGES)
"""From 64 px on the network has the paper's own stem."""


def both_convolutions(setting: Setting) -> dict[str, Arm]:
    bed = MobileNetBed.of(setting)
    return {
        SEPARABLE: bed.arm("mobilenet", bed.spec("mobilenet", bed.alpha)),
        FULL_WIDTH: bed.arm("mobilenet-conv", bed.spec("mobilenet-conv", bed.alpha)),
    }


def lost(setting: Setting) -> Measurement:
    trained = setting.train_arms(both_convolutions(setting))
    return with_macs(compare(trained, {SEPARABLE: 1.0, FULL_WIDTH: -1.0}, MAX_TRAINING_ERROR), trained)


def thinned(bed: MobileNetBed) -> MobileNetSpec:
    """The network with full convolutions as thin as its MACs must be to equal those of the separable one."""
    full = bed.spec("mobilenet-conv", 1.0)

    def spec_at(alpha: float) -> MobileNetSpec:
        # Whole numbers of channels: multiples of 8, as the family scales, miss the MACs by 7 %.
        return replace(
            full,
            conv1=round(alpha * full.conv1),
            stages=tuple(tuple(round(alpha * channels) for channels in stage) for stage in full.stages),
        )

    target = macs(atlas.find("mobilenet"), bed.spec("mobilenet", bed.alpha))
    # Full convolutions have about nine times the MACs, which grow with the square of alpha.
    return at_cost(atlas.find("mobilenet-conv"), target, spec_at, bed.alpha / 4, bed.alpha / 2)


def equal_macs(setting: Setting) -> dict[str, Arm]:
    bed = MobileNetBed.of(setting)
    return {
        SEPARABLE: bed.arm("mobilenet", bed.spec("mobilenet", bed.alpha)),
        THINNED: bed.arm("mobilenet-conv", thinned(bed)),
    }


def gain_at_equal_macs(setting: Setting) -> Measurement:
    trained = setting.train_arms(equal_macs(setting))
    return with_macs(compare(trained, {THINNED: 1.0, SEPARABLE: -1.0}, MAX_TRAINING_ERROR), trained)


def widths(setting: Setting) -> dict[str, Arm]:
    bed = MobileNetBed.of(setting)
    return {f"alpha {alpha:g}": bed.arm("mobilenet", bed.spec("mobilenet", alpha)) for alpha in bed.alphas}


RISES = at_least(0.0)
"""What every step of a multiplier must come to."""


def alpha(setting: Setting) -> Measurement:
    bed = MobileNetBed.of(setting)
    return along(
        setting.train_arms(widths(setting)),
        name="alpha",
        title=f"The width multiplier: alpha {bed.alphas[0]:g} to {bed.alphas[-1]:g}",
        where=f"{'CIFAR-10' if setting.full else protocol.IMAGES}; mobilenet, {bed.side} px",
    )


def along(trained: Mapping[str, TrainedArm], *, name: str, title: str, where: str) -> Measurement:
    """Each step of a multiplier, the smallest network first; the step that says least for a rise decides."""
    answers = Answers.of(trained)
    steps = {
        f"{small} to {large}": weighted_errors(answers, {small: 1.0, large: -1.0}) for small, large in pairwise(trained)
    }
    accuracies = {arm: (100 * (1 - answers.errors(arm).mean(1))).tolist() for arm in trained}
    measurement = Measurement(
        estimate=steps[RISES.deciding(steps)],
        failed=failed_precondition(trained, MAX_TRAINING_ERROR),
        figures=(
            *((f"gained from {step}", in_words(each, "points")) for step, each in steps.items()),
            *figures_of(trained, answers),
        ),
        charts=(accuracy_chart(trained, accuracies, name=name, title=title, where=where),),
        answers=answers,
    )
    return with_macs(measurement, trained)


def thin_and_shallow(setting: Setting) -> dict[str, Arm]:
    return {
        "thin": AT_FULL.arm("mobilenet", AT_FULL.spec("mobilenet", THIN_ALPHA)),
        "shallow": AT_FULL.arm("mobilenet-shallow", AT_FULL.spec("mobilenet-shallow", AT_FULL.alpha)),
    }


def thin(setting: Setting) -> Measurement:
    trained = setting.train_arms(thin_and_shallow(setting))
    return with_macs(compare(trained, {"shallow": 1.0, "thin": -1.0}, MAX_TRAINING_ERROR), trained)


ENLARGED_SIDES = (64, 80, 96)
"""4/7, 5/7 and 6/7 of 112, the size at rho = 1, as Table 7's are of 224."""


def enlarged(setting: Setting) -> dict[str, Arm]:
    beds = [replace(AT_FULL, side=side) for side in ENLARGED_SIDES]
    return {f"{bed.side} px": bed.arm("mobilenet", bed.spec("mobilenet", bed.alpha)) for bed in beds}


def rho_enlarged(setting: Setting) -> Measurement:
    return along(
        setting.train_arms(enlarged(setting)),
        name="rho-enlarged",
        title=f"The resolution multiplier on enlarged images: {ENLARGED_SIDES[0]} to {ENLARGED_SIDES[-1]} px",
        where="CIFAR-10, 32 px enlarged; mobilenet",
    )


CIFAR = f"{protocol.IMAGES}, 32 px; 8 epochs"

TOPIC = Topic(
    id="separable",
    title="MobileNet: depthwise separable convolutions and two multipliers",
    summary="One filter for each channel, followed by a 1x1 convolution, costs 1/N + 1/D_K^2 of a full convolution and "
    "loses about a point of accuracy. Alpha and rho trade accuracy for cost smoothly. Thin networks are better than "
    "shallow ones.",
    source="Howard et al. 2017, sections 3.1 to 3.4 and 4.1, Tables 4 to 7, Figure 4",
    method="Layers are counted at 224 px. Timed are inferences of both whole networks in turn, in single precision, "
    "and each separable layer against the full convolution that it replaces, in three processes. Standard trains with "
    f"alpha {AT_STANDARD.alpha:g} for the paper's 1 on CIFAR-10 at its own {AT_STANDARD.side} px, where the network "
    "has its stem for small images: neither its first convolution nor its second stage halves the map. Each network "
    "has the learning rate that is best for it. The resolution multiplier is trained on photographs, "
    f"{10 * imagenette_folds.IMAGES_A_CLASS:,} of Imagenette, in three folds that test each image once; full measures "
    f"the same. For the rest full trains the paper's widths on CIFAR-10 at {AT_FULL.side} px, where the network has "
    "the paper's stem.",
    limitations="Networks a quarter as wide, 8 epochs and small images are far from the paper's, and so few epochs "
    "favor networks that learn fast. Along the width multiplier only small networks are compared. ImageNet was not "
    "run.",
    minutes_quick=2,
    minutes_full=180,
    statements=(
        Statement(
            id="cost",
            text="A separable layer costs 1/N + 1/D_K^2 of a full one.",
            statistic="largest difference of the counted ratio of MACs from 1/N + 1/D_K^2, over the thirteen layers",
            paper="1/N + 1/D_K^2 (section 3.1)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=cost,
        ),
        Statement(
            id="whole",
            text="The network needs 8 to 9 times less computation than with full convolutions.",
            statistic="MACs with full convolutions over those with separable ones, 224 px",
            unit="times",
            paper="8 to 9 times (section 3.1); 4,866 over 569 million MACs (Table 4)",
            threshold=Threshold(8, 9),
            role=Role.COUNT,
            measure=whole_network,
        ),
        Statement(
            id="multipliers",
            text="Both multipliers scale the cost of a layer as equation 7 says.",
            statistic="largest difference from equation 7, in MACs, over all layers at sixteen pairs of alpha and rho",
            unit="MACs",
            paper="equation 7 (section 3.4)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=multipliers,
        ),
        Statement(
            id="maps",
            text="The resolution multiplier shrinks the maps of every layer alike.",
            statistic="largest difference of a map's side from rho times its side at 224 px, over all layers at four "
            "values of rho",
            unit="px",
            paper="every layer is reduced by the same multiplier (section 3.4)",
            threshold=exactly(0),
            role=Role.COUNT,
            measure=maps,
        ),
        Statement(
            id="time",
            text="The network is much faster than with full convolutions.",
            statistic="time of an inference with full convolutions over that with separable ones, 224 px",
            unit="times",
            # Separable layers save arithmetic, and no reads and writes of maps: less than the count says.
            threshold=at_least(2.0),
            no_effect=1.0,
            test_bed=f"in turn, in {NUM_PROCESSES} processes",
            measure=time,
        ),
        Statement(
            id="full",
            text="Separable convolutions lose little, at an eighth of the MACs.",
            statistic="test error with separable convolutions minus that with full ones, at equal width",
            unit="points",
            paper="1.1 points on ImageNet (Table 4)",
            threshold=at_most(3.0),
            needs=Budget.STANDARD,
            test_bed=f"{CIFAR}; mobilenet and mobilenet-conv, alpha 0.25",
            arms=both_convolutions,
            measure=lost,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=39,
        ),
        Statement(
            id="equal-macs",
            text="They are better than full convolutions in a network that is thinned to equal MACs.",
            statistic="test error of the thinned network with full convolutions minus that with separable ones",
            unit="points",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"{CIFAR}; mobilenet, alpha 0.25, and mobilenet-conv, alpha near 0.085",
            arms=equal_macs,
            measure=gain_at_equal_macs,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=6,
        ),
        Statement(
            id="alpha",
            text="Accuracy rises with every step of the width multiplier.",
            statistic="test accuracy gained by a step of alpha; the step that says least for it decides",
            unit="points",
            paper="50.6, 63.7, 68.4 and 70.6 % at alpha 0.25, 0.5, 0.75 and 1 on ImageNet (Table 6)",
            threshold=RISES,
            needs=Budget.STANDARD,
            test_bed=f"{CIFAR}; mobilenet, alpha 0.125, 0.1875 and 0.25",
            arms=widths,
            measure=alpha,
            max_training_error=MAX_TRAINING_ERROR,
            minutes=12,
        ),
        Statement(
            id="rho",
            text="Accuracy rises with the resolution multiplier, where images have the detail.",
            statistic=f"test accuracy at {RHO_SIDES[-1]} px minus that at {RHO_SIDES[0]} px",
            unit="points",
            paper="64.4, 67.2, 69.1 and 70.6 % at 128, 160, 192 and 224 px on ImageNet (Table 7)",
            threshold=at_least(0.0),
            needs=Budget.STANDARD,
            test_bed=f"Imagenette, {10 * imagenette_folds.IMAGES_A_CLASS:,} photographs in three folds; mobilenet, "
            f"alpha {RHO_ALPHA:g}, {', '.join(map(str, RHO_SIDES))} px; {RHO_RECIPE.epochs} epochs",
            prepare=imagenette_folds.make_folds,
            arms=resolutions,
            measure=rho,
            max_training_error=MAX_RHO_TRAINING_ERROR,
            num_seeds=imagenette_folds.NUM_FOLDS,
            priority=2,
            minutes=16,
        ),
        Statement(
            id="rho-enlarged",
            text="It does so even where images are only enlarged: by larger maps alone.",
            statistic=f"test accuracy gained by a step of the image size, {', '.join(map(str, ENLARGED_SIDES))} px; "
            "the step that says least for it decides",
            unit="points",
            threshold=RISES,
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed="CIFAR-10, 32 px enlarged; mobilenet",
            arms=enlarged,
            measure=rho_enlarged,
            max_training_error=MAX_TRAINING_ERROR,
        ),
        Statement(
            id="thin",
            text="A thinner network is better than a shallower one of about equal MACs.",
            statistic=f"test error with five layers fewer minus that at alpha {THIN_ALPHA:g}",
            unit="points",
            paper="3.1 points on ImageNet (Table 5)",
            threshold=at_least(0.0),
            role=Role.PERIPHERAL,
            needs=Budget.FULL,
            test_bed=f"CIFAR-10, {AT_FULL.side} px; mobilenet, alpha {THIN_ALPHA:g}, and mobilenet-shallow",
            arms=thin_and_shallow,
            measure=thin,
            max_training_error=MAX_TRAINING_ERROR,
        ),
    ),
)
