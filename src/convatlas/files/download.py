"""Downloads: checked, and at their place only when complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files.lock import clear_lock, lock
from convatlas.files.progress import SILENT, ProgressCallback

TIMEOUT_S = 30
"""Seconds without an answer after which a download is given up."""


def download(url: str, destination: Path, *, md5: str | None = None, progress: ProgressCallback = SILENT) -> Path:
    """Fetch `url` to the file `destination` and return it; a file that is there already is left alone.

    Raises:
        UserError: the address does not answer, or what it sent does not have the checksum.
    """
    if not destination.exists():
        with lock(destination.parent, wait=True):
            # Another process may have fetched it while this one waited.
            if not destination.exists():
                _fetch(url, destination, md5, progress)
    clear_lock(destination.parent)
    return destination


def _fetch(url: str, destination: Path, md5: str | None, progress: ProgressCallback) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    # pooch gives what is not complete another name each time; in a folder, it does not pile up after kills.
    part = destination.with_name(f".{destination.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    bar = PoochProgress(f"downloading {destination.name}", progress)
    try:
        pooch.retrieve(
            url,
            known_hash=f"md5:{md5}" if md5 else None,
            fname=destination.name,
            path=part,
            downloader=pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT_S),
        )
        with open(part / destination.name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part / destination.name, destination)
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
        bar.end()
        shutil.rmtree(part, ignore_errors=True)


class PoochProgress:
    """pooch's progress bar (`total`, `update`, `reset`, `close`), told to a callback."""

    def __init__(self, title: str, progress: ProgressCallback) -> None:
        self._title = title
        self._progress = progress
        self._begun = False
        self._total = 0
        self._done = 0

    @property
    def total(self) -> int:
        """Bytes of the file; 0 if the server does not say."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self._total = total
        self._begun = True
        self._progress.begin(self._title, total or None, "bytes")

    def update(self, num_bytes: int) -> None:
        # pooch counts whole chunks, of which the last has fewer bytes.
        more = min(num_bytes, self._total - self._done) if self._total else num_bytes
        self._done += more
        self._progress.advance(more)

    def reset(self) -> None:
        """At its end pooch resets the bar and fills it; it is filled by then."""

    def close(self) -> None:
        """pooch closes only after a success; `end` is called in any case."""

    def end(self) -> None:
        if self._begun:
            self._progress.end()
