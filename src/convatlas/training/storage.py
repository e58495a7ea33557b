"""The database of a sweep, in Optuna's tables: opened or refused in one line, and when a worker was last seen."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from convatlas.errors import UserError

SQLITE_TIMEOUT_S = 60
"""How long a worker waits for a file that others write."""
NUM_ATTEMPTS = 20
"""How often the tables are made anew; workers that start at the same moment get into each other's way."""
HEARTBEATS = sqlalchemy.table(
    "trial_heartbeats", sqlalchemy.column("trial_id"), sqlalchemy.column("heartbeat", sqlalchemy.DateTime)
)


def file_url(path: Path) -> str:
    """The address of a file of SQLite's."""
    return sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def make_file(path: Path) -> None:
    """Make a file of SQLite's with Optuna's tables, whole or not at all; one that is there is left alone.

    Who is killed while Optuna makes tables in place leaves some without their indexes, and Optuna does not miss them:
    then a study is begun twice.

    Raises:
        UserError: it cannot be made.
    """
    if path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with opened_storage(file_url(part)) as storage:
        storage.engine.dispose()
    os.replace(part, path)


@contextmanager
def opened_storage(url: str) -> Iterator[RDBStorage]:
    """The storage at an address, with its tables.

    Raises:
        UserError: it is no address of a database, its driver is not installed, or the database fails, now or within.
    """
    try:
        address = sqlalchemy.make_url(url)
    except (ArgumentError, ValueError) as error:
        # The address itself may hold a password.
        raise UserError(
            "`storage` is not the URL of a database; write it as sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from error
    try:
        yield _connected(address)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UserError(
            f"the storage {shown(address)} cannot be used: {reason(error, address)}; "
            "mend that, and start the sweep again"
        ) from error


def _connected(address: sqlalchemy.URL) -> RDBStorage:
    # What it tells of trials is said in other words.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    is_file = address.get_backend_name() == "sqlite"
    # A worker asks seldom, and a connection that lies idle for hours is cut off by some networks.
    options: dict[str, Any] = {"poolclass": sqlalchemy.NullPool}
    if is_file:
        options["connect_args"] = {"timeout": SQLITE_TIMEOUT_S}
    # Optuna fills in what stands in braces.
    url = address.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    for attempt in range(1, NUM_ATTEMPTS + 1):
        try:
            return RDBStorage(url, options)
        except NoSuchModuleError as error:
            raise UserError(f"{shown(address)} names no kind of database that SQLAlchemy knows") from error
        except ImportError as error:
            raise UserError(
                f"the driver for {shown(address)} is not installed; "
                "pip install 'convatlas[sweep]' brings that for postgresql+psycopg://"
            ) from error
        except (DBAPIError, StorageInternalError) as error:
            # An error of a connection, which has no statement, stays; one of a statement may come of another worker
            # that makes the same tables.
            if attempt == NUM_ATTEMPTS or (isinstance(error, DBAPIError) and error.statement is None):
                raise
            time.sleep(random.uniform(0, 0.2))
    raise AssertionError("the last attempt returns or raises")


def shown(address: sqlalchemy.URL) -> str:
    """The address without what may be secret in it."""
    return address.set(query={}).render_as_string()


def reason(error: BaseException, address: sqlalchemy.URL) -> str:
    """What the driver said, in one line, without a password."""
    while error.__cause__ is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    for secret in (address.password, address.query.get("password")):
        said = said.replace(str(secret), "***") if secret else said
    return " ".join(said.split())


def silence_s(storage: RDBStorage, trial_id: int) -> float | None:
    """Seconds since a trial's worker was last seen, by the database's own clock; None: it has not been seen yet."""
    asked = sqlalchemy.select(HEARTBEATS.c.heartbeat, sqlalchemy.func.now())
    with storage.engine.connect() as connection:
        row = connection.execute(asked.where(HEARTBEATS.c.trial_id == trial_id)).one_or_none()
    if row is None:
        return None
    # PostgreSQL's own time has a zone, and what Optuna keeps has none.
    seen, now = (moment.replace(tzinfo=None) for moment in row)
    return float((now - seen).total_seconds())
