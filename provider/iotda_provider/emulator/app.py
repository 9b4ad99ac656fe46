"""Puts the parts together into one FastAPI application."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from iotda_provider.emulator import errors
from iotda_provider.emulator.gateway import identified, refused
from iotda_provider.emulator.platform import Platform
from iotda_provider.emulator.routes import batch_tasks


def create_app(platform: Platform) -> FastAPI:
    """The application that answers for this platform."""
    app = FastAPI(title="IoTDA emulator", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(batch_tasks.router(platform))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        """Paths and methods that no route takes."""
        return identified(refused(errors.no_such_api()))

    return app
