"""What happens to every call besides its own work: faults, authentication, refusals, journal."""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from iotda_provider.emulator.common import errors, strict_json
from iotda_provider.emulator.common.clock import MICRO, basic
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.identity.iam import access_of
from iotda_provider.emulator.identity.signatures import SentRequest
from iotda_provider.emulator.scenario.faults import Fault, Hit, html_page
from iotda_provider.emulator.service.request_models import PathIds
from iotda_provider.emulator.state.instance import Instance
from iotda_provider.emulator.state.journal import body_of, without_secrets
from iotda_provider.emulator.web.broken_answers import Severed

PREFIX = "/v5/iot/{project_id}"
REQUEST_ID = "X-Request-Id"
MAX_BODY = 12 * 1024 * 1024

_T = TypeVar("_T")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_WITHOUT_BODY = (204, 304)
_MAX_LENGTH_DIGITS = 9
#: The key of the seconds by which the gateway's clock is wrong, in a request's scope.
SKEW = "iotda_provider.skew"
# The key of the body in a request's scope, once the body was read.
_BODY = "iotda_provider.body"
_REFUSE = object()
log = logging.getLogger(__name__)
_SPOILS_THE_ANSWER = ("lost", "truncate", "malformed")


class JsonResponse(Response):
    """JSON, compact, with its status."""

    media_type = "application/json"

    def __init__(
        self, content: object, status_code: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code, dict(headers or {}))

    def render(self, content: object) -> bytes:
        """The content as bytes."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        # A client may send half of a surrogate pair in JSON, but it cannot be answered in UTF-8.
        return text.encode("utf-8", "replace")


def new_request_id() -> str:
    """An id for one request, as the answer's header and the journal name it."""
    return os.urandom(16).hex()


def refused(error: ApiError) -> JsonResponse:
    """The answer to a refused call."""
    return JsonResponse(error.body, error.status, error.headers)


def _announces_body(request: Request) -> bool:
    """Whether a body follows the request's head."""
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def read_body(request: Request, most: int, *, keep: bool = True) -> bytes:
    """The body; at most ``most`` bytes and one chunk are in memory.


    What has been read once is answered again, whatever ``most`` is then.

    :param keep: False: read it and throw it away, so that a client that is still sending gets the
        answer, and no broken connection
    :raises ApiError: 413, the body is longer; the connection is closed after the answer
    """
    known: bytes | None = request.scope.get(_BODY)
    if known is None:
        known = b""
        if _announces_body(request):
            length = request.headers.get("content-length", "0")
            if len(length) > _MAX_LENGTH_DIGITS or int(length) > most:
                raise errors.too_large()
            parts, size = bytearray(), 0
            try:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise errors.too_large()
                    if keep:
                        parts += chunk
            except ClientDisconnect:
                raise errors.bad_format("The body ends too early.") from None
            known = bytes(parts)
        request.scope[_BODY] = known
    return known


async def read_json(
    request: Request, most: int = MAX_BODY, without_body: object = _REFUSE
) -> object:
    """The body as JSON.

    :param without_body: what an empty body means
    :raises ApiError: it is none, or longer than ``most`` bytes
    """
    raw = await read_body(request, most)
    if not raw and without_body is not _REFUSE:
        return without_body
    try:
        return strict_json.parse(raw)
    except ValueError as error:
        raise errors.bad_format(f"The body is not JSON: {error}.") from None


def instance_of(request: Request) -> Instance:
    """The instance that this request was sent to."""
    instance: Instance = request.app.state.instance
    return instance


class GatewayRoute(APIRoute):
    """A route that accepts only signed calls, and answers refusals as IoTDA does."""

    def get_route_handler(self) -> Handler:
        """What answers a request."""
        endpoint, call = self.endpoint, self.name
        names = [name for name in self.param_convertors if name != "project_id"]

        # Called directly: FastAPI's injection takes as long as the call itself.
        async def inner(request: Request) -> Response:
            found = request.path_params
            if names:
                PathIds.read(found)
            answer: Response = await endpoint(request, *[found[name] for name in names])
            return answer

        async def handle(request: Request) -> Response:
            return await serve(instance_of(request), request, call, inner)

        return handle


def router(path: str = "") -> APIRouter:
    """A router for the project's calls under this path."""
    return APIRouter(prefix=PREFIX + path, route_class=GatewayRoute)


async def serve(instance: Instance, request: Request, call: str | None, inner: Handler) -> Response:
    """Answer one request, apply the faults that hit it, and enter it in the journal.

    :param call: the name of the call; None where there is no such call
    """
    caller = access_of(request.headers.get("authorization", ""))
    hits: list[Hit] = []
    if known := instance.iam.knows(request.scope["headers"]):
        # Only identified calls use up the faults and limits that a test has set.
        hits = [
            *instance.faults.hits(call or "", caller),
            *instance.limits.hits(call or "", caller),
        ]
    fatal = next((hit for hit in hits if hit.fault.kind not in ("latency", "clock_skew")), None)
    await _delay(instance, hits, acted=False)
    # None if the request is not signed: its body is not read then.
    raw: bytes | None = None
    refusal: ApiError | None = None
    try:
        raw = await _guarded(_admit(instance, request, call, hits, known=known), request)
    except ApiError as error:
        refusal = error
    if fatal is not None and not _acts(fatal.fault):
        answer = _refusal(instance, fatal)
    else:
        try:
            if refusal is not None and call is not None:
                raise refusal
            answer = await _guarded(inner(request), request)
        except ApiError as error:
            answer = refused(error)
        if fatal is not None:
            answer = _spoilt(instance, answer, fatal)
    await _delay(instance, hits, acted=True)
    request_id = new_request_id()
    answer.headers[REQUEST_ID] = request_id
    if _BODY not in request.scope and _announces_body(request):
        # The rest of a body is not read only to keep the connection open.
        answer.headers["Connection"] = "close"
    instance.journal.add(
        {
            "time": basic(instance.world.origin + instance.clock.now() / MICRO),
            "call": call,
            "method": request.method,
            "path": request.scope["path"],
            "query": without_secrets(request.query_params),
            "headers": without_secrets(request.headers),
            "key": caller,
            "body": None if raw is None else body_of(raw),
            "body_length": None if raw is None else len(raw),
            "status": None if isinstance(answer, Severed) else answer.status_code,
            "error_code": _error_code(answer),
            "faults": [hit.fault.kind for hit in hits],
            "request_id": request_id,
        }
    )
    return answer


async def _guarded(step: Awaitable[_T], request: Request) -> _T:
    """The answer of one step; an error in the emulator's own code is a 500.

    :raises ApiError: the request is refused, or the step has failed
    """
    try:
        return await step
    except ApiError:
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.scope["path"])
        raise errors.broken() from None


async def _admit(
    instance: Instance, request: Request, call: str | None, hits: Sequence[Hit], *, known: bool
) -> bytes:
    """Check a call as the API gateway does; returns the call's body.

    :raises ApiError: it is refused
    """
    raw = await read_body(request, MAX_BODY, keep=known)
    skew = sum(hit.fault.seconds for hit in hits if hit.fault.kind == "clock_skew")
    request.scope[SKEW] = skew
    instance.iam.verify(SentRequest.of(request.scope, raw), time.time() + skew)
    if call is not None:
        instance.iam.permit(call)
        if request.path_params.get("project_id") != instance.settings.project_id:
            raise errors.forbidden("the project is not the key's")
        wanted = instance.scenario.switches.instance_id
        if wanted is not None and request.headers.get("Instance-Id") != wanted:
            raise instance.world.refusal("instance_refused", "The Instance-Id is missing or wrong.")
    return raw


async def _delay(instance: Instance, hits: Sequence[Hit], acted: bool) -> None:
    for hit in hits:
        if hit.fault.kind == "latency" and hit.fault.acted is acted:
            await instance.pause(hit.fault.seconds + hit.fault.jitter * hit.u)


def _acts(fault: Fault) -> bool:
    """Whether the call has its effect although it is hit."""
    return fault.acted or fault.kind in _SPOILS_THE_ANSWER


def _refusal(instance: Instance, hit: Hit) -> Response:
    """The answer in place of the call's own."""
    fault = hit.fault
    if fault.kind in ("status", "html"):
        return _as_configured(fault)
    if fault.kind == "throttle":
        throttled = errors.throttled(fault.retry_after or 0)
        if fault.retry_after is None:
            throttled.headers.clear()
        return refused(throttled)
    if fault.kind == "rate_limit":
        return refused(errors.throttled(max(1, math.ceil(hit.wait))))
    if fault.kind == "expired_key":
        return refused(errors.unauthenticated("the access key has expired"))
    if fault.kind == "refuse" and instance.refuse is not None:
        instance.refuse(fault.seconds)
    return Severed()


def _as_configured(fault: Fault) -> Response:
    if fault.status in _WITHOUT_BODY:
        return Response(status_code=fault.status, headers=dict(fault.headers))
    if fault.kind == "html":
        page = html_page(fault.status, http.client.responses.get(fault.status, "Error"))
        return Response(page, fault.status, dict(fault.headers), "text/html")
    if fault.body is None:
        error = ApiError(fault.status, "APIGW.0201", "Backend unavailable", fault.headers)
        return refused(error)
    if isinstance(fault.body, str):
        text = fault.body.encode("utf-8", "replace")
        return Response(text, fault.status, dict(fault.headers), "text/plain")
    return JsonResponse(fault.body, fault.status, fault.headers)


def _spoilt(instance: Instance, answer: Response, hit: Hit) -> Response:
    """The broken answer to a call that has had its effect."""
    fault = hit.fault
    if fault.kind == "lost":
        return Severed()
    if fault.kind == "truncate":
        return Severed(answer, fault.keep, with_reset=False)
    if fault.kind == "malformed":
        cut = bytes(answer.body)[: int(len(answer.body) * fault.keep)]
        return Response(cut, answer.status_code, media_type="application/json")
    return _refusal(instance, hit)


def _error_code(answer: Response) -> str | None:
    if answer.status_code < 400 or answer.media_type != "application/json":
        return None
    body = body_of(bytes(answer.body))
    return body.get("error_code") if isinstance(body, dict) else None
