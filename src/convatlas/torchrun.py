"""Which of the processes that torchrun started this one is. Nothing here loads torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
ADDRESS, PORT = "MASTER_ADDR", "MASTER_PORT"
COUNTS = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")


@dataclass(frozen=True)
class Worker:
    """A process alone, or one of those that train together."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among those of this machine."""
    local_world_size: int = 1
    restarts: int = 0
    """How often torchrun has started them again, after one was lost."""
    max_restarts: int = 0

    @classmethod
    def from_env(cls) -> Self:
        """From torchrun's environment variables.

        Other launchers set some of them too, and shells keep them. Unless all are there and agree, this process is
        alone: what somebody else left must not silence it, nor let it wait for others that do not exist.
        """
        try:
            numbers, port = [int(os.environ[name]) for name in NUMBERS], int(os.environ[PORT])
            worker = cls(*numbers, *(int(os.environ.get(name, "0")) for name in COUNTS))
        except (KeyError, ValueError):
            return cls()
        agree = (
            worker.world_size > 1
            and 0 <= worker.local_rank < worker.local_world_size <= worker.world_size
            and worker.local_rank <= worker.rank < worker.world_size
        )
        return worker if agree and port and os.environ.get(ADDRESS) else cls()

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the process that writes files and prints."""
        return self.rank == 0


def leftover() -> str:
    """What to say of a training that is alone although WORLD_SIZE speaks of others; mostly nothing."""
    told = os.environ.get("WORLD_SIZE", "1")
    if told == "1" or Worker.from_env().world_size > 1:
        return ""
    return f"training alone: WORLD_SIZE is {told!r}, but not all that torchrun sets beside it is there"
