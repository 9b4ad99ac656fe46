"""The releases that are under way in this Airflow: a list in an Airflow Variable. Its calls block.

The list is in the order in which they have begun: a release gives way to those before it, so no two
give way to each other. Two that write at the same moment may overwrite each other's note, because
Airflow can't lock a Variable: so each wave writes its release's note again, and then reads the
others'.

A note ends with its release's outcome. Until then it counts until its ``end``, and only while
Airflow says that its DAG run is under way: a release that is dead blocks nobody.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from iotda_provider.airflow_support import task_notes
from iotda_provider.airflow_support.dag_runs import is_under_way
from iotda_provider.airflow_support.dags import PAUSED, find_dag
from iotda_provider.models.json_text import read_json
from iotda_provider.models.log import Log
from iotda_provider.models.text import one_line
from iotda_provider.release.other_releases import LIFETIME, ReleaseNote, notes_in

#: The Variable with the list.
VARIABLE = f"{task_notes.PREFIX}releases_under_way"
_DESCRIPTION = (
    "Made by the IoTDA provider: the releases that are under way, so that later ones leave the "
    "devices of their groups alone. A note counts until its release has ended, or its DAG run. "
    "It may be deleted while there is none."
)
#: The most characters of the list, and the most notes of it that are read.
_LONGEST, _MOST = 1_000_000, 200


def others(dag_id: str, run_id: str, log: Log) -> list[ReleaseNote]:
    """The releases of other DAG runs that are under way, for a release without a note of its own.

    :raises Exception: Airflow's database or API is down
    """
    return [
        one
        for one in _read(log)
        if (one.dag_id, one.run_id) != (dag_id, run_id) and _is_under_way(one, log)
    ]


def paused(ti: Any, log: Log) -> list[ReleaseNote]:
    """The releases under way whose DAG is paused: Airflow starts no further task of them.

    Airflow 3.1 does not tell a task which DAGs are paused: there it is empty.

    :param ti: the running task instance, which asks
    :raises Exception: Airflow's database or API is down
    """
    notes = _read(log)
    dags = {one.dag_id for one in notes}
    held = {dag_id for dag_id in dags if find_dag(ti, dag_id) == PAUSED}
    return [one for one in notes if one.dag_id in held and _is_under_way(one, log)]


def enter(note: ReleaseNote, log: Log) -> list[ReleaseNote]:
    """Note that a release is under way; returns the releases of other DAG runs before it.

    Its place in the list stays; notes of releases that are over are removed. If another process
    overwrites its note at the same moment, all others count as begun before it.

    :raises Exception: Airflow's database or API is down
    """
    own = replace(note, end=time.time() + LIFETIME)
    known = [one for one in _read(log) if one.release != own.release]
    over = {one.release for one in known if not _is_under_way(one, log)}
    # Others may have written while Airflow answered.
    notes = [
        own if one.release == own.release else one for one in _read(log) if one.release not in over
    ]
    _write(notes if own in notes else [*notes, own])
    before = takewhile(lambda one: one.release != own.release, _read(log))
    # No release of the same DAG run is another one.
    return [
        one
        for one in before
        if one.release not in over and (one.dag_id, one.run_id) != (own.dag_id, own.run_id)
    ]


def leave(release: str, log: Log) -> None:
    """Note that a release is over; where that is impossible, its note ends with its DAG run.

    :param release: names it, as its note does
    """
    try:
        notes = _read(log)
        left = [one for one in notes if one.release != release]
        if len(left) < len(notes):
            _write(left)
    except Exception as error:  # noqa: BLE001 - Airflow may fail in many ways
        said = one_line(repr(error), 300)
        log.warning("Its note for other releases counts until this DAG run ends: %s", said)


def recall(run: Mapping[str, Any], note: ReleaseNote | None, log: Log) -> list[ReleaseNote] | None:
    """:func:`enter`, or :func:`others` where there is no note; None: they can't be read.

    :param run: ``dag_id`` and ``run_id`` of this release
    """
    try:
        return enter(note, log) if note else others(run["dag_id"], run["run_id"], log)
    except Exception as error:  # noqa: BLE001 - Airflow may fail in many ways
        said = one_line(repr(error), 300)
        log.warning("The notes of other releases (%s) can't be read: %s", VARIABLE, said)
        return None


def _write(notes: list[ReleaseNote]) -> None:
    text = json.dumps([one.to_json() for one in notes], separators=(",", ":"))
    task_notes.variables().set(VARIABLE, text, description=_DESCRIPTION)


def _is_under_way(note: ReleaseNote, log: Log) -> bool:
    if note.end < time.time():
        return False
    try:
        return is_under_way(note.dag_id, note.run_id)
    except Exception as error:  # noqa: BLE001 - Airflow may fail in many ways
        said = one_line(repr(error), 200)
        log.warning("%s counts as under way, as Airflow can't be asked: %s", note, said)
        return True


def _read(log: Log) -> list[ReleaseNote]:
    text = task_notes.variables().get(VARIABLE, None)
    try:
        if text is not None and len(str(text)) > _LONGEST:
            raise ValueError(f"it has {len(str(text))} characters")
        notes, faults = notes_in(read_json(str(text)) if text else None)
    except ValueError as error:
        notes, faults = [], [str(error)]
    if faults:
        log.warning(
            "The Variable %s has %d note(s) of releases that can't be used, and are passed over, "
            "first: %s",
            VARIABLE,
            len(faults),
            faults[0],
        )
    return notes[:_MOST]
