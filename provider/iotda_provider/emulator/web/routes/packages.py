"""The OTA-package calls over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from iotda_provider.emulator.common.paging import described
from iotda_provider.emulator.service.request_models import CreateOtaPackage, ListOtaPackageInfo
from iotda_provider.emulator.web.gateway import (
    PREFIX,
    GatewayRoute,
    JsonResponse,
    instance_of,
    read_json,
)

_PACKAGES = PREFIX + "/ota-upgrades/packages"
_PACKAGE = _PACKAGES + "/{package_id}"
_FILTERS = ("app_id", "package_type", "product_id", "version")


routes = APIRouter(route_class=GatewayRoute)


@routes.get(_PACKAGES)
async def list_ota_package_info(request: Request) -> Response:
    query = ListOtaPackageInfo.read(request.query_params)
    packages = sorted(
        (
            package
            for package in instance_of(request).present().library.packages.values()
            if all(getattr(query, n) in (None, package.fields.get(n)) for n in _FILTERS)
        ),
        key=lambda package: package.record_id,
        reverse=True,
    )
    page = query.page
    shown = page.cut(package for package in packages if package.record_id < page.marker)
    return JsonResponse(
        {
            "packages": [package.describe(brief=True) for package in shown],
            "page": described(len(packages), shown, lambda package: package.record_id),
        }
    )


@routes.post(_PACKAGES)
async def create_ota_package(request: Request) -> Response:
    asked = CreateOtaPackage.read(await read_json(request))
    fields = asked.model_dump(exclude_none=True)
    fields["product_name"] = f"product-{asked.product_id[:8]}"
    package = instance_of(request).run("create_package", fields=fields)
    return JsonResponse(package.describe(), 201)


@routes.get(_PACKAGE)
async def show_ota_package(request: Request, package_id: str) -> Response:
    return JsonResponse(instance_of(request).present().library.package(package_id).describe())


@routes.delete(_PACKAGE)
async def delete_ota_package(request: Request, package_id: str) -> Response:
    instance_of(request).run("delete_package", package_id=package_id)
    return Response(status_code=204)
