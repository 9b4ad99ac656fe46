"""The OTA-package calls over HTTP."""

from __future__ import annotations

from fastapi import Request, Response

from iotda_provider.emulator.common.paging import listed
from iotda_provider.emulator.service.request_models import CreateOtaPackage, ListOtaPackageInfo
from iotda_provider.emulator.web.gateway import JsonResponse, instance_of, read_json, router

_FILTERS = ("app_id", "package_type", "product_id", "version")


routes = router("/ota-upgrades/packages")


@routes.get("")
async def list_ota_package_info(request: Request) -> Response:
    query = ListOtaPackageInfo.read(request.query_params)
    packages = (
        package
        for package in instance_of(request).present().library.packages.values()
        if all(getattr(query, n) in (None, package.fields.get(n)) for n in _FILTERS)
    )
    return JsonResponse(listed("packages", packages, query.page))


@routes.post("")
async def create_ota_package(request: Request) -> Response:
    asked = CreateOtaPackage.read(await read_json(request))
    fields = asked.model_dump(exclude_none=True)
    fields["product_name"] = f"product-{asked.product_id[:8]}"
    package = instance_of(request).run("create_package", fields=fields)
    return JsonResponse(package.describe(), 201)


@routes.get("/{package_id}")
async def show_ota_package(request: Request, package_id: str) -> Response:
    return JsonResponse(instance_of(request).present().library.package(package_id).describe())


@routes.delete("/{package_id}")
async def delete_ota_package(request: Request, package_id: str) -> Response:
    instance_of(request).run("delete_package", package_id=package_id)
    return Response(status_code=204)
