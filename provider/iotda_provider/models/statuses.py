"""The words of the batch-task API: types, and statuses that know what they mean.

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
    """A word of the API; compares equal to its spelling on the wire."""

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def from_wire(cls: type[_Member], value: object) -> _Member:
        """Read a word that the platform sent; one that we do not know yet keeps its spelling.

        A word added by the platform later must not break a running guard, so it becomes a member
        named ``UNKNOWN`` that means nothing: not ended, not successful. A user's own input is read
        with the plain constructor, which refuses what it does not know.

        :raises ValueError: it is not even text
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
        # An enum's own way finds its members only.
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
        """Whether the platform stops and retries tasks of this type at all."""
        return self in (TaskType.SOFTWARE_UPGRADE, TaskType.FIRMWARE_UPGRADE)

    @property
    def is_confirmable(self) -> bool:
        """Whether the platform lets targets of this type wait for a confirmation."""
        return self.is_stoppable or self is TaskType.MODULE_UPGRADE


class TaskStatus(_WireWord):
    """Where a batch task stands as a whole."""

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
        """Whether the task has ended and will not change by itself any more."""
        return self.is_completed or self is TaskStatus.STOPPED

    @property
    def is_completed(self) -> bool:
        """Whether the task ran to its own end: nobody stopped it."""
        return self in (TaskStatus.SUCCESS, TaskStatus.FAIL, TaskStatus.PARTIAL_SUCCESS)

    @property
    def is_stop(self) -> bool:
        """Whether somebody has stopped the task, be it still under way."""
        return self in (TaskStatus.STOPPED, TaskStatus.STOPPING)


class SubtaskStatus(_WireWord):
    """Where one target of a batch task stands."""

    WAITING = "Waitting"
    PROCESSING = "Processing"
    SUCCESS = "Success"
    FAIL = "Fail"
    FAIL_WAIT_RETRY = "FailWaitRetry"
    STOPPED = "Stopped"
    REMOVED = "Removed"

    @property
    def is_terminal(self) -> bool:
        """Whether the platform will do nothing more for this target by itself."""
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
