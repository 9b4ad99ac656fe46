"""The OTA-package calls over HTTP."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator import errors
from iotda_provider.emulator.gateway import (
    PREFIX,
    GatewayRoute,
    JsonResponse,
    instance_of,
    read_json,
)
from iotda_provider.emulator.paging import Page, described

_PACKAGES = PREFIX + "/ota-upgrades/packages"
_PACKAGE = _PACKAGES + "/{package_id}"
_TYPES = ("softwarePackage", "firmwarePackage", "modulePackage")
_FILTERS = ("app_id", "package_type", "product_id", "version")

# Each text field's form; those that a package must have come first.
_FORMS = {
    "product_id": r"[A-Za-z0-9_-]{1,36}",
    "version": r"[A-Za-z0-9_.-]{1,256}",
    "app_id": r"[A-Za-z0-9_-]{1,36}",
    "module_name": r"[A-Za-z0-9_.-]{1,64}",
    "description": r"(?s).{0,1024}",
    "custom_info": r"(?s).{0,4096}",
}
_LOCATION_FORMS = {
    "region_name": r"[A-Za-z0-9-]{1,256}",
    "bucket_name": r"[a-z0-9.-]{3,63}",
    "object_key": r"(?s).{1,1024}",
    "sign_method": r"SHA256",
    "sign": r"[0-9a-fA-F]{64}",
}
_SOURCE_VERSION = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_MAX_SOURCE_VERSIONS = 20


routes = APIRouter(route_class=GatewayRoute)


@routes.get(_PACKAGES)
async def list_ota_package_info(request: Request) -> Response:
    query = request.query_params
    page = Page.read(query)
    if query.get("package_type") is not None and query["package_type"] not in _TYPES:
        raise errors.invalid("package_type is not a known type.")
    packages = sorted(
        (
            package
            for package in instance_of(request).present().library.packages.values()
            if all(query.get(n) in (None, package.fields.get(n)) for n in _FILTERS)
        ),
        key=lambda package: package.record_id,
        reverse=True,
    )
    shown = page.cut(package for package in packages if package.record_id < page.marker)
    return JsonResponse(
        {
            "packages": [package.describe(brief=True) for package in shown],
            "page": described(len(packages), shown, lambda package: package.record_id),
        }
    )


@routes.post(_PACKAGES)
async def create_ota_package(request: Request) -> Response:
    package = instance_of(request).run("create_package", fields=_fields(await read_json(request)))
    return JsonResponse(package.describe(), 201)


@routes.get(_PACKAGE)
async def show_ota_package(request: Request, package_id: str) -> Response:
    return JsonResponse(instance_of(request).present().library.package(package_id).describe())


@routes.delete(_PACKAGE)
async def delete_ota_package(request: Request, package_id: str) -> Response:
    instance_of(request).run("delete_package", package_id=package_id)
    return Response(status_code=204)


def _fields(body: object) -> dict[str, Any]:
    """The fields of a package that somebody may have."""
    if not isinstance(body, dict):
        raise errors.bad_format("The body must be a JSON object.")
    if body.get("package_type") not in _TYPES:
        raise errors.invalid(f"package_type must be one of {', '.join(_TYPES)}.")
    fields: dict[str, Any] = {"package_type": body["package_type"]}
    fields.update(_texts(body, _FORMS, ("product_id", "version")))
    if (body["package_type"] == "modulePackage") != ("module_name" in fields):
        raise errors.invalid("module_name belongs to a modulePackage, which needs it.")
    fields["product_name"] = f"product-{fields['product_id'][:8]}"
    versions = body.get("support_source_versions")
    if versions is not None:
        if (
            not isinstance(versions, list)
            or len(versions) > _MAX_SOURCE_VERSIONS
            or not all(isinstance(v, str) and _SOURCE_VERSION.fullmatch(v) for v in versions)
        ):
            raise errors.invalid("support_source_versions must be at most 20 versions.")
        fields["support_source_versions"] = versions
    location = body.get("file_location")
    obs = location.get("obs_location") if isinstance(location, dict) else None
    if not isinstance(obs, dict):
        raise errors.invalid("file_location must have an obs_location.")
    needed = ("region_name", "bucket_name", "object_key")
    fields["file_location"] = {"obs_location": _texts(obs, _LOCATION_FORMS, needed)}
    return fields


def _texts(body: dict[str, Any], forms: dict[str, str], needed: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name, form in forms.items():
        value = body.get(name)
        if value is None and name not in needed:
            continue
        if not isinstance(value, str) or not re.fullmatch(form, value):
            raise errors.invalid(f"{name} is missing or not of the documented form.")
        found[name] = value
    return found
