"""A sensor may start in the triggerer only with parameters that a triggerer can render."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.sensors import batch_task
from iotda_provider.sensors.batch_task import BatchTaskSensor

TASK_ID = "5c8f9e2d7a6b4c3d1e0f9a8b"


def sensor(**parameters: Any) -> BatchTaskSensor:
    parameters = {"batch_task_id": TASK_ID, "start_from_trigger": True, **parameters}
    return BatchTaskSensor(task_id="wait", **parameters)


@pytest.fixture
def airflow_3_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.__version__", "3.3.2")


@pytest.mark.usefixtures("airflow_3_3")
class TestSince33:
    @pytest.mark.parametrize(
        "batch_task_id",
        [TASK_ID, "{{ params.task }}", "{{params.task}}", "{{ params['task'] }}"],
    )
    def test_plain_text_and_params_are_fine(self, batch_task_id: str) -> None:
        made = sensor(batch_task_id=batch_task_id, timeout=60)

        assert made.start_from_trigger is True
        assert made.start_trigger_args is not None
        assert made.start_trigger_args.timeout is not None
        assert made.start_trigger_args.timeout.total_seconds() == 60
        assert made.start_trigger_args.trigger_kwargs is not None
        assert made.start_trigger_args.trigger_kwargs["batch_task_id"] == batch_task_id
        assert made.start_trigger_args.trigger_kwargs["end_from_trigger"] is True

    @pytest.mark.parametrize(
        "batch_task_id",
        [
            "{{ ti.xcom_pull('create') }}",
            "{{ params.task or ti.xcom_pull('create') }}",
            "{% if params.task %}a{% endif %}",
            "{{ ds }}",
            object(),
        ],
    )
    def test_anything_else_is_refused(self, batch_task_id: Any) -> None:
        with pytest.raises(ValueError, match="start_from_trigger: batch_task_id must be"):
            sensor(batch_task_id=batch_task_id)

    def test_other_templated_fields_are_looked_at_too(self) -> None:
        with pytest.raises(ValueError, match="start_from_trigger: iotda_conn_id"):
            sensor(iotda_conn_id="{{ var.value.conn }}")

    def test_an_id_that_can_not_be_one_is_refused_at_once(self) -> None:
        with pytest.raises(ValueError, match="batch_task_id must be"):
            sensor(batch_task_id="nonsense!")

    def test_the_arguments_make_the_trigger(self) -> None:
        from iotda_provider.triggers.batch_task import BatchTaskTrigger

        arguments = sensor().start_trigger_args
        assert arguments is not None
        assert arguments.trigger_kwargs is not None

        classpath, again = BatchTaskTrigger(**arguments.trigger_kwargs).serialize()

        assert classpath == arguments.trigger_cls
        assert arguments.trigger_kwargs.items() <= again.items()

    def test_it_is_not_the_default(self) -> None:
        assert sensor(start_from_trigger=False).start_from_trigger is False


@pytest.mark.parametrize("version", ["2.11.2", "3.1.8", "3.2.0"])
def test_older_airflows_refuse_it(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr("airflow.__version__", version)

    with pytest.raises(ValueError, match=rf"needs Airflow 3\.3 or later, this is {version}"):
        sensor()


def test_the_check_names_what_is_wrong(airflow_3_3: None) -> None:
    with pytest.raises(ValueError, match="project_id"):
        batch_task.check_start_from_trigger({"project_id": "{{ macros.x }}"})
