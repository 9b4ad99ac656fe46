"""What is emulated: a fleet, how its devices behave, and IoTDA's undocumented behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from iotda_provider.emulator.common.clock import parse_basic
from iotda_provider.emulator.common.field_types import (
    Count,
    DeviceId,
    GroupId,
    Many,
    PackageId,
    PackageType,
    ProductId,
    Rate,
    Seconds,
    Share,
    Version,
    within,
)
from iotda_provider.emulator.common.strict_model import StrictModel, wrong
from iotda_provider.emulator.identity.iam import IamSettings
from iotda_provider.emulator.scenario.distributions import Constant, Delay
from iotda_provider.emulator.scenario.faults import Fault
from iotda_provider.emulator.scenario.switches import Switches
from iotda_provider.models import TaskType

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_DEVICES = 1_000_000
# The resource space of tasks, groups and packages without one.
DEFAULT_APP_ID = "0123456789abcdef0123456789abcdef"
# Three years: a longer past would begin before the task ids do.
_LONGEST_AGO = 1e8
_FIRST_START = parse_basic("19800101T000000Z")
_LAST_START = parse_basic("21000101T000000Z")
# The fields of a seed task that the create call checks, not the scenario.
_FIELDS_OF_THE_CALL = (
    "app_id",
    "task_mode",
    "need_confirm",
    "task_ext_info",
    "targets_filter",
    "document",
    "task_policy",
)


class Behaviour(StrictModel):
    """How devices behave; every share is a probability from 0 to 1.

    :param failure_rate: share that reports a failure
    :param repeat_failure_rate: share that fails again after it failed; None: ``failure_rate``
    :param hang_rate: share that never reports and is ended by the 24 h timeout
    :param failure_mix: what a failing device reports: ``<error code>|<message>`` to its weight
    :param success_after: delay from start to the report of a success
    :param failure_after: delay from start to the report of a failure
    :param start_after: delay from the task's start (or the confirmation) to the device's
    :param offline_share: share that is offline when the emulator starts
    :param online_after: when an offline device comes online; None: never
    :param offline_for: how long a device has been offline when the emulator starts
    :param asleep_share: share of the time that each device sleeps, and is offline; below 1
    :param sleep_period: seconds from one waking to the next, for each device; below a second: one
    :param already_current: share that runs the target version already
    """

    failure_rate: Share = 0.0
    repeat_failure_rate: Share | None = None
    hang_rate: Share = 0.0
    failure_mix: dict[str, Annotated[float, within(0)]] = {
        "IOTDA.005010|Device upgrade failed: installation failed": 1.0
    }
    success_after: Delay = Constant(value=60.0)
    failure_after: Delay = Constant(value=30.0)
    start_after: Delay = Constant(value=0.0)
    offline_share: Share = 0.0
    online_after: Delay | None = None
    offline_for: Delay = Constant(value=7 * 86400.0)
    asleep_share: Annotated[float, within(0, 0.999)] = 0.0
    sleep_period: Delay = Constant(value=3600.0)
    already_current: Share = 0.0
    fw_version: Version = "1.0.0"
    sw_version: Version = "1.0.0"
    product_id: ProductId = "64f0c1d2e3a4b5c6d7e8f900"

    @field_validator("failure_mix", mode="before")
    @classmethod
    def _is_an_object(cls, mix: Any) -> Any:
        if not isinstance(mix, Mapping) or not mix:
            raise ValueError('must be an object like {"<error_code>|<message>": weight}')
        return dict(mix)

    @field_validator("failure_mix")
    @classmethod
    def _has_a_weight(cls, mix: dict[str, float]) -> dict[str, float]:
        if not sum(mix.values()):
            raise ValueError("must have a weight above 0")
        return mix

    @model_validator(mode="after")
    def _rates_sum_to_one_at_most(self) -> Self:
        if self.failure_rate + self.hang_rate > 1:
            raise wrong("hang_rate", "and failure_rate must not sum to more than 1")
        return self

    @property
    def failures(self) -> list[tuple[str, str, float]]:
        """The error code, message and weight of each failure in ``failure_mix``."""
        mix = []
        for text, weight in self.failure_mix.items():
            code, _, message = text.partition("|")
            mix.append((code, message or "Device upgrade failed", weight))
        return mix


class Segment(Behaviour):
    """A part of the fleet that behaves differently, chosen by share, count or group."""

    name: str = "segment"
    share: Share | None = None
    count: Count | None = None
    group: str | None = None

    @model_validator(mode="after")
    def _is_chosen_in_one_way(self) -> Self:
        if sum(way is not None for way in (self.share, self.count, self.group)) != 1:
            raise wrong("share", "or count or group must be given, and only one of them")
        return self


class Group(StrictModel):
    """A device group that exists from the start."""

    name: Annotated[str, Field(min_length=1)]
    group_id: GroupId | None = None
    description: str | None = None
    share: Share | None = None
    count: Count | None = None
    devices: Many[DeviceId] | None = None
    segment: str | None = None

    @model_validator(mode="after")
    def _is_chosen_in_one_way(self) -> Self:
        ways = (self.share, self.count, self.devices, self.segment)
        if sum(way is not None for way in ways) > 1:
            raise wrong("share", "count, devices and segment exclude one another")
        return self


class Package(StrictModel):
    """An OTA package that exists from the start.

    :param failure_rate: share of the devices on which it fails, instead of the devices' own
    :param takes_offline: share of the devices that its firmware takes offline after a success
    :param takes_offline_after: delay from the success to that
    """

    version: Version
    package_id: PackageId | None = None
    package_type: PackageType = "firmwarePackage"
    product_id: ProductId | None = None
    support_source_versions: Many[Version] = ()
    description: str | None = None
    failure_rate: Share | None = None
    takes_offline: Share = 0.0
    takes_offline_after: Delay = Constant(value=60.0)

    @model_validator(mode="after")
    def _only_firmware_takes_offline(self) -> Self:
        if self.takes_offline and self.package_type != "firmwarePackage":
            raise wrong("takes_offline", "goes with package_type firmwarePackage")
        return self


class Outage(StrictModel):
    """A time in which devices are offline, whatever they do.

    :param begins: seconds after the start
    :param lasts: seconds
    :param share: share of the fleet that it hits
    """

    begins: Seconds
    lasts: Seconds
    share: Share = 1.0


class SeedTask(StrictModel):
    """A batch task that exists from the start.

    :param task_id: its id; None: one is made up
    :param created_ago: virtual seconds before the start at which it was created
    :param targets: ids of devices, or how many of the first devices, or ``all``
    """

    task_id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")] | None = None
    created_ago: Annotated[float, within(0, _LONGEST_AGO)] = 0.0
    task_name: str = "rollout"
    task_type: Annotated[TaskType, Field(strict=False)] = TaskType.FIRMWARE_UPGRADE
    targets: Literal["all"] | int | list[str] = "all"
    group_ids: Many[str] | None = None
    package_ids: Many[str] | None = None
    app_id: Any = None
    task_mode: Any = None
    need_confirm: Any = None
    task_ext_info: Any = None
    targets_filter: Any = None
    document: Any = None
    task_policy: Any = None

    @field_validator("targets", mode="before")
    @classmethod
    def _are_named_in_one_way(cls, value: Any) -> Any:
        if value == "all" or (type(value) is int and value > 0):
            return value
        if isinstance(value, (list, tuple)) and all(isinstance(target, str) for target in value):
            return list(value)
        raise ValueError('must be "all", a count, or a list of device ids')

    @property
    def all_devices(self) -> bool:
        """Whether the whole fleet is the target."""
        filtered = self.group_ids is not None or "targets_filter" in self.model_fields_set
        return self.targets == "all" and not filtered

    @property
    def first_devices(self) -> int | None:
        """How many of the first devices are the targets; None: the targets are named otherwise."""
        return self.targets if isinstance(self.targets, int) else None

    @property
    def body(self) -> dict[str, Any]:
        """The body of a create call for this task."""
        body: dict[str, Any] = {"task_name": self.task_name, "task_type": str(self.task_type)}
        if isinstance(self.targets, list):
            body["targets"] = self.targets
        if self.group_ids is not None:
            body["targets_filter"] = {"group_ids": list(self.group_ids)}
        if self.package_ids is not None:
            body["document"] = {"package_ids": list(self.package_ids)}
        given = [name for name in _FIELDS_OF_THE_CALL if name in self.model_fields_set]
        return body | {name: getattr(self, name) for name in given}


def _read_start_time(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a text like 20260101T000000Z")
    try:
        time = parse_basic(value)
    except ValueError:
        raise ValueError(f"is not a time like 20260101T000000Z: {value[:60]!r}") from None
    if not _FIRST_START <= time <= _LAST_START:
        raise ValueError(f"must be from 1980 to 2100, not {value}")
    return time


class Scenario(Behaviour):
    """Everything the emulator is told about its world.

    The scenario's own behaviour is that of the devices in no segment. A segment inherits each
    field that it does not set.

    :param layout: whether segments and groups take devices in ``blocks``, or ``mixed``
    :param outages: times in which devices are offline
    :param dispatch_rate: how many devices a second a task starts; None: all at once
    :param start_time: when virtual time begins, in seconds since 1970; None: now
    """

    devices: Annotated[int, within(0, MAX_DEVICES)] = 1000
    device_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,100}$")] = "device-"
    layout: Literal["blocks", "mixed"] = "blocks"
    segments: Many[Segment] = ()
    groups: Many[Group] = ()
    packages: Many[Package] = ()
    batch_tasks: Many[SeedTask] = ()
    outages: Many[Outage] = ()
    dispatch_rate: Rate | None = None
    start_time: Annotated[float | None, BeforeValidator(_read_start_time)] = None
    faults: Many[Fault] = ()
    switches: Switches = Switches()
    iam: IamSettings = IamSettings()

    @model_validator(mode="before")
    @classmethod
    def _segments_inherit(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("segments"), (list, tuple)):
            return data
        own = {name: data[name] for name in Behaviour.model_fields if name in data}
        segments = [
            {**own, **segment} if isinstance(segment, Mapping) else segment
            for segment in data["segments"]
        ]
        return {**data, "segments": segments}

    @model_validator(mode="after")
    def _names_and_sizes_fit(self) -> Self:
        groups = {group.name for group in self.groups}
        segments = {segment.name for segment in self.segments}
        for place, segment in enumerate(self.segments):
            if segment.group is not None and segment.group not in groups:
                raise wrong(f"segments[{place}].group", f"names no group: {segment.group!r}")
        for place, group in enumerate(self.groups):
            if group.segment is not None and group.segment not in segments:
                raise wrong(f"groups[{place}].segment", f"names no segment: {group.segment!r}")
        for field, parts in (("segments", self.segments), ("groups", self.groups)):
            share = sum(part.share or 0.0 for part in parts)
            count = sum(part.count or 0 for part in parts)
            if share > 1 + 1e-9 or count > self.devices:
                raise wrong(field, "must not take more than the whole fleet")
        for place, task in enumerate(self.batch_tasks):
            if (task.first_devices or 0) > self.devices:
                raise wrong(f"batch_tasks[{place}].targets", "is more than the fleet has")
        return self
