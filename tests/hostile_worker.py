"""A process that uses folders as a person would: for each path that it is sent, it opens what is there, predicts,
evaluates, reports or resumes, and answers with what that took. It is a program, for a memory limit and for hangs."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import convatlas as ca
from convatlas.data import Split
from convatlas.errors import UserError
from convatlas.runs.command import command
from convatlas.runs.report import write_report
from convatlas.training import Progress

FUSE = 8 * 2**30
"""Bytes of address space beyond which a folder is not even tried, so that this machine stays usable."""
IMAGES = Path(__file__).parent / "formats" / "images"
PHOTO = Image.new("L", (40, 30), 255)
PHOTO.paste(0, (12, 8, 20, 25))


class EnoughError(Exception):
    """Training would take its first step now."""


class StopAtOnce(Progress):
    def begin(self, *_: object) -> None:
        raise EnoughError


def held_bytes(name: str) -> int:
    """What this process holds (VmRSS) or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def uses(folder: Path) -> dict[str, Callable[[], object]]:
    """What can be done with it, by the names that answers have."""
    opened = ca.load(folder)
    card = opened.card
    side, channels = card.preprocessing.resize, card.preprocessing.channels
    few = Split(np.zeros((4, channels, min(side, 1024), min(side, 1024)), np.uint8), np.arange(4) % len(card.classes))
    found: dict[str, Callable[[], object]] = {"show": lambda: (repr(opened), card.to_json())}
    if isinstance(opened, ca.Run):
        found["show"] = lambda: (repr(opened), card.to_json(), opened.record.to_json(), command(opened))
        if not opened.is_finished:
            return found | {"resume": lambda: ca.resume(folder, progress=StopAtOnce())}
        found["report"] = lambda: write_report(opened, data=IMAGES, device="cpu")
    return found | {
        "predict": lambda: opened.predict(PHOTO, device="cpu"),
        "evaluate": lambda: opened.evaluate(IMAGES, device="cpu"),
        "evaluate few": lambda: opened.evaluate(few, device="cpu") if side <= 1024 else None,
    }


def tried(folder: Path) -> dict[str, Any]:
    """How each use of a folder ended, the time that it took and the memory beyond what was held before."""
    answer: dict[str, Any] = {"ends": {}, "seconds": 0.0, "bytes": 0, "trouble": ""}

    def attempt(name: str, use: Callable[[], Any]) -> Any:
        Path("/proc/self/clear_refs").write_text("5")
        begun, before = time.process_time(), held_bytes("VmRSS")
        end = "done"
        try:
            return use()
        except UserError as error:
            end = "refused"
            if len(str(error).splitlines()) != 1 or len(str(error)) > 10_000:
                answer["trouble"] = f"{name}: {error}"
        except EnoughError:
            end = "begun"
        except Exception:
            end = "trouble"
            answer["trouble"] = f"{name}: {traceback.format_exc()}"
        finally:
            answer["ends"][name] = end
            answer["seconds"] = max(answer["seconds"], time.process_time() - begun)
            answer["bytes"] = max(answer["bytes"], held_bytes("VmHWM") - before)

    for name, use in (attempt("open", lambda: uses(folder)) or {}).items():
        attempt(name, use)
    return answer


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (held_bytes("VmSize") + FUSE, resource.RLIM_INFINITY))
    for line in sys.stdin:
        with contextlib.redirect_stdout(io.StringIO()):
            answer = tried(Path(json.loads(line)))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
