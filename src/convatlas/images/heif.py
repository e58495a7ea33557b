"""HEIF images (.heic), as phones write them: the package pillow-heif decodes them, where it is installed."""

from __future__ import annotations

HEIF = "HEIF"
"""Pillow's name of the format, once the package is registered."""


def version() -> str | None:
    """Of the package; None where it is not installed."""
    # It takes as long to import as half of this room.
    from importlib import metadata

    try:
        return metadata.version("pillow-heif")
    except metadata.PackageNotFoundError:
        return None


def register() -> None:
    """Teach Pillow the format."""
    from pillow_heif import register_heif_opener

    register_heif_opener()
