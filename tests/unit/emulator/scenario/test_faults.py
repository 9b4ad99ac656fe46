"""The rules of faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.scenario.faults import Fault, Faults, name_faults
from iotda_provider.emulator.scenario.scenario import Scenario


def faults(*rules: dict[str, Any], seed: int = 0, now: Callable[[], float] | None = None) -> Faults:
    made = Faults(Draws(seed), real=now or (lambda: 0.0))
    for fault in name_faults(Scenario.read({"faults": rules}).faults, made.next_id):
        made.add(fault)
    return made


def kinds(made: Faults, call: str = "show_batch_task", key: str = "a") -> list[str]:
    return [hit.fault.kind for hit in made.hits(call, key)]


def test_the_first_fatal_rule_decides_and_benign_ones_add_up() -> None:
    made = faults(
        {"kind": "latency", "seconds": 1},
        {"kind": "reset", "call": "stop_batch_task"},
        {"kind": "clock_skew", "seconds": 1},
        {"kind": "html"},
        {"kind": "lost"},
    )
    assert kinds(made) == ["latency", "clock_skew", "html"]
    assert kinds(made, "stop_batch_task") == ["latency", "reset"]


def test_a_rule_by_count_and_after() -> None:
    made = faults({"kind": "reset", "after": 1, "count": 2, "call": ["show_*", "list_*"]})
    hits = [bool(kinds(made, call)) for call in ("show_x", "stop_x", "list_x", "show_x", "show_x")]
    assert hits == [False, False, True, True, False]


def test_a_rule_by_probability_is_the_same_for_a_seed() -> None:
    def run(seed: int) -> list[bool]:
        made = faults({"kind": "reset", "probability": 0.3}, seed=seed)
        return [bool(kinds(made)) for _ in range(500)]

    assert run(1) == run(1) != run(2)
    assert 100 < sum(run(1)) < 200


def test_a_rate_limit_is_kept_for_each_key() -> None:
    moment = [0.0]
    made = faults({"kind": "rate_limit", "per_second": 2, "burst": 2}, now=lambda: moment[0])
    assert [kinds(made, key="a") for _ in range(3)] == [[], [], ["rate_limit"]]
    assert kinds(made, key="b") == []
    [hit] = made.hits("x", "a")
    assert hit.wait == pytest.approx(0.5)
    moment[0] = 0.5
    assert kinds(made, key="a") == []
    assert kinds(made, key="a") == ["rate_limit"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({}, "faults[0].kind is missing"),
        ({"kind": "explode"}, "faults[0].kind must be one of latency, clock_skew"),
        ({"kind": "reset", "calls": "x"}, "faults[0].calls is not a known field"),
        ({"kind": "reset", "call": 5}, "faults[0].call must be the name of a call"),
        ({"kind": "reset", "call": []}, "faults[0].call must name at least one call"),
        (
            {"kind": "reset", "call": ["*", "stop_batchtask"]},
            "faults[0].call matches no call: 'stop_batchtask'; the calls are list_batch_tasks,",
        ),
        (
            {"kind": "status", "headers": {"a": 1}},
            "faults[0].headers.a must be a text, not",
        ),
        ({"kind": "latency", "seconds": -1}, "faults[0].seconds must be at least 0"),
        ({"kind": "status", "status": 99}, "faults[0].status must be from 200 to 599"),
    ],
)
def test_a_wrong_rule_names_its_field(fault: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as error:
        faults(fault)
    assert message in str(error.value)


def test_two_rules_can_not_share_an_id() -> None:
    rule = {"kind": "reset", "id": "x"}
    with pytest.raises(ScenarioError, match="is taken"):
        faults(rule, rule)
    assert Fault.read(rule).named("y").id == "x"
