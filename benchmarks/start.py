"""How long does the command take to start?

    python benchmarks/start.py

Wall-clock time of whole processes, from start to exit: each command once to fill the disk cache, then nine times in
turn.
"""

from __future__ import annotations

import subprocess
import sys
import time

import measured

COMMANDS = {
    "convatlas --help": ["--help"],
    "convatlas show lenet5": ["show", "lenet5"],
    "convatlas list": ["list"],
}
ROUNDS = 9


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    program = "from convatlas.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for arguments in COMMANDS.values():
        seconds(arguments)
    turns = [{command: seconds(arguments) for command, arguments in COMMANDS.items()} for _ in range(ROUNDS)]
    measured.write(
        "start",
        "python benchmarks/start.py",
        {"seconds": {command: measured.spread([turn[command] for turn in turns]) for command in COMMANDS}},
    )


if __name__ == "__main__":
    main()
