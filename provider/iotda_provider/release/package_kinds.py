"""The kinds of packages that can be released: firmware and software."""

from __future__ import annotations

from typing import NamedTuple

from iotda_provider.models import OtaPackage, TaskType


class Kind(NamedTuple):
    """What can be released.

    :param word: what it is, in words
    :param task_type: the type of its batch tasks
    :param column: the field of ``Device`` with a device's version of it
    """

    word: str
    task_type: TaskType
    column: str


#: By type of package.
KINDS = {
    "firmwarePackage": Kind("firmware", TaskType.FIRMWARE_UPGRADE, "fw_version"),
    "softwarePackage": Kind("software", TaskType.SOFTWARE_UPGRADE, "sw_version"),
}
#: Where a device's version is, by the word for the kind, and by the type of its batch tasks.
COLUMN_OF_WORD = {kind.word: kind.column for kind in KINDS.values()}
COLUMN_OF_TASK_TYPE = {kind.task_type.value: kind.column for kind in KINDS.values()}


def kind_of(package: OtaPackage) -> Kind:
    """What a package is, whose type is one of ``KINDS``."""
    return KINDS[str(package.package_type)]
