"""Where a compressed model goes: the model itself, and the folder of the stages that led to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convatlas import draw
from convatlas.draw import Lines, Series
from convatlas.errors import UserError, check_same
from convatlas.files import occupied, read, write
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import MAX_BYTES, as_file_error, decoded, encoded, parsed_object
from convatlas.measure import Timing
from convatlas.models.card import CARD
from convatlas.models.codec.container import SUFFIX
from convatlas.models.folder import write_card, write_weights
from convatlas.models.model import Model, open_model

STAGES = "stages"
"""The folder of the stages in a model folder, and its suffix beside a file."""
RECORD = "stages.json"
FORMAT = 1
SMALL_FILE = f"model{SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A model's size, cost and accuracy after one stage."""

    name: str
    num_bytes: int
    """Of the weights file, or of a `.cva` file if weights are sparse, shared or quantized."""
    params: int
    macs: int
    seconds: float
    """The latency for one image on this machine's CPU; see `latencies`."""
    engine: str
    """What the latency was measured with, such as "PyTorch eager, float32, 2 threads"."""
    compiled: bool
    """Whether it was measured with `torch.compile`; only compiled networks compute in 8 bits."""
    test_accuracy: float
    test_interval: tuple[float, float]

    @classmethod
    def of(cls, name: str, model: Model, num_bytes: int, timing: Timing, compiled: bool) -> Stage:
        card = model.card
        assert card.score is not None, "only evaluated models are compressed"
        return cls(
            name=name,
            num_bytes=num_bytes,
            params=card.params,
            macs=card.macs,
            seconds=timing.median_s,
            engine=timing.engine,
            compiled=compiled,
            test_accuracy=card.score.accuracy,
            test_interval=card.score.interval,
        )


@dataclass(frozen=True, kw_only=True)
class StagesRecord:
    """What `stages.json` says."""

    request: dict[str, Any]
    """The model and the options, by their names."""
    stages: tuple[Stage, ...] = ()
    """The first is the original model; none until all are done."""

    def to_json(self) -> bytes:
        return sealed_json({"format": FORMAT, **encoded(self)})

    @classmethod
    def read(cls, path: Path) -> StagesRecord:
        """
        Raises:
            UserError: it is damaged, or a newer version wrote it.
        """
        with as_file_error(str(path)):
            values = parsed_object(read(path, MAX_BYTES), FORMAT)
            return decoded(cls, {name: value for name, value in values.items() if name != "format"})


@dataclass(frozen=True)
class Destination:
    """A model folder, or one compressed file if its name ends in `.cva`: a model once all stages are done."""

    path: Path

    @property
    def is_file(self) -> bool:
        return self.path.suffix == SUFFIX

    @property
    def stages(self) -> Path:
        """The folder of the stages, `stages.json` and the charts: in the model folder, or beside the file."""
        return self.path.with_suffix(f".{STAGES}") if self.is_file else self.path / STAGES

    @property
    def is_finished(self) -> bool:
        return (self.path if self.is_file else self.path / CARD).is_file()

    @property
    def small_file(self) -> Path | None:
        """The model as one compressed file, if it is there: a folder has one if that makes the weights smaller."""
        file = self.path if self.is_file else self.path / SMALL_FILE
        return file if file.is_file() else None

    def recorded(self, request: dict[str, Any], model: Path) -> StagesRecord | None:
        """The record of the same request, finished or not; None: nothing is there yet.

        Args:
            model: the path of what is compressed.

        Raises:
            UserError: something else is there, or the place overlaps with the model.
        """
        places, source = (self.path.resolve(), self.stages.resolve()), model.resolve()
        if any(place == source or place in source.parents or source in place.parents for place in places):
            raise UserError(f"{self.path} is, holds or lies in the model {model}; choose another place with `out`")
        path = self.stages / RECORD
        if path.is_file() and (self.is_finished or any(part.is_dir() for part in self.stages.iterdir())):
            record = StagesRecord.read(path)
            check_same(self.path, record.request, request)
            if record.stages or not self.is_finished:
                return record
        if (self.path / RECORD).is_file():
            raise UserError(
                f"{self.path} holds stages of an earlier convatlas, each a model of its own; choose a new folder"
            )
        if self.is_file and self.path.exists():
            raise UserError(f"{self.path} is there already; choose another name")
        if self.path.is_file():
            raise UserError(f"{self.path} is a file; choose a folder, or a name that ends in {SUFFIX}")
        for folder, own in ((self.path, STAGES), (self.stages, RECORD)):
            if occupied(folder, but=[own]):
                raise UserError(f"{folder} holds something already; choose a new or empty folder")
        return None

    def begin(self, request: dict[str, Any]) -> None:
        """Record whose stages these will be."""
        self.stages.mkdir(parents=True, exist_ok=True)
        write(self.stages / RECORD, StagesRecord(request=request).to_json())

    def finish(self, record: StagesRecord, model: Model, *, small: bool) -> None:
        """Write the record, charts and last the model: what is killed before is no model yet.

        Args:
            small: whether a model folder gets the compressed file too.
        """
        write(self.stages / RECORD, record.to_json())
        for chart in charts(model.card.variant, record.stages):
            write(self.stages / f"{chart.name}.svg", draw.render_chart(chart, "svg"))
        if self.is_file:
            model.save(self.path)
            return
        if small:
            model.save(self.path / SMALL_FILE)
        checksum = write_weights(self.path, model.network)
        write_card(self.path, replace(model.card, weights_sha256=checksum))

    def open(self) -> Model:
        return open_model(self.path)


def charts(network: str, stages: tuple[Stage, ...]) -> tuple[Lines, Lines]:
    """Accuracy against size, and against latency."""

    def against(name: str, x: str, of: Callable[[Stage], float], log_x: bool) -> Lines:
        return Lines(
            name=name,
            title=f"{network}, stage by stage",
            x=x,
            y="test accuracy, %",
            series=tuple(Series(stage.name, (of(stage),), (100 * stage.test_accuracy,)) for stage in stages),
            log_x=log_x,
            points=True,
        )

    return (
        against("size", "size, KiB", lambda stage: stage.num_bytes / 2**10, log_x=True),
        against("latency", "latency for one image, ms", lambda stage: 1000 * stage.seconds, log_x=False),
    )
