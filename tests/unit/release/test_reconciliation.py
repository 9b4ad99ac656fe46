"""What the platform says held against what devices run."""

from __future__ import annotations

import pytest

from iotda_provider.guards import FailureClasses
from iotda_provider.models import Subtask, SubtaskStatus, TaskProgress
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.reconciliation import Reconciliation, reconcile, statuses_to_read

NEW, OLD = "2.0.0", "1.0.0"
OFFLINE, INSTALL = "IOTDA.014016", "IOTDA.005010"


def reconciled(
    row: Subtask | None,
    runs: str | None,
    ledger: Ledger,
    *,
    other: SubtaskStatus | None = None,
    is_gone: bool = False,
) -> Reconciliation:
    found = Reconciliation()
    rows = None if is_gone else {row.target: row} if row else {}
    words = reconcile(found, ledger, rows, other, {"d": runs}, NEW, FailureClasses())
    assert [device for device, _ in words] == ["d"]
    return found


def word_of(found: Reconciliation) -> str:
    return next(kind for kind, count in found.counts.items() if count)


def started(how: str = "accepted") -> Ledger:
    ledger = Ledger("aa", ["d"])
    if how:
        getattr(ledger, how).add("d")
    return ledger


def one(status: str, runs: str | None, *, how: str = "accepted", code: str = "") -> str:
    row = Subtask("d", SubtaskStatus(status), error_code=code or None, error_msg=code or None)
    return word_of(reconciled(row, runs, started(how)))


@pytest.mark.parametrize(
    ("status", "runs", "word"),
    [
        ("Success", NEW, "updated"),
        ("Success", None, "unread"),
        ("Success", "", "unread"),
        ("Success", OLD, "success_with_old_version"),
        ("Stopped", NEW, "updated_after_stop"),
        ("Stopped", OLD, "interrupted"),
        ("Fail", NEW, "updated_though_failed"),
        ("Waitting", OLD, "unfinished"),
        ("Processing", OLD, "unfinished"),
        ("FailWaitRetry", OLD, "unfinished"),
        ("Removed", None, "removed"),
    ],
)
def test_devices_that_were_confirmed(status: str, runs: str | None, word: str) -> None:
    assert one(status, runs) == word


@pytest.mark.parametrize("status", ["Stopped", "Waitting"])
def test_devices_that_were_never_confirmed(status: str) -> None:
    assert one(status, OLD, how="") == "never_started"


@pytest.mark.parametrize("how", ["unanswered", "elsewhere"])
def test_devices_that_may_have_started_were_interrupted_by_a_stop(how: str) -> None:
    assert one("Stopped", OLD, how=how) == "interrupted"
    assert one("Waitting", OLD, how=how) == "unfinished"


def test_devices_that_are_not_read_have_the_status_of_the_most() -> None:
    success = SubtaskStatus.SUCCESS
    assert word_of(reconciled(None, NEW, started(), other=success)) == "updated"
    assert word_of(reconciled(None, OLD, started(), other=SubtaskStatus.STOPPED)) == "interrupted"
    assert word_of(reconciled(None, OLD, started())) == "removed"


def test_of_a_batch_task_that_is_gone_the_versions_tell() -> None:
    assert word_of(reconciled(None, NEW, started(), is_gone=True)) == "updated"
    assert word_of(reconciled(None, OLD, started(), is_gone=True)) == "unfinished"
    assert word_of(reconciled(None, OLD, started(""), is_gone=True)) == "never_started"


def test_the_most_frequent_status_is_not_read_and_failures_always_are() -> None:
    wanted, other = statuses_to_read(TaskProgress(total=10, success=7, fail=2, waiting=1))
    assert (wanted, other) == (
        {SubtaskStatus.FAIL: 2, SubtaskStatus.WAITING: 1},
        SubtaskStatus.SUCCESS,
    )
    wanted, other = statuses_to_read(TaskProgress(total=10, success=1, fail=9))
    assert (wanted, other) == ({SubtaskStatus.FAIL: 9}, SubtaskStatus.SUCCESS)


def test_failures_by_class() -> None:
    assert one("Fail", OLD, code=OFFLINE) == "environment"
    assert one("Fail", OLD, code=INSTALL) in ("firmware", "unknown")


def test_who_is_tried_again_and_who_is_set_aside() -> None:
    """Only devices that this release has confirmed, and that failed by their environment."""
    offline = Subtask("d", SubtaskStatus.FAIL, error_code=OFFLINE, error_msg=OFFLINE)
    for how, again in (("accepted", ["d"]), ("unanswered", ["d"]), ("elsewhere", [])):
        assert reconciled(offline, OLD, started(how)).to_retry == again
    found = Reconciliation()
    for device, word in [
        *(("a", "updated"), ("b", "updated_after_stop"), ("h", "unread"), ("c", "environment")),
        *(("d", "firmware"), ("e", "never_started"), ("f", "wave_not_begun"), ("i", "left_out")),
        ("g", "interrupted"),
    ]:
        found.add(device, word)
    assert (found.kept["firmware"], found.kept["wave_not_begun"]) == (["d"], ["f"])
    assert (found.exposed, found.running) == (6, 2)
    assert str(found).startswith("1 updated, 1 unread, 1 updated after stop")


@pytest.mark.parametrize(
    ("words", "blamed"),
    [
        ({"environment": 3}, False),
        ({"environment": 3, "updated": 9}, False),
        ({"environment": 3, "firmware": 1}, True),
        ({"environment": 3, "unknown": 1}, True),
        ({"unfinished": 3}, True),
    ],
)
def test_whose_fault_failures_are(words: dict[str, int], blamed: bool) -> None:
    found = Reconciliation()
    for word, count in words.items():
        for number in range(count):
            found.add(f"d{number}", word)
    assert found.blames_firmware is blamed
