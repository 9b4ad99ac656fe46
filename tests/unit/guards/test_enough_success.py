"""The gate between waves."""

from __future__ import annotations

import pytest

from iotda_provider.guards import Decision, EnoughSuccess, Observed, Undecided
from iotda_provider.guards.lab.exact import exposure
from iotda_provider.models import TaskProgress


def test_unfinished_devices_count_as_failed() -> None:
    gate = EnoughSuccess(0.05)
    assert gate.check(TaskProgress(total=100, success=100)).decision is Decision.GO
    verdict = gate.check(TaskProgress(total=100, success=90, processing=5, fail_wait_retry=5))
    assert verdict.decision is Decision.WAIT
    assert verdict.evidence["unproven"] == 10


def test_the_sentence_tells_counts_evidence_and_bound() -> None:
    verdict = EnoughSuccess(0.05).check(TaskProgress(total=82, success=82))
    assert verdict.sentence == (
        "82 of 82 started devices have succeeded, 0 % have failed or not finished (below 5 % to go "
        "on): evidence 20.4 to 1; EnoughSuccess goes on at 20 to 1."
    )


def test_devices_that_had_the_version_before_prove_nothing() -> None:
    progress = TaskProgress(total=100, success=100)
    verdict = EnoughSuccess(0.05).check(progress, observed=Observed(already_current=30))
    assert verdict.decision is Decision.WAIT
    assert verdict.evidence["devices"] == 70


def test_it_waits_where_it_cannot_tell() -> None:
    gate = EnoughSuccess(0.05)
    torn = gate.check(TaskProgress(total=1, success=500))
    assert (torn.decision, torn.undecided) == (Decision.WAIT, Undecided.COUNTS)
    stopped = gate.check(
        TaskProgress(total=500, success=500), observed=Observed(being_stopped=True)
    )
    assert (stopped.decision, stopped.undecided) == (Decision.WAIT, Undecided.STOPPING)
    assert gate.check(TaskProgress()).decision is Decision.WAIT


def test_devices_stopped_by_hand_do_not_open_it() -> None:
    gate = EnoughSuccess(0.05)
    progress = TaskProgress(total=200, success=100, stopped=100)
    assert gate.check(progress).decision is Decision.WAIT
    assert gate.check(progress, observed=Observed(started=100)).decision is Decision.GO


def test_a_bad_rate_never_opens_it_more_often_than_promised() -> None:
    """Exactly, looking after every device: P(ever go | rate = p1) <= false_go."""
    gate = EnoughSuccess(0.05, false_go=0.05)
    alive, opened = {0: 1.0}, 0.0
    for devices in range(1, 201):
        after: dict[int, float] = {}
        for failed, chance in alive.items():
            for more, share in ((0, 0.95), (1, 0.05)):
                after[failed + more] = after.get(failed + more, 0.0) + chance * share
        # More failures never open it: the first that does not settles all that are more.
        through = next(failed for failed in range(devices + 1) if not gate.passes(failed, devices))
        opened += sum(chance for failed, chance in after.items() if failed < through)
        alive = {failed: chance for failed, chance in after.items() if failed >= through}
    assert 0.01 < opened <= 0.05


@pytest.mark.parametrize(
    ("parameters", "name"),
    [((0,), "max_failure_rate"), ((1,), "max_failure_rate"), ((0.05, 0), "false_go")],
)
def test_a_bad_parameter_is_named(parameters: tuple[float, ...], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        EnoughSuccess(*parameters)


def test_it_stops_nothing() -> None:
    assert exposure(EnoughSuccess(0.05), 0.5, 100).stopped == 0
