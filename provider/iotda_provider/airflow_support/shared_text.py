"""A random text that all tasks of an Airflow share: made once, stored in a Variable."""

from __future__ import annotations

import re
import secrets
import time
from datetime import datetime, timezone
from typing import Any

from iotda_provider.airflow_support import task_notes
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models.times import read_platform_time

_MADE = re.compile(r"([0-9]{8}T[0-9]{6})Z_[a-z0-9]{1,64}")
#: Seconds between writing the text and reading it again.
_SECONDS_TO_SETTLE = 3.0
#: Seconds in which another task may still overwrite a new text with its own.
_FRESH_SECONDS = 15.0
_MOST_LOOKS = 10


def made_once(name: str, description: str) -> str:
    """The text of an Airflow Variable; the first task that asks for it makes it.

    Airflow can't create a Variable only if there is none: several first tasks may write at the same
    time, and the last one wins. So a task that has made the text, or finds one that was made just
    now, waits, reads it again, and uses what it reads. A text that a person has written is used
    as it is.

    :param name: the Variable's name
    :param description: the Variable's description, which Airflow shows
    :raises IoTDAConfigError: the Variable can't be made
    """
    text = _read(name)
    if text is None:
        _write(name, _new(), description)
    for _ in range(_MOST_LOOKS):
        if text is not None and not _is_fresh(text):
            return text
        time.sleep(_SECONDS_TO_SETTLE)
        before, text = text, _read(name)
        if text is not None and text == before:
            return text
        if text is None:
            _write(name, _new(), description)
    raise IoTDAConfigError(
        f"The Airflow Variable {name} could not be made: it can't be written, or somebody changes "
        "it all the time. Make it by hand, with a text of your own."
    )


def _new() -> str:
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}_{secrets.token_hex(16)}"


def _is_fresh(text: str) -> bool:
    match = _MADE.fullmatch(text)
    if match is None:
        return False
    try:
        made = read_platform_time(f"{match[1]}Z")
    except ValueError:
        return False
    return abs((datetime.now(timezone.utc) - made).total_seconds()) < _FRESH_SECONDS


def _read(name: str) -> str | None:
    text = task_notes.variables().get(name, None)
    return (str(text).strip() or None) if text is not None else None


def _write(name: str, text: str, description: str) -> None:
    try:
        task_notes.variables().set(name, text, description=description)
    except Exception as error:  # noqa: BLE001 - another task may have written at the same moment
        _log().warning("The Variable %s could not be written: %s", name, error)


def _log() -> Any:
    import logging

    return logging.getLogger("airflow.task")
