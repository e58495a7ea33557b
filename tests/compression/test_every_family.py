"""What is made of a network of any family is a model like any other: interrupted, opened, used, made smaller again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from convatlas.compression.channels import Importance, prune_channels
from convatlas.compression.compress import Compression, compress
from convatlas.compression.deep.pruning import LAMP, sparsity
from convatlas.compression.deep.stages import prune_and_train
from convatlas.compression.stages import FineTuning, TrainedModel
from convatlas.compression.target import MacsTarget, SizeTarget
from convatlas.models.folder import weights_checksum
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run, load_model
from convatlas.training import Interrupted, Progress

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

TUNING = FineTuning(epochs=1, runtime=Runtime(autotune=False))
IMAGE = Image.linear_gradient("L").resize((28, 28))


class Impatient(Progress):
    def advance(self, num_images: int) -> None:
        signal.raise_signal(signal.SIGTERM)


def pruned(run: Run, out: Path, fine_tuning: FineTuning) -> Compression:
    if run.card.variant == "lenet5":
        # Its maps read what the paper's table says: none of its channels can go.
        return compress(run, None, out, sparse="0.5", rounds=1, fine_tuning=fine_tuning)
    return compress(run, None, out, prune=0.3, importance=Importance.MAGNITUDE, rounds=1, fine_tuning=fine_tuning)


def quantized(run: Run, out: Path, fine_tuning: FineTuning) -> Compression:
    return compress(run, None, out, bits=4, fine_tuning=fine_tuning)


def compressed(run: Run, out: Path, fine_tuning: FineTuning) -> Compression:
    size = (run.folder / "weights.safetensors").stat().st_size
    return compress(run, SizeTarget(0.25 * size), out, rounds=1, bits=4, fine_tuning=fine_tuning)


@pytest.mark.parametrize("method", [pruned, quantized, compressed])
def test_what_is_made_is_a_model_like_any_other(
    family: str, method: Callable[[Run, Path, FineTuning], Compression], finished: Callable[..., Run], tmp_path: Path
) -> None:
    run = finished(family, compressed=False)
    whole = method(run, tmp_path / "whole", TUNING)
    with pytest.raises(Interrupted):
        method(run, tmp_path / "stopped", replace(TUNING, progress=Impatient()))
    made = method(run, tmp_path / "stopped", TUNING).model
    assert weights_checksum(made.network) == weights_checksum(whole.model.network) != run.card.weights_sha256

    assert made.path is not None
    opened = load_model(made.path)
    assert opened.card == made.card
    assert opened.predict(IMAGE) == made.predict(IMAGE) == whole.model.predict(IMAGE)
    assert opened.evaluate().score == made.card.score
    source = TrainedModel.of(opened)

    if family == "lenet5":
        (_, again) = prune_and_train(source, tmp_path / "again", LAMP(0.9), fine_tuning=TUNING)
        assert sparsity(again.network) >= 0.89
    else:
        macs = MacsTarget(0.8 * opened.card.macs)
        (_, again) = prune_channels(source, tmp_path / "again", macs, Importance.MAGNITUDE, fine_tuning=TUNING)
        assert again.model.card.macs <= macs.limit
    assert load_model(again.name).evaluate().score == again.model.card.score
