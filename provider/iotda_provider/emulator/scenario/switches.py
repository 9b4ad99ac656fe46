"""The scenario's switches: what IoTDA does where its documentation does not say."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import PlainValidator

from iotda_provider.emulator.common.errors import ApiError
from iotda_provider.emulator.common.field_types import Count, Rate, Seconds, Share
from iotda_provider.emulator.common.strict_model import StrictModel
from iotda_provider.emulator.scenario.distributions import Delay, Uniform


class Code(NamedTuple):
    """The HTTP status and the error code of a refusal."""

    status: int
    code: str


def _read_code(value: Any) -> Code:
    words = value.split(" ") if isinstance(value, str) else []
    if len(words) == 2 and re.fullmatch(r"[1-5][0-9]{2}", words[0]) and words[1].strip():
        return Code(int(words[0]), words[1])
    raise ValueError(f'is not of the form "400 IOTDA.014218": {str(value)[:60]!r}')


_Code = Annotated[Code, PlainValidator(_read_code)]


class ErrorCodes(StrictModel):
    """The status and code of each refusal whose code is not documented."""

    task_not_found: _Code = Code(404, "IOTDA.014217")
    stop_refused: _Code = Code(400, "IOTDA.014218")
    retry_refused: _Code = Code(400, "IOTDA.014218")
    confirm_refused: _Code = Code(400, "IOTDA.014218")
    delete_refused: _Code = Code(400, "IOTDA.014218")
    target_refused: _Code = Code(200, "IOTDA.014220")
    device_not_found: _Code = Code(404, "IOTDA.014000")
    group_not_found: _Code = Code(404, "IOTDA.014006")
    group_refused: _Code = Code(400, "IOTDA.014007")
    package_not_found: _Code = Code(404, "IOTDA.014214")
    package_refused: _Code = Code(400, "IOTDA.014215")
    instance_refused: _Code = Code(403, "IOTDA.000021")

    def refusal(self, name: str, message: str) -> ApiError:
        """The error of a refusal, by the refusal's name."""
        status, code = getattr(self, name)
        return ApiError(status, code, message)


class Switches(StrictModel):
    """One choice for every behaviour that is undocumented or differs between instances.

    :param initializing: seconds a task is Initializing
    :param version_query: seconds until a device on the target version is marked Success
    :param offline_wait: seconds a subtask waits for its device to come online (25 h)
    :param report_timeout: seconds until a device that never reports has failed (24 h)
    :param offline_status: the status of a subtask that waits for its device
    :param stop_after: seconds from a stop to Stopped, drawn per subtask
    :param stop_installing: what a stop does to a device that installs: it ends with its own outcome
        (``finish``), is marked Stopped but goes on (``detach``), or stops (``abort``)
    :param install_share: the last part of the success delay in which a device is installing
    :param stopping_timeout: seconds after which a stop no longer waits for devices
    :param empty_targets: what an explicitly empty ``targets`` list means
    :param all_answer: whether the answer to ``{}`` has ``targets``
    :param echo_targets: a task's ``targets`` are echoed up to this many
    :param unconfirmed_status: a task's status while all its subtasks wait for confirmation
    :param unknown_package: whether a task may name a package that does not exist
    :param task_conflict: a device in two running upgrades: ``allow``, or ``fail`` the second
    :param list_requires_type: listing tasks without ``task_type`` is refused, as documented
    :param search_per_second: how often devices may be searched for; None: without limit
    :param signature: the signature kind that this instance takes
    :param instance_id: the Instance-Id that every call must carry; None: not looked at
    :param region: the region that a derived signature must name; None: not looked at
    :param error_codes: status and code of refusals that are not documented
    """

    initializing: Seconds = 1.0
    version_query: Seconds = 0.0
    offline_wait: Seconds = 25 * 3600.0
    report_timeout: Seconds = 24 * 3600.0
    offline_status: Literal["Waitting", "Processing"] = "Waitting"
    stop_after: Delay = Uniform(min=1.0, max=5.0)
    stop_installing: Literal["finish", "detach", "abort"] = "finish"
    install_share: Share = 0.2
    stopping_timeout: Seconds = 60.0
    empty_targets: Literal["all", "none", "refuse"] = "all"
    all_answer: Literal["omit", "empty", "results"] = "omit"
    echo_targets: Count = 100
    unconfirmed_status: Literal["Waitting", "Processing"] = "Waitting"
    unknown_package: Literal["accept", "refuse"] = "accept"
    task_conflict: Literal["allow", "fail"] = "allow"
    list_requires_type: bool = True
    search_per_second: Rate | None = 1.0
    signature: Literal["any", "SDK-HMAC-SHA256", "V11-HMAC-SHA256"] = "any"
    instance_id: str | None = None
    region: str | None = None
    error_codes: ErrorCodes = ErrorCodes()
