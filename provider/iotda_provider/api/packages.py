"""The calls on upgrade packages.

Source: "OTA Upgrade Package Management" of the IoTDA API reference, and the request models of
``huaweicloudsdkiotda.v5``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from iotda_provider.api.call import MAX_PAGE, Call, Page, Repeat, nothing, page_of, page_query
from iotda_provider.api.identifiers import (
    check_id,
    check_package_id,
    check_package_type,
    check_text,
    check_version,
    check_versions,
    optional,
)
from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.models import OtaPackage
from iotda_provider.models.text import what_is

_PACKAGES = "/v5/iot/{project_id}/ota-upgrades/packages"
_MODULE_PACKAGE = "modulePackage"
_MODULE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DESCRIPTION = re.compile(r"(?s).{1,1024}")
_CUSTOM_INFO = re.compile(r"(?s).{1,4096}")
# Where a file is in OBS: the form of each field, and the form in words.
_LOCATION = {
    "region_name": (re.compile(r"[A-Za-z0-9-]{1,256}"), "1 to 256 letters, digits or -"),
    "bucket_name": (re.compile(r"[a-z0-9.-]{3,63}"), "3 to 63 characters of a-z, 0-9, - and ."),
    "object_key": (re.compile(r"(?s).{1,1024}"), "text of 1 to 1024 characters"),
    "sign": (re.compile(r"[A-Fa-f0-9]{64}"), "the file's SHA-256: 64 characters of a-f and 0-9"),
}


class _NeededFields(TypedDict):
    app_id: str
    package_type: str
    product_id: str
    version: str
    obs_location: Mapping[str, str | None]


class PackageFields(_NeededFields, total=False):
    """The arguments of :func:`create_package`."""

    module_name: str | None
    support_source_versions: Sequence[str] | None
    description: str | None
    custom_info: str | None


def list_packages(
    *,
    package_type: str,
    product_id: str | None = None,
    version: str | None = None,
    marker: str | None = None,
    limit: int = MAX_PAGE,
) -> Call[Page[OtaPackage]]:
    """A page of upgrade packages; the platform does not send where their files are.

    :param package_type: ``firmwarePackage``, ``softwarePackage`` or ``modulePackage``
    """
    query = page_query(
        limit,
        marker,
        package_type=check_package_type(package_type),
        product_id=optional(check_id, product_id, "product_id"),
        version=optional(check_version, version),
    )
    return Call(
        action="list upgrade packages",
        path=_PACKAGES,
        query=query,
        read=lambda data: page_of(data, "packages", OtaPackage.from_wire, limit, marker),
        permission="iotda:otapackages:queryList",
    )


def show_package(package_id: str) -> Call[OtaPackage]:
    """One upgrade package."""
    package = check_package_id(package_id)
    return Call(
        action=f"read upgrade package {package}",
        path=f"{_PACKAGES}/{package}",
        read=OtaPackage.from_wire,
        permission="iotda:otapackages:query",
    )


def create_package(
    *,
    app_id: str,
    package_type: str,
    product_id: str,
    version: str,
    obs_location: Mapping[str, str | None],
    module_name: str | None = None,
    support_source_versions: Sequence[str] | None = None,
    description: str | None = None,
    custom_info: str | None = None,
) -> Call[OtaPackage]:
    """Register a file in OBS as an upgrade package.

    The instance must have the right to read OBS (the agency ``iotda_admin_trust``).

    :param app_id: the resource space, which the platform requires
    :param package_type: ``firmwarePackage``, ``softwarePackage`` or ``modulePackage``
    :param product_id: the product whose devices the package is for
    :param version: 1 to 256 letters, digits, ``_``, ``-`` or ``.``
    :param obs_location: ``region_name``, ``bucket_name``, ``object_key`` and, if wanted, ``sign``:
        the file's SHA-256 as hexadecimal text, which devices get with the package
    :param module_name: of a ``modulePackage``, which needs it; other types take none
    :param support_source_versions: 1 to 20 versions from which devices can be upgraded; None: any
    :param description: at most 1,024 characters
    :param custom_info: at most 4,096 characters, which devices get with the package
    """
    body: dict[str, Any] = {
        "app_id": check_id(app_id, "app_id"),
        "package_type": check_package_type(package_type),
        "product_id": check_id(product_id, "product_id"),
        "version": check_version(version),
        "file_location": {"obs_location": _check_location(obs_location)},
    }
    if (package_type == _MODULE_PACKAGE) != (module_name is not None):
        raise IoTDAConfigError(f"module_name is for a {_MODULE_PACKAGE}, which needs it.")
    if module_name is not None:
        form = "1 to 64 letters, digits, _, - or ."
        body["module_name"] = check_text(module_name, "module_name", _MODULE, form)
    if support_source_versions is not None:
        versions = check_versions(support_source_versions, "support_source_versions")
        body["support_source_versions"] = versions
    if description is not None:
        form = "text of 1 to 1024 characters"
        body["description"] = check_text(description, "description", _DESCRIPTION, form)
    if custom_info is not None:
        form = "text of 1 to 4096 characters"
        body["custom_info"] = check_text(custom_info, "custom_info", _CUSTOM_INFO, form)
    return Call(
        action=f"create the {package_type} {body['version']} of product {product_id}",
        method="POST",
        path=_PACKAGES,
        body=body,
        read=OtaPackage.from_wire,
        repeat=Repeat.ONCE,
        permission="iotda:otapackages:create",
    )


def delete_package(package_id: str) -> Call[None]:
    """Delete an upgrade package. Its file stays in OBS."""
    package = check_package_id(package_id)
    return Call(
        action=f"delete upgrade package {package}",
        method="DELETE",
        path=f"{_PACKAGES}/{package}",
        read=nothing,
        repeat=Repeat.ONCE,
        permission="iotda:otapackages:delete",
    )


def _check_location(value: object) -> dict[str, str]:
    """Where a package's file is in OBS. A ``sign`` of None is left out."""
    if not isinstance(value, Mapping):
        raise IoTDAConfigError(
            f"obs_location must be an object; got {what_is(value, instead_of='an object')}."
        )
    unknown = [name for name in value if name not in _LOCATION]
    if unknown:
        raise IoTDAConfigError(
            f"obs_location takes {', '.join(_LOCATION)}; got {what_is(unknown[0])} as a field's "
            "name."
        )
    given = {name: item for name, item in value.items() if (name, item) != ("sign", None)}
    return {
        name: check_text(given.get(name), f"obs_location.{name}", pattern, form)
        for name, (pattern, form) in _LOCATION.items()
        if name in given or name != "sign"
    }
