"""A product has one package of a type and version, whatever gets lost and whoever else tries."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from tests.airflow_values import as_xcom

import iotda_provider
from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDATransportError,
    OtaPackageDiffersError,
)
from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook
from iotda_provider.operators.batch_task import CreateOtaPackageOperator

PRODUCT = "64f0c1d2e3a4b5c6d7e8f900"
OLD = "01d0-package"
pytestmark = pytest.mark.iotda_emulator(
    scenario={"devices": 1, "packages": [{"package_id": OLD, "version": "1.0.0"}]}, speed=1
)

SHA256 = "0a" * 32
FILE = {
    "region_name": "cn-north-4",
    "bucket_name": "builds",
    "object_key": "sensor/2.0.0.bin",
    "sign": SHA256,
}
WHOLE: dict[str, Any] = {
    "app_id": "app-1",
    "package_type": "firmwarePackage",
    "product_id": PRODUCT,
    "version": "2.0.0",
    "obs_location": FILE,
    "support_source_versions": ["1.0.0", "1.1.0"],
    "description": "fixes the clock",
    "custom_info": '{"reboot": true}',
}
INSTEAD = [
    ("reset", {}),
    ("html", {}),
    ("status", {"status": 500, "body": {}}),
    ("status", {"status": 503, "body": {}}),
]
AMBIGUOUS = [
    *((kind, more, True) for kind, more in (("lost", {}), ("truncate", {}), *INSTEAD)),
    *((kind, more, False) for kind, more in INSTEAD),
]


class TaskInstance:
    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = as_xcom(value)


@pytest.fixture
def create(iotda_connection: Any) -> Callable[..., dict[str, Any]]:
    """Runs the operator once, as one try of one task instance."""

    def run(**parameters: Any) -> dict[str, Any]:
        operator = CreateOtaPackageOperator(task_id="create", **{**WHOLE, **parameters})
        ti = TaskInstance()
        result = operator.execute({"ti": ti})  # type: ignore[typeddict-item]
        assert ti.xcoms == {"package_id": result["package_id"]}
        return json.loads(json.dumps(result))

    return run


def versions() -> list[str]:
    """The versions that the platform has, newest first."""
    with IoTDAHook() as hook:
        rows = hook.list_ota_packages(package_type="firmwarePackage", product_id=PRODUCT)
        return [package.version for package in rows]


def test_what_is_asked_for_is_what_the_platform_shows(create: Any, iotda_emulator: Any) -> None:
    made = create()

    assert made["created"] is True
    assert versions() == ["2.0.0", "1.0.0"]
    with IoTDAHook() as hook:
        shown = hook.get_ota_package(made["package_id"]).raw
    wanted = {name: value for name, value in WHOLE.items() if name != "obs_location"}
    assert {name: shown[name] for name in wanted} == wanted
    assert shown["file_location"] == {"obs_location": FILE}


def test_a_second_try_and_another_dag_find_the_package(create: Any, iotda_emulator: Any) -> None:
    first = create()
    again = [create(), create(obs_location=str(FILE), support_source_versions='["1.1.0", "1.0.0"]')]

    assert [one["package_id"] for one in again] == [first["package_id"]] * 2
    assert [one["created"] for one in again] == [False, False]
    assert len(iotda_emulator.journal("create_ota_package")) == 1


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("obs_location", {**FILE, "object_key": "sensor/2.0.0-rc1.bin"}, "2.0.0-rc1.bin"),
        ("obs_location", {**FILE, "bucket_name": "nightly"}, "nightly"),
        ("obs_location", {**FILE, "region_name": "eu-west-101"}, "eu-west-101"),
        ("obs_location", {**FILE, "sign": "0b" * 32}, "0b0b"),
        ("support_source_versions", ["1.0.0"], "['1.0.0']"),
        ("support_source_versions", None, "None"),
        ("custom_info", None, "None"),
        ("custom_info", '{"reboot": false}', "false"),
        ("description", "another build", "another build"),
        ("app_id", "app-2", "app-2"),
    ],
)
def test_another_package_of_this_version_is_an_error_that_names_both(
    create: Any, iotda_emulator: Any, field: str, value: Any, shown: str
) -> None:
    package_id = create()["package_id"]
    iotda_emulator.clear_journal()

    with pytest.raises(OtaPackageDiffersError, match=package_id) as refusal:
        create(**{field: value})

    assert isinstance(refusal.value, AirflowFailException), "no retry helps"
    said = str(refusal.value)
    assert shown in said
    assert "2.0.0" in said
    assert len(said) < 1_500
    assert {entry["method"] for entry in iotda_emulator.journal()} == {"GET"}


def test_a_proxys_404_is_no_reason_to_create_a_second_one(create: Any, iotda_emulator: Any) -> None:
    first = create()
    iotda_emulator.add_fault("html", status=404, call="show_ota_package", count=1)
    with pytest.raises(IoTDANotFoundError, match="a proxy or load balancer"):
        create()

    assert create()["package_id"] == first["package_id"]
    assert len(iotda_emulator.journal("create_ota_package")) == 1


def test_a_package_that_is_deleted_while_it_is_read_is_none(
    create: Any, iotda_emulator: Any
) -> None:
    first = create()
    body = {"error_code": "IOTDA.014214"}
    iotda_emulator.add_fault("status", status=404, body=body, call="show_ota_package", count=1)

    assert create()["package_id"] == first["package_id"]
    assert len(iotda_emulator.journal("create_ota_package")) == 2, "the platform refuses a second"


def test_two_long_values_are_shown_where_they_differ(create: Any, iotda_emulator: Any) -> None:
    keys = [f"{'k' * 900}-{name}.bin" for name in ("first", "second")]
    create(obs_location={**FILE, "object_key": keys[0]})

    with pytest.raises(OtaPackageDiffersError, match=r"-first\.bin.*-second\.bin") as refusal:
        create(obs_location={**FILE, "object_key": keys[1]})
    assert len(str(refusal.value)) < 1_500


def test_a_package_that_was_uploaded_at_the_console_is_another_one(
    create: Any, iotda_emulator: Any
) -> None:
    with pytest.raises(OtaPackageDiffersError, match=f"{OLD}.*object_key is None"):
        create(version="1.0.0")


def test_what_is_left_out_is_not_compared_where_the_platform_may_fill_it_in(
    create: Any, iotda_emulator: Any
) -> None:
    first = create()
    without = {name: item for name, item in FILE.items() if name != "sign"}
    for location in (without, {**FILE, "sign": "None"}, {**FILE, "sign": SHA256.upper()}):
        assert create(obs_location=location, description="")["package_id"] == first["package_id"]


@pytest.mark.parametrize("other", [{"version": "2.0.0-rc1"}, {"package_type": "softwarePackage"}])
def test_another_version_or_type_is_another_package(
    create: Any, iotda_emulator: Any, other: dict[str, Any]
) -> None:
    assert create()["package_id"] != create(**other)["package_id"]


@pytest.mark.parametrize(("kind", "more", "acted"), AMBIGUOUS)
def test_a_lost_answer_neither_loses_nor_doubles_the_package(
    create: Any, iotda_emulator: Any, kind: str, more: dict[str, Any], acted: bool
) -> None:
    iotda_emulator.add_fault(kind, call="create_ota_package", count=1, acted=acted, **more)

    made = create()

    assert made["created"] is True
    assert versions() == ["2.0.0", "1.0.0"]
    assert len(iotda_emulator.journal("create_ota_package")) == (1 if acted else 2)


@pytest.mark.parametrize(("kind", "more"), INSTEAD)
def test_trouble_that_stays_is_an_error_and_the_next_try_finds_nothing_twice(
    create: Any, iotda_emulator: Any, kind: str, more: dict[str, Any]
) -> None:
    iotda_emulator.add_fault(kind, call="create_ota_package", acted=False, **more)
    with pytest.raises((IoTDATransportError, IoTDAServerError)):
        create()
    iotda_emulator.clear_faults()

    assert create()["created"] is True
    assert versions() == ["2.0.0", "1.0.0"]


def test_a_refusal_because_another_process_was_first_is_success(
    create: Any, iotda_emulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform's code for it is not documented, so that the package is looked for."""
    from iotda_provider.procedures import packages

    find = packages._find
    looks: list[int] = []

    async def find_nothing_first(*given: Any) -> Any:
        looks.append(1)
        return [] if len(looks) == 1 else await find(*given)

    first = create()
    monkeypatch.setattr(packages, "_find", find_nothing_first)

    assert create()["package_id"] == first["package_id"]
    assert len(iotda_emulator.journal("create_ota_package")) == 2


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_is_an_error(create: Any, iotda_emulator: Any, status: int) -> None:
    body = {"error_code": "IOTDA.014216", "error_msg": "The object does not exist."}
    iotda_emulator.add_fault("status", call="create_ota_package", status=status, body=body)

    with pytest.raises(IoTDAApiError, match="Could not create the firmwarePackage"):
        create()

    assert versions() == ["1.0.0"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"obs_location": {**FILE, "bucket_name": "Builds"}}, "obs_location.bucket_name must be"),
        ({"obs_location": {**FILE, "object_key": "None", "size": 5}}, "obs_location takes"),
        ({"obs_location": "None"}, "obs_location must be an object"),
        ({"support_source_versions": []}, "leave it out if devices of any version"),
        ({"support_source_versions": [1.10]}, "float"),
        ({"support_source_versions": "None"}, "^support_source_versions was rendered to nothing"),
        ({"support_source_versions": ""}, "^support_source_versions was rendered to nothing"),
        ({"version": "None"}, "version was rendered to nothing"),
        ({"package_type": "firmware"}, "package_type must be one of"),
        ({"module_name": "MCU"}, "module_name is for a modulePackage"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_sent(
    create: Any, iotda_emulator: Any, parameters: dict[str, Any], said: str
) -> None:
    with pytest.raises(IoTDAConfigError, match=said):
        create(**parameters)
    assert iotda_emulator.journal() == []


def test_a_package_is_deleted_once(iotda_connection: Any, iotda_emulator: Any) -> None:
    iotda_emulator.add_fault("lost", call="delete_ota_package", count=1)
    with IoTDAHook() as hook:
        hook.delete_ota_package(OLD)
        with pytest.raises(IoTDANotFoundError):
            hook.get_ota_package(OLD)
        with pytest.raises(IoTDANotFoundError):
            hook.delete_ota_package(OLD)


async def test_the_asynchronous_hook_does_the_same(
    iotda_connection: Any, iotda_emulator: Any
) -> None:
    iotda_emulator.add_fault("lost", call="create_ota_package", count=1)
    async with IoTDAAsyncHook() as hook:
        made = await hook.create_ota_package_once(**WHOLE)
        again = await hook.create_ota_package_once(**WHOLE)
        assert (made.created, again.created) == (True, False)
        assert again.package == await hook.get_ota_package(made.package.package_id)
        with pytest.raises(OtaPackageDiffersError):
            await hook.create_ota_package_once(**{**WHOLE, "custom_info": "other"})
        with pytest.raises(IoTDAError):
            await hook.create_ota_package(**WHOLE)  # the platform has it
        await hook.delete_ota_package(made.package.package_id)
        assert (await hook.create_ota_package(**WHOLE)).version == "2.0.0"


#: What docs/howto/from-build-to-fleet.md says that registering a package needs.
PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "from-build-to-fleet.md"
SAID = re.search(r"`iotda:otapackages:create`, `:query` and `:queryList`", PAGE.read_text("utf-8"))
NEEDED = [f"iotda:otapackages:{verb}" for verb in ("create", "query", "queryList")]
ALL = {
    action
    for source in (Path(iotda_provider.__file__).parent / "api").glob("*.py")
    for action in re.findall(r'permission="(iotda:[^"]+)"', source.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("missing", [None, *NEEDED])
def test_the_rights_that_the_guide_names_are_enough_and_each_is_needed(
    iotda_emulator_factory: Any, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    assert SAID
    assert set(NEEDED) < ALL
    denied = sorted(ALL - set(NEEDED) if missing is None else {missing})
    emulator = iotda_emulator_factory({"devices": 1, "iam": {"denied": denied}})
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))

    def twice() -> list[bool]:
        """A second try finds the package, and compares it."""
        context: Any = {"ti": TaskInstance()}
        operator = CreateOtaPackageOperator(task_id="create", **WHOLE)
        return [operator.execute(context)["created"] for _ in range(2)]

    if missing is None:
        assert twice() == [True, False]
        return
    with pytest.raises(IoTDAAuthError, match=f"needs the IAM action {missing}"):
        twice()
