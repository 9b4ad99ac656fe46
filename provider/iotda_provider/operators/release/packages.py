"""The package of a release, read by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.release.package_kinds import KINDS

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.models import OtaPackage


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
