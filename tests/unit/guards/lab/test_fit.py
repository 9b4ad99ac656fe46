"""``iotda-guard fit``: from the files of guards to what is pasted into a DAG."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from iotda_provider.guards import Look, ReportingDelay, SequentialFailureTest, evaluate
from iotda_provider.guards.audit import AuditTrail, audit_header, audit_record
from iotda_provider.guards.lab.cli import main
from iotda_provider.guards.lab.fit import from_counts
from iotda_provider.guards.lab.notation import parse_rules
from iotda_provider.models import TaskProgress

Output = pytest.CaptureFixture[str]
START = 1_790_000_000


def wave(seed: int, failures: int = 30) -> tuple[list[Look], list[float]]:
    """A wave of 200 devices that starts at once, and the true delays."""
    source = random.Random(seed)
    delays = sorted(source.expovariate(1 / 600) for _ in range(failures))
    looks = []
    for after in range(0, 6000, 10):
        failed = sum(60 + delay <= after for delay in delays)
        up = 200 if after >= 60 else 0
        progress = TaskProgress(total=200, fail=failed, processing=up - failed, waiting=200 - up)
        looks.append(Look(time=START + after, progress=progress))
    return looks, delays


def file_of(path: Path, looks: list[Look], **facts: Any) -> str:
    trail, state = AuditTrail(), None
    rule = SequentialFailureTest(0.5)
    for look in looks:
        state, verdict = evaluate(rule, state, look)
        trail.add(audit_record(look, verdict))
    lines = [audit_header([rule], **facts), *trail.records]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def header(delays: list[float], **more: Any) -> dict[str, Any]:
    recorded = {"failures": len(delays), "seconds": [int(delay) for delay in delays]}
    return {"delays": recorded, "verdict": "completed", "retries": [0, 0], **more}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    found = []
    for seed in range(3):
        looks, delays = wave(seed)
        found.append(file_of(tmp_path / f"{seed}.jsonl", looks, **header(delays)))
    return found


def test_what_is_printed_can_be_pasted_and_is_what_was_learned(
    files: list[str], capsys: Output
) -> None:
    assert main(["fit", *files, "--floor", "0"]) == 0
    text = capsys.readouterr().out
    pasted = text.split("Paste this into SequentialFailureTest(...):")[1]
    (rule,) = parse_rules(f"SequentialFailureTest(0.02, {pasted})")
    releases = [[int(delay) for delay in wave(seed)[1]] for seed in range(3)]
    expected = ReportingDelay.learned(releases, floor=0, retries=(0, 0))
    assert rule == SequentialFailureTest(0.02, reporting=expected)
    assert "1 in 4" in " ".join(text.split())
    assert "90 delays (0.129)" in " ".join(text.split())


def test_json_is_what_a_rule_takes(files: list[str], capsys: Output) -> None:
    assert main(["fit", *files, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    rule = SequentialFailureTest(0.02, reporting=data["reporting"])
    assert rule.reporting is not None
    assert rule.reporting.share(0) == pytest.approx(0.129, abs=0.005)
    assert data["delays"] == 90


def test_a_file_of_an_earlier_version_teaches_by_its_looks(tmp_path: Path, capsys: Output) -> None:
    looks, delays = wave(5)
    name = file_of(tmp_path / "old.jsonl", looks)
    assert main(["fit", name, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    true = ReportingDelay.learned(delays)
    learned = ReportingDelay(**data["reporting"])
    assert data["rollouts"][0]["failures"] == 30
    assert all(learned.share(age) >= true.share(age) - 0.04 for age in range(0, 6000, 50))
    assert all(learned.share(age + 60) <= true.share(age + 120) + 0.1 for age in range(0, 6000, 50))


def test_devices_that_trickle_in_teach_nothing_and_it_says_so(
    tmp_path: Path, capsys: Output
) -> None:
    name = file_of(tmp_path / "a.jsonl", wave(1)[0], **header([0.0] * 25 + [50.0] * 5))
    assert main(["fit", name]) == 0
    assert "25 of 30 delays count as 0" in " ".join(capsys.readouterr().out.split())


def test_a_stopped_rollout_is_taken_as_it_is_and_named(tmp_path: Path, capsys: Output) -> None:
    looks, delays = wave(1)
    name = file_of(tmp_path / "a.jsonl", looks, **header(delays, verdict="breached"))
    assert main(["fit", name]) == 0
    assert "was stopped shows only the delays that ended" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (header([5.0] * 19), "at least 20"),
        ({"delays": 5}, "delays"),
        ({"delays": {"failures": 5, "seconds": "x"}}, "delays"),
        ({"delays": {"failures": -5, "seconds": [1]}}, "failures"),
        ({"retries": [1]}, "retries"),
    ],
)
def test_what_teaches_nothing_is_one_line(
    facts: dict[str, Any], said: str, tmp_path: Path, capsys: Output
) -> None:
    name = file_of(tmp_path / "a.jsonl", wave(1)[0][:1], **facts)
    assert main(["fit", name]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_rollouts_with_different_retries_are_not_mixed(tmp_path: Path, capsys: Output) -> None:
    names = [
        file_of(tmp_path / f"{count}.jsonl", *wave(count)[:1], **header([60.0] * 30, retries=pair))
        for count, pair in enumerate(([0, 0], [5, 60]))
    ]
    assert main(["fit", *names]) == 2
    assert "different retries" in capsys.readouterr().err


def test_a_picture_shows_recorded_learned_and_counts(
    files: list[str], tmp_path: Path, capsys: Output
) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "delays.svg"
    assert main(["fit", *files, "--plot", str(out)]) == 0
    assert out.read_text().count("<path") > 10


def test_counts_alone_find_the_delay_of_a_wave() -> None:
    looks, delays = wave(3, failures=150)
    found = from_counts(looks)
    assert found is not None
    ages, shares = found
    for age, share in zip(ages, shares, strict=True):
        assert abs(share - sum(delay <= age for delay in delays) / 150) < 0.12
    assert from_counts(looks[:1]) is None
    assert from_counts(looks[:5]) is None
