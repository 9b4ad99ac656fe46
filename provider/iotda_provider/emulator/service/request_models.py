"""What a request may contain: one model for each body and each query of the API.

The limits are those of the official SDK's request models and of the API reference. An
unknown field is ignored, as the platform does; null is refused everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from iotda_provider.emulator.common import errors
from iotda_provider.emulator.common.clock import parse_basic
from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.common.field_types import (
    AppId,
    DeviceId,
    DeviceName,
    GroupId,
    GroupName,
    GroupText,
    GroupType,
    NodeId,
    PackageId,
    PackageType,
    ProductId,
    SearchText,
    TaskId,
    TaskName,
    Version,
)
from iotda_provider.emulator.common.paging import MAX_LIMIT, MAX_OFFSET, NEWEST, Page
from iotda_provider.models import SubtaskStatus, TaskStatus, TaskType

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_TARGETS = 30_000
MAX_ACTION_TARGETS = 100
MAX_GROUP_IDS = 1_000
MAX_EXT_INFO = 512
# No limit is documented for all task types. With this one, a page of 50 tasks has a few MiB.
MAX_DOCUMENT = 64 * 1024
MAX_SHADOW = 10 * 1024

# The most characters of a field's name in an error: a client may send names of any length.
_LONGEST_NAME = 200
_TIMES = ("schedule_time", "start_time", "end_time", "last_modified_time")
# Types that only the list knows: tasks that the platform's console makes.
_LISTED_TYPES = ("sendEmails", "sendSmss", "addDevicesToGroup", "deviceConfig", "deviceJob")
# Statuses that only the filter knows: no subtask of an upgrade has them.
_LISTED_STATUSES = ("DeviceInProgress", "Rejected")


def _moment(value: object) -> float:
    """``yyyyMMdd'T'HHmmss'Z'`` as seconds since 1970."""
    if not isinstance(value, str):
        raise ValueError("must be a text like 20151212T121212Z")
    return parse_basic(value)


def _number(value: object) -> int:
    """A whole number in a query: only ASCII digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    raise ValueError("must be a whole number")


def _word(*words: str) -> AfterValidator:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return AfterValidator(check)


Moment = Annotated[float, BeforeValidator(_moment)]


class _Request(BaseModel):
    """What all requests have in common."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    @classmethod
    def read(cls, data: object) -> Self:
        """The request, checked.

        :raises ApiError: 400, one line that names the first field that does not fit
        """
        try:
            return cls.model_validate(dict(data) if isinstance(data, Mapping) else data)
        except ValidationError as error:
            raise _refusal(error) from None

    @model_validator(mode="before")
    @classmethod
    def _no_null(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for name, value in data.items():
                if value is None and name in cls.model_fields:
                    raise ValueError(f"{name} must not be null")
        return data


def _refusal(error: ValidationError) -> ApiError:
    """What is wrong with a request, in the platform's words."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = first["loc"][-1] if first["loc"] else None
    if field is None and first["type"] == "model_type":
        return errors.bad_format("The body must be a JSON object.")
    if field == "limit":
        return errors.bad_limit()
    if field == "marker":
        return errors.bad_marker()
    if field in _TIMES:
        return errors.bad_time(_line(error))
    return errors.invalid(_line(error))


def _line(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:_LONGEST_NAME]
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}." if where else f"{message}."


class TaskPolicy(_Request):
    """When a task runs, and how often a failed target is tried again."""

    model_config = ConfigDict(extra="forbid")

    schedule_time: Moment | None = None
    retry_count: Annotated[int, Field(ge=1, le=5)] | None = None
    retry_interval: Annotated[int, Field(ge=0, le=1440)] | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.retry_count is None) != (self.retry_interval is None):
            raise ValueError("retry_count and retry_interval require one another")
        return self


class TargetsFilter(_Request):
    """Targets by the groups that they are in."""

    model_config = ConfigDict(extra="forbid")

    group_ids: Annotated[list[GroupId], Field(min_length=1, max_length=MAX_GROUP_IDS)]


class _Upgrade(_Request):
    """The document of an upgrade."""

    package_ids: Annotated[list[PackageId], Field(min_length=1, max_length=MAX_ACTION_TARGETS)]


class _Shadow(_Request):
    """One service's part of a shadow."""

    service_id: Annotated[str, Field(min_length=1)]
    desired: dict[str, Any]


class _Shadows(_Request):
    """The document of ``updateDeviceShadows``."""

    shadow: Annotated[list[_Shadow], Field(min_length=1, max_length=5)]

    @model_validator(mode="after")
    def _each_service_once(self) -> Self:
        if len({part.service_id for part in self.shadow}) < len(self.shadow):
            raise ValueError("a service_id is named twice")
        return self


_DOCUMENTS: Mapping[TaskType, tuple[type[_Request] | None, int]] = {
    TaskType.SOFTWARE_UPGRADE: (_Upgrade, MAX_DOCUMENT),
    TaskType.FIRMWARE_UPGRADE: (_Upgrade, MAX_DOCUMENT),
    TaskType.MODULE_UPGRADE: (_Upgrade, MAX_DOCUMENT),
    TaskType.UPDATE_DEVICE_SHADOWS: (_Shadows, MAX_SHADOW),
    TaskType.CREATE_COMMANDS: (None, MAX_DOCUMENT),
    TaskType.CREATE_ASYNC_COMMANDS: (None, MAX_DOCUMENT),
    TaskType.CREATE_MESSAGES: (None, MAX_DOCUMENT),
}


def _length(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


class CreateBatchTask(_Request):
    """The body of ``CreateBatchTask``."""

    task_name: TaskName
    task_type: Annotated[TaskType, Field(strict=False)]
    app_id: AppId | None = None
    task_mode: Literal["GATEWAY"] | None = None
    need_confirm: bool | None = None
    task_ext_info: dict[str, Any] | None = None
    targets: Annotated[list[DeviceId], Field(max_length=MAX_TARGETS, fail_fast=True)] | None = None
    targets_filter: TargetsFilter | None = None
    document: dict[str, Any] | None = None
    task_policy: TaskPolicy | None = None
    document_source: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.document_source is not None:
            raise ValueError(
                "document_source is not supported: files of targets are not emulated, and no"
                " upgrade takes one; name targets or targets_filter"
            )
        if self.task_ext_info is not None and _length(self.task_ext_info) > MAX_EXT_INFO:
            raise ValueError(f"task_ext_info must not exceed {MAX_EXT_INFO} characters")
        if self.task_type in _DOCUMENTS:
            model, most = _DOCUMENTS[self.task_type]
            if not self.document:
                raise ValueError(f"document is required for {self.task_type}")
            if _length(self.document) > most:
                raise ValueError(f"document must not exceed {most} characters")
            if model is not None:
                try:
                    model.model_validate(self.document)
                except ValidationError as error:
                    raise ValueError(f"document.{_line(error)}".rstrip(".")) from None
        return self


class BatchTargets(_Request):
    """The body of a stop, a retry and a confirm."""

    targets: Annotated[list[DeviceId], Field(max_length=MAX_ACTION_TARGETS)] | None = None


class _Paged(_Request):
    """The query of a list."""

    limit: Annotated[int, BeforeValidator(_number), Field(ge=1, le=MAX_LIMIT)] = 10
    marker: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{24}$")] = NEWEST
    offset: Annotated[int, BeforeValidator(_number), Field(ge=0, le=MAX_OFFSET)] = 0

    @property
    def page(self) -> Page:
        """The requested page."""
        return Page(self.limit, self.marker.lower(), self.offset)


class ListBatchTasks(_Paged):
    """The query of ``ListBatchTasks``."""

    app_id: AppId | None = None
    task_type: Annotated[str, _word(*TaskType, *_LISTED_TYPES)] | None = None
    status: Annotated[str, _word(*TaskStatus)] | None = None


class ShowBatchTask(_Paged):
    """The query of ``ShowBatchTask``."""

    task_detail_status: Annotated[str, _word(*SubtaskStatus, *_LISTED_STATUSES)] | None = None
    target: DeviceId | None = None


class ListDevices(_Paged):
    """The query of ``ListDevices``."""

    product_id: ProductId | None = None
    gateway_id: DeviceId | None = None
    is_cascade_query: Literal["true", "false"] | None = None
    node_id: NodeId | None = None
    device_name: DeviceName | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None
    app_id: AppId | None = None


class ListDeviceGroups(_Paged):
    """The query of ``ListDeviceGroups``."""

    last_modified_time: Moment | None = None
    app_id: AppId | None = None
    group_type: GroupType | None = None
    name: GroupName | None = None


class ShowDevicesInGroup(_Paged):
    """The query of ``ShowDevicesInGroup``."""


class ListOtaPackageInfo(_Paged):
    """The query of ``ListOtaPackageInfo``."""

    app_id: AppId | None = None
    package_type: PackageType
    product_id: ProductId | None = None
    version: Version | None = None


class DeviceInGroup(_Request):
    """The query of ``CreateOrDeleteDeviceInGroup``."""

    action_id: Literal["addDevice", "removeDevice"]
    device_id: DeviceId


class SearchDevices(_Request):
    """The body of ``SearchDevices``."""

    sql: SearchText


class AddDeviceGroup(_Request):
    """The body of ``AddDeviceGroup``."""

    name: GroupName
    description: GroupText | None = None
    super_group_id: GroupId | None = None
    app_id: AppId | None = None
    group_type: GroupType = "STATIC"
    dynamic_group_rule: SearchText | None = None

    @model_validator(mode="after")
    def _rule_of_a_dynamic_group(self) -> Self:
        if (self.group_type == "DYNAMIC") != (self.dynamic_group_rule is not None):
            raise ValueError("dynamic_group_rule belongs to a DYNAMIC group, which needs it")
        if self.group_type == "DYNAMIC" and self.super_group_id is not None:
            raise ValueError("super_group_id is not supported for dynamic groups")
        return self


class UpdateDeviceGroup(_Request):
    """The body of ``UpdateDeviceGroup``."""

    name: GroupName | None = None
    description: GroupText | None = None


class ObsLocation(_Request):
    """Where a package's file is."""

    region_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,256}$")]
    bucket_name: Annotated[str, Field(pattern=r"^[a-z0-9.-]{3,63}$")]
    object_key: Annotated[str, Field(min_length=1, max_length=1024)]
    sign_method: Literal["SHA256"] | None = None
    sign: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None


class FileLocation(_Request):
    """Where a package's file is: only in OBS."""

    obs_location: ObsLocation


class CreateOtaPackage(_Request):
    """The body of ``CreateOtaPackage``."""

    app_id: AppId
    package_type: PackageType
    product_id: ProductId
    version: Version
    module_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    support_source_versions: Annotated[list[Version], Field(max_length=20)] | None = None
    description: Annotated[str, Field(max_length=1024)] | None = None
    custom_info: Annotated[str, Field(max_length=4096)] | None = None
    file_location: FileLocation

    @model_validator(mode="after")
    def _module_of_a_module_package(self) -> Self:
        if (self.package_type == "modulePackage") != (self.module_name is not None):
            raise ValueError("module_name belongs to a modulePackage, which needs it")
        return self


class PathIds(_Request):
    """The ids in the path of any call."""

    task_id: TaskId | None = None
    device_id: DeviceId | None = None
    group_id: GroupId | None = None
    package_id: PackageId | None = None
