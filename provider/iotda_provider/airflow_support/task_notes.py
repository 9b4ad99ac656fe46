"""Notes of a task instance for its next try, after a retry or a clear.

Airflow deletes the XComs of a task instance at the start of each try. In Airflow 3.3 and later a
worker keeps notes in the task state store, which survives tries and clears and is deleted with the
DAG run. Before 3.3, and in triggers (they can't reach that store), a note is an Airflow Variable:
the task that wrote it deletes it when it is not needed any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from iotda_provider.airflow_support.supervisor import present_supervisor
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.models.json_text import read_json
from iotda_provider.models.text import what_is

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: The prefix of all Variables of the provider.
PREFIX = "iotda_provider."
#: Bytes of JSON that the value of a note should have at most: hundreds of guards rewrite theirs all
#: day, and a waiting guard keeps 10 kB at most, with its XComs ``live`` and ``rollout``, and 0.4 kB
#: more for each further batch task that it guards.
LARGEST = 5_500

# What Airflow 3's API says of a Variable that does not exist.
_NOT_FOUND = "VARIABLE_NOT_FOUND"
_OWNER = ("dag_id", "run_id", "task_id", "map_index")


def checked_owner(owner: Any) -> dict[str, Any]:
    """Check the ids of a task instance that Airflow's database held.

    :raises ValueError: an id is missing or has the wrong type
    """
    if not isinstance(owner, Mapping) or not set(_OWNER) <= set(owner):
        raise ValueError(f"owner must be an object with {', '.join(_OWNER)}")
    for name in _OWNER:
        kind = int if name == "map_index" else str
        if not isinstance(owner[name], kind):
            raise ValueError(f"owner: {name} must be {kind.__name__}, got {what_is(owner[name])}")
    return {name: owner[name] for name in _OWNER}


class Notes(Protocol):
    """A store of notes: plain JSON by key.

    While Airflow's database or API is down, any method may raise its error.
    """

    def get(self, key: str) -> Any:
        """The note, or None."""

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        """Write a note; replaces the one before."""

    def delete(self, key: str) -> None:
        """Delete a note, if there is one."""


class VariableNotes:
    """Notes in Airflow Variables, each with its owner's ids beside the value; all calls block.

    :param owner: the task instance's ids, from :func:`owner_of`
    """

    def __init__(self, owner: Mapping[str, Any]) -> None:
        self._owner = checked_owner(owner)

    def name(self, key: str) -> str:
        """The Variable's name: a readable prefix, and a hash of the owner's ids."""
        ids = json.dumps([self._owner[name] for name in _OWNER])
        return f"{PREFIX}{key}.{hashlib.sha256(ids.encode()).hexdigest()[:32]}"

    def get(self, key: str) -> Any:
        text = variables().get(self.name(key), None)
        try:
            note = read_json(text or "null")
        except ValueError:  # a person has edited it
            return None
        if not isinstance(note, dict) or any(
            note.get(name) != self._owner[name] for name in _OWNER
        ):
            return None
        return note.get("value")

    def set(self, key: str, value: Mapping[str, Any]) -> None:
        note = json.dumps({**self._owner, "value": dict(value)}, separators=(",", ":"))
        variables().set(self.name(key), note, description=self._describe(key))

    def delete(self, key: str) -> None:
        variables().delete(self.name(key))

    def _describe(self, key: str) -> str:
        ids = ", ".join(f"{name} {self._owner[name]}" for name in _OWNER)
        return (
            f"Kept by the IoTDA provider ({key}) for the next try of a task: {ids}. It may be "
            "deleted once that run is over."
        )


def notes_of(context: Context) -> Notes:
    """The notes of the task instance that runs in this worker."""
    store: Any = context.get("task_state_store")
    return store if store is not None else VariableNotes(owner_of(context["ti"]))


def owner_of(ti: Any) -> dict[str, Any]:
    """The ids of a task instance: ``dag_id``, ``run_id``, ``task_id``, ``map_index``."""
    return {**{name: getattr(ti, name) for name in _OWNER[:3]}, "map_index": _map_index(ti)}


def _map_index(ti: Any) -> int:
    index = getattr(ti, "map_index", None)
    return -1 if index is None else int(index)


class Variables:
    """Airflow's Variables; an Airflow that is away is an error, never a missing Variable.

    Airflow's own class ignores errors of its API and database: ``get`` returns the default then,
    and up to Airflow 3.2 ``set`` only logs them.
    """

    def get(self, name: str, default: str | None = None) -> str | None:
        """The Variable's text, or the default if Airflow says that there is no such Variable.

        :raises IoTDATransportError: Airflow does not say
        """
        from airflow.providers.common.compat.sdk import Variable

        found = Variable.get(name, None)
        if found is None:
            found = _second_look(name)
        return default if found is None else str(found)

    def set(self, name: str, text: str, description: str) -> None:
        """Write a Variable.

        :raises Exception: whatever Airflow raises if its API or database is down
        """
        supervisor = present_supervisor()
        if supervisor is None:
            from airflow.providers.common.compat.sdk import Variable

            Variable.set(name, text, description=description)
            return
        from airflow.sdk.execution_time.comms import PutVariable

        supervisor.send(PutVariable(key=name, value=text, description=description))

    def delete(self, name: str) -> None:
        """Delete a Variable, if there is one."""
        from airflow.providers.common.compat.sdk import Variable

        Variable.delete(name)


def variables() -> Variables:
    """Airflow's Variables."""
    return Variables()


def _second_look(name: str) -> str | None:
    """A Variable's text, from Airflow's API or database alone; None: there is none."""
    try:
        supervisor = present_supervisor()
        if supervisor is None:
            from airflow.secrets.metastore import MetastoreBackend

            return MetastoreBackend().get_variable(name)
        from airflow.sdk.execution_time.comms import GetVariable

        answer: Any = supervisor.send(GetVariable(key=name))
        reason = getattr(answer, "error", None)
        if reason is None:
            return None if answer.value is None else str(answer.value)
    except Exception as error:  # noqa: BLE001 - Airflow may fail in many ways
        # Airflow 3's AirflowRuntimeError holds the API's answer.
        reason = getattr(getattr(error, "error", None), "error", None) or type(error).__name__
    kind = str(getattr(reason, "value", reason))
    if kind == _NOT_FOUND:
        return None
    raise IoTDATransportError(
        f"The Airflow Variable {name} can't be read now: Airflow's API or its database is away "
        f"({kind}).",
        sent=False,
    )
