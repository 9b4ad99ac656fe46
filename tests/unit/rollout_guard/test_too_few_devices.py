"""A guard whose rules can never stop its rollout says so."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.guards import MaxFailureRate, SequentialFailureTest

SAID = "can never stop"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if SAID in record.getMessage()]


def test_it_warns_once_when_the_number_of_devices_is_known(
    platform: Any, guard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    platform.show(
        platform.task("Initializing", waiting=20),
        platform.task(waiting=60),
        platform.task(processing=60),
        platform.task("Success", success=60),
    )
    watched = guard(MaxFailureRate(0.05))

    watched.poll()
    assert not said(caplog)
    watched.poll()
    watched.poll()
    assert watched.poll().verdict == "completed"
    (line,) = said(caplog)
    assert line.startswith(
        f"Batch task {platform.task_id}: MaxFailureRate(0.05) can never stop 60 device(s)"
    )
    assert "NO RULE GUARDS THEM" in line


def test_devices_that_had_the_version_before_do_not_count(
    platform: Any, guard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    platform.show(platform.task(processing=120, success=30))
    guard(MaxFailureRate(0.05), already_current=30).poll()
    assert not said(caplog)
    guard(MaxFailureRate(0.05), already_current=51).poll()
    assert "can never stop 99 device(s)" in said(caplog)[0]


def test_a_guard_that_can_stop_its_rollout_says_nothing(
    platform: Any, guard: Any, caplog: pytest.LogCaptureFixture
) -> None:
    platform.show(platform.task(processing=60))
    guard(SequentialFailureTest(0.02)).poll()
    assert not said(caplog)
