"""Where downloaded data sets lie."""

import os
from pathlib import Path

VARIABLE = "CONVATLAS_DATA"


def cache_folder() -> Path:
    """The folder named by the environment variable `CONVATLAS_DATA`, else the platform's own cache folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    # Loaded here: starting the command must not pay for it.
    from platformdirs import user_cache_path

    return user_cache_path("convatlas")
