"""What several mapped instances have pushed, as a branch behind them gets it from real Airflow."""

from __future__ import annotations

import pytest
from airflow import __version__

AIRFLOW_V_2 = __version__.startswith("2.")
pytestmark = pytest.mark.iotda_emulator(scenario={"devices": 1})

#: One branch behind each mapped task and for each way in which it gets what that has pushed.
TASKS = """
    @task
    def collect(failed, requested, ti=None):
        ti.xcom_push(key="failed", value=failed)
        ti.xcom_push(key="requested", value=requested)
        row = {"error_code": "IOTDA.014016", "error_msg": "offline"}
        return [{"target": f"d{n}", **row} for n in range(failed)]

    paths = [EmptyOperator(task_id=t) for t in ("fine", "repair", "give_up")]
    for name, counts in {
        "none": [{"failed": 0, "requested": 100}, {"failed": 0, "requested": 200}],
        "some": [{"failed": 2, "requested": 100}, {"failed": 0, "requested": 200}],
        "all": [{"failed": 1, "requested": 1}, {"failed": 2, "requested": 2}],
        "one": [{"failed": 3, "requested": 3}],
    }.items():
        collected = collect.override(task_id=name).expand_kwargs(counts)
        keys = "return_value", "failed", "requested"
        pulled = [f"ti.xcom_pull('{name}', key='{key}')" for key in keys]
        for how, given in {
            "jinja": ["{{ %s }}" % each for each in pulled],
            "list": ["{{ %s AS_LIST }}" % each for each in pulled],
            "xcom": [collected, collected["failed"], collected["requested"]],
        }.items():
            collected >> BranchOnTargetFailuresOperator(
                task_id=f"{name}_{how}", if_none="fine", if_some="repair", if_all="give_up",
                **dict(zip(("failures", "failed", "requested"), given)),
            ) >> paths
""".replace("AS_LIST", "| list" if AIRFLOW_V_2 else "")


@pytest.mark.parametrize("options", ["", ", render_template_as_native_obj=True"])
def test_counts_are_added_up_and_rows_put_together(run_tasks, options):
    run = run_tasks(TASKS, options)

    expected = {"none": ["fine"], "some": ["repair"], "all": ["give_up"], "one": ["give_up"]}
    for name, path in expected.items():
        for how in ("jinja", "list", "xcom"):
            assert (name, how, run.xcom(f"{name}_{how}", "branch")) == (name, how, path)
