"""The command ``iotda-guard``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iotda_provider.guards import (
    Look,
    MaxFailures,
    ReportingDelay,
    SequentialFailureTest,
    evaluate,
)
from iotda_provider.guards.audit import AuditTrail, audit_header, audit_record
from iotda_provider.guards.lab import plot as plot_module
from iotda_provider.guards.lab.cli import main
from iotda_provider.guards.lab.notation import notation, parse_rules
from iotda_provider.models import TaskProgress

Output = pytest.CaptureFixture[str]


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    rules = [SequentialFailureTest(0.02)]
    trail, state = AuditTrail(), None
    for index in range(50):
        progress = TaskProgress(total=1000, fail=index, processing=1000 - index)
        look = Look(time=1_790_000_000 + 10 * index, progress=progress)
        state, verdict = evaluate(rules, state, look)
        trail.add(audit_record(look, verdict))
    file = tmp_path / "audit.jsonl"
    lines = [
        *(json.dumps(item) for item in (audit_header(rules), *trail.records)),
        '{"time": "2026-',
    ]
    file.write_text("\n".join(lines))
    return file


def test_replay_shows_what_other_rules_would_have_done(audit_file: Path, capsys: Output) -> None:
    rules = "MaxFailures(3), MaxFailures(99)"
    assert main(["replay", str(audit_file), "--rules", rules]) == 0
    out = capsys.readouterr().out
    assert "50 looks" in out
    assert "cut off" in out
    assert "as recorded: breach at 2026-09-21T14:19:50.000Z" in out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "after 30 s" in rows["MaxFailures(3)"]
    assert "never" in rows["MaxFailures(99)"]


@pytest.mark.parametrize(
    "command",
    [["replay", "/dev/zero"], ["fit", "/dev/zero"], ["plan", "--rules", "/dev/zero"]],
    ids=" ".join,
)
def test_a_file_without_an_end_is_an_error(command: list[str], capsys: Output) -> None:
    assert main(command) == 2
    assert capsys.readouterr().err.endswith("the file has more than 100,000,000 characters\n")


@pytest.mark.parametrize("indent", [None, 2])
def test_replay_takes_the_list_of_an_xcom(
    audit_file: Path, indent: int | None, tmp_path: Path, capsys: Output
) -> None:
    xcom = [json.loads(line) for line in audit_file.read_text().splitlines()[:-1]]
    file = tmp_path / "xcom.json"
    file.write_text(json.dumps(xcom, indent=indent))

    assert main(["replay", str(file), "--json"]) == 0

    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["broken"]["after_seconds"] == 390


def test_replay_takes_the_rules_of_the_file_where_none_are_given(
    audit_file: Path, capsys: Output
) -> None:
    assert main(["replay", str(audit_file), "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["rule"]["rule"] == "SequentialFailureTest"
    assert outcome["broken"]["after_seconds"] == 390


def test_rules_may_stand_in_a_file(audit_file: Path, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "rules.txt"
    file.write_text('[{"rule": "MaxFailures", "count": 3}]')
    for name in (str(file), f"@{file}"):
        assert main(["replay", str(audit_file), "--rules", name]) == 0
        assert "MaxFailures(3)" in capsys.readouterr().out


def test_plan_tells_devices_exposed_and_what_cannot_work(capsys: Output) -> None:
    argv = ["plan", "--devices", "50", "--rates", "0.02,0.2"]
    for rule in ("SequentialFailureTest(0.02)", "MaxFailureRate(0.05)", "EnoughSuccess(0.05)"):
        argv += ["--rule", rule]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "20 % fail" in out
    assert "MaxFailureRate(0.05) can never stop 50 devices" in out
    assert "EnoughSuccess(0.05) opens after 82 successes" in out
    assert "with 50 devices a person must decide" in out


def test_plan_says_what_it_leaves_out_of_account(capsys: Output) -> None:
    rule = "SequentialFailureTest(0.02, leave_worst_out=True)"
    assert main(["plan", "--devices", "50", "--rule", rule, "--rule", "MaxFailures(5)"]) == 0
    assert f"{rule} uses clusters" in capsys.readouterr().out


def test_plan_looks_at_the_ends_of_waves(capsys: Output) -> None:
    argv = ["plan", "--devices", "30000", "--rule", "SequentialFailureTest(0.02)"]
    argv += ["--waves", "100,500,2500,10000", "--rates", "0.1", "--json"]
    assert main(argv) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["waves"] == [100, 500, 2500, 10_000, 30_000]
    (exposure,) = data["rules"][0]["exposures"]
    assert exposure["mean_devices"] == pytest.approx(228.4, abs=0.1)


def test_simulate_names_stops_of_healthy_fleets_false(capsys: Output) -> None:
    argv = ["simulate", "--devices", "200", "--fleets", "20", "--poll", "60"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "20 fleets of 200 devices" in out
    (aws,) = (line for line in out.splitlines() if "finished" in line and " 2 %" in line)
    assert "false" in aws


def test_simulate_prints_json(capsys: Output) -> None:
    argv = ["simulate", "--devices", "50", "--fleets", "3", "--poll", "60", "--json"]
    argv += ["--healthy", "0.01", "--faulty", "1", "--rule", "MaxFailures(2)"]
    assert main(argv) == 0
    healthy, faulty = json.loads(capsys.readouterr().out)
    assert faulty["stopped"] == 1
    assert healthy["fleet"]["failure_rate"] == 0.01


def test_simulate_draws_a_picture(tmp_path: Path, capsys: Output) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "out.png"
    argv = ["simulate", "--devices", "50", "--fleets", "3", "--poll", "60"]
    assert main([*argv, "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(plot_module, "import_module", missing)
    assert main(["simulate", "--fleets", "1000000", "--plot", "out.png"]) == 2
    assert "pip install 'airflow-provider-iotda[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["plan", "--rule", "MaxFailures(0)"], "count must be"),
        (["plan", "--rule", "__import__('os')"], "unknown rule"),
        (["plan", "--rules", "MaxFailures"], "neither a rule"),
        (["plan", "--rules", ""], "neither a rule"),
        (["plan", "--rates", "5%"], "--rates: '5%' is not a number"),
        (["plan", "--rates", "5"], "--rates must be a share"),
        (["plan", "--devices", "0"], "--devices"),
        (["plan", "--devices", "1000001"], "--devices"),
        (["simulate", "--devices", "1000000000", "--fleets", "1"], "--devices: at most 1,000,000"),
        (["plan", "--waves", "500,100"], "--waves"),
        (["plan", "--waves", "100,5000"], "--waves"),
        (["plan", "--in-flight", "-1"], "--in-flight"),
        (["simulate", "--fleets", "0"], "fleets"),
        (["simulate", "--rule", "EnoughSuccess(0.05)"], "gate"),
        (["simulate", "--poll", "0"], "poll"),
        (["simulate", "--poll", "1e-6", "--devices", "9"], "poll"),
        (["replay", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(
    argv: list[str], words: str, capsys: Output
) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert err.startswith(f"iotda-guard {argv[0]}: ")


@pytest.mark.parametrize(
    "text", ["", "not json\n", "[]", "[1]", "[{", '{"audit": "iotda-guard", "version": 1}\n']
)
def test_a_file_without_looks_is_a_mistake(text: str, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text(text)
    assert main(["replay", str(file), "--rule", "MaxFailures(1)"]) == 2
    assert capsys.readouterr().err


def test_a_file_without_rules_needs_some(tmp_path: Path, capsys: Output) -> None:
    look = Look(time=0, progress=TaskProgress(total=1, success=1))
    record = audit_record(look, evaluate(MaxFailures(1), None, look)[1])
    file = tmp_path / "audit.jsonl"
    file.write_text(json.dumps(record) + "\n")
    assert main(["replay", str(file)]) == 2
    assert "--rules" in capsys.readouterr().err


def test_looks_in_one_record_without_their_end_are_replayed_all_the_same(
    tmp_path: Path, capsys: Output
) -> None:
    look = Look(time=0, progress=TaskProgress(total=1, processing=1))
    record = audit_record(look, evaluate(MaxFailures(1), None, look)[1])
    file = tmp_path / "audit.jsonl"
    file.write_text(json.dumps({**record, "looks": 3}) + "\n")
    assert main(["replay", str(file), "--rule", "MaxFailures(1)"]) == 0
    assert "3 looks" in capsys.readouterr().out


def test_rules_with_a_reporting_delay_are_read_and_written_as_in_a_dag() -> None:
    text = (
        "SequentialFailureTest(0.02, reporting=ReportingDelay({300: 0.05, 1800: 1}, "
        "floor=0.2, retries=(5, 60)))"
    )
    (rule,) = parse_rules(text)
    assert notation(rule) == text
    (inner,) = parse_rules(f"Combined([{text}, Overdue(60, 0.02)])")
    assert notation(inner).startswith(f"Combined([{text}, ")


@pytest.mark.parametrize(
    "wrong",
    [
        "ReportingDelay()",
        "ReportingDelay({0: 1}, 5)",
        "ReportingDelay({0: 1}, flor=5)",
        "ReportingDelay({0: 0.5})",
        "ReportingDelay({0: 1}, floor=f())",
        "ReportingDelay(**{})",
        "{300: 1}",
    ],
)
def test_a_wrong_delay_is_one_line_that_names_it(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"ReportingDelay|reporting|floor") as caught:
        parse_rules(f"SequentialFailureTest(0.02, reporting={wrong})")
    assert "\n" not in str(caught.value)


ATTEMPTS = "SequentialFailureTest(0.2, counts='attempts')"


class TestRetries:
    """What the platform's retries do to rules."""

    def test_a_plan_warns_where_they_hide_failures(self, capsys: Output) -> None:
        retries = ["--retry-count", "5", "--retry-interval", "60", "--rates", "0.1"]
        assert main(["plan", "--devices", "50", "--rule", "MaxFailures(5)", *retries]) == 0
        assert "only after 6 attempts and 5 h of waiting" in capsys.readouterr().out
        assert main(["plan", "--devices", "50", "--rule", ATTEMPTS, *retries, "--json"]) == 0
        (note,) = json.loads(capsys.readouterr().out)["notes"]
        assert f"{ATTEMPTS} counts devices with a failed attempt" in note

    @pytest.mark.parametrize(("attempt", "warned"), [("1800", True), ("60", False)])
    def test_a_plan_warns_where_the_interval_is_shorter_than_an_attempt(
        self, capsys: Output, attempt: str, warned: bool
    ) -> None:
        retries = ["--retry-count", "5", "--retry-interval", "1", "--attempt", attempt]
        main(["plan", "--devices", "50", "--rule", ATTEMPTS, "--rates", "0.1", *retries])
        assert ("shorter than an attempt (30 min)" in capsys.readouterr().out) is warned

    def test_a_plan_warns_of_overdue_devices_that_only_wait(self, capsys: Output) -> None:
        retries = ["--retry-count", "5", "--retry-interval", "60", "--rates", "0.1"]
        rules = f"{ATTEMPTS}, Overdue(3600, 0.02)"
        main(["plan", "--devices", "50", "--rules", rules, *retries])
        assert "may wait for retries for up to 5 h" in capsys.readouterr().out

    @pytest.mark.parametrize("interval", ["60", "1"])
    def test_simulated_firmware_that_fails_everything_is_stopped_by_its_attempts(
        self, capsys: Output, interval: str
    ) -> None:
        """Ten devices a minute, attempts of ten minutes."""
        assert (
            main(
                [
                    *("simulate", "--rule", ATTEMPTS, "--rule", "SequentialFailureTest(0.02)"),
                    *("--devices", "1000", "--arrival", "6000", "--poll", "30", "--fleets", "5"),
                    *("--failure-after", "600", "--spread", "fixed", "--healthy", "0.005"),
                    *("--faulty", "1", "--first-failure-rate", "0.1"),
                    *("--retry-count", "5", "--retry-interval", interval, "--json"),
                ]
            )
            == 0
        )
        found = json.loads(capsys.readouterr().out)
        (good, _), (bad, hidden) = found[:2], found[2:]
        assert good["stopped"] == 0
        assert (bad["stopped"], bad["mean_exposed"] < 180) == (1, True)
        assert hidden["mean_exposed"] > 600

    def test_a_recorded_rollout_is_replayed_with_its_attempts(
        self, tmp_path: Path, capsys: Output
    ) -> None:
        rule, state, records = SequentialFailureTest(0.5, counts="attempts"), None, []
        for minute in range(30):
            progress = TaskProgress(total=100, fail_wait_retry=2, processing=98)
            by_id = {"": 2 * minute}
            look = Look(time=1_790_000_000 + 60 * minute, progress=progress, attempted=by_id)
            state, verdict = evaluate(rule, state, look)
            records.append(audit_record(look, verdict))
        file = tmp_path / "audit.jsonl"
        file.write_text("\n".join(map(json.dumps, records)))
        assert main(["replay", str(file), "--rule", ATTEMPTS]) == 0
        out = capsys.readouterr().out
        assert "of 100 devices failed (0 %), 36 have a failed attempt (36 %; 20 %" in out

    @pytest.mark.parametrize(
        "wrong",
        [
            ["simulate", "--fleets", "1", "--first-failure-rate", "2"],
            *(
                [*command, *wrong]
                for command in (["simulate", "--fleets", "1"], ["plan"])
                for wrong in (
                    ["--retry-count", "-1"],
                    ["--retry-count", "6"],
                    ["--retry-interval", "2000", "--retry-count", "1"],
                )
            ),
        ],
    )
    def test_what_the_platform_does_not_take_is_refused(
        self, capsys: Output, wrong: list[str]
    ) -> None:
        assert main([*wrong, "--devices", "5"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_plan_says_that_it_does_not_know_delays(capsys: Output) -> None:
    many = ", ".join(f"{age}: {age / 100}" for age in range(0, 101, 5))
    rule = f"SequentialFailureTest(0.02, reporting=ReportingDelay({{{many}}}))"
    assert main(["plan", "--devices", "500", "--rule", rule, "--rates", "0.02,0.1"]) == 0
    out = capsys.readouterr().out
    assert "SequentialFailureTest(0.02, reporting=ReportingDelay(...)) knows how late" in out
    (parsed,) = parse_rules(rule)
    assert parse_rules(notation(parsed, whole=True)) == [parsed]


def test_a_simulation_knows_delays(capsys: Output) -> None:
    rules = (
        "SequentialFailureTest(0.02), "
        "SequentialFailureTest(0.02, reporting=ReportingDelay({600: 0.1, 3600: 1}))"
    )
    fleet = ["--failure-after", "2400", "--spread", "lognormal", "--sigma", "0.2"]
    size = ["--devices", "500", "--arrival", "7200", "--poll", "60", "--success-after", "600"]
    rates = ["--healthy", "0.02", "--faulty", "0.2", "--fleets", "30", "--json"]
    assert main(["simulate", "--rules", rules, *fleet, *size, *rates]) == 0
    found = json.loads(capsys.readouterr().out)
    today, known = (each["mean_harmed"] for each in found[2:])
    assert known < 0.9 * today


def test_a_replay_dates_starts_as_the_guard_did(tmp_path: Path, capsys: Output) -> None:
    delay = ReportingDelay({300: 0, 1800: 1}, floor=0, slack=0)
    rule, state, trail = SequentialFailureTest(0.02, reporting=delay), None, AuditTrail()
    for step in range(40):
        started, failed = min(400, 20 * step), max(0, step - 25)
        progress = TaskProgress(
            total=400, fail=failed, processing=started - failed, waiting=400 - started
        )
        now = 1_790_000_000 + 30 * step
        look = Look(time=now, requested=now - 20, progress=progress)
        state, verdict = evaluate(rule, state, look)
        trail.add(audit_record(look, verdict))
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(map(json.dumps, [audit_header([rule]), *trail.records])))
    assert main(["replay", str(file), "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    broken = next(one for one in trail.records if one["decision"] == "breach")
    assert outcome["broken"]["verdict"]["evidence"]["value"] == pytest.approx(
        broken["rules"][0]["value"], abs=1e-5
    )
