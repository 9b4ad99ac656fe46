"""The command ``iotda-guard trial``."""

from __future__ import annotations

import json

import pytest

from iotda_provider.guards.lab.cli import main
from iotda_provider.trials import DeviceTrial, Group

Output = pytest.CaptureFixture[str]


def test_trial_answers_by_hand(capsys: Output) -> None:
    assert main(["trial", "--treated", "12/100", "--control", "30/1000"]) == 0
    assert capsys.readouterr().out == (
        "12 of 100 updated devices are offline, 30 of 1,000 others: worse, P = 0.0002 "
        "(it stops at 0.0061).\n"
    )


def test_trial_takes_every_number_that_the_answer_hangs_on(capsys: Output) -> None:
    counts = ["--treated", "5/200", "--treated-unknown", "3", "--control", "18/600"]
    more = ["--control-unknown", "2", "--updated", "0.9", "--look", "2", "--gates", "3"]
    bounds = ["--margin", "0.1", "--false-stop", "0.02", "--false-go", "0.1"]
    assert main(["trial", *counts, *more, *bounds, "--method", "product", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    trial = DeviceTrial(margin=0.1, false_stop=0.02, false_go=0.1, method="product")
    treated, control = Group(5, 192, 3), Group(18, 580, 2)
    answer = trial.judge(treated, control, look=2, gates=3, updated=0.9)
    assert said == answer.to_json()
    assert said["decision"] == "no worse"


@pytest.mark.parametrize(
    ("treated", "more"),
    [
        ("12", ()),
        ("a/100", ()),
        ("12/100/3", ()),
        ("101/100", ()),
        ("-1/100", ()),
        ("99/100", ("--treated-unknown", "2")),
        ("5/100", ("--treated-unknown", "-1")),
        ("5/2000000", ()),
        ("5/100", ("--look", "0")),
        ("5/100", ("--margin", "5")),
        ("5/100", ("--updated", "nan")),
    ],
)
def test_trial_refuses_in_one_line(treated: str, more: tuple[str, ...], capsys: Output) -> None:
    assert main(["trial", f"--treated={treated}", "--control", "30/1000", *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("iotda-guard trial: ")
    assert error.count("\n") == 1
