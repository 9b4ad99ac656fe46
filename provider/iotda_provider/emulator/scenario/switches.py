"""The scenario's switches: what IoTDA does where its documentation does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from iotda_provider.emulator.common.json_reader import Reader
from iotda_provider.emulator.common.randomness import LONGEST, Distribution

# Refusals whose code nobody published, by name: HTTP status and error code.
DEFAULT_ERROR_CODES: dict[str, tuple[int, str]] = {
    "task_not_found": (404, "IOTDA.014217"),
    "stop_refused": (400, "IOTDA.014218"),
    "retry_refused": (400, "IOTDA.014218"),
    "confirm_refused": (400, "IOTDA.014218"),
    "delete_refused": (400, "IOTDA.014218"),
    "target_refused": (200, "IOTDA.014220"),
    "device_not_found": (404, "IOTDA.014000"),
    "group_not_found": (404, "IOTDA.014006"),
    "group_refused": (400, "IOTDA.014007"),
    "package_not_found": (404, "IOTDA.014214"),
    "package_refused": (400, "IOTDA.014215"),
    "instance_refused": (403, "IOTDA.000021"),
}

_STOP_AFTER = Distribution("uniform", 1.0, 5.0)

STOP_INSTALLING = ("finish", "detach", "abort")
EMPTY_TARGETS = ("all", "none", "refuse")
STOP_ALL_ANSWER = ("omit", "empty", "results")
SIGNATURES = ("any", "SDK-HMAC-SHA256", "V11-HMAC-SHA256")


@dataclass(frozen=True)
class Switches:
    """One choice for every behaviour that is undocumented or differs between instances.

    :param initializing: seconds a task is Initializing
    :param version_query: seconds until a device on the target version is marked Success
    :param offline_wait: seconds a subtask waits for its device to come online (25 h)
    :param report_timeout: seconds until a device that never reports has failed (24 h)
    :param offline_status: the status of a subtask that waits for its device
    :param stop_after: seconds from a stop to Stopped, drawn per subtask
    :param stop_installing: an installing device at a stop may ``finish`` with its own outcome,
        may be marked Stopped and yet install (``detach``), or obeys (``abort``)
    :param install_share: the last part of the success delay in which a device is installing
    :param stopping_timeout: seconds after which a stop waits for no device any more
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
    :param error_codes: status and code of refusals that nobody documented
    """

    initializing: float = 1.0
    version_query: float = 0.0
    offline_wait: float = 25 * 3600.0
    report_timeout: float = 24 * 3600.0
    offline_status: str = "Waitting"
    stop_after: Distribution = _STOP_AFTER
    stop_installing: str = "finish"
    install_share: float = 0.2
    stopping_timeout: float = 60.0
    empty_targets: str = "all"
    all_answer: str = "omit"
    echo_targets: int = 100
    unconfirmed_status: str = "Waitting"
    unknown_package: str = "accept"
    task_conflict: str = "allow"
    list_requires_type: bool = True
    search_per_second: float | None = 1.0
    signature: str = "any"
    instance_id: str | None = None
    region: str | None = None
    error_codes: Mapping[str, tuple[int, str]] = field(
        default_factory=lambda: dict(DEFAULT_ERROR_CODES)
    )


def read_switches(reader: Reader) -> Switches:
    """Check the scenario's ``switches``."""
    base = Switches()
    switches = Switches(
        initializing=reader.number("initializing", base.initializing, 0, LONGEST),
        version_query=reader.number("version_query", base.version_query, 0, LONGEST),
        offline_wait=reader.number("offline_wait", base.offline_wait, 0, LONGEST),
        report_timeout=reader.number("report_timeout", base.report_timeout, 0, LONGEST),
        offline_status=reader.choice(
            "offline_status", base.offline_status, ("Waitting", "Processing")
        ),
        stop_after=reader.distribution("stop_after", base.stop_after),
        stop_installing=reader.choice("stop_installing", base.stop_installing, STOP_INSTALLING),
        install_share=reader.number("install_share", base.install_share, 0, 1),
        stopping_timeout=reader.number("stopping_timeout", base.stopping_timeout, 0, LONGEST),
        empty_targets=reader.choice("empty_targets", base.empty_targets, EMPTY_TARGETS),
        all_answer=reader.choice("all_answer", base.all_answer, STOP_ALL_ANSWER),
        echo_targets=reader.whole("echo_targets", base.echo_targets),
        unconfirmed_status=reader.choice(
            "unconfirmed_status", base.unconfirmed_status, ("Waitting", "Processing")
        ),
        unknown_package=reader.choice(
            "unknown_package", base.unknown_package, ("accept", "refuse")
        ),
        task_conflict=reader.choice("task_conflict", base.task_conflict, ("allow", "fail")),
        list_requires_type=reader.flag("list_requires_type", base.list_requires_type),
        search_per_second=reader.number("search_per_second", base.search_per_second, 1e-6)
        if reader.raw("search_per_second", 1) is not None
        else None,
        signature=reader.choice("signature", base.signature, SIGNATURES),
        instance_id=reader.text("instance_id", None),
        region=reader.text("region", None),
        error_codes=_read_error_codes(reader.inner("error_codes")),
    )
    reader.done()
    return switches


def _read_error_codes(reader: Reader) -> dict[str, tuple[int, str]]:
    codes = {}
    for name, (status, code) in DEFAULT_ERROR_CODES.items():
        text = reader.text(name, f"{status} {code}", r"[1-5]\d\d \S+")
        words = text.split()
        codes[name] = (int(words[0]), words[1])
    reader.done()
    return codes
