"""The database of a sweep: workers that come at once share it; what cannot be used is one line without a password."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy
from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from sqlalchemy.exc import OperationalError

from convatlas.errors import UserError
from convatlas.training.storage import file_url, make_file, opened_storage, reason


def refusal(url: str) -> str:
    with pytest.raises(UserError) as error, opened_storage(url):
        pass
    line = str(error.value)
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("secret", "`storage` is not the URL of a database; write it as sqlite:///FILE or postgresql+psycopg://USER@"),
        ("postgresql+psycopg://user:secret@host:port/name", "`storage` is not the URL of a database"),
        ("sql://user:secret@host/name", "sql://user:***@host/name names no kind of database that SQLAlchemy knows"),
        ("redis://host", "redis://host names no kind of database"),
        (
            "mssql+pymssql://user:secret@host/name",
            "the driver for mssql+pymssql://user:***@host/name is not installed; pip install 'convatlas[sweep]' brings",
        ),
        ("sqlite:////no/such/folder/a.db", "a.db cannot be used: unable to open database file"),
        ("postgresql+psycopg:///name?host=/no/such/folder&password=secret", "No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_one_line(url: str, message: str) -> None:
    assert message in (line := refusal(url))
    assert "secret" not in line


def test_so_is_what_a_server_refuses(postgresql: Callable[[], sqlalchemy.URL]) -> None:
    address = postgresql()
    for wrong, message in (
        (address.set(password="secret"), "password authentication failed for user"),
        (address.set(database="secrets"), 'database "secrets" does not exist'),
        (address.set(query={**address.query, "port": "1"}), "No such file or directory"),
    ):
        assert message in (line := refusal(wrong.render_as_string(hide_password=False)))
        assert str(wrong.password) not in line


def test_what_a_database_says_of_a_password_is_not_repeated() -> None:
    address = sqlalchemy.make_url("postgresql+psycopg://user:hidden@host/name?password=covered")
    assert reason(OperationalError("SELECT", {}, Exception("hidden\n and covered")), address) == "*** and ***"


def test_workers_may_make_the_tables_at_the_same_moment(shared_storage: str) -> None:
    start = Barrier(3, timeout=60)

    def worker(_: int) -> str:
        start.wait()
        with opened_storage(shared_storage) as storage:
            return storage.get_current_version()

    with ThreadPoolExecutor(3) as workers:
        assert len(set(workers.map(worker, range(3)))) == 1


def test_a_database_that_fails_later_is_one_line_too(sqlite: str) -> None:
    def use() -> None:
        with opened_storage(sqlite) as storage:
            with storage.engine.begin() as connection:
                connection.execute(sqlalchemy.text("DROP TABLE trial_heartbeats"))
            storage.record_heartbeat(1)

    with pytest.raises(UserError, match=r"cannot be used: .*trial_heartbeats") as error:
        use()
    assert len(str(error.value).splitlines()) == 1


def test_a_worker_waits_long_for_a_file_that_others_write(sqlite: str) -> None:
    with opened_storage(sqlite) as storage, storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000


@pytest.mark.parametrize("name", ["a b", "a?b#c", "50%25", "{x}", "ö"])
def test_a_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with opened_storage(file_url(tmp_path / name / "study.db")):
        assert (tmp_path / name / "study.db").is_file()


KILLED = """
import os, signal, sys
import sqlalchemy
from pathlib import Path
from convatlas.training.storage import make_file

@sqlalchemy.event.listens_for(sqlalchemy.Engine, "after_cursor_execute")
def kill(connection, cursor, statement, parameters, context, many):
    if "CREATE TABLE studies" in statement:
        os.kill(os.getpid(), signal.SIGKILL)

make_file(Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_file_whose_making_was_killed_is_made_whole(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -signal.SIGKILL
    assert not path.exists()
    make_file(path)
    make_file(path)
    assert list(tmp_path.iterdir()) == [path]
    with opened_storage(file_url(path)) as storage:
        # Without its index, a name would not be taken.
        storage.create_new_study([StudyDirection.MAXIMIZE], "mine")
        with pytest.raises(DuplicatedStudyError):
            storage.create_new_study([StudyDirection.MAXIMIZE], "mine")
