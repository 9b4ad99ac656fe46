"""The package of a release, read by its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDANotFoundError
from iotda_provider.models import OtaPackage
from iotda_provider.release.package_kinds import KINDS
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook


def read_package(hook: IoTDAHook, package_id: str, created: str = "") -> OtaPackage:
    """Read a package that can be released.

    :param created: what the run has created before, as a sentence for the error
    :raises AirflowFailException: there is none, or it is neither firmware nor software
    """
    try:
        package = hook.get_ota_package(package_id)
    except IoTDANotFoundError as error:
        if not is_gone(error):
            raise
        said = f"There is no package {package_id}: {error} {created}"
        raise AirflowFailException(said.rstrip()) from error
    if package.package_type not in KINDS:
        raise AirflowFailException(
            f"Package {package_id} is a {package.package_type}; only firmware and software can be "
            f"released in waves. {created}".rstrip()
        )
    return package
