"""What files and folders are called."""

import unicodedata
from contextlib import suppress

CARD = "model.json"
RECORD = "run.json"
"""By these, a folder of a model or of a run is told from a folder of images."""


def composed(name: str) -> str:
    """A name as UTF-8 spells it and Unicode composes it (NFC), the same on every system.

    File systems differ in whether an accent is part of its letter. In a locale of ASCII, Python holds each byte of
    other letters as a surrogate.
    """
    # Windows allows surrogates that stand for no byte.
    with suppress(UnicodeEncodeError):
        name = name.encode(errors="surrogateescape").decode(errors="surrogateescape")
    return unicodedata.normalize("NFC", name)
