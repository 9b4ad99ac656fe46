"""Notes of a task instance that outlive its tries: what a retry, or whoever clears it, must know.

Airflow deletes the XComs of a task instance at the start of every try. Where there is a task state
store (Airflow 3.3) a worker keeps its notes there: it survives tries and clears, and goes with the
DAG run. Before, and for a trigger in every version, which can't reach that store, a note is an
Airflow Variable: whoever has written it deletes it when there is nothing left to remember.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import what_is

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: What the name of every Variable of ours begins with.
PREFIX = "iotda_provider."
#: Bytes of JSON that a note should have at most: some hundred guards rewrite theirs all day.
LARGEST = 9_000

_OWNER = ("dag_id", "run_id", "task_id", "map_index")


def checked_owner(owner: Any) -> dict[str, Any]:
    """The ids of a task instance, of what Airflow's database holds.

    :raises ValueError: they are none
    """
    if not isinstance(owner, Mapping) or not set(_OWNER) <= set(owner):
        raise ValueError(f"owner must be an object with {', '.join(_OWNER)}")
    for name in _OWNER:
        kind = int if name == "map_index" else str
        if not isinstance(owner[name], kind):
            raise ValueError(f"owner: {name} must be {kind.__name__}, got {what_is(owner[name])}")
    return {name: owner[name] for name in _OWNER}


class Notes(Protocol):
    """Where notes are kept: plain JSON by key.

    Any method may raise what Airflow's database or API does when it is down.
    """

    def get(self, key: str) -> Any:
        """What was noted, or None."""

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Note something, in the place of what was noted before."""

    def delete(self, key: str) -> None:
        """Forget it, where there is anything to forget."""


class StoredNotes:
    """Notes in Airflow's task state store, for a worker.

    :param store: ``context["task_state_store"]``
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def get(self, key: str) -> Any:
        return self._store.get(key)

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        self._store.set(key, dict(value))

    def delete(self, key: str) -> None:
        self._store.delete(key)


class VariableNotes:
    """Notes in Airflow Variables, each with the ids of its owner beside the value.

    Every call blocks.

    :param owner: the task instance, as of :func:`owner_of`
    """

    def __init__(self, owner: Mapping[str, Any]) -> None:
        self._owner = checked_owner(owner)

    def name(self, key: str) -> str:
        """The name of the Variable: a readable beginning, and a hash of the ids."""
        ids = json.dumps([self._owner[name] for name in _OWNER])
        return f"{PREFIX}{key}.{hashlib.sha256(ids.encode()).hexdigest()[:32]}"

    def get(self, key: str) -> Any:
        text = _variables().get(self.name(key), None)
        try:
            note = read_json(text or "null")
        except ValueError:  # somebody has edited it
            return None
        if not isinstance(note, dict) or any(
            note.get(name) != self._owner[name] for name in _OWNER
        ):
            return None
        return note.get("value")

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        note = json.dumps({**self._owner, "value": dict(value)}, separators=(",", ":"))
        _variables().set(self.name(key), note, description=self._describe(key))

    def delete(self, key: str) -> None:
        _variables().delete(self.name(key))

    def _describe(self, key: str) -> str:
        ids = ", ".join(f"{name} {self._owner[name]}" for name in _OWNER)
        return (
            f"Kept by the IoTDA provider ({key}) for the next try of a task: {ids}. It may be "
            "deleted once that run is over."
        )


def notes_of(context: Context) -> Notes:
    """The notes of the task instance that runs in this worker."""
    store: Any = context.get("task_state_store")
    return StoredNotes(store) if store is not None else VariableNotes(owner_of(context["ti"]))


def owner_of(ti: Any) -> dict[str, Any]:
    """The ids of a task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``."""
    return {**{name: getattr(ti, name) for name in _OWNER[:3]}, "map_index": _map_index(ti)}


def _map_index(ti: Any) -> int:
    index = getattr(ti, "map_index", None)
    return -1 if index is None else int(index)


def _variables() -> Any:
    from airflow.providers.common.compat.sdk import Variable

    return Variable
