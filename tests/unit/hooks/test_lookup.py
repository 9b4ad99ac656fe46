"""Airflow that is away when a connection is read is trouble; a connection that is none is not."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import airflow
import httpx
import pytest

from iotda_provider.exceptions import IoTDAConfigError, IoTDATransportError
from iotda_provider.hooks.iotda_async import IoTDAAsyncHook
from iotda_provider.waiting.outage import is_transient

TASK_ID = "5c8fb0d3c1a2e45678901234"

IS_AIRFLOW_3 = airflow.__version__.startswith("3")

pytestmark = pytest.mark.usefixtures("unset")


@pytest.fixture
def unset(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment variable holds the connection."""
    monkeypatch.delenv("AIRFLOW_CONN_IOTDA_DEFAULT")


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets Airflow's secrets backends: each of them says what it is given, or raises it."""

    def set_up(*said: Any) -> None:
        class Backend:
            def __init__(self, answer: Any) -> None:
                self.answer = answer

            def get_connection(self, conn_id: str, *args: Any, **kwargs: Any) -> Any:
                if isinstance(self.answer, Exception):
                    raise self.answer
                return self.answer

        def load(*args: Any, **kwargs: Any) -> list[Any]:
            return [Backend(answer) for answer in said]

        if IS_AIRFLOW_3:
            from airflow.sdk.execution_time import supervisor

            monkeypatch.setattr(supervisor, "ensure_secrets_backend_loaded", load)
        else:
            monkeypatch.setattr("airflow.models.connection.ensure_secrets_loaded", load)
            monkeypatch.setattr("airflow.configuration.ensure_secrets_loaded", load)

    return set_up


def database_away() -> Exception:
    from sqlalchemy.exc import OperationalError

    return OperationalError("SELECT secret", {"conn_id": "secret"}, Exception("refused\nsecret"))


class VaultError(Exception):
    """What the client of some secrets backend raises."""


class TestBackends:
    @pytest.mark.parametrize(
        "failure", [database_away(), ConnectionRefusedError("secret"), VaultError("secret")]
    )
    def test_one_that_is_away_is_trouble(
        self, client: Any, backends: Any, failure: Exception
    ) -> None:
        backends(None, failure, None)

        with pytest.raises(IoTDATransportError, match="'iotda_default' can't be read now") as error:
            client.get_batch_task(TASK_ID)

        assert not error.value.sent
        assert is_transient(error.value)
        assert type(failure).__name__ in str(error.value)
        assert "secret " not in str(error.value).replace("a secrets", "")
        assert "\n" not in str(error.value)

    def test_a_connection_that_none_knows_is_a_wrong_name(self, client: Any, backends: Any) -> None:
        backends(None, None)

        with pytest.raises(IoTDAConfigError, match="There is no connection 'iotda_default'"):
            client.get_batch_task(TASK_ID)

    def test_what_a_backend_holds_may_be_no_connection(self, client: Any, backends: Any) -> None:
        backends(ValueError("not JSON: secret"))

        with pytest.raises(IoTDAConfigError, match=r"can't be read \(ValueError\)") as error:
            client.get_batch_task(TASK_ID)
        assert "not JSON" not in str(error.value)

    @pytest.mark.parametrize(
        "text",
        [
            '{"conn_type": "iotda", "password": "MARKED", }',
            '{"conn_type": "iotda", "passwort": "MARKED"}',
            "iotda://AK:MAR?KED@example.com?region=cn-north-4",
        ],
    )
    def test_nor_is_everything_that_the_environment_holds(
        self, client: Any, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """It is there: nobody should be told to create it."""
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", text)

        with pytest.raises(IoTDAConfigError, match="'iotda_default' can't be read") as error:
            client.get_batch_task(TASK_ID)
        assert "MAR" not in "".join(traceback.format_exception(error.value))


class Supervisor:
    """In the place of the process that a task or triggerer of Airflow 3 asks for connections.

    :param answers: what it says to each question in turn, the last for ever; an error is raised
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked = 0

    def send(self, message: Any) -> Any:
        if type(message).__name__ != "GetConnection":
            return None
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def asend(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return self.send(message)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Supervisor]:
    if not IS_AIRFLOW_3:
        pytest.skip("Airflow 2 asks its database")
    from airflow.sdk.execution_time import task_runner

    def set_up(*answers: Any) -> Supervisor:
        supervisor = Supervisor(*answers)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
        return supervisor

    return set_up


def says(kind: str) -> Any:
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    return ErrorResponse(error=ErrorType(kind), detail={"message": "secret"})


def raises(kind: str) -> Exception:
    from airflow.sdk.exceptions import AirflowRuntimeError

    return AirflowRuntimeError(says(kind))


def connection(url: str) -> Any:
    from airflow.sdk.execution_time.comms import ConnectionResult

    return ConnectionResult(
        conn_id="iotda_default",
        conn_type="iotda",
        host=url,
        port=None,
        schema=None,
        login="access-key",
        password="secret-key",
        extra='{"region": "cn-north-4", "project_id": "project-1"}',
    )


AWAY: list[Callable[[], Any]] = [
    lambda: says("API_SERVER_ERROR"),
    lambda: says("GENERIC_ERROR"),
    lambda: raises("API_SERVER_ERROR"),
    lambda: TimeoutError("secret"),
    lambda: ConnectionResetError("secret"),
    EOFError,
    lambda: httpx.ConnectError("secret"),
]


class TestApi:
    @pytest.mark.parametrize("away", AWAY)
    def test_one_that_is_away_is_trouble(
        self, client: Any, supervisor: Any, away: Callable[[], Any]
    ) -> None:
        supervisor(away())

        with pytest.raises(IoTDATransportError, match="can't be read now") as error:
            client.get_batch_task(TASK_ID)

        assert not error.value.sent
        assert "secret" not in str(error.value).replace("a secrets", "")
        assert "\n" not in str(error.value)

    def test_one_that_is_there_again_at_the_second_look_was_away(
        self, client: Any, supervisor: Any, fake: Any
    ) -> None:
        supervisor(says("API_SERVER_ERROR"), connection(fake.url))

        with pytest.raises(IoTDATransportError, match="it is there now"):
            client.get_batch_task(TASK_ID)

        assert client.get_batch_task(TASK_ID).task_id == TASK_ID

    @pytest.mark.parametrize("answer", [says, raises])
    def test_a_connection_that_it_does_not_know_is_a_wrong_name(
        self, client: Any, supervisor: Any, answer: Any
    ) -> None:
        supervisor(answer("CONNECTION_NOT_FOUND"))

        with pytest.raises(IoTDAConfigError, match="There is no connection 'iotda_default'"):
            client.get_batch_task(TASK_ID)

    def test_one_that_it_refuses_is_said_to_be(self, client: Any, supervisor: Any) -> None:
        supervisor(says("PERMISSION_DENIED"))

        with pytest.raises(IoTDAConfigError, match="does not let this task read connection"):
            client.get_batch_task(TASK_ID)

    def test_a_hook_whose_connection_is_read_anew_says_the_same(
        self, client: Any, supervisor: Any, fake: Any
    ) -> None:
        supervisor(connection(fake.url), says("API_SERVER_ERROR"))
        client.get_batch_task(TASK_ID)
        client.close()  # as a guard does at a 401

        with pytest.raises(IoTDATransportError, match="can't be read now"):
            client.stop_batch_task(TASK_ID, ["d1"])

    async def test_many_calls_of_a_hook_ask_together(self, supervisor: Any) -> None:
        asked = supervisor(says("API_SERVER_ERROR"))
        hook = IoTDAAsyncHook()

        errors = await asyncio.gather(
            *(hook.get_batch_task(TASK_ID) for _ in range(50)), return_exceptions=True
        )
        with pytest.raises(IoTDATransportError):
            await hook.stop_batch_task(TASK_ID, [f"d{number}" for number in range(3_000)])

        assert {type(error) for error in errors} == {IoTDATransportError}
        assert asked.asked == 4, "a question and a second look, each time"


def batch_task_trigger() -> Any:
    from iotda_provider.triggers.batch_task import BatchTaskTrigger

    return BatchTaskTrigger(batch_task_id=TASK_ID, poll_interval=0.01)


def guard_trigger() -> Any:
    from iotda_provider.guards import MaxFailures
    from iotda_provider.rollout_guard import GuardPlan
    from iotda_provider.triggers.rollout_guard import RolloutGuardTrigger

    plan = GuardPlan(batch_task_ids=(TASK_ID,), rules=(MaxFailures(5),), poll_interval=0.01)
    owner = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
    return RolloutGuardTrigger(plan=plan.to_dict(), owner=owner)


def rest_trigger() -> Any:
    from iotda_provider.release.at_rest import RestJob
    from iotda_provider.triggers.release import AtRestTrigger

    job = RestJob((TASK_ID,), grace=0, poll_interval=0.01, max_outage=60, deadline=time.time() + 60)
    return AtRestTrigger(job=job.to_json(), began=time.time())


@pytest.mark.parametrize("make", [batch_task_trigger, guard_trigger, rest_trigger])
async def test_a_trigger_waits_on_until_airflow_is_back(
    supervisor: Any, fake: Any, make: Callable[[], Any]
) -> None:
    ended = {
        "task_id": TASK_ID,
        "task_type": "firmwareUpgrade",
        "status": "Success",
        "task_progress": {"total": 2, "success": 2},
    }
    fake.answer(type(fake.answers[0])(body=ended))
    asked = supervisor(*[says("API_SERVER_ERROR")] * 4, connection(fake.url))

    event = await anext(make().run())

    assert event.payload["status"] == "over"
    assert asked.asked >= 5


def batch_task_sensor() -> Any:
    from iotda_provider.sensors.batch_task import BatchTaskSensor

    return BatchTaskSensor(task_id="t", batch_task_id=TASK_ID, poke_interval=0.01)


def guard_sensor() -> Any:
    from iotda_provider.guards import MaxFailures
    from iotda_provider.sensors.batch_task import RolloutGuardSensor

    return RolloutGuardSensor(
        task_id="t", batch_task_id=TASK_ID, rules=MaxFailures(5), poke_interval=0.01
    )


@pytest.mark.parametrize("make", [batch_task_sensor, guard_sensor])
def test_a_worker_waits_on_until_airflow_is_back(
    supervisor: Any, fake: Any, make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = {
        "task_id": TASK_ID,
        "task_type": "firmwareUpgrade",
        "status": "Success",
        "task_progress": {"total": 2, "success": 2},
    }
    monkeypatch.setattr("iotda_provider.airflow_support.task_notes.variables", lambda: Nothing())
    fake.answer(type(fake.answers[0])(body=ended))
    asked = supervisor(*[says("API_SERVER_ERROR")] * 6, connection(fake.url))
    ids = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
    ti = SimpleNamespace(**ids, xcom_push=Nothing().set, xcom_pull=Nothing().get)
    context: Any = {"ti": ti, "task_state_store": Nothing()}

    result = make().execute(context)

    assert "Success" in str(result)
    assert asked.asked >= 7


class Nothing:
    """In the place of Airflow's Variables, XComs and task state store: nothing is there."""

    def get(self, *_: Any, **__: Any) -> None:
        """Nothing."""

    set = delete = get
