"""LeNet reads US zip codes, and what its convolutions are for."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial

import numpy as np

from convatlas import atlas, measure
from convatlas.data import Split
from convatlas.draw import Lines, Series
from convatlas.experiments.engine.accuracy import error_of, errors_of
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, at_least, at_most
from convatlas.networks.lenet import FullyConnectedSpec
from convatlas.recipe import Augmentation
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run
from convatlas.training import Request
from convatlas.training.recipes import CHARACTERS

CONVOLUTIONAL, FULLY_CONNECTED = "lenet1989", "lenet-300"
SIDE = 16
SHIFTS = (0, 1, 2, 3, 4)
"""In pixels of 16. A digit of USPS fills all 16; UCI's 8x8 digits are enlarged twofold."""
SHIFT = 2
"""The one that counts: one of the 8 pixels of UCI's digits."""
QUICK_EPOCHS = 60


def usps(network: str, setting: Setting) -> Measurement:
    runs = (setting.train(Request(network=network, data="usps", seed=seed)) for seed in setting.seeds)
    return Measurement(values=errors_of(runs))


def equal_size() -> FullyConnectedSpec:
    """One hidden layer, as wide as the number of parameters of the convolutional network allows."""
    variant = atlas.find(CONVOLUTIONAL)
    params = measure.cost_of(variant.network, variant.spec).params
    # Each hidden unit has a weight for each pixel, a bias, and a weight to each class; each class has a bias.
    num_classes = variant.spec.num_classes
    return FullyConnectedSpec(resolution=SIDE, hidden=((params - num_classes) // (SIDE**2 + 1 + num_classes),))


def request(setting: Setting, network: str, seed: int) -> Request:
    """Trained without random shifts: no training digit is shifted."""
    return Request(
        network=network,
        spec=equal_size() if network == FULLY_CONNECTED else atlas.find(network).spec,
        data="digits" if setting.quick else "usps",
        epochs=QUICK_EPOCHS if setting.quick else None,
        recipe=replace(CHARACTERS, augmentation=Augmentation()),
        seed=seed,
        runtime=Runtime(autotune=False),
    )


def shifted_split(split: Split, right: int, down: int) -> Split:
    """The same images, shifted by so many pixels and filled with background."""
    images = split.images[:]
    padded = np.pad(images, ((0, 0), (0, 0), (SIDE, SIDE), (SIDE, SIDE)))
    rows, columns = (slice(SIDE - shift, 2 * SIDE - shift) for shift in (down, right))
    return Split(np.ascontiguousarray(padded[:, :, rows, columns]), split.labels)


def shifted_error(run: Run, shift: int) -> float:
    """The mean error, in percent, on the test images shifted by so many pixels in each of four directions."""
    test = run.load_data().test
    errors = []
    for right, down in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
        errors.append(error_of(run.evaluate(shifted_split(test, right, down))))
    return statistics.fmean(errors)


def shifted_errors(setting: Setting, shifts: tuple[int, ...]) -> dict[str, list[list[float]]]:
    """Of both networks: for each seed, the error at each shift."""
    networks = {"convolutional": CONVOLUTIONAL, "fully connected": FULLY_CONNECTED}
    runs = setting.train_seeds({words: partial(request, setting, network) for words, network in networks.items()})
    return {words: [[shifted_error(run, shift) for shift in shifts] for run in each] for words, each in runs.items()}


def compared(setting: Setting, shifts: tuple[int, ...], shift: int, *charts: Lines) -> Measurement:
    """The fully connected network's error minus the convolutional network's, at one of the shifts."""
    errors = shifted_errors(setting, shifts)
    at = shifts.index(shift)
    convolutional, fully_connected = errors.values()
    return Measurement(
        values=tuple(other[at] - own[at] for own, other in zip(convolutional, fully_connected, strict=True)),
        figures=tuple(
            (f"test error, {words}, shifted by {each} px", f"{np.mean([of_seed[i] for of_seed in of_seeds]):.2f} %")
            for words, of_seeds in errors.items()
            for i, each in enumerate(shifts)
        ),
        charts=charts,
    )


def unshifted(setting: Setting) -> Measurement:
    return compared(setting, (0,), 0)


def shifted(setting: Setting) -> Measurement:
    chart = Lines(
        name="shifted",
        title="Shifted test digits, after training on unshifted ones",
        x=f"shift, pixels of {SIDE}",
        y="test error, %",
        series=tuple(
            Series.mean_of_runs(words, SHIFTS, each) for words, each in shifted_errors(setting, SHIFTS).items()
        ),
    )
    return compared(setting, SHIFTS, SHIFT, chart)


NEEDS_USPS = "USPS has to be downloaded, which the quick budget does not do; the full budget does"

TOPIC = Topic(
    id="zip-codes",
    title="LeNet reads US zip codes",
    summary="A network of convolutions with shared weights, trained by backpropagation on the pixels themselves, "
    "misreads 5.0 % of handwritten zip code digits. Its advantage over a fully connected network is that it recognizes "
    "a feature wherever it is.",
    source="LeCun et al. 1989, sections 3 and 5; LeCun, Bottou, Bengio and Haffner 1998, section II.A",
    method="Full: the network of 1989 and LeNet-5 on USPS with the default recipe. Both budgets: the network of 1989 "
    "against a network with one hidden layer and as many parameters, both with the tanh and the squared error of 1989, "
    f"trained without random shifts and tested on shifted digits (quick: UCI's, {QUICK_EPOCHS} epochs; full: USPS).",
    limitations="The digits of 1989 are not all in USPS, and its test set is harder. UCI's 8x8 digits are enlarged.",
    minutes=(1, 5),
    statements=(
        Statement(
            id="usps-1989",
            text="The network of 1989 misreads at most 5.0 % of the zip code digits.",
            statistic="test error of lenet1989 on USPS, %",
            threshold=at_most(5.0),
            measure=partial(usps, CONVOLUTIONAL),
            only_full=NEEDS_USPS,
        ),
        Statement(
            id="usps-lenet5",
            text="So does LeNet-5.",
            statistic="test error of lenet5 on USPS, %",
            threshold=at_most(5.0),
            measure=partial(usps, "lenet5"),
            only_full=NEEDS_USPS,
        ),
        Statement(
            id="unshifted",
            text="Convolutions are no worse than full connections where digits are placed as in training.",
            statistic="test error of the fully connected network minus that of lenet1989, in points",
            threshold=at_least(0.0),
            measure=unshifted,
        ),
        Statement(
            id="shifted",
            text="Convolutions are much better where digits are shifted.",
            statistic=f"the same, on test digits shifted by {SHIFT} of {SIDE} pixels, in points",
            threshold=at_least(5.0),
            measure=shifted,
        ),
    ),
)
