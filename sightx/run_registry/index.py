"""The index of a folder of runs: an SQLite file in the user's cache, written by readers only.

The directories are the truth. The index is compared with them whenever it is opened: every JSON
file of a run is replaced by a rename, which changes the time of its directory. A file that is
missing, damaged or of another version is built again, in memory if it cannot be written. Training
never touches it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from sightx.io.files import user_cache
from sightx.run_registry.filters import Both, Compare, Filter, In, Like, Missing, Not, Tagged
from sightx.run_registry.summary import MARK, Summary, Value, Values, read_summary

Answer = TypeVar("Answer")

VERSION = 3
_SETTLED = 2_000_000_000  # nanoseconds after which a directory's time tells every change
_PATIENCE = 2.0  # seconds to wait for another reader that writes the index
_SCHEMA = """
CREATE TABLE run(
  id TEXT PRIMARY KEY, inode INTEGER, changed INTEGER, settled INTEGER, "values" TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE key(name TEXT PRIMARY KEY, direction TEXT, runs INTEGER) WITHOUT ROWID;
"""
_EXTRACT = 'json_extract("values", ?)'
_TYPE = 'json_type("values", ?)'


class Row(NamedTuple):
    """A run as the index holds it."""

    summary: Summary
    inode: int
    changed: int
    settled: bool


def index_file(root: Path) -> Path:
    """Return the index of a folder of runs: below SIGHTX_INDEX, else in the user's cache."""
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return user_cache() / f"{digest}.sqlite"


def read_index(root: Path, action: Callable[[Index], Answer], *, rebuild: bool = False) -> Answer:
    """Return what an action returns for the up-to-date index of a folder of runs.

    `rebuild` builds the index from nothing. The action may be called again, because damage may be
    noticed late.
    """
    file = index_file(root)
    for is_damaged in (False, True):
        if is_damaged:
            _remove(file)
        with suppress(OSError, sqlite3.Error, ValueError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with closing(_connect(str(file))) as connection:
                index = Index(connection, root)
                index.refresh(from_nothing=rebuild)
                return action(index)
    with closing(_connect(":memory:")) as connection:  # the file cannot be written
        index = Index(connection, root)
        index.refresh()
        return action(index)


def read_keys(root: Path) -> list[str]:
    """Return the keys that runs have, as the index knows them; [] without an index."""
    file = index_file(root)
    with suppress(OSError, sqlite3.Error, ValueError):
        if file.is_file():
            with closing(_connect(str(file))) as connection:
                return list(Index(connection, root).keys())
    return []


def _remove(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        with suppress(OSError):
            path.unlink()


def _connect(file: str) -> sqlite3.Connection:
    """Return a connection to an index of this version. Raises sqlite3.Error or ValueError."""
    connection = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise ValueError(f"an index of version {version}")
        if not version:
            connection.execute("PRAGMA journal_mode=WAL")
            with _transaction(connection):
                # Another reader may have created the tables while this one waited.
                if not connection.execute("PRAGMA user_version").fetchone()[0]:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("PRAGMA synchronous=NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


class Index:
    """The runs in a folder, to be filtered and sorted by SQLite."""

    def __init__(self, connection: sqlite3.Connection, root: Path) -> None:
        self._connection, self._root = connection, root

    def refresh(self, *, from_nothing: bool = False) -> None:
        """Read the runs that have changed, or all, and forget those that are gone."""
        known = {
            name: (inode, changed, settled)
            for name, inode, changed, settled in self._connection.execute(
                "SELECT id, inode, changed, settled FROM run"
            )
        }
        changed, gone = self._scan({} if from_nothing else known)
        if changed or gone or from_nothing:
            with _transaction(self._connection):
                if from_nothing:  # other readers see the old rows until the new ones are there
                    self._connection.execute("DELETE FROM run")
                    self._connection.execute("DELETE FROM key")
                # Read only now: what another reader has written meanwhile is not older than this.
                self._write([row for row in map(self._read, changed.items()) if row], gone)

    def keys(self) -> dict[str, str]:
        """Return the keys that runs have, with the direction of those that are metrics or ""."""
        return dict(self._connection.execute("SELECT name, direction FROM key ORDER BY name"))

    def example(self, key: str, *, is_text: bool) -> Value | None:
        """Return a value of a key that is text, or one that is not; None if no run has one."""
        types = "'text'" if is_text else "'integer', 'real', 'true', 'false'"
        query = f'SELECT "values" FROM run WHERE {_TYPE} IN ({types}) LIMIT 1'  # noqa: S608
        row = self._connection.execute(query, [_path(key)]).fetchone()
        value: Value | None = json.loads(row[0])[key] if row else None
        return value

    def tags(self) -> set[str]:
        """Return the tags of all runs."""
        query = f"SELECT DISTINCT {_EXTRACT} FROM run"  # noqa: S608 - the key is ours
        rows = self._connection.execute(query, [_path("tags")])
        return {tag for (tags,) in rows for tag in (tags or "").split()}

    def token(self) -> str:
        """Return a text that changes whenever a run changes, is added or is removed."""
        query = (
            "SELECT id, inode, changed, CASE settled WHEN 1 THEN '' ELSE \"values\" END FROM run"
        )
        digest = hashlib.sha256()
        for row in self._connection.execute(query):
            digest.update(repr(row).encode())
        return digest.hexdigest()

    def known(self, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that are runs."""
        query = "SELECT id FROM run WHERE id=?"
        return {id_ for id_ in ids if self._connection.execute(query, (id_,)).fetchone()}

    def count(self, where: Filter | None = None) -> int:
        """Return the number of runs that match a filter."""
        sql, parameters = to_sql(where)
        query = f"SELECT count(*) FROM run WHERE {sql}"  # noqa: S608 - values are parameters
        return int(self._connection.execute(query, parameters).fetchone()[0])

    def select(
        self,
        where: Filter | None = None,
        *,
        sort: str = "",
        descending: bool = True,
        limit: int | None = None,
    ) -> list[Values]:
        """Return the values of runs that match a filter.

        They are sorted by a key, those that lack it last, and then the newest first.
        """
        sql, parameters = to_sql(where)
        order = "id DESC"
        if sort:
            direction = "DESC" if descending else "ASC"
            order = f"{_EXTRACT} IS NULL, {_EXTRACT} {direction}, id DESC"
            parameters = [*parameters, _path(sort), _path(sort)]
        query = f'SELECT "values" FROM run WHERE {sql} ORDER BY {order} LIMIT ?'  # noqa: S608
        rows = self._connection.execute(query, [*parameters, -1 if limit is None else limit])
        return [json.loads(values) for (values,) in rows]

    def _scan(
        self, known: Mapping[str, tuple[int, int, int]]
    ) -> tuple[dict[str, os.stat_result], set[str]]:
        """Return the runs that must be read again, and the names of known runs that are gone."""
        changed, unchanged = {}, set()
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                with suppress(FileNotFoundError):  # it has just been removed
                    status = entry.stat()
                    if known.get(entry.name) == (status.st_ino, status.st_mtime_ns, 1):
                        unchanged.add(entry.name)
                    elif os.path.isfile(f"{entry.path}/{MARK}"):  # noqa: PTH113
                        changed[entry.name] = status
        return changed, set(known) - unchanged - changed.keys()

    def _read(self, run: tuple[str, os.stat_result]) -> Row | None:
        """Return the row of a run whose directory had a status; None if it is gone."""
        name, status = run
        now = time.time_ns()
        summary = read_summary(self._root / name)
        if summary is None:
            return None
        settled = summary.has_ended and now - status.st_mtime_ns > _SETTLED
        return Row(summary, status.st_ino, status.st_mtime_ns, settled)

    def _write(self, rows: Sequence[Row], gone: set[str]) -> None:
        """Replace the rows of runs, remove those that are gone, and count keys."""
        execute = self._connection.execute
        counts: Counter[str] = Counter()
        directions: dict[str, str] = {}
        for id_ in (*(row.summary.id for row in rows), *gone):
            for (values,) in execute('SELECT "values" FROM run WHERE id=?', (id_,)):
                counts.subtract(list(json.loads(values)))
        for row in rows:
            counts.update(row.summary.values.keys())
            directions |= row.summary.directions
        self._connection.executemany("DELETE FROM run WHERE id=?", [(id_,) for id_ in gone])
        self._connection.executemany(
            "INSERT OR REPLACE INTO run VALUES(?, ?, ?, ?, ?)", map(_stored, rows)
        )
        self._connection.executemany(
            "INSERT INTO key VALUES(?1, ?2, ?3) ON CONFLICT(name) DO UPDATE SET runs = runs + ?3, "
            "direction = CASE ?2 WHEN '' THEN direction ELSE ?2 END",
            [(key, directions.get(key, ""), count) for key, count in counts.items() if count],
        )
        execute("DELETE FROM key WHERE runs <= 0")


def _stored(row: Row) -> tuple[str, int, int, bool, str]:
    values = json.dumps(row.summary.values, ensure_ascii=False)
    values = values.encode(errors="replace").decode()  # a path may have bytes that are not UTF-8
    return row.summary.id, row.inode, row.changed, row.settled, values


def to_sql(where: Filter | None) -> tuple[str, list[Value]]:
    """Return a filter as an expression of SQL over the table `run`, and its parameters."""
    match where:
        case None:
            sql, parameters = "1", []
        case Compare(key, "=" | "!=" as operator, value):
            sql, parameters = f"{_EXTRACT} {operator} ?", [_path(key), value]
        case Compare(key, operator, value):
            types = "'text'" if isinstance(value, str) else "'integer', 'real', 'true', 'false'"
            sql = f"CASE WHEN {_TYPE} IN ({types}) THEN {_EXTRACT} {operator} ? END"
            parameters = [_path(key), _path(key), value]
        case In(key, values):
            sql, parameters = (
                f"{_EXTRACT} IN ({', '.join('?' * len(values))})",
                [_path(key), *values],
            )
        case Like(key, pattern):
            sql = f"CASE WHEN {_TYPE} = 'text' THEN {_EXTRACT} GLOB ? END"
            parameters = [_path(key), _path(key), pattern.replace("[", "[[]")]
        case Missing(key):
            sql, parameters = f"{_EXTRACT} IS NULL", [_path(key)]
        case Tagged(tag):
            sql = f"instr(' ' || {_EXTRACT} || ' ', ' ' || ? || ' ') > 0"
            parameters = [_path("tags"), tag]
        case Not(part):
            sql, parameters = to_sql(part)
            sql = f"NOT ({sql})"
        case Both(left, right, is_or):
            (one, first), (other, second) = to_sql(left), to_sql(right)
            sql = f"({one}) {'OR' if is_or else 'AND'} ({other})"
            parameters = [*first, *second]
    return sql, parameters


def _path(key: str) -> str:
    """Return the JSON path of a key; SQLite has no escape for a quote in it."""
    return f'$."{key}"'
