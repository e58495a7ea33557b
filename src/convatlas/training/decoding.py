"""How exactly training sees its images, which the cache of decoded images decides: noted in the record, and said."""

from __future__ import annotations

from dataclasses import replace

from convatlas.data import Dataset, earlier
from convatlas.data.images import Decoding
from convatlas.files.decoded_cache import LIMIT
from convatlas.runs.run import Run


def note_decoding(run: Run, dataset: Dataset) -> str:
    """Note in the record how the images are decoded from now on.

    Returns:
        what the user should know of that: they are kept as JPEG, or otherwise than when the run began; else "".
    """
    now, noted = dataset.train.reader.decoding, run.record.decoding or decoding_before(run, dataset)
    run.record = replace(run.record, decoding=noted if noted[-1:] == (now,) else (*noted, now))
    if noted and (noted[0] is Decoding.JPEG) != (now is Decoding.JPEG):
        return (
            f"training reads the images of {dataset.name} as {now.describe()} now, and read them as "
            f"{noted[0].describe()} when this run began: its weights will differ from those of an undisturbed run"
        )
    if now is Decoding.JPEG:
        return (
            f"the cache keeps the images of {dataset.name} as {now.describe()}, for want of room: training sees them a "
            f"little changed, evaluation does not; to change that, set {LIMIT} higher and run convatlas cache clear"
        )
    return ""


def decoding_before(run: Run, dataset: Dataset) -> tuple[Decoding, ...]:
    """How the images were decoded where an earlier version began the run, which counted that into its checksum."""
    card = run.card
    found = earlier.decoding_in(card.provenance.data_checksum, dataset, card.preprocessing.resizing, card.classes)
    now = dataset.train.reader.decoding
    if found is None or Decoding.JPEG not in (found, now):
        return ()
    return (found,)
