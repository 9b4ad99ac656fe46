"""The page's app: it answers GET, asks Airflow who may see what, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails

# FastAPI resolves annotations by this module's names: imported in a function, these dependencies
# would become query parameters, and the routes would be open to everybody.
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.staticfiles import StaticFiles

from iotda_provider.ui import reading
from iotda_provider.ui.detail import detail_of
from iotda_provider.ui.rollouts import list_of

STATIC = Path(__file__).parent / "static"
#: The DAG that the page's button starts, through Airflow's own API.
STOP_DAG_ID = "stop_batch_task"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_LONGEST_ID = 250

#: Who may see the XComs of a DAG may see its rollouts.
MaySee = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


@asynccontextmanager
async def _warmed_up(app: FastAPI) -> AsyncIterator[None]:
    """Load what computes the stop lines before somebody waits for it."""
    loading = asyncio.get_running_loop().run_in_executor(None, _load)
    yield
    loading.cancel()


def _load() -> None:
    import scipy.special
    import scipy.stats  # noqa: F401


def make_app() -> FastAPI:
    """The app with all of its routes, to be mounted in Airflow's API server."""
    app = FastAPI(
        title="IoTDA rollouts",
        lifespan=_warmed_up,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    @app.middleware("http")
    async def guarded(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        is_page = request.url.path.split("/iotda", 1)[-1].startswith("/page/")
        response.headers["Cache-Control"] = "no-cache" if is_page else "no-store"
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        return response

    app.get("/api/rollouts", dependencies=[MaySee])(rollouts)
    app.get("/api/rollouts/{dag_id}/{run_id}", dependencies=[MaySee])(rollout)
    # Public: these files hold no data.
    app.mount("/page", StaticFiles(directory=STATIC), name="page")
    return app


def rollouts(
    session: SessionDep,
    user: GetUserDep,
    state: Literal["active", "all"] = "active",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """All rollouts that the user may see, those first that need somebody."""
    now = datetime.now(timezone.utc)
    dag_ids = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    records = reading.records(session, dag_ids, limit=limit + 1, only_open_at=_open_at(state, now))
    seen = reading.seen_of(session, records[:limit])
    return {
        **list_of(seen, now, only_open=state == "active"),
        "is_cut_off": len(records) > limit,
    }


def _open_at(state: str, now: datetime) -> datetime | None:
    return now if state == "active" else None


def rollout(dag_id: str, run_id: str, session: SessionDep, user: GetUserDep) -> dict[str, Any]:
    """One rollout: the one that a guard, a stop or a release of this run is about."""
    # Postgres takes no text with a NUL.
    if len(dag_id) > _LONGEST_ID or len(run_id) > _LONGEST_ID or "\0" in dag_id + run_id:
        raise HTTPException(404, "There is no such run.")
    auth = get_auth_manager()
    dag_ids = auth.get_authorized_dag_ids(user=user, method="GET") | {dag_id}
    records = reading.records(session, dag_ids, limit=500, first=(dag_id, run_id))
    records = reading.about_the_same(records, dag_id, run_id)
    if not records:
        raise HTTPException(404, "No guard, stop or release has told of a rollout in this run.")
    stop_dag = reading.dag(session, STOP_DAG_ID)
    may_start = auth.is_authorized_dag(
        method="POST",
        access_entity=DagAccessEntity.RUN,
        details=DagDetails(id=STOP_DAG_ID),
        user=user,
    )
    seen = reading.seen_of(session, records, with_results=True)
    found = detail_of(seen, dag_id, run_id, datetime.now(timezone.utc))
    return {**found, "stopping": {"dag_id": STOP_DAG_ID, **stop_dag, "may_start": may_start}}
