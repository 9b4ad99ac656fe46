"""``iotda-guard doctor``: what it says of each trouble, and that it only reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import iotda_provider
from iotda_provider.doctor import examination, facts
from iotda_provider.doctor.caller import Asked
from iotda_provider.doctor.cli import main
from iotda_provider.models import TaskStatus
from iotda_provider.procedures.batch_tasks import REHEARSAL

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "howto" / "check-a-connection.md"
PACKAGE = "a1b2c3d4e5f60718293a4b5c"
FLEET: dict[str, Any] = {
    "devices": 60,
    "fw_version": "1.0.0",
    "failure_rate": 0.2,
    "success_after": 5,
    "failure_after": 5,
    "groups": [{"name": "all", "group_id": "a1", "count": 20}],
    "packages": [{"package_id": PACKAGE, "version": "2.0.0"}],
    "batch_tasks": [
        {"targets": 30, "package_ids": [PACKAGE]},
        {"targets": "all", "package_ids": [PACKAGE], "need_confirm": True},
    ],
}
#: The calls that may be no GET: a search reads, and the rehearsed stop stops nothing.
NO_GET = {"search_devices", "stop_batch_task"}
TRIED = {
    "iotda:batchtasks:queryList",
    "iotda:batchtasks:query",
    "iotda:batchtasks:stop",
    "iotda:otapackages:query",
    "iotda:otapackages:queryList",
    "iotda:group:query",
    "iotda:group:queryList",
    "iotda:devices:queryList",
    "iotda:devices:query",
}
Rows = dict[str, tuple[str, str]]


class Doctor:
    """Runs the command for an emulator's connection."""

    def __init__(self, start: Any, monkeypatch: Any, capsys: Any) -> None:
        self._start, self._monkeypatch, self._capsys = start, monkeypatch, capsys
        self.emulator: Any = None
        self.printed = ""

    def start(self, scenario: dict[str, Any] | None = None, **options: Any) -> Any:
        self.emulator = self._start(FLEET if scenario is None else scenario, **options)
        self.emulator.advance(600)
        return self.emulator

    def examine(self, *arguments: str, **extra: Any) -> tuple[int, Rows]:
        """Exit code, and result and detail by the name of the check."""
        if self.emulator is None:
            self.start()
        world = self.emulator.instance.present()
        before = [len(world.groups.by_id), len(world.library.packages), sorted(world._tasks)]
        connection = self.emulator.airflow_connection
        for name in ("host", "login", "password"):
            connection[name] = extra.pop(name, connection[name])
        connection["extra"].update(extra)
        self._monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
        self._capsys.readouterr()
        code = main(["doctor", *arguments])
        self.printed = self._capsys.readouterr().out
        secrets = {"password": connection["password"], "token": connection["extra"].get("s")}
        assert not [name for name, text in secrets.items() if text and text in self.printed]
        self.only_reads()
        world = self.emulator.instance.present()
        assert before == [
            len(world.groups.by_id),
            len(world.library.packages),
            sorted(world._tasks),
        ]
        if "--json" in arguments:
            rows = json.loads(self.printed)["findings"]
            return code, {row["check"]: (row["result"], row["detail"]) for row in rows}
        found = re.findall(r"^  (ok|FAILS|warning|unknown) +(.+?)  +(.+)$", self.printed, re.M)
        return code, {check: (result, detail) for result, check, detail in found}

    def only_reads(self) -> None:
        """Nothing was created and nothing changed."""
        for entry in self.emulator.journal():
            assert entry["method"] == "GET" or entry["call"] in NO_GET, entry
            if entry["call"] == "stop_batch_task" and entry["body"] is not None:
                (target,) = entry["body"]["targets"]
                assert target.startswith(REHEARSAL)


@pytest.fixture
def doctor(
    iotda_emulator_factory: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    return Doctor(iotda_emulator_factory, monkeypatch, capsys)


def failing(rows: Rows) -> set[str]:
    return {check for check, (result, _) in rows.items() if result == "FAILS"}


def test_a_good_connection_passes_and_nothing_is_changed(doctor: Doctor) -> None:
    code, rows = doctor.examine()

    assert (code, failing(rows)) == (0, set())
    assert {check for check, row in rows.items() if row[0] != "ok"} == {
        check for check, row in rows.items() if "not tried, because it would change" in row[1]
    }
    assert rows["iotda:batchtasks:stop"][0] == "ok"
    assert rows["stop of an unknown target"] == (
        "ok",
        "200, and the target alone is refused with IOTDA.014219",
    )
    assert len(doctor.emulator.journal("stop_batch_task")) == 1
    world = doctor.emulator.instance.present()
    assert {str(task.status) for task in world._tasks.values()} <= {"PartialSuccess", "Waitting"}


def test_the_documentation_lists_every_check_and_has_its_output(doctor: Doctor) -> None:
    _, rows = doctor.examine()
    text = PAGE.read_text(encoding="utf-8")

    table = text[text.index("| part | check |") :].split("\n\n")[0]
    cells = "\n".join(re.findall(r"^\| \w+ \|(.*?)\|", table, re.M))
    documented = set(re.findall(r"`([^`]+)`", cells))
    shown = {check for check in rows if not check.startswith("iotda:")}
    assert documented - {"TLS", "answers", "repeated"} == shown
    example = re.search(r"```console\n\$ iotda-guard doctor\n(.*?)```", text, re.DOTALL)
    assert example
    doctor.start({**FLEET, "iam": {"denied": ["iotda:batchtasks:stop"]}})
    doctor.examine()
    for line in example[1].splitlines():
        if line.startswith("  "):
            check = re.split(r"  +", line.strip())[:2]
            assert re.search(rf"^  {check[0]} +{re.escape(check[1])}  ", doctor.printed, re.M)


def test_every_action_that_a_call_needs_has_a_row(doctor: Doctor) -> None:
    _, rows = doctor.examine()

    sources = (Path(iotda_provider.__file__).parent / "api").glob("*.py")
    named = {
        action
        for source in sources
        for action in re.findall(r'permission="(iotda:[^"]+)"', source.read_text())
    }
    named |= {f"iotda:batchtasks:{verb}" for verb in ("stop", "confirm", "retry")}
    assert named == {row for row in rows if row.startswith("iotda:")}


@pytest.mark.parametrize("action", sorted(TRIED))
def test_a_missing_permission_fails_and_names_the_action(doctor: Doctor, action: str) -> None:
    doctor.start({**FLEET, "iam": {"denied": [action]}})

    code, rows = doctor.examine()

    assert code == 1
    # Test itself lists batch tasks.
    assert failing(rows) - {"first call"} == {action}
    assert f"needs the IAM action {action}" in rows[action][1]


#: The call of each action that is tried, but for the list of batch tasks, which Test makes first.
CALL_OF = {
    "iotda:batchtasks:query": "show_batch_task",
    "iotda:batchtasks:stop": "stop_batch_task",
    "iotda:otapackages:query": "show_ota_package",
    "iotda:otapackages:queryList": "list_ota_package_info",
    "iotda:group:query": "show_devices_in_group",
    "iotda:group:queryList": "list_device_groups",
    "iotda:devices:queryList": "list_devices",
    "iotda:devices:query": "show_device",
}


@pytest.mark.parametrize(("kind", "status"), [("status", 500), ("html", 404)])
@pytest.mark.parametrize("action", sorted(CALL_OF))
def test_a_call_that_is_answered_with_an_error_fails(
    doctor: Doctor, action: str, kind: str, status: int
) -> None:
    """A stop that is answered so stops nothing, whatever rights the caller has."""
    doctor.start().add_fault(kind, call=CALL_OF[action], status=status)

    code, rows = doctor.examine(max_attempts=1)

    assert (code, rows[action][0]) == (1, "FAILS")
    assert "would fail. " in rows[action][1] or "no guard could stop" in rows[action][1]
    assert f"HTTP {status}" in rows[action][1]


@pytest.mark.parametrize("scenario", [{"devices": 0}, FLEET], ids=["empty", "filled"])
def test_an_empty_instance_can_be_examined_too(doctor: Doctor, scenario: dict[str, Any]) -> None:
    doctor.start(scenario)

    code, rows = doctor.examine()

    assert code == 0
    assert all(rows[action][0] == "ok" for action in TRIED)


def test_searching_is_no_part_of_every_edition(doctor: Doctor) -> None:
    doctor.start({**FLEET, "iam": {"denied": ["iotda:devices:search"]}})

    code, rows = doctor.examine()

    assert code == 0
    assert rows["search"] == (
        "warning",
        "not available to this caller (HTTP 403 IOTDA.000022). Before each wave a release reads "
        "its devices, where it otherwise counts them",
    )
    result, said = rows["iotda:devices:search"]
    assert result == "warning"
    assert "needs the IAM action iotda:devices:search" in said
    assert rows["search counts as lists do"][0] == "unknown"


def test_wrong_keys_are_tried_no_more_than_needed(doctor: Doctor) -> None:
    code, rows = doctor.examine(password="not0the0secret")

    assert (code, failing(rows)) == (1, {"first call"})
    assert "does not know the caller" in rows["first call"][1]
    assert "lock an access key" in rows["the rest"][1]
    assert len(doctor.emulator.journal()) < 5


def test_nobody_answers(doctor: Doctor) -> None:
    code, rows = doctor.examine(host="http://127.0.0.1:1", max_attempts=1)

    assert (code, failing(rows)) == (1, {"first call"})
    assert "nothing answers there" in rows["first call"][1]
    assert rows["clock"][0] == "unknown"


def test_another_project(doctor: Doctor) -> None:
    code, rows = doctor.examine(project_id="another")

    assert code == 1
    assert "check project_id" in rows["first call"][1]
    assert failing(rows) >= TRIED


def test_an_instance_that_is_not_named(doctor: Doctor) -> None:
    doctor.start({**FLEET, "switches": {"instance_id": "i-1"}})

    assert doctor.examine()[0] == 0
    code, rows = doctor.examine("--instance-id", "i-2")
    assert code == 1
    assert "check instance_id" in rows["first call"][1]


@pytest.mark.parametrize(
    ("seconds", "result", "word"),
    [(30, "ok", "platform's"), (200, "warning", "behind"), (-600, "FAILS", "ahead")],
)
def test_the_clock_is_compared(doctor: Doctor, seconds: int, result: str, word: str) -> None:
    doctor.start().add_fault("clock_skew", seconds=seconds)

    code, rows = doctor.examine()

    assert rows["clock"][0] == result
    assert word in rows["clock"][1]
    assert (code, failing(rows)) == ((1, {"clock"}) if result == "FAILS" else (0, set()))


def test_a_clock_that_is_an_hour_off_is_told_from_a_wrong_key(doctor: Doctor) -> None:
    doctor.start().add_fault("clock_skew", seconds=3600)

    code, rows = doctor.examine()

    assert (code, failing(rows)) == (1, {"clock", "first call"})
    assert "set the clock (NTP) before looking for another cause" in rows["first call"][1]


def test_a_slow_platform(doctor: Doctor) -> None:
    doctor.start().add_fault("latency", seconds=0.3, count=1)  # the slowest call counts

    code, rows = doctor.examine(timeout=2, attempt_timeout=0.5)

    assert (code, rows["speed"][0]) == (0, "warning")
    assert "Raise attempt_timeout" in rows["speed"][1]


def test_a_platform_that_falls_silent_is_not_asked_on_and_on(doctor: Doctor) -> None:
    doctor.start().add_fault("reset", after=4)

    code, rows = doctor.examine(max_attempts=1)

    assert code == 1
    assert rows["answers"][0] == "FAILS"
    assert "does not answer" in rows["iotda:devices:query"][1]
    assert len(doctor.emulator.journal()) < 10


def test_throttling_is_seen(doctor: Doctor) -> None:
    doctor.start().add_fault("throttle", count=3, retry_after=0)

    code, rows = doctor.examine()

    assert (code, rows["throttling"][0]) == (0, "warning")
    assert "max_requests_per_second" in rows["throttling"][1]


@pytest.mark.parametrize("lifetime", [24 * 3600, 60])
def test_a_token_says_how_long_it_is_good_for(doctor: Doctor, lifetime: int) -> None:
    doctor.start({**FLEET, "iam": {"token_lifetime": lifetime}})

    code, rows = doctor.examine(
        login="emulator-user",
        password="emulator-password",
        auth_type="token",
        domain_name="emulator-domain",
        iam_endpoint=doctor.emulator.url,
    )

    assert code == 0
    assert rows["credentials"][0] == ("ok" if lifetime > 60 else "warning")
    assert "token: good for" in rows["credentials"][1]


def test_a_password_that_iam_refuses(doctor: Doctor) -> None:
    doctor.start()
    code, rows = doctor.examine(
        login="emulator-user",
        password="not the password",
        auth_type="token",
        domain_name="emulator-domain",
        iam_endpoint=doctor.emulator.url,
    )

    assert (code, failing(rows)) == (1, {"credentials"})
    assert doctor.emulator.journal() == []


def test_keys_of_an_agency_are_renewed_and_a_temporary_key_in_a_connection_is_not(
    doctor: Doctor,
) -> None:
    doctor.start()
    endpoint = doctor.emulator.url
    code, rows = doctor.examine(
        login="", password="", auth_type="agency", metadata_endpoint=endpoint
    )
    assert (code, rows["credentials"][0]) == (0, "ok")
    assert "agency: good for" in rows["credentials"][1]

    doctor.start(FLEET, security_token="temporary0token")
    code, rows = doctor.examine()
    assert (code, failing(rows)) == (1, {"credentials"})
    assert "cannot renew it" in rows["credentials"][1]


def test_what_the_platform_does_otherwise_is_said(doctor: Doctor) -> None:
    codes = {"task_not_found": "400 IOTDA.014999"}
    switches = {"list_requires_type": False, "error_codes": codes}
    doctor.start({**FLEET, "switches": switches})

    code, rows = doctor.examine()

    assert code == 0
    assert rows["deleted task is 404"][0] == "warning"
    assert "HTTP 400 IOTDA.014999" in rows["deleted task is 404"][1]
    assert "without a task_type, too" in rows["list without a type"][1]


@pytest.mark.parametrize(
    ("gone", "code", "result"),
    [
        ("task", "404 APIG.0101", "warning"),
        ("device", "400 IOTDA.014999", "warning"),
        ("device", "404 APIG.0101", "FAILS"),
        ("device", "503 IOTDA.014999", "FAILS"),
        ("package", "400 IOTDA.014999", "warning"),
        ("package", "404 APIG.0101", "warning"),
        ("group", "400 IOTDA.014999", "ok"),
        ("group", "404 APIG.0101", "warning"),
        ("group", "409 IOTDA.014999", "warning"),
    ],
)
def test_how_what_is_gone_is_answered_is_said(
    doctor: Doctor, gone: str, code: str, result: str
) -> None:
    codes = {f"{gone}_not_found": code}
    doctor.start({**FLEET, "switches": {"error_codes": codes}})

    exit_code, rows = doctor.examine(max_attempts=1)

    found, said = rows[f"deleted {gone} is 404"]
    assert (found, exit_code) == (result, 1 if result == "FAILS" else 0)
    assert f"HTTP {code}" in said


@pytest.fixture
def seen(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> facts.Seen:
    """The answers of a platform that does what its documentation says."""
    kept: list[facts.Seen] = []
    really_find = facts.findings
    monkeypatch.setattr(facts, "findings", lambda one: kept.append(one) or really_find(one))
    doctor.examine()
    monkeypatch.undo()
    return kept[0]


def fact(seen: facts.Seen, name: str, **answers: Any) -> tuple[str, str]:
    """What is said of one fact, where some answers are others."""
    found = facts.findings(replace(seen, **answers))
    return next((one.result.value, one.detail) for one in found if one.check == name)


def test_a_list_that_does_not_mind_the_status_fails(seen: facts.Seen) -> None:
    every = seen.by_status.result
    assert every is not None
    (row, *_) = every.rows
    other = replace(row, status=TaskStatus.STOPPED)
    assert fact(seen, "lists by status")[0] == "ok"
    for rows, result in (
        ((other, other), "FAILS"),
        ((row, other, *[row] * 47, other), "FAILS"),
        ((row, other), "unknown"),  # it may have changed while it was listed
        ((other,), "unknown"),
    ):
        found = Asked(replace(every, rows=rows))
        assert fact(seen, "lists by status", by_status=found)[0] == result


def test_a_list_by_status_shows_nothing_where_all_batch_tasks_have_that_status(
    seen: facts.Seen,
) -> None:
    alike = {
        kind: Asked(
            replace(
                asked.result,
                rows=tuple(replace(row, status=seen.status) for row in asked.result.rows),
            )
        )
        for kind, asked in seen.tasks.items()
    }
    result, said = fact(seen, "lists by status", tasks=alike)
    assert result == "unknown"
    assert f"no batch task that is not {seen.status}" in said


def test_a_platform_that_lists_every_status_fails(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [{"targets": 5, "package_ids": [PACKAGE]} for _ in range(3)]
    doctor.start({**FLEET, "batch_tasks": [*ended, FLEET["batch_tasks"][1]]})
    really_list = examination.api.list_batch_tasks
    monkeypatch.setattr(
        examination.api,
        "list_batch_tasks",
        lambda **query: really_list(**{**query, "status": None}),
    )

    code, rows = doctor.examine()

    assert (code, failing(rows)) == (1, {"lists by status"})


def test_times_in_another_form_fail(seen: facts.Seen) -> None:
    assert fact(seen, "times can be compared")[0] == "ok"
    kind, asked = next((kind, one) for kind, one in seen.tasks.items() if one.result.rows)
    odd = replace(asked.result.rows[0], create_time="2026-11-29T10:00:00Z")
    tasks = {**seen.tasks, kind: Asked(replace(asked.result, rows=(odd,)))}
    result, said = fact(seen, "times can be compared", tasks=tasks)
    assert result == "FAILS"
    assert "'2026-11-29T10:00:00Z'" in said


def test_a_search_that_counts_otherwise_is_a_warning(seen: facts.Seen) -> None:
    of_it = f"device(s) of product {seen.product_id}"
    assert fact(seen, "search counts as lists do") == ("ok", f"both count 60 {of_it}")
    result, said = fact(seen, "search counts as lists do", search=Asked(59))
    assert result == "warning"
    assert f"counts 59 {of_it}, and the list 60" in said


def test_a_count_of_all_devices_is_not_said_to_be_of_a_product(seen: facts.Seen) -> None:
    for search in (60, 59):
        of_all = {"product_id": "", "search": Asked(search)}
        _, said = fact(seen, "search counts as lists do", **of_all)
        assert "product" not in said


def test_a_batch_task_can_be_named_and_json_be_had(doctor: Doctor) -> None:
    doctor.start()
    tasks = doctor.emulator.instance.present()._tasks
    ended = next(name for name, task in tasks.items() if str(task.status) == "PartialSuccess")

    code, rows = doctor.examine("--json", "--batch-task-id", ended)

    assert code == 0
    assert ended in rows["iotda:batchtasks:stop"][1]
    assert "has ended" in rows["stop of an unknown target"][1]


@pytest.mark.parametrize("wrong", [["--batch-task-id", "../x"], ["no such connection"]])
def test_wrong_arguments(doctor: Doctor, wrong: list[str]) -> None:
    doctor.start()

    code, rows = doctor.examine(*wrong)

    assert code in (1, 2)
    assert failing(rows) <= {"settings"}
    assert doctor.emulator.journal() == []


def test_a_connection_that_is_wrong_is_told_in_one_line(doctor: Doctor) -> None:
    doctor.start()

    code, rows = doctor.examine(no_such_field=1)

    assert (code, failing(rows)) == (1, {"settings"})
    assert "no_such_field" in rows["settings"][1]


def test_nothing_but_the_report_is_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow logs that this Extra is no JSON; a pipeline reads the report."""
    connection = {"conn_type": "iotda", "extra": "{no JSON"}
    monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))
    command = "import sys; from iotda_provider.doctor.cli import main; sys.exit(main())"

    done = subprocess.run(
        [sys.executable, "-c", command, "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    [finding] = json.loads(done.stdout)["findings"]
    assert "Extra is not valid JSON" in finding["detail"]
