"""Training as people call it, by arguments."""

from __future__ import annotations

from pathlib import Path

from convatlas.recipe import Recipe
from convatlas.runs.options import ClassWeights, Distillation, InitFrom, Runtime, Validation
from convatlas.runs.run import Run
from convatlas.spec import Scale, Spec
from convatlas.training.loop import train_request
from convatlas.training.progress import Progress
from convatlas.training.request import DEFAULT_RUNTIME, UNSCALED, Request


def train(
    network: str,
    data: str | Path = "digits",
    *,
    recipe: str | Recipe = "default",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    scale: Scale = UNSCALED,
    spec: Spec | None = None,
    class_weights: ClassWeights | None = None,
    validation: Validation | None = None,
    stop_at_error: float | None = None,
    init_from: str | Path | InitFrom | None = None,
    distillation: Distillation | None = None,
    runtime: Runtime = DEFAULT_RUNTIME,
    resize: str | None = None,
    labels: str | Path | None = None,
    group_by: str | None = None,
    skip_bad: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train an architecture on a data set, and write a run folder.

    Under torchrun, its processes train together, each on its shard of every batch.

    Args:
        network: the name of an architecture in `convatlas list`, such as "lenet5".
        data: a standard data set's name, an image folder with one subfolder per class, or "hf:NAME" to stream a data
            set of the Hugging Face hub.
        recipe: "default", "paper" for the recipe of the network's paper, or a `Recipe`.
        epochs, batch_size, lr: override the recipe's; `batch_size` is over all processes, `lr` is the peak rate.
        seed: of the initial weights, the order of the images, their augmentation, and the split of an image folder
            that has none.
        scale: width and depth multipliers, resolution in pixels, and phi; see `create`. Without a resolution, the
            images' own size is used if the network takes it.
        spec: an architecture spec of the same family in place of the default one; its class and channel counts come
            from the data.
        class_weights: "balanced" lets every class count the same in the loss, however many images it has.
        validation: hold out training images, keep the weights of the epoch that is best on them, and stop early.
        stop_at_error: end with the first epoch whose training error, as a fraction, is at most this; until then the
            learning rate is that of all epochs. None: train them all.
        init_from: trained weights to start from; a path stands for `InitFrom(path=...)`, which fits a new head, then
            unfreezes the layers below it, and keeps the best on validation images, of which the head alone is one.
        distillation: learn from a teacher's outputs too.
        runtime: device, autotuning, micro-batches and checkpoints.
        resize: how images that are no squares become squares: "crop", "squash" or "letterbox"; None: a crop, or when
            fine-tuning published weights what loses least of these images.
        labels: a CSV table in the data's folder with a column of image files and one of their classes, called as in
            `data.table.FILES` and `LABELS`; None: each class has a folder.
        group_by: a column of that table: images with the same value, such as those of one patient, never stand on both
            sides of a split.
        skip_bad: skip damaged and unsupported images; otherwise the first one is an error.
        out: the run folder, new or empty, and not in the data's folder; None: a new one below `runs/`.
        progress: an object whose methods are called while training runs; see `convatlas.training.Progress`.

    Returns:
        The finished run, with `run.test_accuracy`, `run.model`, `run.folder`.

    Raises:
        UserError: an argument or an image cannot be used; the message says why.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved and `resume` continues.
    """
    request = Request(
        network=network,
        data=data,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        scale=scale,
        spec=spec,
        class_weights=class_weights,
        validation=validation,
        stop_at_error=stop_at_error,
        init_from=InitFrom(path=str(init_from)) if isinstance(init_from, str | Path) else init_from,
        distillation=distillation,
        runtime=runtime,
        resize=resize,
        labels=labels,
        group_by=group_by,
        skip_bad=skip_bad,
    )
    return train_request(request, None if out is None else Path(out), progress or Progress())
