"""The guard goes on looking between two waves, for as long as the maintenance window is closed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

DAG_FILE = Path(__file__).parent / "dags" / "windowed_rollout.py"


@pytest.fixture
def closed() -> str:
    """A window that opens in twelve hours."""
    opens = datetime.now(timezone.utc) + timedelta(hours=12)
    return f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}"


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "triggerer"])
def test_devices_that_fail_while_it_is_closed_stop_the_release(
    run_dag: Any, fleet: Any, tmp_path: Path, closed: str, deferrable: bool
) -> None:
    """The first wave passes with 6 % of its devices unfinished, and these fail afterwards."""
    platform = fleet(
        devices=2000,
        failure_rate=0.06,
        success_after=30,
        failure_after=2000,
    )
    platform.emulator.advance(1)
    file = tmp_path / DAG_FILE.name
    text = DAG_FILE.read_text()
    assert text.count("deferrable=True") == 1
    file.write_text(text.replace("deferrable=True", f"deferrable={deferrable}"))

    run = run_dag(file, conf={"closed": closed})

    assert run.xcom("rollout.wave_1_watch")["verdict"] == "passed"
    assert run.xcom("rollout.wave_1_watch")["progress"]["fail"] == 0
    outcome = run.xcom("rollout.outcome")
    assert (outcome["verdict"], outcome["wave"], outcome["exposed"]) == ("breached", 2, 1000)
    assert len(platform.asked("stop")) == 1
    assert len(platform.confirmed) == 1000
    assert f"the maintenance window {closed} UTC is closed; it opens at" in run.log
