"""Where downloaded data sets and decoded images lie."""

import os
from pathlib import Path

VARIABLE = "CONVATLAS_DATA"
DECODED = "CONVATLAS_CACHE"


def cache_folder() -> Path:
    """Of data sets: the folder named by the environment variable `CONVATLAS_DATA`, else the platform's own."""
    return _named(VARIABLE) or _platforms()


def decoded_folder() -> Path:
    """Of decoded images: the folder named by the environment variable `CONVATLAS_CACHE`, else the platform's own.

    It is another than that of data sets, which may be shared by many and not be written by all.
    """
    return _named(DECODED) or _platforms() / "decoded"


def _named(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return Path(named).expanduser() if named else None


def _platforms() -> Path:
    # Loaded here: starting the command must not pay for it.
    from platformdirs import user_cache_path

    return user_cache_path("convatlas")
