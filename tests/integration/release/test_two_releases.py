"""Two releases to overlapping groups at a time: the later one stands back, and nobody is twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from tests.integration.release.conftest import DOCUMENT, PACKAGE, Rollout, XComs

from iotda_provider.exceptions import IoTDAAuthError
from iotda_provider.operators.release.check import CheckReleaseOperator
from iotda_provider.operators.release.stop import StopReleaseOperator
from iotda_provider.operators.release.way_back import roll_back
from iotda_provider.procedures.create_once import stamp_in
from iotda_provider.release.under_way import VARIABLE

NORTH, SOUTH, ISLES = "0000000a-0000", "0000000b-0000", "0000000c-0000"
DEVICES = [f"device-{n:05}" for n in range(400)]
PRODUCT = "64f0c1d2e3a4b5c6d7e8f900"
#: The first 240, the last 240, and 40 devices that are in none of them.
MEMBERS = {NORTH: DEVICES[:240], SOUTH: DEVICES[120:360], ISLES: DEVICES[360:]}
SHARED = set(DEVICES[120:240])
WORLD: dict[str, Any] = {
    "devices": 400,
    "product_id": PRODUCT,
    "packages": [{"package_id": PACKAGE, "version": "2.0.0", "product_id": PRODUCT}],
    "groups": [
        {"name": group_id, "group_id": group_id, "devices": ids}
        for group_id, ids in MEMBERS.items()
    ],
}

UNREADABLE: dict[str, dict[str, Any]] = {
    "no right": {"status": 403, "body": {"error_code": "IOTDA.000004"}},
    "no such API": {"status": 404, "body": {"error_code": "APIG.0101"}},
    "a proxy's 404": {"status": 404, "body": {}},
    "bad request": {"status": 400, "body": {"error_code": "IOTDA.000006"}},
}


class Named(Rollout):
    """One of several rollouts of one platform, by the id of its DAG."""

    dag_id = "dag"

    def context(self, operator: Any) -> Any:
        """As it is, for the DAG of this one."""
        context = super().context(operator)
        context["ti"].dag_id = self.dag_id
        return context

    def goes_through(self, wave: int) -> dict[str, Any]:
        """Let a wave pass; what its creation came to."""
        self.create(wave)
        self.confirm(wave)
        assert self.watch(wave)["verdict"] == "passed"
        created: dict[str, Any] = self.xcoms[f"create_{wave}", "return_value"]
        return created

    @property
    def exposed(self) -> list[str]:
        """Every device that this release has confirmed, as often as it has."""
        own = {part["batch_task_id"] for wave in range(1, 7) for part in self._parts(wave)}
        calls = self.emulator.journal("confirm_batch_task")
        return [
            device
            for call in calls
            if call["path"].split("/")[-2] in own
            for device in call["body"]["targets"]
        ]

    def _parts(self, wave: int) -> Any:
        return self.xcoms.get((f"create_{wave}", "return_value"), {}).get("parts", ())


class AllXComs:
    """The XComs of several DAGs."""

    def __init__(self, releases: dict[str, Named]) -> None:
        self._releases = releases

    def _of(self, ids: dict[str, Any]) -> XComs:
        return self._releases[ids.pop("dag_id")].xcoms

    def set(self, key: str, value: Any, **ids: Any) -> None:
        self._of(ids).set(key, value, dag_id="dag", **ids)

    def get_one(self, **ids: Any) -> Any:
        return self._of(ids).get_one(dag_id="dag", **ids)


Start = Callable[..., Named]


def side_by_side(first: Rollout, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Named]:
    """Makes the rollouts of one platform, each of a DAG of its own, by its id."""
    known: dict[str, Named] = {}
    own = "iotda_provider.rollout_guard.memory_store.TriggererMemoryStore."
    monkeypatch.setattr("iotda_provider.release.storage._xcom", lambda: AllXComs(known))

    def put(store: Any, key: str, value: Any) -> None:
        known[store._owner["dag_id"]].xcoms.put(store._owner["task_id"], key, value)

    def get(store: Any, key: str) -> Any:
        return known[store._owner["dag_id"]].xcoms.get((store._owner["task_id"], key))

    monkeypatch.setattr(own + "_set_xcom", put)
    monkeypatch.setattr(own + "_get_xcom", get)

    def make(dag_id: str) -> Named:
        made = Named(first.emulator, first.time, first.deferrable, first.has_store)
        known[dag_id], made.dag_id = made, dag_id
        return made

    return make


@pytest.fixture
def release(rollout: Any, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Makes the rollouts of one platform, and plans them."""
    make = side_by_side(rollout(**WORLD), monkeypatch)

    def start(dag_id: str, *group_ids: str, **given: Any) -> Named:
        made = make(dag_id)
        made.devices = sorted({one for group in group_ids for one in MEMBERS[group]})
        given = {"waves": "50%, 100%", "gate": 0.2, "group_ids": list(group_ids), **given}
        made.plan(**given)
        return made

    return start


def check(release: Named, *group_ids: str) -> Any:
    """Check a release as the shipped DAG does."""
    task = CheckReleaseOperator(
        task_id="check", package_id=PACKAGE, group_ids=list(group_ids), online_within=0
    )
    return release.run(task)


def nobody_twice(*releases: Named) -> None:
    exposed = [device for one in releases for device in one.exposed]
    assert len(exposed) == len(set(exposed))


@pytest.mark.parametrize("has_store", [True, False], ids=["store", "no store"])
def test_the_later_one_leaves_the_devices_of_the_earlier_ones_groups_to_it(
    release: Start, logged: Any, variables: Any
) -> None:
    north = release("north", NORTH)
    assert north.goes_through(1)["left_out"] == {}
    south = release("south", SOUTH)
    first = south.wave(1)
    updated = set(first) & set(north.exposed)
    held = SHARED & set(first) - updated

    # Nobody of the second wave of the north is in any batch task yet.
    created = south.goes_through(1)
    lines = " ".join(logged().split())
    left_out = {"held_elsewhere": len(held), "already_current": len(updated)}
    assert created["left_out"] == left_out
    assert min(left_out.values()) > 0
    assert sorted(south.exposed) == sorted(set(first) - SHARED)
    assert "The release of version 2.0.0 by north, run run, to the group(s) " + NORTH in lines
    assert "come again with the last wave, if that run is over by then" in lines

    # The north goes on undisturbed: it has begun before.
    assert north.goes_through(2)["left_out"] == {}
    assert sorted(north.exposed) == sorted(MEMBERS[NORTH])
    variables.runs_over.add(("north", "run"))

    assert south.goes_through(2)["left_out"] == {"already_current": len(SHARED - updated)}
    assert sorted(south.exposed) == sorted(set(MEMBERS[SOUTH]) - SHARED)
    nobody_twice(north, south)


def test_what_the_earlier_one_never_reaches_comes_with_the_last_wave(
    release: Start, variables: Any
) -> None:
    north, south = release("north", NORTH), release("south", SOUTH)
    assert south.goes_through(1)["left_out"]["held_elsewhere"] == len(SHARED & set(south.wave(1)))
    # Somebody marks the run of the north as failed, before it has confirmed any device.
    variables.runs_over.add(("north", "run"))
    assert south.goes_through(2)["left_out"] == {}
    assert sorted(south.exposed) == sorted(MEMBERS[SOUTH])
    nobody_twice(north, south)


def test_whom_the_earlier_one_still_has_at_the_end_is_named(release: Start, logged: Any) -> None:
    release("north", NORTH)
    south = release("south", SOUTH)
    south.goes_through(1)
    assert south.goes_through(2)["left_out"] == {"held_elsewhere": len(SHARED)}
    assert "they are left out of this release" in " ".join(logged().split())
    south.reconcile(south.outcome(2))
    assert sorted(south.xcoms["reconcile", "left_out"]) == sorted(SHARED)


def test_a_wave_of_which_others_hold_every_device_does_not_pass(
    release: Start, variables: Any, logged: Any
) -> None:
    """All of them would come with the last wave, and none before as its canary."""
    release("first", NORTH)
    second = release("second", NORTH, waves="5%, 25%, 100%")
    second.create(1)
    second.confirm(1)
    result = second.watch(1)
    assert (result["verdict"], result["is_last"], result["gate"]) == ("unproven", False, None)
    assert "Wave 1 is unproven: all of its devices are left out, 12 of them as" in result["summary"]
    assert result["summary"] in " ".join(logged().split())
    stop = StopReleaseOperator(task_id="stop_1", create_task_id="create_1")
    assert second.run(stop)["batch_task_ids"] == []
    ended = second.outcome(3)
    assert (ended["verdict"], ended["wave"], ended["exposed"]) == ("unproven", 1, 0)
    # The first one is over: neither a cleared watch nor a later wave takes that for a proof.
    variables.runs_over.add(("first", "run"))
    assert second.watch(1)["verdict"] == "unproven"
    assert second.exposed == []


def test_the_last_wave_does_not_pass_without_those_whom_others_hold(release: Start) -> None:
    release("first", NORTH)
    second = release("second", NORTH, waves="100%")
    second.create(1)
    second.confirm(1)
    assert second.watch(1)["verdict"] == "unproven"
    # A person says yes.
    second.xcoms.put("gate_1", "branch", ["ask_1"])
    second.xcoms.put("ask_1", "answer", {"option": "Go on", "verdict": "answered"})
    ended = second.outcome(1)
    assert (ended["verdict"], ended["approved_by_person"], ended["exposed"]) == ("released", [1], 0)


def test_the_check_refuses_what_would_meet_a_release_that_is_under_way(
    release: Start, variables: Any
) -> None:
    north = release("north", NORTH)
    assert north.goes_through(1)["verdict"] == "created"
    south = release("south", ISLES)
    with pytest.raises(AirflowFailException) as refusal:
        check(south, SOUTH)
    said = str(refusal.value)
    assert f"The release of version 2.0.0 by north, run run, to the group(s) {NORTH} " in said
    left = SHARED - set(north.exposed)  # the others run the version
    assert f"has {len(left)} of these devices in its groups, first {min(left)}: " in said
    assert "Let that run end, or mark it as failed" in said
    assert "Nothing was created" in said
    assert len(said) < 1500
    # What shares no device, and what is over, is in nobody's way.
    assert check(south, ISLES)["devices"] == 40
    assert check(north, NORTH, SOUTH)["devices"] > 0, "a run's own release is no other one"
    variables.runs_over.add(("north", "run"))
    assert check(south, SOUTH)["devices"] == 240 - len(SHARED & set(north.exposed))


def test_the_check_says_beforehand_how_many_groups_of_others_it_reads(
    release: Start, logged: Any
) -> None:
    release("north", NORTH, SOUTH)
    isles = release("isles", ISLES)
    logged()
    assert check(isles, ISLES)["devices"] == 40
    lines = " ".join(logged().split())
    assert "1 other release(s) are under way, to 2 group(s)" in lines
    assert "a call for each 50 devices" in lines


def test_a_release_that_has_ended_is_in_nobodys_way_while_its_run_goes_on(
    release: Start, variables: Any
) -> None:
    """After a breach the run waits for hours; the release of the fix does not."""
    north, south = release("north", NORTH), release("south", ISLES)
    north.said("breached")
    with pytest.raises(AirflowFailException):
        check(south, NORTH)
    assert north.outcome(2)["verdict"] == "breached"
    assert check(south, NORTH)["devices"] == 240
    # A cleared wave enters it again.
    south = release("fix", SOUTH)
    north.create(1)
    notes = json.loads(variables[VARIABLE])
    assert [one["dag_id"] for one in notes] == ["south", "fix", "north"]


def test_two_releases_of_one_run_stand_back_for_one_between_them(
    release: Start, variables: Any
) -> None:
    release("north", NORTH)
    # Of the same DAG run as the third one.
    variables[VARIABLE] = variables[VARIABLE].replace('"dag_id":"north"', '"dag_id":"again"')
    release("between", SOUTH)
    again = release("again", NORTH)
    held = len(SHARED & set(again.wave(1)))
    again.create(1)
    assert again.xcoms["create_1", "return_value"]["left_out"] == {"held_elsewhere": held}


def test_a_release_for_another_product_is_in_nobodys_way(release: Start, variables: Any) -> None:
    release("north", NORTH)
    (note,) = json.loads(variables[VARIABLE])
    assert note["product_id"] == PRODUCT
    variables[VARIABLE] = json.dumps([{**note, "product_id": "another"}])
    assert release("south", SOUTH).goes_through(1)["left_out"] == {}


def test_of_two_that_lose_their_notes_the_first_to_write_again_comes_first(
    release: Start, variables: Any
) -> None:
    """Two that plan at the same moment: the Variable holds what was written last."""
    north = release("north", NORTH)
    del variables[VARIABLE]
    south = release("south", SOUTH)
    assert len(json.loads(variables[VARIABLE])) == 1
    created = north.goes_through(1)
    assert created["left_out"]["held_elsewhere"] == len(SHARED & set(north.wave(1)))
    assert [one["dag_id"] for one in json.loads(variables[VARIABLE])] == ["south", "north"]
    assert south.goes_through(1)["left_out"] == {}
    nobody_twice(north, south)


def test_a_group_that_is_gone_holds_nobody_and_one_that_exists_holds_its_devices(
    release: Start, variables: Any
) -> None:
    release("north", NORTH)
    (note,) = json.loads(variables[VARIABLE])
    variables[VARIABLE] = json.dumps([{**note, "group_ids": ["0000000e-0000", ISLES]}])
    south = release("south", SOUTH, ISLES)
    held = len(set(MEMBERS[ISLES]) & set(south.wave(1)))
    assert south.goes_through(1)["left_out"] == {"held_elsewhere": held}


@pytest.mark.parametrize("fault", sorted(UNREADABLE))
def test_while_its_groups_can_not_be_read_a_wave_waits_for_another_release_with_the_guard(
    release: Start, logged: Any, fault: str
) -> None:
    release("north", NORTH)
    south = release("south", SOUTH)
    south.emulator.add_fault("status", call="show_devices_in_group", **UNREADABLE[fault], count=3)
    created = south.goes_through(1)
    assert created["left_out"] == {"held_elsewhere": len(SHARED & set(south.wave(1)))}
    said = " ".join(logged().split())
    assert f"to the group(s) {NORTH} is under way, and its groups can't be read" in said


def test_a_cleared_check_only_warns_of_another_releases_groups_that_it_may_not_read(
    release: Start, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release("north", NORTH)
    south = release("south", ISLES)
    forbid = partial(
        south.emulator.add_fault, "status", call="show_devices_in_group", **UNREADABLE["no right"]
    )
    forbid(after=1)  # its own group
    with pytest.raises(IoTDAAuthError):
        check(south, ISLES)
    south.emulator.clear_faults()
    south.create(1)
    made = south.xcoms["create_1", "return_value"]["parts"][0]["task_name"]
    own = {stamp_in(made): "rollout.wave_1_create"}
    monkeypatch.setattr(
        "iotda_provider.operators.release.check.own_stamps",
        lambda *_: own,
    )
    forbid(after=1)
    assert check(south, ISLES)["in_groups"] == 40
    assert f"to the group(s) {NORTH} is under way, and its groups can't be read" in " ".join(
        logged().split()
    )


def test_while_airflow_can_not_be_asked_no_wave_is_created(
    release: Start, variables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    south = release("south", SOUTH)
    really, failures = variables.get, iter(range(3))

    def get(name: str, default: Any = None) -> Any:
        if name == VARIABLE and next(failures, None) is not None:
            assert not south.emulator.journal("create_batch_task")
            raise RuntimeError("Airflow's database is down")
        return really(name, default)

    monkeypatch.setattr(variables, "get", get)
    assert south.goes_through(1)["left_out"] == {}
    assert next(failures, None) is None, "it was asked again"


def test_a_run_of_which_airflow_does_not_say_that_it_is_over_counts(
    release: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    release("north", NORTH)

    def is_under_way(dag_id: str, run_id: str) -> bool:
        raise RuntimeError("Airflow's API is down")

    monkeypatch.setattr("iotda_provider.release.under_way.is_under_way", is_under_way)
    south = release("south", SOUTH)
    held = len(SHARED & set(south.wave(1)))
    assert south.goes_through(1)["left_out"] == {"held_elsewhere": held}


def test_a_release_without_groups_leaves_no_note_and_sees_those_of_others(
    release: Start, variables: Any
) -> None:
    quiet = release("quiet", SOUTH, group_ids=None)
    assert VARIABLE not in variables
    release("north", NORTH)
    held = len(SHARED & set(quiet.wave(1)))
    assert quiet.goes_through(1)["left_out"] == {"held_elsewhere": held}


@pytest.mark.parametrize("only", [None, "1.0.0"])
def test_the_way_back_takes_its_devices_whoever_is_under_way(
    release: Start, only: str | None
) -> None:
    release("north", NORTH)
    back = release("back", NORTH, group_ids=None)
    made = roll_back_creates(only)
    back.create(1, from_version=made.from_version, is_way_back=made.is_way_back)
    assert back.xcoms["create_1", "return_value"]["left_out"] == {}
    # A release that is for one version only, and no way back, stands back.
    other = release("other", NORTH, group_ids=None)
    other.create(1, from_version="1.0.0")
    assert other.xcoms["create_1", "return_value"]["devices"] == 0


def roll_back_creates(from_version: str | None) -> Any:
    """The first task of a way back that creates batch tasks, as a DAG has it."""
    with DAG("back"):
        made = roll_back(devices=["a"], document=DOCUMENT, from_version=from_version)
    return made.group.children[made.create_task_ids[0]]
