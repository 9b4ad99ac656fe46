"""What can't be right is refused before anything is created, as the plan would refuse it after."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from iotda_provider.exceptions import IoTDANotFoundError, IoTDATransportError
from iotda_provider.guards import EnoughSuccess, MaxFailures
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.release.maintenance_window import MaintenanceWindow

PACKAGE, GROUP, CANARIES = "a1b2c3d4e5f60718293a4b5c", "0000000a-0000", "0000000c-0000"
WORLD: dict[str, Any] = {
    "devices": 100,
    "packages": [{"package_id": PACKAGE, "version": "2.0.0"}],
    "groups": [
        {"name": "canaries", "group_id": CANARIES, "count": 10},
        {"name": "others", "group_id": GROUP, "count": 90},
    ],
    "batch_tasks": [],
}
RULES = [{"rule": "SequentialFailureTest", "tolerated_rate": 0.02, "false_alarm": 0.005}]
GOOD: dict[str, Any] = {
    "waves": f"group:{CANARIES}, 5%, 50, 100%",
    "max_waves": "6",
    "window": "mon-fri 22:00-05:00",
    "timezone": "Asia/Shanghai",
    "rules": json.dumps(RULES),
    "gate": "0.05",
}


@pytest.fixture
def deferrable() -> bool:
    """A check waits for nothing."""
    return False


def check(run: Any, **given: Any) -> Any:
    return run.run(
        CheckReleaseOperator(
            task_id="check",
            package_id=PACKAGE,
            **{"group_ids": [GROUP, CANARIES], "online_within": 0, **given},
        )
    )


def refused(run: Any, **given: Any) -> str:
    with pytest.raises(AirflowFailException) as refusal:
        check(run, **given)
    assert "Nothing was created" in str(refusal.value)
    return str(refusal.value)


def test_what_can_be_right_is_taken_in_every_form(rollout: Any) -> None:
    run = rollout(**WORLD)
    assert check(run)["devices"] == 100
    assert check(run, **GOOD)["devices"] == 100
    objects = {
        "waves": ["5%", 50, "rest"],
        "max_waves": 3,
        "window": MaintenanceWindow("22:00", "05:00", "Asia/Shanghai"),
        "rules": [MaxFailures(3)],
        "gate": EnoughSuccess(0.05),
    }
    assert check(run, **objects)["devices"] == 100
    assert check(run, **{**GOOD, "window": "", "timezone": ""})["devices"] == 100


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"waves": "5%, 1%, 100%"}, "waves must grow, each counting from the first device"),
        ({"waves": "0%, 100%"}, "waves: '0%' must be above 0 %"),
        ({"waves": "1, 2, 3"}, "waves must end with '100%' or 'rest'"),
        ({"waves": ""}, "waves"),
        ({"waves": "group:0000000e-0000, 100%"}, "waves: There is no device group 0000000e-0000"),
        ({"waves": "group:canaries, 100%"}, "takes a group's ID, not its name"),
        ({"window": "22-05"}, "window must look like 'mon-fri 22:00-05:00', got '22-05'"),
        ({"window": "25:00-05:00"}, "window: start must be a time such as 22:00"),
        ({"timezone": "Asia/Shangai"}, "'Asia/Shangai': did you mean Asia/Shanghai?"),
        ({"timezone": "Mars", "window": ""}, "timezone: there is none called 'Mars'"),
        ({"rules": '[{"rule": "MaxFailurs", "count": 5}]'}, "rules: unknown rule"),
        ({"rules": "[{]"}, "rules"),
        ({"rules": ""}, "rules"),
        ({"rules": json.dumps([{**RULES[0], "tolerated_rate": 2}])}, "tolerated_rate must be"),
        ({"gate": "1"}, "gate: max_failure_rate must be a rate above 0 and below 1"),
        ({"gate": "five"}, "give the failure rate to rule out, above 0 and below 1"),
        ({"gate": ""}, "gate: "),
        ({"max_waves": "many"}, "max_waves must be a number"),
        ({"online_within": "a day"}, "online_within must be a number"),
        ({"online_within": -1}, "online_within must be 0 or more"),
        ({"max_waves": 2.5}, "max_waves must be a whole number"),
        ({"waves": None, "is_dry_run": True}, "waves: a dry run needs them"),
        ({"waves": None, "is_dry_run": "True"}, "waves: a dry run needs them"),
    ],
)
def test_a_typo_is_told_by_its_field_and_with_what_is_right(
    rollout: Any, given: dict[str, Any], says: str
) -> None:
    assert says in refused(rollout(**WORLD), **{**GOOD, **given})


def test_all_typos_are_told_at_once(rollout: Any) -> None:
    said = refused(rollout(**WORLD), **{**GOOD, "waves": "all", "window": "22-05", "gate": 7})
    for name in ("waves", "window", "gate"):
        assert name in said
    assert "with those put right" in said


def test_more_waves_than_there_is_room_for_are_refused_with_the_late_one(rollout: Any) -> None:
    six = "1%, 2%, 5%, 10%, 50%, 100%"
    run = rollout(**WORLD, offline_share=0.2)
    said = refused(run, waves=six)
    assert "waves: with these devices there are 7" in said
    assert "max_waves=6: name at most 5, as the devices that were not online lately" in said
    assert check(run, waves=six, max_waves=7)["late"] > 0
    assert check(rollout(**WORLD), waves=six)["late"] == 0


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({"waves": "5%, 100%"}, "(5%) has 5 device(s)"),
        ({"waves": f"group:{CANARIES}, 100%"}, f"(group:{CANARIES}) has 10 device(s)"),
        ({"waves": "100%", "gate": 0.01}, "(100%) has 100 device(s)"),
        (
            {"waves": "80%, 100%", "gate": 0.1, "trial": "required"},
            "80 device(s) can be compared with 20 others (at least 82 are needed)",
        ),
    ],
)
def test_a_first_wave_that_is_sure_to_be_stopped_is_refused(
    rollout: Any, given: dict[str, Any], first: str
) -> None:
    asked = {**GOOD, **given, "approval": "never"}
    said = refused(rollout(**WORLD), **asked)
    assert first in said
    assert "or have a person asked" in said
    for other in ({"approval": "when unproven"}, {"waves": "90%, 100%", "gate": 0.05}):
        assert check(rollout(**WORLD), **{**asked, **other})["devices"] == 100


def test_an_approval_that_is_no_word_of_ours_is_refused(rollout: Any) -> None:
    assert "approval must be one of" in refused(rollout(**WORLD), approval="sometimes")


def test_waves_that_are_empty_do_not_count(rollout: Any) -> None:
    run = rollout(**WORLD)
    small = "0.1%, 0.2%, 0.5%, 50%, 100%"
    assert check(run, waves=small, max_waves=3)["devices"] == 100
    assert "max_waves=2" in refused(run, waves=small, max_waves=2)


def test_a_group_of_none_of_the_devices_is_no_wave_and_is_told(rollout: Any, logged: Any) -> None:
    run = rollout(**WORLD)
    check(run, waves=f"group:{CANARIES}, 100%", max_waves=1, group_ids=[GROUP])
    assert f"none of the devices is in group {CANARIES}" in logged()
    assert "max_waves=1" in refused(run, waves=f"group:{CANARIES}, 100%", max_waves=1)


def test_all_of_them_can_be_templates() -> None:
    assert set(GOOD) <= set(CheckReleaseOperator.template_fields)


@pytest.mark.parametrize(
    ("waves", "share"),
    [
        ("100%", 0.5),
        ("51%, 100%", 0.5),
        (f"group:{GROUP}, rest", 0.5),
        ("rest", 0.99),
        ("2, rest", 0.01),
    ],
)
def test_a_first_wave_that_holds_too_many_is_refused(
    rollout: Any, waves: str, share: float
) -> None:
    said = refused(rollout(**WORLD), waves=waves, largest_first_wave=share)

    assert said.startswith("waves: the first one (")
    assert f"lets it have at most {share:.0%} of them" in said


@pytest.mark.parametrize(
    ("waves", "share"), [("50%, 100%", 0.5), ("100%", 1), ("1, rest", 0.001), ("1%, rest", 0.01)]
)
def test_a_first_wave_within_its_share_or_of_one_device_is_taken(
    rollout: Any, waves: str, share: float
) -> None:
    assert check(rollout(**WORLD), waves=waves, largest_first_wave=share)["devices"] == 100


OLD = {"package_id": "01d", "version": "1.0.0"}
PACKAGES = [
    {"package_id": PACKAGE, "version": "2.0.0"},
    {**OLD, "support_source_versions": ["0.9.0"]},
    {**OLD, "package_id": "02d", "product_id": "other"},
    {**OLD, "package_id": "03d", "package_type": "softwarePackage"},
]


@pytest.mark.parametrize(
    ("package_id", "says"),
    [
        (None, "needs rollback_package_id"),
        ("04d", "04d"),
        (PACKAGE, "brings version 2.0.0"),
        ("01d", "can be installed on 0.9.0 only"),
        ("02d", "its product is other"),
        ("03d", "its type is softwarePackage"),
    ],
)
def test_a_way_back_that_is_none_is_refused(
    rollout: Any, package_id: str | None, says: str
) -> None:
    run = rollout(**{**WORLD, "packages": PACKAGES})
    run.emulator.clear_journal()
    with pytest.raises(AirflowFailException) as refusal:
        check(run, rollback="at once", rollback_package_id=package_id)
    assert says in str(refusal.value)
    assert run.xcoms["check", "refused"] == str(refusal.value)
    assert {entry["method"] for entry in run.emulator.journal()} == {"GET"}


def test_a_proxys_404_does_not_refuse_a_way_back(rollout: Any) -> None:
    run = rollout(**{**WORLD, "packages": PACKAGES})
    run.emulator.add_fault("html", status=404, call="show_ota_package", after=1)
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer"):
        check(run, rollback="at once", rollback_package_id="01d")
    assert ("check", "refused") not in run.xcoms


def test_a_way_back_that_asks_needs_an_airflow_that_can(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "iotda_provider.operators.release.way_back_check"
    monkeypatch.setattr(f"{module}.AIRFLOW_V_3_1_PLUS", False)
    run = rollout(**{**WORLD, "packages": [PACKAGES[0], {**OLD, "package_id": "05d"}]})
    said = refused(run, rollback="ask", rollback_package_id="05d")
    assert "rollback: 'ask' needs Airflow 3.1 or later" in said


def test_a_manifest_path_that_can_not_be_written_is_said_before_a_device_is_read(
    rollout: Any,
) -> None:
    run = rollout(**WORLD)
    with pytest.raises(IoTDATransportError, match="can't be written now"):
        check(run, manifest_path="/dev/null/waves.json")
    assert not run.emulator.journal()
    assert check(run, manifest_path="/dev/null/waves.json", is_dry_run=True, waves="5%, 100%")
