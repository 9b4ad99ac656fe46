"""The paths of IAM, of its federation exchange and of the ECS metadata service."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute

from iotda_provider.emulator.common import strict_json
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.identity.iam import Grant, IamError
from iotda_provider.emulator.identity.signatures import SentRequest
from iotda_provider.emulator.web.gateway import instance_of, read_body

MAX_BODY = 64 * 1024

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    413: "Request Entity Too Large",
}


class IamRoute(APIRoute):
    """A route that answers refusals as IAM does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except (IamError, ApiError) as error:
                answer = _refused(error.status, error.message)
                if error.status == 413:
                    answer.headers["Connection"] = "close"
                return answer

        return handle


def _refused(status: int, message: str) -> Response:
    error = {"code": status, "message": message, "title": _TITLES.get(status, "Error")}
    return JSONResponse({"error": error}, status)


routes = APIRouter(route_class=IamRoute)


@routes.post("/v3/auth/tokens")
async def create_token(request: Request) -> Response:
    """A token for a user and password."""
    iam = instance_of(request).iam
    auth = _inside(await _body(request), "auth")
    user = _inside(auth, "identity", "password", "user")
    text, grant = iam.token_for_user(
        user.get("name"),
        user.get("password"),
        _inside(user, "domain").get("name"),
        _inside(auth, "scope", "project"),
    )
    project = {"id": grant.project_id, "name": iam.settings.region}
    return _token(text, grant, project=project)


@routes.get("/v3/projects")
async def list_projects(request: Request) -> Response:
    """The account's projects, by name."""
    iam = instance_of(request).iam
    iam.verify_own(SentRequest.of(request.scope, await read_body(request, MAX_BODY)))
    iam.given["projects"] += 1
    wanted = request.query_params.get("name", iam.settings.region)
    own = {"id": iam.project_id, "name": iam.settings.region, "enabled": True}
    return JSONResponse({"projects": [own] if wanted == iam.settings.region else []})


@routes.post("/v3.0/OS-AUTH/id-token/tokens")
async def exchange_id_token(request: Request) -> Response:
    """An unscoped token for an id token."""
    id_token = _inside(await _body(request), "auth", "id_token").get("id")
    return _token(
        *instance_of(request).iam.token_for_identity(_once(request, "X-Idp-Id"), id_token)
    )


@routes.post("/v3.0/OS-CREDENTIAL/securitytokens")
async def create_key(request: Request) -> Response:
    """A temporary key for a token."""
    token = _inside(await _body(request), "auth", "identity", "token")
    grant = instance_of(request).iam.key_for_token(token.get("id"), token.get("duration_seconds"))
    return JSONResponse(_credential(grant), 201)


@routes.put("/meta-data/latest/api/token")
async def create_metadata_token(request: Request) -> Response:
    """The metadata service's own token; a request through a proxy is refused."""
    seconds = _once(request, "X-Metadata-Token-Ttl-Seconds") or ""
    if "x-forwarded-for" in request.headers:
        raise IamError(403, "Forwarded requests are not answered.")
    if not re.fullmatch("[0-9]{1,5}", seconds) or not 60 <= int(seconds) <= 21_600:
        raise IamError(400, "The lifetime must be 60 to 21600 seconds.")
    return PlainTextResponse(instance_of(request).iam.metadata_token(int(seconds)))


@routes.get("/openstack/latest/securitykey")
async def show_agency_key(request: Request) -> Response:
    """A temporary key of the instance's agency."""
    grant = instance_of(request).iam.key_for_agency(_once(request, "X-Metadata-Token"))
    return JSONResponse(_credential(grant))


def _once(request: Request, name: str) -> str | None:
    """A header's value.

    :raises IamError: it was sent twice, and who reads it may see either
    """
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise IamError(400, f"The header {name} was sent twice.")
    return values[0] if values else None


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = strict_json.parse(await read_body(request, MAX_BODY))
    except ValueError:
        body = None
    return _inside({"body": body}, "body")


def _inside(data: Any, *names: str) -> dict[str, Any]:
    """The object at the end of a path of names.

    :raises IamError: there is none
    """
    for name in names:
        data = data.get(name)
        if not isinstance(data, dict):
            raise IamError(400, f"Request body is invalid: {name} must be an object.")
    return data  # type: ignore[no-any-return]


def _token(text: str, grant: Grant, **more: object) -> Response:
    token = {
        "issued_at": _moment(grant.issued_at),
        "expires_at": _moment(grant.expires_at),
        "methods": ["password"],
        **more,
    }
    return JSONResponse({"token": token}, 201, {"X-Subject-Token": text})


def _credential(grant: Grant) -> dict[str, Any]:
    key = grant.key
    assert key is not None
    return {
        "credential": {
            "access": key.access,
            "secret": key.secret,
            "securitytoken": key.security_token,
            "expires_at": _moment(grant.expires_at),
        }
    }


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"
