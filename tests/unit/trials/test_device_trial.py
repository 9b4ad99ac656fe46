"""What a trial answers, and what can't change its answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from iotda_provider.trials import Decision, DeviceTrial, Group, exact

TRIALS = [DeviceTrial(method=method, required=True) for method in ("loss", "product")]
WORSE, NO_WORSE, UNDECIDED = Decision.WORSE, Decision.NO_WORSE, Decision.UNDECIDED

trials = st.sampled_from(TRIALS)
shares = st.floats(0, 1)


@st.composite
def groups(draw: st.DrawFn, largest: int = 1200) -> Group:
    devices = draw(st.integers(1, largest))
    unhealthy = draw(st.integers(0, devices))
    unknown = draw(st.integers(0, min(devices // 10 + 1, devices - unhealthy)))
    return Group(unhealthy, devices - unhealthy - unknown, unknown)


def likely(rate: float, devices: int) -> Group:
    return Group(round(rate * devices), devices - round(rate * devices))


# --- sentences that people read -------------------------------------------------------------------


def test_a_worse_firmware_is_called_worse_in_one_sentence() -> None:
    answer = DeviceTrial().judge(Group(12, 88), Group(30, 970))
    assert answer.decision is WORSE
    assert answer.sentence == (
        "12 of 100 updated devices are offline, 30 of 1,000 others: worse, P = 0.0002 "
        "(it stops at 0.0061)."
    )


def test_a_good_firmware_is_called_no_worse() -> None:
    answer = DeviceTrial().judge(Group(30, 970), Group(30, 970))
    assert answer.decision is NO_WORSE
    assert answer.sentence.startswith(
        "30 of 1,000 updated devices are offline, 30 of 1,000 others: no worse, at most 2.5 % of "
        "the devices that would be healthy are lost (below 5 % to go on); P = 0.55"
    )


def test_of_two_yes_worse_wins_and_the_sentence_says_both() -> None:
    for trial in TRIALS:
        answer = trial.judge(Group(300, 7200), Group(150, 7350), gates=4)
        assert answer.decision is WORSE
        assert "worse, P = 3e-13" in answer.sentence
        assert "but by less than 5 %" in answer.sentence


def test_a_metric_of_ones_own_is_not_called_offline() -> None:
    trial = DeviceTrial(metric=lambda ids: dict.fromkeys(ids, True))
    sentence = trial.judge(Group(12, 88), Group(30, 970)).sentence
    assert sentence.startswith("12 of 100 updated devices are unhealthy, 30 of 1,000 others: worse")


def test_plain_json_says_all_of_an_answer() -> None:
    answer = DeviceTrial().judge(Group(12, 88), Group(30, 970), newest=Group(9, 41))
    said = json.loads(json.dumps(answer.to_json()))
    assert said["decision"] == "worse"
    assert said["treated"] == {"unhealthy": 12, "healthy": 88, "unknown": 0}
    assert said["p_newest"] == pytest.approx(exact.fisher(9, 50, 30, 1000))


# --- what an answer hangs on ----------------------------------------------------------------------


def test_every_look_has_a_bound_of_its_own_and_gates_share_that_for_stops() -> None:
    trial = DeviceTrial(false_stop=0.02, false_go=0.1)
    for look in (1, 2, 7):
        for gates in (1, 5):
            answer = trial.judge(Group(3, 97), Group(30, 970), look=look, gates=gates)
            weight = 6 / (math.pi**2 * look**2)
            assert answer.stops_at == pytest.approx(weight * 0.02 / gates)
            assert answer.value == pytest.approx(exact.loss(3, 100, 30, 1000, weight * 0.1))


def test_the_margin_is_measured_in_updated_devices() -> None:
    half = DeviceTrial().judge(likely(0.03, 1000), likely(0.03, 1000), updated=0.5)
    assert half.goes_below == pytest.approx(0.025)
    assert half.decision is NO_WORSE
    too_few = DeviceTrial().judge(likely(0, 1000), likely(0, 1000), updated=0.499)
    assert too_few.decision is UNDECIDED
    assert "only 50 % of them run the new version" in too_few.sentence


def test_a_release_that_updates_nobody_is_stopped_if_it_takes_devices_offline() -> None:
    assert DeviceTrial().judge(Group(50, 50), Group(30, 970), updated=0.0).decision is WORSE


def test_unknown_devices_are_the_worst_case_of_each_question() -> None:
    treated, control = Group(10, 85, 5), Group(30, 920, 50)
    answer = DeviceTrial().judge(treated, control)
    assert answer.p == exact.fisher(10, 100, 80, 1000)
    weight = exact.look_weight(1)
    assert answer.value == exact.loss(15, 100, 30, 1000, weight * 0.05)
    assert "(5 unknown)" in answer.sentence
    assert "(50 unknown)" in answer.sentence


@pytest.mark.parametrize("unknown", [10, 11])
def test_a_look_of_which_more_than_a_tenth_is_unknown_decides_nothing(unknown: int) -> None:
    many, none = Group(100 - unknown, 0, unknown), Group(0, 1000)
    answer = DeviceTrial().judge(many, none)
    assert (answer.decision is WORSE) == (unknown == 10)
    assert ("more than a tenth of the updated devices is unknown" in answer.sentence) == (
        unknown == 11
    )
    blind = Group(0, 1000 - 10 * unknown, 10 * unknown)
    assert (DeviceTrial().judge(Group(0, 1000), blind).decision is UNDECIDED) == (unknown == 11)


@pytest.mark.parametrize(
    ("treated", "control"), [(Group(0, 0), Group(0, 9)), (Group(9, 0), Group(0, 0))]
)
def test_without_one_of_the_groups_nothing_is_decided(treated: Group, control: Group) -> None:
    for trial in TRIALS:
        answer = trial.judge(treated, control)
        assert answer.decision is UNDECIDED
        assert "to compare" in answer.sentence


def test_unknown_devices_do_not_open_a_gate_that_was_worse_without_them() -> None:
    treated, control = Group(300, 7200), Group(230, 7270)
    assert DeviceTrial().judge(treated, control).decision is WORSE
    blinded = DeviceTrial().judge(treated, Group(230, 7170, 100))
    assert blinded.decision is UNDECIDED
    assert blinded.value < blinded.goes_below


# --- properties -----------------------------------------------------------------------------------


@given(st.data(), trials, groups(), groups(), shares, st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=400, deadline=None)
def test_more_unknown_devices_never_open_a_gate_nor_stop_a_release(
    data: st.DataObject,
    trial: DeviceTrial,
    treated: Group,
    control: Group,
    updated: float,
    gates: int,
    look: int,
) -> None:
    def blinded(group: Group) -> Group:
        unhealthy = data.draw(st.integers(0, group.unhealthy))
        healthy = data.draw(st.integers(0, group.healthy))
        return Group(unhealthy, healthy, group.devices - unhealthy - healthy)

    known: dict[str, Any] = {"look": look, "gates": gates, "updated": updated}
    before = trial.judge(treated, control, **known)
    after = trial.judge(blinded(treated), blinded(control), **known)
    assert after.decision in (UNDECIDED, before.decision)
    assert after.p >= before.p * (1 - 1e-9)
    assert after.value >= before.value - 1e-12


@given(trials, st.integers(1, 5000), st.integers(1, 5000), shares, st.integers(1, 5))
@settings(max_examples=200, deadline=None)
def test_an_outage_of_everything_decides_nothing(
    trial: DeviceTrial, treated: int, control: int, updated: float, gates: int
) -> None:
    for lost in (Group(treated, 0), Group(0, 0, treated)):
        for others in (Group(control, 0), Group(0, 0, control)):
            answer = trial.judge(lost, others, updated=updated, gates=gates)
            assert answer.decision is UNDECIDED


@given(groups(), groups())
@settings(max_examples=300, deadline=None)
def test_p_never_falls_when_a_treated_device_recovers_or_a_control_device_is_lost(
    treated: Group, control: Group
) -> None:
    assume(treated.unhealthy and control.healthy)
    p = DeviceTrial().judge(treated, control).p
    recovered = replace(treated, unhealthy=treated.unhealthy - 1, healthy=treated.healthy + 1)
    lost = replace(control, unhealthy=control.unhealthy + 1, healthy=control.healthy - 1)
    assert DeviceTrial().judge(recovered, control).p >= p * (1 - 1e-9)
    assert DeviceTrial().judge(treated, lost).p >= p * (1 - 1e-9)


@given(trials, groups(), groups(), shares, shares)
@settings(max_examples=300, deadline=None)
def test_the_better_the_treated_the_sooner_it_goes_on(
    trial: DeviceTrial, treated: Group, control: Group, updated: float, more: float
) -> None:
    assume(treated.unhealthy)
    recovered = replace(treated, unhealthy=treated.unhealthy - 1, healthy=treated.healthy + 1)
    before = trial.judge(treated, control, updated=updated)
    better = trial.judge(recovered, control, updated=updated)
    assert better.value <= before.value + 1e-12
    if before.decision is NO_WORSE:
        assert better.decision is NO_WORSE
        wider = trial.judge(treated, control, updated=max(updated, more))
        assert wider.decision is NO_WORSE


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@settings(max_examples=300, deadline=None)
def test_p_is_that_of_whole_numbers(n_t: int, n_c: int, data: st.DataObject) -> None:
    x_t, x_c = data.draw(st.integers(0, n_t)), data.draw(st.integers(0, n_c))
    unhealthy = x_t + x_c
    ways = sum(
        math.comb(unhealthy, k) * math.comb(n_t + n_c - unhealthy, n_t - k)
        for k in range(x_t, min(unhealthy, n_t) + 1)
        if n_t - k <= n_t + n_c - unhealthy
    )
    whole = float(Fraction(ways, math.comb(n_t + n_c, n_t)))
    assert exact.fisher(x_t, n_t, x_c, n_c) == pytest.approx(whole, rel=1e-9)


def test_p_of_large_groups_is_that_of_whole_numbers() -> None:
    for x_t, n_t, x_c, n_c in ((1100, 2000, 950, 2000), (40, 3000, 90, 3000), (0, 900, 800, 900)):
        unhealthy = x_t + x_c
        ways = sum(
            math.comb(unhealthy, k) * math.comb(n_t + n_c - unhealthy, n_t - k)
            for k in range(x_t, min(unhealthy, n_t) + 1)
        )
        whole = float(Fraction(ways, math.comb(n_t + n_c, n_t)))
        assert exact.fisher(x_t, n_t, x_c, n_c) == pytest.approx(whole, rel=1e-9)


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"metric": "battery"}, "metric"),
        ({"metric": None}, "metric"),
        ({"required": 1}, "required"),
        ({"margin": 0}, "margin"),
        ({"margin": "0.05"}, "margin"),
        ({"false_stop": 1}, "false_stop"),
        ({"false_go": math.nan}, "false_go"),
        ({"control_size": 0}, "control_size"),
        ({"control_size": 10**9}, "control_size"),
        ({"control_size": True}, "control_size"),
        ({"online_within": 0}, "online_within"),
        ({"online_within": 60, "metric": dict.fromkeys}, "online_within"),
        ({"method": "t-test"}, "method"),
    ],
)
def test_a_wrong_parameter_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}"):
        DeviceTrial(**values)


@pytest.mark.parametrize(
    "trial",
    [DeviceTrial(), DeviceTrial(required=True, online_within=86400, method="product")],
)
def test_a_trial_comes_back_from_json(trial: DeviceTrial) -> None:
    assert DeviceTrial.from_json(json.loads(json.dumps(trial.to_json()))) == trial


def test_a_trial_whose_metric_stayed_behind_can_still_judge() -> None:
    trial = DeviceTrial.from_json(DeviceTrial(metric=lambda ids: {}, margin=0.1).to_json())
    assert trial.margin == 0.1
    assert callable(trial.metric)
    with pytest.raises(TypeError, match="without its metric"):
        trial.metric(["a"])


@pytest.mark.parametrize("data", [None, [], {"margins": 1}, {"margin": []}, {"metric": "x"}])
def test_json_of_something_else_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"trial|margin|metric"):
        DeviceTrial.from_json(data)


def test_making_a_trial_imports_neither_airflow_nor_scipy() -> None:
    script = (
        "import sys; from iotda_provider.trials import DeviceTrial;"
        "DeviceTrial(required=True).to_json();"
        "print(sorted({'airflow', 'scipy', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
