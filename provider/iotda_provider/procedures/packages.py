"""Creates an upgrade package once for each product, type and version, and deletes packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iotda_provider import api
from iotda_provider.api import pagination
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
    OtaPackageDiffersError,
)
from iotda_provider.models import OtaPackage
from iotda_provider.models.text import one_line
from iotda_provider.procedures import CallsIO
from iotda_provider.procedures.batch_tasks import delete
from iotda_provider.waiting.outage import is_gone

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LONGEST_VALUE = 90
_LONGEST_DIFFERENCES = 1_000
# The characters of a difference's value that are shown before the place where it begins to differ.
_SAME_SHOWN = 20


@dataclass(frozen=True)
class CreatedPackage:
    """The upgrade package of one product, type and version.

    :param created: whether it was created now; False: it existed before
    :param surplus: the ids of younger packages that are the same, if the platform has any
    """

    package: OtaPackage
    created: bool
    surplus: tuple[str, ...] = ()


async def create_package_once(io: CallsIO, **package: Unpack[api.PackageFields]) -> CreatedPackage:
    """Create an upgrade package, unless its product has one of this type and version.

    It looks for the package before it creates it, and again after an answer that was lost and after
    a refusal: another process may have created the same one meanwhile. A package that is found is
    read and compared with the one that is asked for. If it differs, nothing is created.

    :param package: the arguments of ``create_ota_package``. A ``description`` or a ``sign`` that is
        left out is not compared
    :raises OtaPackageDiffersError: the existing package differs; the message names both
    """
    creation = api.create_package(**package)  # refuses bad input before anything is sent
    wanted: Mapping[str, Any] = creation.body
    found = await _find(io, wanted)
    if found:
        return _oldest(found, wanted, created=False)
    for attempts_left in (1, 0):
        try:
            made = await io.perform(creation)
            break
        except (IoTDAAuthError, IoTDAThrottledError):
            raise
        except (IoTDAApiError, IoTDATransportError) as trouble:
            is_lost = isinstance(trouble, (IoTDATransportError, IoTDAServerError))
            found = await _find(io, wanted)
            if found:
                return _oldest(found, wanted, created=is_lost)
            if not is_lost or not attempts_left:
                raise
    try:
        found = await _find(io, wanted)
    except IoTDAError:  # this look is only a precaution: the package was created
        found = []
    others = [one for one in found if one.package_id != made.package_id]
    return _oldest([made, *others], wanted, created=True, made=made)


async def delete_package(io: CallsIO, package_id: str) -> None:
    """Delete an upgrade package. It is no error if a call whose answer was lost deleted it."""
    await delete(io, api.delete_package(package_id), api.show_package(package_id))


async def _find(io: CallsIO, wanted: Mapping[str, Any]) -> list[OtaPackage]:
    """The packages of the wanted product, type, version and module, whatever their resource space.

    Each is read by itself, because the list leaves out where its file is.
    """
    rows = pagination.Listing(
        api.list_packages,
        package_type=wanted["package_type"],
        product_id=wanted["product_id"],
        version=wanted["version"],
    )
    found: list[OtaPackage] = []
    while rows.next is not None:
        for row in rows.take(await io.perform(rows.next)):
            # The platform may ignore a filter.
            if (
                row.version == wanted["version"]
                and row.product_id in (None, wanted["product_id"])
                and row.package_type in (None, wanted["package_type"])
                and (row.module_name or None) == wanted.get("module_name")
            ):
                found.append(row)
    details = await io.perform_all([api.show_package(row.package_id) for row in found])
    for one in details:
        if isinstance(one, IoTDAError) and not is_gone(one):
            raise one
    return [one for one in details if isinstance(one, OtaPackage)]


def _oldest(
    found: list[OtaPackage],
    wanted: Mapping[str, Any],
    *,
    created: bool,
    made: OtaPackage | None = None,
) -> CreatedPackage:
    """Choose the oldest package of several that are the same.

    :param made: the package that this call created, which is not compared
    :raises OtaPackageDiffersError: one of the others differs
    """
    for one in found:
        different = [] if one is made else differences(one, wanted)
        if different:
            ours = f" Package {made.package_id} was created beside it." if made else ""
            raise OtaPackageDiffersError(
                f"Upgrade package {one.package_id} is the {wanted['package_type']} "
                f"{one_line(wanted['version'], _LONGEST_VALUE)} of product "
                f"{wanted['product_id']} already, but is not the one that is asked for: "
                f"{one_line('; '.join(different), _LONGEST_DIFFERENCES)}. It stays as it is.{ours} "
                "Give the new build a version of its own, or delete the package if no batch task "
                "needs it."
            )
    oldest, *others = sorted(found, key=lambda one: (one.create_time or "", one.package_id))
    return CreatedPackage(oldest, created, tuple(one.package_id for one in others))


def differences(package: OtaPackage, wanted: Mapping[str, Any]) -> list[str]:
    """The differences between a package and the wanted one, each in words.

    :param package: as read by itself, not from a list
    :param wanted: the body of the request that would create it
    """
    location = package.raw.get("file_location")
    file = location.get("obs_location") if isinstance(location, Mapping) else None
    has: dict[str, Any] = {**package.raw, **(file if isinstance(file, Mapping) else {})}
    wants: dict[str, Any] = {**wanted, **wanted["file_location"]["obs_location"]}
    names = ["region_name", "bucket_name", "object_key", "support_source_versions", "custom_info"]
    # The platform may fill these in by itself.
    names += [name for name in ("sign", "description") if name in wants]
    names += ["app_id"] if has.get("app_id") else []
    different = []
    for name in names:
        one, other = _comparable(name, has.get(name)), _comparable(name, wants.get(name))
        if one != other:
            shown = _difference(one, other)
            different.append(f"{name} is {shown[0]}, but {shown[1]} is wanted")
    return different


def _comparable(name: str, value: Any) -> Any:
    """A value for comparison: texts without spaces around them, versions in any order."""
    if name == "support_source_versions":
        return sorted(map(str, value)) if isinstance(value, (list, tuple)) and value else None
    if not isinstance(value, str):
        return value or None
    text = value.strip()
    return (text.lower() if name == "sign" else text) or None


def _difference(one: Any, other: Any) -> tuple[str, str]:
    """Two values, shortened so that one sees where they differ."""
    texts = [value if isinstance(value, str) else repr(value) for value in (one, other)]
    start = 0
    if max(map(len, texts)) > _LONGEST_VALUE:
        pairs = enumerate(zip(*texts, strict=False))
        same = next((at for at, (a, b) in pairs if a != b), min(map(len, texts)))
        start = max(0, same - _SAME_SHOWN)
    shown = []
    for value, text in zip((one, other), texts, strict=True):
        part = one_line(text[start:], _LONGEST_VALUE)
        part = f"…{part}" if start else part
        shown.append(repr(part) if isinstance(value, str) else part)
    return shown[0], shown[1]
