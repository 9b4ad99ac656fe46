"""The table, the JSON and the exit code of an examination."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from iotda_provider.doctor.findings import Finding, Report, Result


def report(*results: Result, detail: str = "as it should be") -> Report:
    rows: Sequence[Finding] = [
        Finding("facts", f"check {n}", result, detail) for n, result in enumerate(results)
    ]
    return Report("iotda_default", rows)


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ((), 0),
        ((Result.OK, Result.WARNING, Result.UNKNOWN), 0),
        ((Result.OK, Result.FAILS), 1),
        ((Result.FAILS, Result.FAILS), 1),
    ],
)
def test_the_exit_code_says_whether_something_would_fail(
    results: tuple[Result, ...], code: int
) -> None:
    assert report(*results).exit_code == code


def test_each_finding_has_one_line_where_no_width_is_known() -> None:
    lines = report(Result.OK, Result.FAILS, detail="long " * 300).table().splitlines()

    (first,) = [line for line in lines if line.startswith("  ok ")]
    (second,) = [line for line in lines if line.startswith("  FAILS ")]
    assert len(first) < 800
    assert "check 1" in second
    assert lines[-1].startswith("FAILS: 1 of 2 checks: check 1.")


def test_details_go_on_below_in_a_terminal() -> None:
    *lines, _ = report(Result.OK, detail="word " * 60).table(80).splitlines()

    assert max(map(len, lines)) <= 80
    assert sum("word" in line for line in lines) > 2


def test_what_a_platform_says_forges_no_row() -> None:
    table = report(Result.FAILS, detail="bad\n  ok       check 7  forged\x1b[2K").table()

    assert "\x1b" not in table
    assert not [line for line in table.splitlines() if line.startswith("  ok ")]


def test_the_json_has_the_same() -> None:
    found = json.loads(json.dumps(report(Result.OK, Result.FAILS).to_dict()))

    assert (found["connection"], found["fails"]) == ("iotda_default", 1)
    assert found["findings"][1] == {
        "part": "facts",
        "check": "check 1",
        "result": "FAILS",
        "detail": "as it should be",
    }
