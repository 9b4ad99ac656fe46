"""The example of docs/howto/from-build-to-fleet.md: a build in OBS becomes a released version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.pipeline import DAGS

PAGE = DAGS.parent / "docs" / "howto" / "from-build-to-fleet.md"
EXAMPLE = re.search(r"--conf \\\n *'(\{.*?\})'", PAGE.read_text(encoding="utf-8"), re.DOTALL)
CONF = json.loads(EXAMPLE[1]) if EXAMPLE else {}
GROUPS = [{"name": "all", "group_id": group, "count": 200} for group in CONF["group_ids"]]


@pytest.fixture
def build(run_dag: Any, hurried: Callable[..., Path], fleet: Any) -> Callable[..., Any]:
    """Runs the DAG with the example's conf; Airflow knows the DAG of releases."""
    fleet(devices=1)
    run_dag(hurried(1), conf={"package_id": "unknown", "group_ids": ["a"]})
    if not AIRFLOW_V_3_1_PLUS:  # where a run of a DAG does not make it known
        from airflow.models.dagbag import DagBag

        DagBag(hurried(1), include_examples=False).sync_to_db()

    def run(**params: Any) -> Any:
        return run_dag(DAGS / "build_to_fleet.py", conf={**CONF, **params})

    return run


def releases() -> dict[str, Any]:
    """The confs of the releases that builds have started, by the ids of their runs."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(DagRun).filter(DagRun.dag_id == "firmware_release")
        return {run.run_id: run.conf for run in found if run.run_id.startswith("from_build__")}


def test_a_build_becomes_a_released_version_and_one_of_another_file_does_not(
    build: Any, run_dag: Any, fleet: Any, hurried: Callable[..., Path]
) -> None:
    platform = fleet(devices=200, packages=[], groups=GROUPS)

    run = build()

    assert run.state == "success", run.log[-4000:]
    registered = run.xcom("register")
    assert registered["created"] is True
    assert registered["version"] == CONF["version"]
    (created,) = platform.emulator.journal("create_ota_package")
    assert created["body"]["file_location"]["obs_location"] == {
        "region_name": "cn-north-4",
        "bucket_name": "firmware-builds",
        "object_key": CONF["object_key"],
        "sign": CONF["sha256"],
    }
    assert "support_source_versions" not in created["body"]
    conf = releases()[f"from_build__{run.run_id}"]
    assert conf == {
        **CONF["release"],
        "group_ids": CONF["group_ids"],
        "package_id": registered["package_id"],
    }
    waves = len(conf["waves"].split(","))
    released = run_dag(hurried(waves), conf={**conf, "bake_minutes": 0, "gate_rate": 0.1})
    assert released.state == "success", released.log[-4000:]
    assert set(platform.versions().values()) == {CONF["version"]}

    # On another platform: the version is registered with another file.
    platform = fleet(devices=200, packages=[], groups=GROUPS)
    versions = ["1.0.0", "1.1.0"]
    first = build(source_versions=versions)
    (created,) = platform.emulator.journal("create_ota_package")
    assert created["body"]["support_source_versions"] == versions
    again, other = build(source_versions=versions), build(sha256="b" * 64)

    assert again.xcom("register")["created"] is False
    assert again.xcom("register", "package_id") == first.xcom("register", "package_id")
    assert other.states == {"register": "failed", "release": "upstream_failed"}
    assert "sign is" in other.log
    assert f"from_build__{other.run_id}" not in releases()
