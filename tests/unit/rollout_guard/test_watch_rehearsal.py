"""The right to stop is rehearsed when a guard begins, without stopping anything."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.exceptions import (
    IoTDAAuthError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
)


def watched(platform: Any, guard: Any, status: str = "Processing", **plan: Any) -> Any:
    platform.show(platform.task(status, processing=100))
    return guard(**{"stop_on_breach": True, "rehearse_stop": True, **plan})


def test_it_is_rehearsed_once_after_the_first_look(platform: Any, guard: Any) -> None:
    begun = watched(platform, guard)

    begun.poll()
    begun.poll(10)

    assert platform.asked == ["read", f"rehearse {platform.task_id}", "read"]
    assert not platform.told


def test_a_guard_that_may_not_stop_tells_people_at_once_and_goes_on(
    platform: Any, guard: Any
) -> None:
    platform.rehearsal = IoTDAAuthError(403, "APIGW.0302", "not allowed")
    begun = watched(platform, guard)

    assert begun.poll() is None

    assert [told.kind for told in platform.told] == ["may_not_stop"]
    assert "can NOT be stopped" in platform.told[0].sentence
    platform.show(platform.task(fail=5, processing=95))
    begun.poll(10)
    assert f"stop {platform.task_id}" in platform.asked


@pytest.mark.parametrize(
    "answer",
    [
        IoTDANotFoundError(404, "APIGW.0101", "no such API"),
        IoTDAServerError(503, None, "later"),
        IoTDATransportError("unreachable"),
        IoTDAAuthError(401, "APIGW.0301", "bad signature"),
    ],
)
def test_after_any_other_answer_it_is_asked_again_once_a_minute(
    platform: Any, guard: Any, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    platform.rehearsal = answer
    begun = watched(platform, guard)
    rehearsal = f"rehearse {platform.task_id}"

    for after in [0, *[10] * 12]:
        assert begun.poll(after) is None
    assert platform.asked.count(rehearsal) == 3  # at 0, 60 and 120 s
    assert not platform.told
    assert caplog.text.count("can't find out") == 1

    platform.rehearsal = IoTDAAuthError(403, "APIGW.0302", "not allowed")
    for _ in range(12):
        begun.poll(10)
    assert platform.asked.count(rehearsal) == 4
    assert [told.kind for told in platform.told] == ["may_not_stop"]


@pytest.mark.parametrize("plan", [{"rehearse_stop": False}, {"status": "Success"}])
def test_where_nothing_would_be_stopped_nothing_is_rehearsed(
    platform: Any, guard: Any, plan: Any
) -> None:
    watched(platform, guard, **plan).poll()
    assert platform.asked == ["read"]
