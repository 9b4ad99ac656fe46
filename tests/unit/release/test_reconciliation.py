"""What the platform says held against what devices run."""

from __future__ import annotations

import pytest

from iotda_provider.models import Subtask, SubtaskStatus
from iotda_provider.release.reconciliation import Reconciliation, reconcile

NEW, OLD = "2.0.0", "1.0.0"
OFFLINE, INSTALL = "IOTDA.014016", "IOTDA.005010"


def one(status: str, runs: str | None, *, exposed: bool = True, code: str = "") -> str:
    row = Subtask("d", SubtaskStatus(status), error_code=code or None, error_msg=code or None)
    found = reconcile([row], {"d": runs}, NEW, exposed={"d"} if exposed else ())
    return next(kind for kind, count in found.counts.items() if count)


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
def test_devices_that_were_let_start(status: str, runs: str | None, word: str) -> None:
    assert one(status, runs) == word


@pytest.mark.parametrize("status", ["Stopped", "Waitting"])
def test_devices_that_were_never_let_start(status: str) -> None:
    assert one(status, OLD, exposed=False) == "never_started"


def test_devices_that_somebody_else_may_have_let_start() -> None:
    def word(status: str, *left: str) -> str:
        row = Subtask("d", SubtaskStatus(status))
        found = reconcile([row], {"d": OLD}, NEW, exposed=(), left=left)
        return next(kind for kind, count in found.counts.items() if count)

    assert word("Stopped") == "interrupted"
    assert word("Stopped", "d") == "never_started"
    assert word("Waitting") == "never_started"


def test_failures_by_class() -> None:
    assert one("Fail", OLD, code=OFFLINE) == "environment"
    assert one("Fail", OLD, code=INSTALL) in ("firmware", "unknown")


def test_who_is_tried_again_and_who_is_set_aside() -> None:
    found = Reconciliation(
        {
            "updated": ("a",),
            "updated_after_stop": ("b",),
            "unread": ("h",),
            "environment": ("c",),
            "firmware": ("d",),
            "never_started": ("e", "f"),
            "interrupted": ("g",),
        }
    )
    assert found.to_retry == ["e", "f", "c"]
    assert found.to_quarantine == ["d"]
    assert (found.exposed, found.running) == (6, 2)
    assert str(found).startswith("1 updated, 1 unread, 1 updated after stop")
