"""Keeps what an emulator needs after a restart in one SQLite file.

The world follows from its scenario, its seed and the commands that changed it. So the commands are
kept: each is in the file before it is answered, and a restart repeats them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.state.journal import MAX_ENTRIES, Entry

# Increased whenever the same commands would make another world than before.
FORMAT = 2

# The journal's oldest entries are deleted each time after this many new ones.
_SWEEP = 1000
_OWNER_ONLY = 0o600
_OTHERS = 0o077

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS commands (
    n INTEGER PRIMARY KEY, at INTEGER NOT NULL, name TEXT NOT NULL, arguments TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS journal (n INTEGER PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fault_counts (
    fault_id TEXT PRIMARY KEY, seen INTEGER NOT NULL, fired INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class Command:
    """Something that changed the world, and when (virtual microseconds)."""

    at: int
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Identity:
    """What the world of a state file was made from."""

    scenario: object
    seed: int
    start_time: float


@dataclass(frozen=True)
class Anchor:
    """A real time, and the virtual time at that moment.

    ``real`` is in seconds since 1970, ``virtual`` in microseconds.
    """

    real: float
    virtual: int
    speed: float


class Store:
    """One state file. It survives a killed emulator; a power cut may lose the last call.

    :param path: the file; created if it does not exist
    :raises ScenarioError: the file is not a state file, or of another format
    """

    def __init__(self, path: Path) -> None:
        self._db = _open(path)
        if self._get("format") not in (None, FORMAT):
            self.close()
            raise ScenarioError(f"{path} was made by another version of the emulator")
        self._put("format", FORMAT)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _get(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _put(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, _text(value)))

    @property
    def identity(self) -> Identity | None:
        """Which world this is the state of; None: of none yet."""
        value = self._get("identity")
        return None if value is None else Identity(*value)

    def identify(self, scenario: object, seed: int, start_time: float) -> None:
        """Write which world this is the state of."""
        self._put("identity", [scenario, seed, start_time])

    @property
    def anchor(self) -> Anchor | None:
        """Where virtual time stood."""
        value = self._get("anchor")
        return None if value is None else Anchor(*value)

    @anchor.setter
    def anchor(self, anchor: Anchor) -> None:
        self._put("anchor", [anchor.real, anchor.virtual, anchor.speed])

    def append(self, command: Command) -> None:
        """Keep a command; it is in the file when this returns."""
        self._db.execute(
            "INSERT INTO commands (at, name, arguments) VALUES (?, ?, ?)",
            (command.at, command.name, _text(command.arguments)),
        )

    def commands(self) -> Iterator[Command]:
        """All commands, in the order in which they were given."""
        rows = self._db.execute("SELECT at, name, arguments FROM commands ORDER BY n").fetchall()
        return (Command(at, name, json.loads(arguments)) for at, name, arguments in rows)

    def note(self, entry: Entry) -> None:
        """Keep an entry of the journal."""
        number = entry["n"]
        self._db.execute("INSERT INTO journal VALUES (?, ?)", (number, _text(entry)))
        if number % _SWEEP == 0:
            self._db.execute("DELETE FROM journal WHERE n <= ?", (number - MAX_ENTRIES,))

    def forget_notes(self) -> None:
        """Delete the journal's entries."""
        self._db.execute("DELETE FROM journal")

    def notes(self) -> list[Entry]:
        """The journal's last entries, oldest first."""
        rows = self._db.execute(
            "SELECT entry FROM journal ORDER BY n DESC LIMIT ?", (MAX_ENTRIES,)
        ).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def count_fault(self, fault_id: str, seen: int, fired: int) -> None:
        """Keep the counts of a fault's rule."""
        self._db.execute(
            "INSERT OR REPLACE INTO fault_counts VALUES (?, ?, ?)", (fault_id, seen, fired)
        )

    def fault_counts(self) -> list[tuple[str, int, int]]:
        """The counts of each rule."""
        return self._db.execute("SELECT fault_id, seen, fired FROM fault_counts").fetchall()


def _open(path: Path) -> sqlite3.Connection:
    db = None
    try:
        if not path.exists():
            # The file contains the scenario and the calls, passwords included.
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, _OWNER_ONLY))
        # The emulator opens it in one thread and serves in another, never both at once.
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        # Two emulators on one file would each write only a part of the commands.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(_SCHEMA)
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists() and file.stat().st_mode & _OTHERS:
                file.chmod(_OWNER_ONLY)
    except (sqlite3.DatabaseError, OSError) as error:
        if db is not None:
            db.close()
        in_the_way = isinstance(error, (sqlite3.OperationalError, OSError))
        what = "can't be used as" if in_the_way else "is not"
        raise ScenarioError(f"{path} {what} a state file: {error}") from None
    return db


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
