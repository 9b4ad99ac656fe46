"""The page's routes: who may see what, and what they say of guards that have really run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.system.ui.conftest import queries

TASK = "0123456789abcdef01234567"
PACKAGE = "0f7b1c2d3e4f5a6b7c8d9e0f"
BAD = {
    "devices": 300,
    "failure_rate": 0.4,
    "dispatch_rate": 1.0,
    "failure_after": 5,
    "packages": [{"version": "2.0.0", "package_id": PACKAGE}],
    "batch_tasks": [
        {
            "task_id": TASK,
            "task_name": "thermostats",
            "targets": "all",
            "document": {"package_ids": [PACKAGE]},
        }
    ],
}
GUARD = f"""
guard = RolloutGuardSensor(
    task_id="guard", batch_task_id="{TASK}", rules=SequentialFailureTest(0.02),
    stop_on_breach=True, poke_interval=0.1, deferrable={{deferrable}},
)
guard >> CollectFailedSubtasksOperator(task_id="collect", batch_task_id="{TASK}")
"""
LIST, ONE = "/iotda/api/rollouts", "/iotda/api/rollouts/{dag_id}/{run_id}"


def path_of(run: Any) -> str:
    from urllib.parse import quote

    return ONE.format(dag_id=quote(run.dag_id, safe=""), run_id=quote(run.run_id, safe=""))


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
@pytest.mark.iotda_emulator(scenario=BAD, speed=0)
def test_a_stopped_rollout_says_why(run_tasks: Any, login: Any, deferrable: bool) -> None:
    run = run_tasks(GUARD.format(deferrable=deferrable))
    viewer = login("viewer")

    answer = viewer.get(path_of(run))

    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["state"], found["kind"], found["verdict"]) == ("stopped", "guard", "breached")
    assert (found["version"], found["names"]) == ("2.0.0", ["thermostats"])
    assert found["batch_task_ids"] == [TASK]
    assert found["unfinished_ids"] == []
    progress = run.xcom("guard", "live")["progress"]
    # Guards of other tests have seen more devices of a batch task with this id.
    assert found["progress"].pop("started") >= progress.pop("started")
    assert found["progress"] == progress
    assert found["stop"]["accepted_at"]
    # The curve crosses the line where the guard has stopped.
    _, failed, evidence = found["curve"][-1]
    line = dict(map(tuple, found["stop_line"]))
    assert failed >= min(line.values())
    assert evidence >= found["judged"][0]["bound"]
    assert found["reasons"]["by_class"] == {"firmware": run.xcom("guard")["progress"]["fail"]}
    assert found["reasons"]["reasons"][0]["targets"]
    whats = [event["what"] for event in found["events"]]
    assert whats[0] == "guard_began"
    assert {"stop_sent", "stop_accepted", "ended"} <= set(whats)
    assert found["stopping"]["may_start"] is False, "a viewer starts no DAG"
    assert login("user").get(path_of(run)).json()["stopping"]["may_start"] is True

    rows = viewer.get(LIST, params={"state": "all"}).json()["rollouts"]
    (row,) = [row for row in rows if row["run_id"] == run.run_id]
    row["progress"].pop("started")
    assert row == {name: found[name] for name in row}
    active = viewer.get(LIST).json()["rollouts"]
    assert run.run_id not in {row["run_id"] for row in active}


def test_two_routes_answer_with_data_and_none_takes_any(server: Any) -> None:
    (app,) = [route.app for route in server.routes if route.path == "/iotda"]
    routes = {route.path: getattr(route, "methods", None) for route in app.routes}
    assert routes == {
        "/api/rollouts": {"GET"},
        "/api/rollouts/{dag_id}/{run_id}": {"GET"},
        "/page": None,
    }


@pytest.mark.iotda_emulator(scenario=BAD, speed=0)
def test_nobody_sees_what_they_may_not(
    run_tasks: Any, login: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_tasks(GUARD.format(deferrable=False))
    other = run_tasks(GUARD.format(deferrable=False))
    every = [LIST, f"{LIST}?state=all&limit=5", path_of(run), ONE.format(dag_id="a", run_id="b")]

    for path in every:
        assert login(None).get(path).status_code == 401, path
        bad = login(None)
        bad.headers["Authorization"] = "Bearer nonsense"
        assert bad.get(path).status_code in (401, 403), path
        for client in (login("viewer"), login("viewer", cookie=True)):
            assert client.get(path).status_code in (200, 404), path
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert login("admin").request(method, path).status_code == 405, (method, path)

    from airflow.api_fastapi.app import get_auth_manager

    auth = get_auth_manager()
    really = type(auth).is_authorized_dag

    def is_authorized(self: Any, *, details: Any = None, **more: Any) -> bool:
        is_denied = details is not None and details.id == run.dag_id
        return not is_denied and really(self, details=details, **more)

    monkeypatch.setattr(type(auth), "is_authorized_dag", is_authorized)
    viewer = login("viewer")
    assert viewer.get(path_of(run)).status_code == 403
    found = viewer.get(LIST, params={"state": "all"})
    assert run.dag_id not in found.text
    assert other.dag_id in found.text
    # Both are about one batch task; the other's page does not tell of this one.
    assert run.dag_id not in viewer.get(path_of(other)).text


@pytest.mark.iotda_emulator(scenario=BAD, speed=0)
def test_every_request_takes_the_same_number_of_queries(run_tasks: Any, login: Any) -> None:
    viewer = login("viewer")
    run = run_tasks(GUARD.format(deferrable=False))
    viewer.get(path_of(run))

    def taken(path: str) -> int:
        with queries() as sent:
            answer = viewer.get(path)
        assert answer.status_code == 200, answer.text
        return len(sent)

    few = taken(f"{LIST}?state=all"), taken(path_of(run))
    for _ in range(3):
        run_tasks(GUARD.format(deferrable=False))
    assert (taken(f"{LIST}?state=all"), taken(path_of(run))) == few
    assert max(few) <= 8, few


def test_what_is_not_there_is_404_and_no_data_is_cached(login: Any) -> None:
    viewer = login("viewer")
    assert viewer.get(ONE.format(dag_id="nothing", run_id="none")).status_code == 404
    assert viewer.get(f"{LIST}?state=other").status_code == 422
    for limit in ("0", "1001", "9" * 5_000, "nan", "1e3", "-1"):
        assert viewer.get(LIST, params={"limit": limit}).status_code == 422, limit
    for hostile in ("a%00b", "x" * 5_000, "%27%20OR%201=1--", "..%2F..%2Fetc", "%F0%9F%92%A5", "~"):
        for dag_id, run_id in (("a", hostile), (hostile, "b")):
            path = ONE.format(dag_id=dag_id, run_id=run_id)
            with queries() as sent:
                assert viewer.get(path).status_code in (403, 404), path
            # No database is asked for what no id can be: Postgres takes no text with a NUL.
            asked = [one for one in sent if "xcom" in one]
            assert not asked or ("%00" not in path and len(path) < 500), path
    assert viewer.get(LIST).headers["cache-control"] == "no-store"


def test_the_files_are_public_and_run_no_foreign_script(login: Any) -> None:
    page = login(None).get("/iotda/page/index.html")
    assert page.status_code == 200
    assert "<script>" not in page.text
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    for name in ("js/main.js", "style.css", "words/en.json", "icons/rollouts.svg"):
        answer = login(None).get(f"/iotda/page/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["etag"]


@pytest.mark.iotda_emulator(scenario=BAD, speed=0)
def test_nothing_of_a_connection_but_its_id_is_sent(
    run_tasks: Any, login: Any, iotda_connection: dict[str, Any]
) -> None:
    run = run_tasks(GUARD.format(deferrable=False))
    said = login("viewer").get(path_of(run)).text
    assert json.loads(said)["iotda_conn_id"] == "iotda_default"
    for secret in ("login", "password", "host"):
        assert iotda_connection[secret] not in said
