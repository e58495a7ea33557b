"""A server that shows a museum to browsers on this machine, and to no other."""

from __future__ import annotations

import errno
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from convatlas.errors import UserError
from convatlas.museum.folder import MARK, is_museum

HOST = "127.0.0.1"


class MuseumServer:
    """Serves a museum's folder from its beginning on: `with MuseumServer(folder) as server: server.serve()`."""

    def __init__(self, folder: str | Path, port: int = 0) -> None:
        """
        Args:
            port: 0: one that is free.

        Raises:
            UserError: the folder holds no museum, or the port is taken.
        """
        folder = Path(folder)
        if not is_museum(folder):
            raise UserError(f"{folder} holds no museum ({MARK}); convatlas museum build --out {folder} makes one")
        try:
            self._server = ThreadingHTTPServer((HOST, port), partial(QuietHandler, directory=str(folder)))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise UserError(f"port {port} cannot be used here ({error.strerror}); choose another") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.server_close()

    @property
    def address(self) -> str:
        """What to type into a browser."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Answer browsers until `stop` is called in another thread, or an exception ends it, as by Ctrl-C."""
        self._server.serve_forever()

    def stop(self) -> None:
        """End `serve`."""
        self._server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Without a line for each request. Pages are asked for anew each time: a museum may be built again meanwhile."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        # Elsewhere they are what some program on the machine registered, and browsers load nothing else as scripts.
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".css": "text/css",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *args: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def list_directory(self, path: object) -> None:
        self.send_error(404, "No such page")
