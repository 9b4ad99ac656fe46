"""Text from forms, templates and answers takes no longer than it is long, or is refused at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.growth import growth

from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import FailureClasses, classify
from iotda_provider.guards.lab.notation import parse_rules
from iotda_provider.models import Subtask
from iotda_provider.operators.release.plan import wave_specs
from iotda_provider.operators.release.quarantine import group_name_of
from iotda_provider.release.gate import as_gate
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.preflight import ReleaseParameters
from iotda_provider.rollout_guard.failure_tally import Tally, check_cluster_of
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.parameters import (
    as_count,
    as_list,
    as_mapping,
    batch_task_ids,
    none_if_blank,
    read_number,
)
from iotda_provider.task_io.reports import check_report_path

FILLS = [
    " ",
    "mon ",
    "mon-",
    "1",
    "1,",
    "a",
    "%",
    "group:",
    "../",
    "%2e",
    "[",
    "{",
    "verif",
    "-",
    "0:",
]


class Named:
    """A connection with one long text in it."""

    def __init__(self, **fields: Any) -> None:
        known = dict.fromkeys(("host", "login", "password", "schema", "port", "extra"))
        vars(self).update({**known, "login": "AK", "password": "SK", "conn_type": "iotda"} | fields)


def settings_of(**fields: Any) -> Any:
    connection: Any = Named(**fields)
    return ConnectionSettings.from_connection(connection, conn_id="c")


def tally(target: str) -> None:
    failed = Subtask.from_wire({"target": "a", "status": "Fail"})
    Tally(1, FailureClasses(), r"(a+)b").add(type(failed)(target=target, status=failed.status))


READERS: dict[str, Callable[[str], Any]] = {
    "window": MaintenanceWindow.of,
    "window and timezone": lambda text: MaintenanceWindow.of("22:00-05:00", text),
    "time": lambda text: MaintenanceWindow(text, "05:00"),
    "days": lambda text: MaintenanceWindow("01:00", "05:00", days=text),
    "waves": wave_specs,
    "form": lambda text: ReleaseParameters(
        dict.fromkeys(("waves", "window", "timezone", "rules", "gate", "approval"), text), text
    ),
    "gate": as_gate,
    "rules": read_rules,
    "rules as typed": parse_rules,
    "number": lambda text: read_number(text, "n"),
    "count": lambda text: as_count(text, "n"),
    "object": lambda text: as_mapping(text, "n"),
    "id": batch_task_ids,
    "none_if_blank": none_if_blank,
    "report path": check_report_path,
    "group name": group_name_of,
    "failure class": lambda text: classify("X", text),
    "code": classify,
    "own failure class": lambda text: FailureClasses({"re:(a+)b": "firmware"}).classify("X", text),
    "cluster": tally,
    "host": lambda text: settings_of(host=text),
    "extra": lambda text: settings_of(host="h.example", extra=text),
    "extra field": lambda text: settings_of(host="h.example", extra=f'{{"{text}": 1}}'),
}


def read_or_refuse(read: Callable[[str], Any], text: str) -> None:
    try:
        read(text)
    except (ValueError, IoTDAError) as refusal:
        assert len(str(refusal)) < 1500  # noqa: PT017 - a refusal is as good
        assert len(str(refusal).splitlines()) == 1  # noqa: PT017


@pytest.mark.parametrize("name", READERS)
def test_twice_the_text_takes_at_most_two_and_a_half_times_as_long(name: str) -> None:
    read = READERS[name]
    for fill in FILLS:
        read_or_refuse(read, fill * 4)  # which loads what it needs
    for fill in FILLS:
        text = fill * (20_000 // len(fill)) + "x"

        def reading(times: int, text: str = text) -> Callable[[], None]:
            return partial(read_or_refuse, read, text * times)

        assert growth(reading, 1, least=0.004) <= 2.5, repr(fill)


def test_a_window_of_20000_spaces_is_refused_at_once_and_says_how_long_one_may_be() -> None:
    with pytest.raises(ValueError, match="at most 100 characters, got 20004"):
        MaintenanceWindow.parse("mon" + " " * 20_000 + "x")


@pytest.mark.parametrize(
    "text", ["mon22:00-05:00", "mon  22:00 05:00", "22:00-05:00 mon", "x 1:00-2:00"]
)
def test_a_window_is_still_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match=r"window must look like|days must be"):
        MaintenanceWindow.parse(text)


def test_json_is_read_at_any_size() -> None:
    ids = [f"device-{n:07}" for n in range(1_000_000)]
    assert as_list("[" + ",".join(f'"{one}"' for one in ids) + "]", "targets") == ids


def test_python_is_read_below_256_kib_and_the_error_says_what_to_write_instead() -> None:
    below, beyond = str(["device"] * 20_000), str(["device"] * 40_000)
    assert len(below) < 256 * 1024 < len(beyond)
    assert as_list(below, "targets") == ["device"] * 20_000
    began = time.process_time()
    with pytest.raises(IoTDAError, match=r"beyond 262144 only JSON is read.*tojson"):
        as_list("[" + "'device', " * 800_000 + "]", "targets")
    refused = time.process_time() - began
    began = time.process_time()
    as_list(below, "targets")
    assert refused < 20 * (time.process_time() - began), "8 MiB are not parsed"


@pytest.mark.parametrize("read", [check_cluster_of, lambda text: FailureClasses({text: "unknown"})])
def test_an_expression_of_ones_own_has_a_bound(read):
    read("re:(" + "x" * 1900 + ")")
    with pytest.raises(ValueError, match="at most 2000 characters"):
        read("re:(" + "x" * 2000 + ")")
