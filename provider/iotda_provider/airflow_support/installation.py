"""The id of this Airflow installation: a part of the names of its batch tasks."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.shared_text import made_once
from iotda_provider.airflow_support.task_notes import PREFIX, notes_of
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.text import one_line

#: The Variable that holds the id if Airflow's configuration does not.
VARIABLE = f"{PREFIX}installation_id"
_NOTE = "installation"
_DESCRIPTION = (
    "Made by the IoTDA provider, and part of the names of the batch tasks that this Airflow makes. "
    "Leave it as it is. In a copy of this Airflow's database set [iotda] installation_id first."
)


def installation_of(context: Context) -> str:
    """The id that a task instance uses in all its tries, even if the Variable changes.

    It is the setting ``[iotda] installation_id``, or else the Variable
    ``iotda_provider.installation_id``, which is made once. It is noted before it is returned, so
    before the task instance creates anything. If the setting differs from the note, the note was
    copied with a database, and the setting is used.

    :raises IoTDAConfigError: there is no setting, and the Variable can't be made
    :raises Exception: Airflow's database or API is down, so the note can't be read or written
    """
    notes, setting = notes_of(context), _setting()
    note = notes.get(_NOTE)
    noted = note.get("id") if isinstance(note, dict) else None
    if isinstance(noted, str) and noted and setting in (None, noted):
        return noted
    used = setting or made_once(VARIABLE, _DESCRIPTION)
    notes.set(_NOTE, {"id": used})
    return used


def refuse_a_copy(planned_by: Any) -> None:
    """Let no copy of a database go on with a release of the original.

    :param planned_by: the id of the installation that has planned the release
    :raises IoTDAConfigError: the setting names another one
    """
    setting = _setting()
    if setting not in (None, planned_by):
        raise IoTDAConfigError(
            f"This release was planned by the installation {one_line(planned_by, 100)}, and "
            f"[iotda] installation_id says that this is {one_line(setting, 100)}. No "
            "device is confirmed here: start a new run."
        )


def _setting() -> str | None:
    from airflow.providers.common.compat.sdk import conf

    return str(conf.get("iotda", "installation_id", fallback="") or "").strip() or None
