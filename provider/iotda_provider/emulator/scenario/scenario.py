"""What is to be emulated: a fleet, how its devices behave, and which of IoTDA's unknowns hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from iotda_provider.emulator.common.clock import parse_basic
from iotda_provider.emulator.common.json_reader import Reader, ScenarioError
from iotda_provider.emulator.common.randomness import Distribution
from iotda_provider.emulator.identity.iam import IamSettings, read_iam
from iotda_provider.emulator.scenario.switches import Switches, read_switches
from iotda_provider.models import TaskType

__all__ = ["Behaviour", "Group", "Package", "Scenario", "ScenarioError", "SeedTask", "Segment"]

DEVICE_ID = r"[A-Za-z0-9_-]{1,128}"
VERSION = r"[A-Za-z0-9_.-]{1,256}"
RECORD_ID = r"[0-9a-f]{24}"
GROUP_ID = r"[0-9a-fA-F-]{1,36}"
MAX_DEVICES = 1_000_000
# The resource space of whatever is made without naming one.
DEFAULT_APP_ID = "0123456789abcdef0123456789abcdef"
# Three years: a longer past would begin before the task ids do.
_LONGEST_AGO = 1e8
_FIRST_START = parse_basic("19800101T000000Z")
_LAST_START = parse_basic("21000101T000000Z")

_SUCCESS_AFTER = Distribution("constant", 60.0)
_FAILURE_AFTER = Distribution("constant", 30.0)
_AT_ONCE = Distribution("constant", 0.0)
_A_WEEK = Distribution("constant", 7 * 86400.0)
DEFAULT_FAILURE_MIX = (("IOTDA.005010", "Device upgrade failed: installation failed", 1.0),)


@dataclass(frozen=True)
class Behaviour:
    """How the devices of one segment behave; every share is a probability from 0 to 1.

    :param failure_rate: share that reports a failure
    :param repeat_failure_rate: share that fails again after it failed; None: ``failure_rate``
    :param hang_rate: share that never reports and is ended by the 24 h timeout
    :param failure_mix: (error code, message, weight) of what a failing device reports
    :param success_after: delay from start to the report of a success
    :param failure_after: delay from start to the report of a failure
    :param start_after: delay from the task's start (or the confirmation) to the device's
    :param offline_share: share that is offline when the emulator starts
    :param online_after: when an offline device comes online; None: never
    :param offline_for: for how long an offline device has been so when the emulator starts
    :param already_current: share that runs the target version already
    """

    failure_rate: float = 0.0
    repeat_failure_rate: float | None = None
    hang_rate: float = 0.0
    failure_mix: tuple[tuple[str, str, float], ...] = DEFAULT_FAILURE_MIX
    success_after: Distribution = _SUCCESS_AFTER
    failure_after: Distribution = _FAILURE_AFTER
    start_after: Distribution = _AT_ONCE
    offline_share: float = 0.0
    online_after: Distribution | None = None
    offline_for: Distribution = _A_WEEK
    already_current: float = 0.0
    fw_version: str = "1.0.0"
    sw_version: str = "1.0.0"
    product_id: str = "64f0c1d2e3a4b5c6d7e8f900"


@dataclass(frozen=True)
class Segment:
    """A part of the fleet that behaves in its own way, chosen by share, count or group."""

    name: str
    behaviour: Behaviour
    share: float | None = None
    count: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class Group:
    """A device group that exists from the start."""

    name: str
    group_id: str | None = None
    description: str | None = None
    share: float | None = None
    count: int | None = None
    devices: tuple[str, ...] | None = None
    segment: str | None = None


@dataclass(frozen=True)
class Package:
    """An OTA package that exists from the start."""

    version: str
    package_id: str | None = None
    package_type: str = "firmwarePackage"
    product_id: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class SeedTask:
    """A batch task that exists from the start; ``body`` is what would have created it.

    :param task_id: its fixed id, or None for one made up
    :param all_devices: the whole fleet is its target
    :param first_devices: the first so many devices are its targets
    :param created_ago: virtual seconds before the start at which it was created
    """

    body: Mapping[str, Any]
    task_id: str | None = None
    all_devices: bool = False
    first_devices: int | None = None
    created_ago: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """Everything the emulator is told about its world, checked."""

    devices: int = 1000
    device_prefix: str = "device-"
    mixed: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)
    segments: tuple[Segment, ...] = ()
    groups: tuple[Group, ...] = ()
    packages: tuple[Package, ...] = ()
    batch_tasks: tuple[SeedTask, ...] = ()
    dispatch_rate: float | None = None
    start_time: float | None = None
    faults: tuple[Mapping[str, Any], ...] = ()
    switches: Switches = field(default_factory=Switches)
    iam: IamSettings = field(default_factory=IamSettings)
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, data: object) -> Scenario:
        """Check a scenario as it stands in its file.

        :raises ScenarioError: one line that names the field
        """
        reader = Reader(data)
        base = Behaviour()
        behaviour = _read_behaviour(reader, base)
        start = reader.text("start_time", None)
        try:
            start_time = None if start is None else parse_basic(start)
        except ValueError:
            raise reader.fail(
                "start_time", f"is not a time like 20260101T000000Z: {start!r}"
            ) from None
        if start_time is not None and not _FIRST_START <= start_time <= _LAST_START:
            raise reader.fail("start_time", f"must be from 1980 to 2100, not {start}")
        scenario = cls(
            devices=reader.whole("devices", 1000, 0, MAX_DEVICES),
            device_prefix=reader.text("device_prefix", "device-", r"[A-Za-z0-9_-]{0,100}"),
            mixed=reader.choice("layout", "blocks", ("blocks", "mixed")) == "mixed",
            behaviour=behaviour,
            segments=reader.objects("segments", lambda r: _read_segment(r, behaviour)),
            groups=reader.objects("groups", _read_group),
            packages=reader.objects("packages", _read_package),
            batch_tasks=reader.objects("batch_tasks", _read_task),
            dispatch_rate=reader.number("dispatch_rate", None, 1e-6),
            start_time=start_time,
            faults=_read_faults(reader),
            switches=read_switches(reader.inner("switches")),
            iam=read_iam(reader.inner("iam")),
            source=data if isinstance(data, dict) else {},
        )
        reader.done()
        _check_names(scenario)
        return scenario


def _read_behaviour(reader: Reader, base: Behaviour) -> Behaviour:
    behaviour = replace(
        base,
        failure_rate=reader.number("failure_rate", base.failure_rate, 0, 1),
        repeat_failure_rate=reader.number("repeat_failure_rate", base.repeat_failure_rate, 0, 1),
        hang_rate=reader.number("hang_rate", base.hang_rate, 0, 1),
        failure_mix=_read_mix(reader, base.failure_mix),
        success_after=reader.distribution("success_after", base.success_after),
        failure_after=reader.distribution("failure_after", base.failure_after),
        start_after=reader.distribution("start_after", base.start_after),
        offline_share=reader.number("offline_share", base.offline_share, 0, 1),
        online_after=reader.distribution("online_after", base.online_after),
        offline_for=reader.distribution("offline_for", base.offline_for),
        already_current=reader.number("already_current", base.already_current, 0, 1),
        fw_version=reader.text("fw_version", base.fw_version, VERSION),
        sw_version=reader.text("sw_version", base.sw_version, VERSION),
        product_id=reader.text("product_id", base.product_id, r"[A-Za-z0-9_-]{1,36}"),
    )
    if behaviour.failure_rate + behaviour.hang_rate > 1:
        raise reader.fail("hang_rate", "and failure_rate must not sum to more than 1")
    return behaviour


def _read_mix(
    reader: Reader, base: tuple[tuple[str, str, float], ...]
) -> tuple[tuple[str, str, float], ...]:
    if "failure_mix" not in reader:
        reader.raw("failure_mix")
        return base
    name = "failure_mix"
    data = reader.raw(name)
    if not isinstance(data, Mapping) or not data:
        raise reader.fail(name, 'must be an object like {"<error_code>|<message>": weight}')
    mix = []
    for key, weight in data.items():
        code, _, message = str(key).partition("|")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not weight >= 0:
            raise reader.fail(f"{name}[{key!r}]", "must be a weight of at least 0")
        mix.append((code, message or "Device upgrade failed", float(weight)))
    if not sum(weight for _, _, weight in mix):
        raise reader.fail(name, "must have a weight above 0")
    return tuple(mix)


def _read_segment(reader: Reader, base: Behaviour) -> Segment:
    segment = Segment(
        name=reader.text("name", "segment"),
        share=reader.number("share", None, 0, 1),
        count=reader.whole("count", None),
        group=reader.text("group", None),
        behaviour=_read_behaviour(reader, base),
    )
    if sum(way is not None for way in (segment.share, segment.count, segment.group)) != 1:
        raise reader.fail("share", "or count or group must be given, and only one of them")
    return segment


def _read_group(reader: Reader) -> Group:
    name = reader.text("name", None)
    if not name:
        raise reader.fail("name", "is missing")
    group = Group(
        name=name,
        group_id=reader.text("group_id", None, GROUP_ID),
        description=reader.text("description", None),
        share=reader.number("share", None, 0, 1),
        count=reader.whole("count", None),
        devices=reader.texts("devices", DEVICE_ID),
        segment=reader.text("segment", None),
    )
    ways = (group.share, group.count, group.devices, group.segment)
    if sum(way is not None for way in ways) > 1:
        raise reader.fail("share", "count, devices and segment exclude one another")
    return group


def _read_package(reader: Reader) -> Package:
    version = reader.text("version", None, VERSION)
    if version is None:
        raise reader.fail("version", "is missing")
    kinds = ("firmwarePackage", "softwarePackage", "modulePackage")
    return Package(
        version=version,
        package_id=reader.text("package_id", None, r"[A-Za-z0-9-]{1,36}"),
        package_type=reader.choice("package_type", "firmwarePackage", kinds),
        product_id=reader.text("product_id", None, r"[A-Za-z0-9_-]{1,36}"),
        description=reader.text("description", None),
    )


def _read_task(reader: Reader) -> SeedTask:
    task_type = reader.choice(
        "task_type", str(TaskType.FIRMWARE_UPGRADE), [str(kind) for kind in TaskType]
    )
    body: dict[str, Any] = {
        "task_name": reader.text("task_name", "rollout"),
        "task_type": task_type,
    }
    targets = reader.raw("targets", "all")
    group_ids = reader.texts("group_ids")
    everything, first = False, None
    if isinstance(targets, list) and all(isinstance(target, str) for target in targets):
        body["targets"] = targets
    elif isinstance(targets, int) and not isinstance(targets, bool) and targets > 0:
        first = targets
    elif targets != "all":
        raise reader.fail("targets", 'must be "all", a count, or a list of device ids')
    elif group_ids is None and "targets_filter" not in reader:
        everything = True
    if group_ids is not None:
        body["targets_filter"] = {"group_ids": list(group_ids)}
    package_ids = reader.texts("package_ids")
    if package_ids is not None:
        body["document"] = {"package_ids": list(package_ids)}
    for name in (
        "app_id",
        "task_mode",
        "need_confirm",
        "task_ext_info",
        "targets_filter",
        "document",
        "task_policy",
    ):
        if name in reader:
            body[name] = reader.raw(name)
    return SeedTask(
        body=body,
        task_id=reader.text("task_id", None, RECORD_ID),
        all_devices=everything,
        first_devices=first,
        created_ago=reader.number("created_ago", 0.0, 0.0, _LONGEST_AGO),
    )


def _read_faults(reader: Reader) -> tuple[Mapping[str, Any], ...]:
    faults = reader.raw("faults", ())
    if not isinstance(faults, (list, tuple)):
        raise reader.fail("faults", "must be a list")
    return tuple(faults)


def _check_names(scenario: Scenario) -> None:
    groups = {group.name for group in scenario.groups}
    segments = {segment.name for segment in scenario.segments}
    for place, segment in enumerate(scenario.segments):
        if segment.group is not None and segment.group not in groups:
            raise ScenarioError(f"segments[{place}].group names no group: {segment.group!r}")
    for place, group in enumerate(scenario.groups):
        if group.segment is not None and group.segment not in segments:
            raise ScenarioError(f"groups[{place}].segment names no segment: {group.segment!r}")
    share = sum(segment.share or 0.0 for segment in scenario.segments)
    count = sum(segment.count or 0 for segment in scenario.segments)
    if share > 1 + 1e-9 or count > scenario.devices:
        raise ScenarioError("segments must not take more than the whole fleet")
    share = sum(group.share or 0.0 for group in scenario.groups)
    count = sum(group.count or 0 for group in scenario.groups)
    if share > 1 + 1e-9 or count > scenario.devices:
        raise ScenarioError("groups must not take more than the whole fleet")
    for place, task in enumerate(scenario.batch_tasks):
        if (task.first_devices or 0) > scenario.devices:
            raise ScenarioError(f"batch_tasks[{place}].targets is more than the fleet has")
