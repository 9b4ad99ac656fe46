"""What several mapped instances have pushed, as a branch behind them gets it from real Airflow."""

from __future__ import annotations

import pytest

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
        pulled = f"{{{{ ti.xcom_pull('{name}', key='%s') }}}}"
        jinja = [pulled % key for key in ("return_value", "failed", "requested")]
        for how, given in {
            "jinja": jinja, "xcom": [collected, collected["failed"], collected["requested"]]
        }.items():
            collected >> BranchOnTargetFailuresOperator(
                task_id=f"{name}_{how}", if_none="fine", if_some="repair", if_all="give_up",
                **dict(zip(("failures", "failed", "requested"), given)),
            ) >> paths
"""


@pytest.mark.parametrize("options", ["", ", render_template_as_native_obj=True"])
def test_counts_are_added_up_and_rows_put_together(run_tasks, options):
    run = run_tasks(TASKS, options)

    followed = {
        f"{name}_{how}": run.xcom(f"{name}_{how}", "branch")
        for name in ("none", "some", "all", "one")
        for how in ("jinja", "xcom")
    }
    expected = {"none": ["fine"], "some": ["repair"], "all": ["give_up"], "one": ["give_up"]}
    assert followed == {task_id: expected[task_id.partition("_")[0]] for task_id in followed}
