"""What happens to every call before and after its own work: recognition, refusal, request id."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from iotda_provider.emulator import errors
from iotda_provider.emulator.errors import ApiError
from iotda_provider.emulator.platform import Platform

PREFIX = "/v5/iot/{project_id}"
REQUEST_ID = "X-Request-Id"
MAX_BODY = 12 * 1024 * 1024

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonResponse(Response):
    """JSON, compact, with its status."""

    media_type = "application/json"

    def __init__(
        self, content: object, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code, dict(headers or {}))

    def render(self, content: object) -> bytes:
        """The content as bytes."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def refused(error: ApiError) -> JsonResponse:
    """The answer to a refused call."""
    return JsonResponse(error.body, error.status, error.headers)


def identified(response: Response) -> Response:
    """The same answer with a request id."""
    response.headers[REQUEST_ID] = os.urandom(16).hex()
    return response


async def read_json(request: Request) -> object:
    """The body as JSON.

    :raises ApiError: it is none
    """
    raw = await request.body()
    try:
        return json.loads(raw)
    except ValueError:
        raise errors.bad_format("The body is not JSON.") from None


def gateway_route(platform: Platform) -> type[APIRoute]:
    """The class of routes that stand behind this platform's gateway."""

    class GatewayRoute(APIRoute):
        """A route that lets in signed calls only and answers refusals in IoTDA's words."""

        def get_route_handler(self) -> Handler:
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    await admit(platform, request)
                    return identified(await inner(request))
                except ApiError as error:
                    return identified(refused(error))

            return handle

    return GatewayRoute


async def admit(platform: Platform, request: Request) -> None:
    """Let a call in, or refuse it as the API gateway would.

    :raises ApiError: it is refused
    """
    body = await request.body()
    if len(body) > MAX_BODY:
        raise errors.too_large()
    scope = request.scope
    platform.verifier.verify(
        scope["method"],
        scope["raw_path"],
        scope["query_string"],
        scope["headers"],
        body,
        time.time(),
    )
    if request.path_params.get("project_id") != platform.settings.project_id:
        raise errors.forbidden("the project is not the key's")
    wanted = platform.scenario.switches.instance_id
    if wanted is not None and request.headers.get("Instance-Id") != wanted:
        raise platform.world.refusal("instance_refused", "The Instance-Id is missing or wrong.")
