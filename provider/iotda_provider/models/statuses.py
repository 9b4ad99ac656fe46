"""The types and statuses of batch tasks and their subtasks.

Values on the wire keep the vendor's spelling (``Waitting``); names in Python are spelled right
(``WAITING``).
"""

from __future__ import annotations

from enum import Enum
from typing import Any, TypeVar

from iotda_provider.models.text import one_line

_Member = TypeVar("_Member", bound="_WireWord")

_LONGEST_WORD = 60


class _WireWord(str, Enum):
    """A word of the API. It equals its spelling on the wire."""

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def from_wire(cls: type[_Member], value: object) -> _Member:
        """Read a word that the platform sent. An unknown word keeps its spelling.

        A word that the platform adds later must not break a running guard: it becomes a value named
        ``UNKNOWN``, for which every property is False. For a user's input use the constructor,
        which refuses unknown words.

        :raises ValueError: it is not text
        """
        try:
            return cls(value)
        except ValueError:
            if not isinstance(value, str):
                raise ValueError(f"{cls.__name__} is no text but {value!r}") from None
            word = str.__new__(cls, one_line(value, _LONGEST_WORD))
            word._name_ = "UNKNOWN"
            word._value_ = str.__str__(word)
            return word

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        # Enum's own method finds members only, not UNKNOWN.
        return type(self).from_wire, (self._value_,)


class TaskType(_WireWord):
    """What a batch task does to its targets."""

    SOFTWARE_UPGRADE = "softwareUpgrade"
    FIRMWARE_UPGRADE = "firmwareUpgrade"
    MODULE_UPGRADE = "moduleUpgrade"
    CREATE_DEVICES = "createDevices"
    DELETE_DEVICES = "deleteDevices"
    FREEZE_DEVICES = "freezeDevices"
    UNFREEZE_DEVICES = "unfreezeDevices"
    CREATE_COMMANDS = "createCommands"
    CREATE_ASYNC_COMMANDS = "createAsyncCommands"
    CREATE_MESSAGES = "createMessages"
    UPDATE_DEVICE_SHADOWS = "updateDeviceShadows"
    UPDATE_DEVICES = "updateDevices"

    @property
    def is_stoppable(self) -> bool:
        """Whether the platform can stop and retry tasks of this type."""
        return self in (TaskType.SOFTWARE_UPGRADE, TaskType.FIRMWARE_UPGRADE)

    @property
    def is_confirmable(self) -> bool:
        """Whether targets of tasks of this type can wait for a confirmation."""
        return self.is_stoppable or self is TaskType.MODULE_UPGRADE


class TaskStatus(_WireWord):
    """The status of a whole batch task."""

    INITIALIZING = "Initializing"
    WAITING = "Waitting"
    PROCESSING = "Processing"
    SUCCESS = "Success"
    FAIL = "Fail"
    PARTIAL_SUCCESS = "PartialSuccess"
    STOPPED = "Stopped"
    STOPPING = "Stopping"

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended and does not change by itself any more."""
        return self.is_completed or self is TaskStatus.STOPPED

    @property
    def is_completed(self) -> bool:
        """Whether the task ran to its end, and nobody stopped it."""
        return self in (TaskStatus.SUCCESS, TaskStatus.FAIL, TaskStatus.PARTIAL_SUCCESS)

    @property
    def is_stop(self) -> bool:
        """Whether somebody has stopped the task, or is stopping it."""
        return self in (TaskStatus.STOPPED, TaskStatus.STOPPING)


class SubtaskStatus(_WireWord):
    """The status of one target of a batch task."""

    WAITING = "Waitting"
    PROCESSING = "Processing"
    SUCCESS = "Success"
    FAIL = "Fail"
    FAIL_WAIT_RETRY = "FailWaitRetry"
    STOPPED = "Stopped"
    REMOVED = "Removed"

    @property
    def is_terminal(self) -> bool:
        """Whether the platform does nothing more for this target by itself."""
        return self in (
            SubtaskStatus.SUCCESS,
            SubtaskStatus.FAIL,
            SubtaskStatus.STOPPED,
            SubtaskStatus.REMOVED,
        )

    @property
    def is_stoppable(self) -> bool:
        """Whether a stop changes a target in this status."""
        return self in (
            SubtaskStatus.PROCESSING,
            SubtaskStatus.WAITING,
            SubtaskStatus.FAIL_WAIT_RETRY,
        )


#: The types of batch tasks that upgrade devices, and those of them that can be stopped.
UPGRADES = (TaskType.FIRMWARE_UPGRADE, TaskType.SOFTWARE_UPGRADE, TaskType.MODULE_UPGRADE)
STOPPABLE_UPGRADES = tuple(kind for kind in UPGRADES if kind.is_stoppable)
#: The statuses of a batch task that has not ended, and of a target that has no outcome.
UNDER_WAY = tuple(status for status in TaskStatus if not status.is_terminal)
WITHOUT_OUTCOME = tuple(status for status in SubtaskStatus if status.is_stoppable)
