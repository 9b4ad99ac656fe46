"""What kind of failure an error is."""

from __future__ import annotations

import json

import pytest

from iotda_provider.guards import FailureClasses, classify
from iotda_provider.models import Subtask, SubtaskStatus


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("IOTDA.014016", None, "environment"),
        ("IOTDA.014112", "", "environment"),
        # The vendor's table of upgrade errors.
        ("", "Device Abnormal is not online", "environment"),
        ("", "Task Conflict", "environment"),
        ("", "Waiting for the device online timeout", "environment"),
        ("", "Waiting for report cellId timeout", "environment"),
        ("", "Waiting for report device firmware version timeout", "environment"),
        ("", "Wait for the device to report upgrade result timeout", "firmware"),
        ("", "Updating timeout and query device version for check timeout", "firmware"),
        ("", "Waiting for device downloaded package timeout", "environment"),
        ("", "Integrity check failure for new downloaded package", "firmware"),
        ("", "Unsupported package type", "firmware"),
        ("", "Not enough storage for the new firmware package", "firmware"),
        ("", "Out of memory during downloading process", "firmware"),
        ("", "Connection lost during downloading process", "environment"),
        ("", "Firmware update failed", "firmware"),
        ("", "Invalid URI", "unknown"),
        # The same, as others put it.
        ("", "The device did not report the upgrade result in time", "firmware"),
        ("", "The device has another upgrade task in progress", "environment"),
        ("", "Device upgrade failed: installation failed", "firmware"),
        # Its result codes, as devices report them.
        ("IOTDA.005011", "device in use", "environment"),
        ("IOTDA.005012", "poor signal", "environment"),
        ("IOTDA.005013", "already the latest version", "environment"),
        ("IOTDA.005014", "low battery", "environment"),
        ("IOTDA.005015", "insufficient storage space", "firmware"),
        ("IOTDA.005016", "download timeout", "environment"),
        ("IOTDA.005017", "upgrade package verification failure", "firmware"),
        ("IOTDA.005018", "unsupported upgrade package type", "firmware"),
        ("IOTDA.005019", "insufficient memory", "firmware"),
        ("IOTDA.005020", "upgrade package installation failure", "firmware"),
        ("IOTDA.005099", "internal exception", "firmware"),
        ("IOTDA.005000", "upgrade failed, result_code: 4", "environment"),
        ("IOTDA.005000", '{"result_code":10}', "firmware"),
        ("IOTDA.005000", "result code 255", "firmware"),
        ("IOTDA.005000", "result code 42", "unknown"),
        ("IOTDA.005000", "", "unknown"),
        (None, None, "unknown"),
    ],
)
def test_the_documented_failures_have_a_class(
    code: str | None, message: str | None, expected: str
) -> None:
    assert classify(code, message) == expected


def test_a_user_overrides_by_code_or_by_expression_and_the_first_wins() -> None:
    classes = FailureClasses(
        {
            "IOTDA.005016": "firmware",
            "re:bootloader v1": "environment",
            "re:BOOTLOADER": "firmware",
        }
    )
    assert classes.classify("IOTDA.005016", "download timeout") == "firmware"
    assert classes.classify("IOTDA.005017", "Bootloader v1: verification failed") == "environment"
    assert classes.classify("X", "bootloader v2") == "firmware"
    assert classes.classify("X", "low battery") == "environment"


def test_the_defaults_can_be_left_out() -> None:
    assert FailureClasses({}, defaults=False).classify("IOTDA.014016") == "unknown"


def test_each_failed_target_counts_once_and_others_do_not_count() -> None:
    subtasks = [
        Subtask("a", SubtaskStatus.FAIL, None, "IOTDA.014016", None),
        Subtask("a", SubtaskStatus.FAIL, None, "IOTDA.014016", None),
        Subtask("b", SubtaskStatus.FAIL, None, None, "internal exception"),
        Subtask("c", SubtaskStatus.FAIL_WAIT_RETRY, None, None, "internal exception"),
        Subtask("d", SubtaskStatus.SUCCESS),
    ]
    counted = FailureClasses().count(subtasks)
    assert counted == {"environment": 1, "firmware": 1, "unknown": 0}


@pytest.mark.parametrize(
    "classes", [FailureClasses(), FailureClasses({"A": "unknown", "re:x.y": "firmware"}, False)]
)
def test_a_mapping_round_trips_as_json(classes: FailureClasses) -> None:
    data = json.loads(json.dumps(classes.to_json()))
    assert FailureClasses.of(data) == classes
    assert hash(FailureClasses.of(data)) == hash(classes)


def test_whatever_a_user_hands_over_is_understood() -> None:
    assert FailureClasses.of(None) == FailureClasses()
    assert FailureClasses.of({"A": "firmware"}) == FailureClasses({"A": "firmware"})
    assert FailureClasses.of(FailureClasses({"A": "firmware"})).classify("A") == "firmware"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"A": "hardware"}, "failure_classes"),
        ({"A": 1}, "failure_classes"),
        ({"": "firmware"}, "failure_classes"),
        ({5: "firmware"}, "failure_classes"),
        ({"re:(": "firmware"}, "regular expression"),
        (["A"], "failure_classes"),
        ("firmware", "failure_classes"),
        ({"overrides": 5, "defaults": True}, "overrides"),
        ({"overrides": {}, "defaults": "yes"}, "defaults"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FailureClasses.of(value)  # type: ignore[arg-type]
