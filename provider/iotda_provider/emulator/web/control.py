"""Control calls: move time, set faults, read the journal; under a prefix and a key, or off."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.clock import MICRO, basic
from iotda_provider.emulator.common.errors import ApiError, ScenarioError
from iotda_provider.emulator.common.field_types import Seconds
from iotda_provider.emulator.common.strict_model import IN_OUR_WORDS, StrictModel
from iotda_provider.emulator.state.instance import Instance
from iotda_provider.emulator.web.gateway import JsonResponse, instance_of, read_json, refused

CONTROL_PREFIX = "/_emulator"
CONTROL_KEY = "X-Emulator-Key"
MAX_CONTROL_BODY = 1024 * 1024


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise PydanticCustomError(IN_OUR_WORDS, "must be a whole number of at most 18 digits")
    return int(text)


Digits = Annotated[int, BeforeValidator(_number)]


class Advance(StrictModel):
    """The body of the call that moves time: virtual seconds."""

    seconds: Seconds


class Refuse(StrictModel):
    """The body of the call that refuses connections: real seconds."""

    seconds: Seconds = 1.0


class JournalQuery(StrictModel):
    """The query of the call that shows the journal, whose numbers are text there."""

    call: str = "*"
    after: Digits = 0
    limit: Digits | None = None


class ControlRoute(APIRoute):
    """A route that needs the control key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            key = instance_of(request).settings.control_key or ""
            shown = request.headers.getlist(CONTROL_KEY)
            if len(shown) != 1 or not key:
                return refused(errors.unauthenticated(f"{CONTROL_KEY} must be sent once"))
            if not hmac.compare_digest(shown[0].encode(), key.encode()):
                return refused(errors.unauthenticated(f"{CONTROL_KEY} is wrong"))
            try:
                return await inner(request)
            except ScenarioError as error:
                return refused(errors.invalid(f"{error}."))
            except ApiError as error:
                return refused(error)

        return handle


routes = APIRouter(prefix=CONTROL_PREFIX, route_class=ControlRoute)


@routes.get("/clock")
async def show_clock(request: Request) -> Response:
    """Virtual time now."""
    return JsonResponse(_clock(instance_of(request)))


@routes.post("/clock/advance")
async def advance_clock(request: Request) -> Response:
    """Move virtual time forward by ``{"seconds": ...}``."""
    instance = instance_of(request)
    asked = Advance.read(await read_json(request, MAX_CONTROL_BODY), "advance")
    instance.advance(asked.seconds)
    return JsonResponse(_clock(instance))


@routes.get("/journal")
async def show_journal(request: Request) -> Response:
    """The last requests, by ``call`` (a pattern), ``after`` (a number) and ``limit``.

    ``counts``: how many there were of each call, those that are no longer kept included.
    """
    asked = JournalQuery.read(dict(request.query_params))
    journal = instance_of(request).journal
    entries = journal.entries(asked.call, asked.after, asked.limit)
    return JsonResponse({"entries": entries, "counts": journal.counts})


@routes.delete("/journal")
async def clear_journal(request: Request) -> Response:
    """Empty the journal."""
    instance_of(request).forget_journal()
    return Response(status_code=204)


@routes.get("/faults")
async def list_faults(request: Request) -> Response:
    """The rules, with how often each has matched and hit."""
    return JsonResponse({"faults": instance_of(request).faults.describe()})


@routes.post("/faults")
async def add_fault(request: Request) -> Response:
    """Add a rule."""
    fault = await read_json(request, MAX_CONTROL_BODY)
    return JsonResponse({"id": instance_of(request).add_fault(fault)}, 201)


@routes.delete("/faults")
async def clear_faults(request: Request) -> Response:
    """Remove all rules."""
    instance_of(request).run("remove_fault")
    return Response(status_code=204)


@routes.delete("/faults/{fault_id}")
async def remove_fault(request: Request, fault_id: str) -> Response:
    """Remove one rule."""
    instance_of(request).run("remove_fault", fault_id=fault_id)
    return Response(status_code=204)


@routes.post("/refuse")
async def refuse_connections(request: Request) -> Response:
    """Stop listening for ``{"seconds": ...}`` of real time."""
    instance = instance_of(request)
    asked = Refuse.read(await read_json(request, MAX_CONTROL_BODY), "refuse")
    if instance.refuse is not None:
        instance.refuse(asked.seconds)
    return Response(status_code=204)


def _clock(instance: Instance) -> dict[str, Any]:
    world = instance.present()
    return {
        "time": basic(world.moment()),
        "seconds": (world.now - world.start) / MICRO,
        "speed": instance.settings.speed,
    }
