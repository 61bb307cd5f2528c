"""Keeps finished runs, each under a token that nobody can guess: in SQLite in the data folder, or in PostgreSQL where
``DATABASE_URL`` names a database.

A run is one row, written in one transaction: it is kept whole or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import filelock
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from attention import settings as settings_module
from attention.errors import StoreError
from attention.kept import job as kept_job
from attention.kept.job import KeptJob
from attention.kernels.case import Result
from attention.settings import Settings
from attention.timing.runs import (
    MAX_BYTES,
    Run,
    new,
    parse,
    recorded,
)

log = logging.getLogger(__name__)

SQLITE_WAITS_S = 20
"""Seconds that a writer waits for others. Writers have no queue, so on a busy machine one may wait long."""

TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What a run's token may look like. New tokens have 64 random bits; those of recorded runs are names."""

_metadata = sa.MetaData()
_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    # the order of arrival: the oldest runs stay the oldest even if the clock is set back
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("created", sa.String(40), nullable=False),
    sa.Column("title", sa.String(300), nullable=False),
    sa.Column("label", sa.String(300), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


class Store:
    """Kept runs. One per process is enough; it may be used from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine: sa.Engine | None = None
        self._lock = Lock()

    def save(self, run: Run) -> Run:
        """Keep a run and return it with its token. If there are too many runs, the oldest are removed.

        Raises:
            StoreError: the run is too big, or the store can't be written.
        """
        kept = replace(run, id=_token())
        self._insert(kept.id, kept.created, kept.title, kept.label, kept.dumps())
        return kept

    def save_job(self, job: KeptJob) -> str:
        """Keep a job that has ended and return its token.

        Raises:
            StoreError: the job is too big, or the store can't be written.
        """
        token = _token()
        self._insert(token, job.created, job.title, job.label, job.dumps())
        return token

    def _insert(self, token: str, created: str, title: str, label: str, body: str) -> None:
        if len(body) > MAX_BYTES:
            raise StoreError(f"a kept run is at most {MAX_BYTES:,} bytes, this one has {len(body):,}")
        newest = sa.select(sa.func.coalesce(sa.func.max(_runs.c.number), 0)).scalar_subquery()
        values = {"created": created, "title": title[:300], "label": label[:300], "body": body}
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":
                # without the lock two writers could take the same number; SQLite has one writer at a time anyway
                connection.exec_driver_sql("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE")
            connection.execute(_runs.insert().values(id=token, number=newest + 1, **values))
            connection.execute(_runs.delete().where(_runs.c.number <= newest - self._settings.max_stored_runs))

    def load(self, token: str) -> Run:
        """The run with this token, kept here or shipped with the program.

        Raises:
            StoreError: there is no such run, it is a job, another version kept it, or the store can't be read.
        """
        for run in recorded():
            if run.id == token:
                return run
        body = self._body(token)
        if kept_job.is_one(body):
            raise StoreError("this is the link of a run on another page")
        try:
            return replace(parse(body), id=token)
        except ValueError as error:
            log.exception("run %s can't be read", token)
            raise StoreError("this run was kept by another version and can't be read") from error

    def load_job(self, token: str) -> KeptJob:
        """The job with this token.

        Raises:
            StoreError: there is no such job, it is a run, another version kept it, or the store can't be read.
        """
        body = self._body(token)
        if not kept_job.is_one(body):
            raise StoreError("this is the link of a run on another page")
        try:
            return kept_job.parse(body)
        except ValueError as error:
            log.exception("job %s can't be read", token)
            raise StoreError("this run was kept by another version and can't be read") from error

    def _body(self, token: str) -> str:
        if not TOKEN.fullmatch(token):
            raise StoreError("this is no link to a run")
        with self._transaction() as connection:
            body = connection.scalar(sa.select(_runs.c.body).where(_runs.c.id == token))
        if body is None:
            raise StoreError("this run is not kept here: the link may be mistyped, or the run made room for newer ones")
        return str(body)

    def count(self) -> int:
        """Number of kept runs and jobs, without the shipped ones. Raises StoreError if the store can't be read."""
        with self._transaction() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(_runs)) or 0)

    def close(self) -> None:
        """Close the database. The next use opens it again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._open().begin() as connection:
                yield connection
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            # the driver's message may contain the database's address, so it goes to the log and not to the page
            log.exception("the store of runs failed")
            raise StoreError(
                "the store of kept runs can't be reached at the moment; download the run as JSON to keep it"
            ) from error

    def _open(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                url = self._settings.database_url
                if url:
                    self._engine = _with_tables(_postgresql(url))
                else:
                    folder = self._settings.data_path
                    folder.mkdir(parents=True, exist_ok=True)
                    # making tables, and the change to a write-ahead log, fail at once where another process does the
                    # same: SQLite does not wait there. So processes take turns
                    with filelock.FileLock(folder / "runs.lock", timeout=SQLITE_WAITS_S):
                        self._engine = _with_tables(_sqlite(folder / "runs.sqlite3"))
            return self._engine


def _token() -> str:
    # hexadecimal, because a command line reads a token that begins with "-" as an option
    return secrets.token_hex(8)


def _with_tables(engine: sa.Engine) -> sa.Engine:
    try:
        _metadata.create_all(engine)
    except SQLAlchemyError:
        # another process may have made the tables after this one looked for them
        if not sa.inspect(engine).has_table(_runs.name):
            engine.dispose()
            raise
    return engine


def _sqlite(file: Path) -> sa.Engine:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": SQLITE_WAITS_S})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # the driver begins a transaction late and only for some statements: "begin" below replaces that
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _postgresql(url: str) -> sa.Engine:
    try:
        address = sa.make_url(url)
    except (SQLAlchemyError, ValueError):
        # SQLAlchemy's own message quotes the address with its password
        raise StoreError("DATABASE_URL must look like postgresql://user:password@host/name") from None
    if address.get_backend_name() not in ("postgres", "postgresql"):
        raise StoreError(f"DATABASE_URL must name a PostgreSQL database, got one of {address.get_backend_name()}")
    engine = sa.create_engine(
        address.set(drivername="postgresql+psycopg"),
        # a connection that died with the database is noticed and replaced
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=4,
        pool_timeout=5,
        connect_args={"connect_timeout": 3, "options": "-c statement_timeout=5000"},
    )
    return engine


process_store: Store | None = None
_store_lock = Lock()


def store() -> Store:
    """This process's store. The first call makes it, from the settings of that moment."""
    global process_store
    with _store_lock:
        if process_store is None:
            process_store = Store(settings_module.load())
        return process_store


def link(run: Run) -> str:
    """The path of a kept run's address, without the server's name."""
    return f"/timings?run={run.id}"


def save_results(results: Sequence[Result]) -> str:
    """Keep timings taken in this process, with its host and calibration, and return their link.

    Raises:
        StoreError: the run is too big, or the store can't be written.
        ValueError: there is nothing to keep.
    """
    from attention.timing.speed import calibrate

    if not results:
        raise ValueError("nothing was timed, so there is no run to keep")
    # the timing has calibrated already, so this does not measure again
    calibration = calibrate(results[0].case.device).to_json()
    return link(store().save(new(results, calibration=calibration, source="command line")))
