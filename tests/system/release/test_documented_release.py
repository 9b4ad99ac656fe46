"""The DAG of docs/howto/release-in-waves.md releases to its group, and to nobody else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.system.pipeline import ALL, DAGS, PACKAGE

PAGE = DAGS.parent / "docs" / "howto" / "release-in-waves.md"


def test_a_dag_of_your_own_releases_to_its_group(run_dag: Any, fleet: Any, tmp_path: Path) -> None:
    (text,) = re.findall(r"```python\n(import pendulum.*?)```", PAGE.read_text(), re.DOTALL)
    for before, now in (
        (r'PACKAGE = "\w+"', f'PACKAGE = "{PACKAGE}"'),
        (r'GROUPS = \["[\w-]+"\]', f'GROUPS = ["{ALL}"]'),
        (r"bake_time=3600", "bake_time=0"),
        (r"poll_interval=10", "poll_interval=0.1, max_waves=3"),
    ):
        text, count = re.subn(before, now, text)
        assert count == 1, before
    file = tmp_path / "own_release.py"
    file.write_text(text)
    members = [f"device-{number:05}" for number in range(2000)]
    platform = fleet(devices=2100, groups=[{"name": "all", "group_id": ALL, "devices": members}])
    run = run_dag(file)
    assert run.state == "success", run.log[-4000:]
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["exposed"]) == ("released", 2000)
    assert sorted(platform.confirmed) == members
    sizes = [len(platform.rows(task_id)) for task_id in outcome["batch_task_ids"]]
    assert sizes == [100, 400, 1500]
    assert len(set(platform.versions().values())) == 2, "100 devices are in no group"
