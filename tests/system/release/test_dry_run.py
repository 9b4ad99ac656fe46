"""A dry run of the release pipeline: what it says, and that it creates and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from tests.system.pipeline import ALL, PACKAGE, VERSION

#: 12 of them run the version already.
NEW = {"segments": [{"name": "new", "count": 12, "fw_version": VERSION}]}


@pytest.fixture
def platform(fleet: Any) -> Any:
    return fleet(devices=1_000, **NEW)


def test_a_dry_run_reports_and_creates_nothing(release: Any, platform: Any) -> None:
    asks = "when unproven" if AIRFLOW_V_3_1_PLUS else "never"
    share = 5 if AIRFLOW_V_3_1_PLUS else 10  # where nobody can be asked, the check refuses less
    run = release(
        waves=f"{share}%, 100%",
        dry_run=True,
        window="mon-fri 22:00-05:00",
        gate_rate=0.05,
        approval=asks,
    )

    assert run.state == "success", run.xcom("check", "refused")
    found = run.xcom("preview")
    assert (found["devices"], found["left_out"]) == (
        988,
        {"already_current": 12, "other_product": 0},
    )
    assert len(found["left_out_devices"]["already_current"]) == 12
    first = -(-988 * share // 100)
    assert [wave["devices"] for wave in found["waves"]] == [first, 988 - first]
    assert found["too_small"] == ([1] if share == 5 else [])
    assert all(wave["begins"] for wave in found["waves"])
    assert [row["rule"].partition("(")[0] for row in found["exposed"]] == [
        "SequentialFailureTest",
        "SequentialFailureTest",
        "Overdue",
        "All rules together",
    ]
    for row in found["exposed"]:
        assert [cell["failure_rate"] for cell in row["exposures"]] == [0.01, 0.02, 0.05, 0.1]
    together = found["exposed"][-1]["exposures"]
    assert together[-1]["devices"] < together[0]["devices"]
    assert found["seconds"] > 0
    assert f"Dry run of the release of firmware {VERSION}" in run.log
    assert ("TOO SMALL to pass by itself" in run.log) == (share == 5)
    assert {entry["method"] for entry in platform.emulator.journal()} == {"GET"}
    states = {task: state for task, state in run.states.items() if state != "skipped"}
    assert set(states) == {"check", "dry_run_or_not", "preview", "report", "unfinished"}
    assert run.xcom("report") == found


def test_a_dry_run_is_refused_as_the_release_would_be(release: Any, platform: Any) -> None:
    run = release(waves="100%", dry_run=True, package_id="unknown")

    assert run.state == "failed"
    assert "There is no package unknown" in run.log
    assert {entry["method"] for entry in platform.emulator.journal()} == {"GET"}


def test_a_way_back_that_is_none_ends_it_before_it_begins(
    release: Any, fleet: Any, hurried: Callable[..., Path]
) -> None:
    """The other reasons: tests/integration/release/test_checked_parameters.py."""
    packages = [
        {"package_id": PACKAGE, "version": VERSION},
        {"package_id": "01d", "version": "1.0.0", "support_source_versions": ["0.9.0"]},
        {"package_id": "05d", "version": "1.0.0"},
    ]
    platform = fleet(devices=100, packages=packages)
    run = release(waves="100%", rollback="at once", rollback_package_id="01d", group_ids=[ALL])
    assert (run.state, run.states["check"]) == ("failed", "failed")
    assert "can be installed on 0.9.0 only" in run.xcom("check", "refused")

    # A package that can be one, and no DAG that would bring it.
    file = hurried(1)
    before = 'rollback_package_id="{{'
    assert file.read_text().count(before) == 1
    file.write_text(file.read_text().replace(before, f'rollback_dag_id="not_there", {before}'))
    run = release(file, waves="100%", rollback="at once", rollback_package_id="05d")
    assert (run.state, run.states["check"]) == ("failed", "failed")
    refused = run.xcom("check", "refused")
    assert "needs the DAG not_there, which Airflow does not know: copy" in refused
    assert len(refused.splitlines()) == 1
    assert {entry["method"] for entry in platform.emulator.journal()} == {"GET"}
