"""Downloads: checked, continued where they broke off, and at their place only when complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convatlas.errors import UserError
from convatlas.files.cache import VARIABLE
from convatlas.files.lock import clear_lock, lock
from convatlas.files.progress import SILENT, ProgressCallback, reported

TIMEOUT_S = 30
"""Seconds without an answer after which a download is given up."""
CHUNK_BYTES = 2**18
PARTIAL, TOO_FAR = 206, 416
"""Status of an answer with the rest of a file, and of one to a request for what is behind its end."""


def download(url: str, destination: Path, *, checksum: str | None = None, progress: ProgressCallback = SILENT) -> Path:
    """Fetch `url` to the file `destination` and return it; a file that is there already is left alone.

    What a download that broke off has fetched is kept if there is a checksum to hold the whole against, and the next
    one asks for the rest.

    Args:
        checksum: the algorithm and the digest or its beginning, as "sha256:7be5be79".

    Raises:
        UserError: the address does not answer, what it sent does not have the checksum, or it cannot be written.
    """
    if not destination.exists():
        with place_for(destination):
            # Another process may have fetched it while this one waited.
            if not destination.exists():
                _fetch(url, destination, checksum, progress)
    clear_lock(destination.parent)
    return destination


@contextmanager
def place_for(destination: Path) -> Iterator[None]:
    """Hold the lock of the folder of a file to come. Folders that are made for it go again if none comes.

    Raises:
        UserError: the folder cannot be made or written.
    """
    folder = destination.parent
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with lock(folder, wait=True):
            yield
    except BaseException as error:
        remove_empty(missing)
        if isinstance(error, OSError):
            why = error.strerror or error
            raise UserError(
                f"{destination} cannot be written ({why}); set {VARIABLE} to a folder where it can"
            ) from error
        raise


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, of which each lies in the next, up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def has_checksum(file: Path, checksum: str) -> bool:
    """Whether a file's digest is, or begins with, that of an algorithm, as "md5:0123456789abcdef..."."""
    algorithm, _, expected = checksum.partition(":")
    with open(file, "rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest().startswith(expected)


def _fetch(url: str, destination: Path, checksum: str | None, progress: ProgressCallback) -> None:
    import requests

    part = destination.with_name(f".{destination.name}.part")
    if checksum is None:
        part.unlink(missing_ok=True)
    try:
        while True:
            continued = part.exists()
            _receive(url, part, f"downloading {destination.name}", progress)
            if checksum is None or has_checksum(part, checksum):
                os.replace(part, destination)
                return
            part.unlink()
            if not continued:
                raise UserError(f"{url} sent another file than expected (its checksum differs)")
            # The first half may have been another version's: once more, whole.
    except requests.RequestException as error:
        if part.exists() and (checksum is None or not part.stat().st_size):
            part.unlink()
        kept = f"; {part} is kept, and the next try continues" if part.exists() else ""
        raise UserError(
            f"{url} could not be fetched ({type(error).__name__}){kept}; check the network, "
            f"or put the file at {destination} yourself"
        ) from error


def _receive(url: str, part: Path, title: str, progress: ProgressCallback) -> None:
    """Fetch what is missing of a file, all of it unless the server can send a part."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    # As it is stored: a server that compressed it could not send a part.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if have and answer.status_code == TOO_FAR:
            return
        answer.raise_for_status()
        rest = answer.status_code == PARTIAL
        length = int(answer.headers.get("Content-Length", 0))
        total = (have if rest else 0) + length if length else None
        with open(part, "ab" if rest else "wb") as file, reported(progress, title, total, "bytes") as advance:
            if rest:
                advance(have)
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
