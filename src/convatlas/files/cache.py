"""The folders of what is downloaded, and of decoded images."""

import os
from collections.abc import Callable
from pathlib import Path

from convatlas.errors import UserError

VARIABLE = "CONVATLAS_DATA"
DECODED = "CONVATLAS_CACHE"


def cache_folder() -> Path:
    """For downloads: the folder in the environment variable `CONVATLAS_DATA`, else the platform's cache folder."""
    return _named(VARIABLE) or _platforms()


def decoded_folder() -> Path:
    """For decoded images: the folder in the environment variable `CONVATLAS_CACHE`, else the platform's cache folder.

    It is not the folder of downloads, which many may share and not all may write.
    """
    return _named(DECODED) or _platforms() / "decoded"


def _named(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return _at_home(Path(named).expanduser) if named else None


def _platforms() -> Path:
    # Loaded here: starting the command must not pay for it.
    from platformdirs import user_cache_path

    return _at_home(lambda: user_cache_path("convatlas"))


def _at_home(find: Callable[[], Path]) -> Path:
    """
    Raises:
        UserError: it is at home, and this user has none, as those that containers make up.
    """
    try:
        return find()
    except RuntimeError as error:
        raise UserError(
            f"no home folder is known for the cache; set {DECODED} and {VARIABLE} to folders that you may write"
        ) from error
