"""Puts the parts together into one FastAPI application."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from iotda_provider.emulator import control, errors, iam_routes
from iotda_provider.emulator.gateway import JsonResponse, serve
from iotda_provider.emulator.instance import Instance
from iotda_provider.emulator.routes import batch_tasks, devices, files, groups, packages

_log = logging.getLogger("iotda_provider.emulator")


def create_app(instance: Instance) -> FastAPI:
    """The application that answers for this instance."""
    app = FastAPI(title="IoTDA emulator", docs_url=None, redoc_url=None, openapi_url=None)
    for part in (batch_tasks, devices, files, groups, packages):
        app.include_router(part.router(instance))
    app.include_router(iam_routes.router(instance.iam))
    if instance.settings.control_key is not None:
        app.include_router(control.router(instance, instance.settings.control_key))

    async def nothing(request: Request) -> Response:
        raise errors.no_such_api()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        """Paths and methods that no route takes."""
        return await serve(instance, request, None, nothing)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        """A fault of the emulator itself: say so here, and answer as the platform would."""
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        body = {"error_code": "IOTDA.000001", "error_msg": "Internal server error."}
        return JsonResponse(body, 500)

    return app
