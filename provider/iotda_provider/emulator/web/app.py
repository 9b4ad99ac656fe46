"""Puts the parts together into one FastAPI application."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.state.instance import Instance
from iotda_provider.emulator.web import control, iam_routes
from iotda_provider.emulator.web.gateway import REQUEST_ID, new_request_id, refused, serve
from iotda_provider.emulator.web.routes import batch_tasks, devices, groups, packages


def create_app(instance: Instance) -> FastAPI:
    """The application that answers for this instance."""
    app = FastAPI(
        title="IoTDA emulator",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # An unknown path is refused, not redirected.
        redirect_slashes=False,
    )
    app.state.instance = instance
    # The routes are made once for all instances of a process: FastAPI needs longer for them than
    # for the rest of an instance's start, and tests start many instances.
    for part in (batch_tasks, devices, groups, packages, iam_routes):
        app.router.routes.extend(part.routes.routes)
    if instance.settings.control_key is not None:
        app.router.routes.extend(control.routes.routes)

    async def nothing(request: Request) -> Response:
        raise errors.no_such_api()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        """Paths and methods that no route takes."""
        return await serve(instance, request, None, nothing)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        """A mistake of the emulator's own outside of the calls of IoTDA, which uvicorn reports."""
        answer = refused(errors.broken())
        answer.headers[REQUEST_ID] = new_request_id()
        return answer

    return app
