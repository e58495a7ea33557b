"""A process that carries out commands, each without a new start of Python, and answers with what each printed, opened,
listed or connected to: a program, since Python cannot take such a hook away again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import Any

from convatlas.cli import main

WATCHED = {"open", "os.listdir", "os.scandir", "socket.connect", "socket.getaddrinfo"}
events: list[tuple[str, str]] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in WATCHED and not isinstance(arguments[0], int):
        where = arguments[1] if event == "socket.connect" else arguments[0]
        is_path = isinstance(where, str | bytes | os.PathLike)
        events.append((event, os.path.abspath(os.fsdecode(where)) if is_path else str(where)))


sys.addaudithook(note)
for line in sys.stdin:
    asked = json.loads(line)
    os.environ |= asked["environment"]
    os.chdir(asked["folder"])
    sys.argv = ["convatlas", *asked["words"]]
    events.clear()
    status, out, err = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    answer = {"status": status, "out": out.getvalue(), "err": err.getvalue(), "events": events}
    print(json.dumps(answer), flush=True)
