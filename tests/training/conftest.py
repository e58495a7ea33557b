"""A few small images, and databases that the workers of a sweep share: files of SQLite's, and a PostgreSQL server of
the tests' own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas import atlas
from convatlas.weights.cifar import CHENYAOFO

if TYPE_CHECKING:
    import sqlalchemy

PASSWORD = "open-sesame"


@pytest.fixture(scope="session")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise in color, 28 pixels: 9 images to train on, 6 to test."""
    root = tmp_path_factory.mktemp("shades") / "shades"
    generator = np.random.default_rng(0)
    for split, numbers in (("train", (5, 4)), ("test", (3, 3))):
        for name, brightness, num in zip(("dark", "light"), (60, 180), numbers, strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(num):
                noise = generator.normal(brightness, 20, (28, 28, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of resnet20-cifar-b, named as chenyaofo's."""
    torch.manual_seed(0)
    variant = atlas.find("resnet20-cifar-b")
    names = CHENYAOFO.names(variant.spec)
    tensors = {}
    for name, tensor in variant.network(variant.spec).state_dict().items():
        place = names.there(name)
        if place is not None and not name.endswith("num_batches_tracked"):
            tensors[place[0]] = tensor
    path = tmp_path_factory.mktemp("checkpoint") / "theirs.pt"
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], sqlalchemy.URL]]:
    """`postgresql()` is the address of a new database, on a private server that listens on a Unix socket."""
    # Tests of what else training does run where it is not installed.
    import sqlalchemy

    pwd = pytest.importorskip("pwd", reason="the server listens on a Unix socket, and runs as another user than root")
    found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))][::-1]
    programs = next((Path(path).resolve().parent for path in found if path), None)
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    # The server refuses to run as root.
    is_root = os.geteuid() == 0
    names = {user.pw_name for user in pwd.getpwall()}
    user = next((name for name in ("postgres", "nobody") if name in names), None) if is_root else None
    if is_root and user is None:
        pytest.skip("there is no user as whom a PostgreSQL server could run")
    folder = Path(tempfile.mkdtemp(prefix="convatlas-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            for path in (folder / "password", folder):
                shutil.chown(path, user)
        as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user is not None else {}
        subprocess.run(
            [
                programs / "initdb", "-D", "data", "-U", "sweeper", "-A", "scram-sha-256", "--pwfile", "password",
                "--no-sync", "--locale", "C", "-E", "UTF8",
            ],
            cwd=folder, check=True, capture_output=True, **as_user,
        )  # fmt: skip
        settings = {
            "listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "log_min_messages": "log",
        }  # fmt: skip
        server = subprocess.Popen(
            [programs / "postgres", "-D", "data", *(f"--{name}={value}" for name, value in settings.items())],
            cwd=folder, stderr=subprocess.PIPE, text=True, **as_user,
        )  # fmt: skip
        assert server.stderr is not None
        lines = []
        while "ready to accept connections" not in (line := server.stderr.readline()):
            lines.append(line)
            assert line, "".join(lines)
        numbers = count()

        def new_database() -> sqlalchemy.URL:
            address = sqlalchemy.URL.create(
                "postgresql+psycopg", "sweeper", PASSWORD, database="postgres", query={"host": str(folder)}
            )
            name = f"sweep{next(numbers)}"
            engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return address.set(database=name)

        try:
            yield new_database
        finally:
            # At once, whoever is connected.
            server.send_signal(signal.SIGQUIT)
            server.communicate()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """The address of a new database."""
    return f"sqlite:///{tmp_path / 'shared.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_storage(request: pytest.FixtureRequest) -> str:
    """The address of a new database of each kind in turn."""
    found = request.getfixturevalue(request.param)
    return found if isinstance(found, str) else found().render_as_string(hide_password=False)
