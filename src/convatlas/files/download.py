"""Downloads: with a progress bar, checked, and at their place only when complete."""

import sys
from pathlib import Path

from convatlas.errors import UserError


def download(url: str, destination: Path, *, md5: str | None = None) -> Path:
    """Fetch `url` to the file `destination` and return it; a file that is there already is left alone.

    A progress bar is drawn on standard error when that is a terminal.

    Raises:
        UserError: the address does not answer, or what it sent does not have the checksum.
    """
    if destination.exists():
        return destination
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    bar = _Bar(destination.name) if sys.stderr.isatty() else None
    try:
        pooch.retrieve(
            url,
            known_hash=f"md5:{md5}" if md5 else None,
            fname=destination.name,
            path=destination.parent,
            downloader=pooch.HTTPDownloader(progressbar=bar or False, timeout=30),
        )
    except requests.RequestException as error:
        if error.response is not None:
            error.response.close()
        raise UserError(
            f"{url} could not be fetched ({type(error).__name__}); check the network, "
            f"or put the file at {destination} yourself"
        ) from error
    except ValueError as error:  # pooch: the checksum differs
        raise UserError(f"{url} sent another file than expected (its checksum differs)") from error
    finally:
        if bar:
            bar.close()
    return destination


class _Bar:
    """pooch's idea of a progress bar (`total`, `update`, `reset`, `close`), drawn by rich."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(f"downloading {name}", total=None)
        self._progress.start()

    @property
    def total(self) -> float | None:
        return self._progress.tasks[0].total

    @total.setter
    def total(self, total: float) -> None:
        self._progress.update(self._task, total=total)

    def update(self, count: float) -> None:
        self._progress.advance(self._task, count)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
