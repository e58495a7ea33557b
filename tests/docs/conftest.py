"""The built site."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the site as `scripts/docs` builds it, which is not done again where nothing changed since."""
    SITE.parent.mkdir(exist_ok=True)
    with FileLock(SITE.parent / "docs.lock"):
        sources = [ROOT / "pyproject.toml", *(ROOT / "docs").rglob("*.*"), *(ROOT / "src").rglob("*.py")]
        index = SITE / "index.html"
        if not index.exists() or index.stat().st_mtime < max(path.stat().st_mtime for path in sources):
            done = subprocess.run(["bash", str(ROOT / "scripts" / "docs")], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    return SITE
