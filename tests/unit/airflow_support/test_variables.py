"""An Airflow that is away when a Variable is read is trouble; a Variable that is none is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import airflow
import pytest

from iotda_provider.airflow_support import shared_text, task_notes
from iotda_provider.airflow_support.installation import VARIABLE
from iotda_provider.airflow_support.task_notes import VariableNotes, variables
from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.release import under_way
from iotda_provider.release.other_releases import ReleaseNote

IS_AIRFLOW_3 = airflow.__version__.startswith("3")
GROUP = "0000000a-0000"
LOG = logging.getLogger("airflow.task")


class Airflow(dict[str, str]):
    """In the place of Airflow 3's API, or of Airflow 2's database: its Variables.

    :ivar failures: what becomes of the next questions about a Variable; None: it is answered
    :ivar is_read_only: whether it can't write, as a database that has just failed over
    """

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception | str | None] = []
        self.is_read_only = False

    def ask(self, name: str) -> str | None:
        """A Variable's text, or None."""
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure if isinstance(failure, Exception) else refusal(failure)
        return self.get(name)

    def write(self, name: str, text: str) -> None:
        """Keep a Variable's text."""
        if self.is_read_only:
            raise refusal("API_SERVER_ERROR") if IS_AIRFLOW_3 else database_away()
        self[name] = text

    def send(self, message: Any) -> Any:
        """As the supervisor of Airflow 3."""
        from airflow.sdk.execution_time.comms import ErrorResponse, VariableResult

        kind = type(message).__name__
        if kind == "PutVariable":
            return self.write(message.key, message.value)
        assert kind == "GetVariable"
        found = self.ask(message.key)
        if found is None:
            return ErrorResponse(error="VARIABLE_NOT_FOUND", detail={"key": message.key})
        return VariableResult(key=message.key, value=found)


def refusal(kind: str) -> Exception:
    """What a task of Airflow 3 sees of an error of the API."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    return AirflowRuntimeError(ErrorResponse(error=ErrorType(kind), detail={"message": "secret"}))


def database_away() -> Exception:
    from sqlalchemy.exc import OperationalError

    return OperationalError("SELECT secret", {"key": "secret"}, Exception("refused\nsecret"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """Airflow's own ``Variable`` at work, with the Variables of this test."""
    there = Airflow()
    monkeypatch.setattr(task_notes, "variables", variables)
    monkeypatch.setattr(shared_text, "_SECONDS_TO_SETTLE", 0.01)
    monkeypatch.delenv("AIRFLOW__IOTDA__INSTALLATION_ID", raising=False)
    if IS_AIRFLOW_3:
        from airflow.sdk.definitions.variable import Variable as Variable3
        from airflow.sdk.execution_time import task_runner

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", there, raising=False)
        really_set = Variable3.set

        def quiet_set(*args: Any, **kwargs: Any) -> None:
            """As in Airflow 3.1 and 3.2."""
            from airflow.sdk.exceptions import AirflowRuntimeError

            with suppress(AirflowRuntimeError):
                really_set(*args, **kwargs)

        monkeypatch.setattr(Variable3, "set", quiet_set)
        return there
    from airflow.models.variable import Variable
    from airflow.secrets.metastore import MetastoreBackend

    monkeypatch.setattr(MetastoreBackend, "get_variable", lambda self, key: there.ask(key))
    monkeypatch.setattr(
        Variable, "set", lambda key, value, description=None: there.write(key, value)
    )
    return there


AWAY: list[Callable[[], Exception | str]] = (
    [
        lambda: "API_SERVER_ERROR",
        lambda: "GENERIC_ERROR",
        lambda: ConnectionResetError("secret"),
        EOFError,
    ]
    if IS_AIRFLOW_3
    else [database_away, lambda: ConnectionResetError("secret")]
)


@pytest.mark.parametrize("away", AWAY)
def test_an_airflow_that_is_away_is_an_error(
    asked: Airflow, away: Callable[[], Exception | str]
) -> None:
    asked["name"] = "text"
    asked.failures = [away(), away()]

    with pytest.raises(IoTDATransportError, match="name can't be read now") as error:
        variables().get("name")

    assert not error.value.sent
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_airflow_that_is_back_at_the_second_look_has_answered(asked: Airflow) -> None:
    asked["name"] = "text"
    asked.failures = [AWAY[0]()]

    assert variables().get("name") == "text"


def test_a_variable_that_airflow_does_not_know_is_none(asked: Airflow) -> None:
    assert variables().get("name") is None
    assert variables().get("name", "default") == "default"


def test_a_note_is_not_missing_while_airflow_is_away(asked: Airflow) -> None:
    owner = {"dag_id": "dag", "run_id": "run", "task_id": "guard", "map_index": -1}
    VariableNotes(owner).set("memory", {"looks": 1})
    asked.failures = [AWAY[0](), AWAY[0]()]

    with pytest.raises(IoTDATransportError):
        VariableNotes(owner).get("memory")

    assert VariableNotes(owner).get("memory") == {"looks": 1}


def test_a_note_that_was_not_written_is_an_error(asked: Airflow) -> None:
    """A person's stop, a guard's memory, a release's place among others: nobody would miss it."""
    owner = {"dag_id": "dag", "run_id": "run", "task_id": "guard", "map_index": -1}
    asked.is_read_only = True

    with pytest.raises(Exception, match=r"API_SERVER_ERROR|refused"):
        VariableNotes(owner).set("memory", {"looks": 1})

    assert not asked


def test_a_release_that_can_not_be_noted_is_not_under_way(
    asked: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    note = ReleaseNote("a", "a", "run", "2.0.0", None, (GROUP,))
    asked.is_read_only = True

    assert under_way.recall({}, note, LOG) is None
    assert "can't be read" in caplog.text


def test_the_installations_id_outlives_an_outage(asked: Airflow) -> None:
    asked[VARIABLE] = "production"
    asked.failures = [AWAY[0](), AWAY[0]()]

    with pytest.raises(IoTDATransportError):
        shared_text.made_once(VARIABLE, "its description")

    assert asked[VARIABLE] == "production"


def test_the_notes_of_other_releases_outlive_an_outage(
    asked: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (ReleaseNote(name, name, "run", "2.0.0", None, (GROUP,)) for name in "ab")
    under_way.enter(first, LOG)
    before = asked[under_way.VARIABLE]
    asked.failures = [AWAY[0]() for _ in range(6)]

    assert under_way.recall({}, second, LOG) is None
    assert "can't be read" in caplog.text
    assert asked[under_way.VARIABLE] == before

    asked.failures = []
    assert [one.release for one in under_way.enter(second, LOG)] == ["a"]
