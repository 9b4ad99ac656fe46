"""The packages that can be released: firmware and software."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.models import OtaPackage, TaskType

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook


class Kind(NamedTuple):
    """What can be released.

    :param word: what it is, in words
    :param task_type: the type of its batch tasks
    :param column: where a device's version of it is: a field of ``Device``
    """

    word: str
    task_type: TaskType
    column: str


#: By type of package.
KINDS = {
    "firmwarePackage": Kind("firmware", TaskType.FIRMWARE_UPGRADE, "fw_version"),
    "softwarePackage": Kind("software", TaskType.SOFTWARE_UPGRADE, "sw_version"),
}
#: By the word for it, where a device's version is.
COLUMNS = {kind.word: kind.column for kind in KINDS.values()}


def kind_of(package: OtaPackage) -> Kind:
    """What a package is that :func:`read_package` has read."""
    return KINDS[str(package.package_type)]


def read_package(hook: IoTDAHook, package_id: str) -> OtaPackage:
    """Read a package that can be released.

    :raises AirflowFailException: there is none, or it is neither firmware nor software
    """
    try:
        package = hook.get_ota_package(package_id)
    except IoTDANotFoundError as error:
        raise AirflowFailException(f"There is no package {package_id}: {error}") from error
    if package.package_type not in KINDS:
        raise AirflowFailException(
            f"Package {package_id} is a {package.package_type}; only firmware and software can be "
            "released in waves."
        )
    return package
