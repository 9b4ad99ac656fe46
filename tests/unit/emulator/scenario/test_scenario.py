"""A wrong scenario is one line that names the field; a right one is taken as it is meant."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.scenario.distributions import Constant, Exponential
from iotda_provider.emulator.scenario.scenario import Scenario
from iotda_provider.emulator.scenario.switches import ErrorCodes
from iotda_provider.emulator.service.world import World


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ([], "the scenario must be an object, not a list"),
        ({"devices": "10"}, "devices must be a whole number, not the text '10'"),
        ({"devices": -1}, "devices must be from 0 to 1e+06, not -1"),
        ({"devices": True}, "devices must be a whole number, not true"),
        ({"failure_rate": 2}, "failure_rate must be from 0 to 1, not 2"),
        ({"failure_rate": float("nan")}, "failure_rate must be a number, not the number nan"),
        ({"failure_rate": 10**400}, "failure_rate is too large a number: 1000"),
        ({"failure_rates": 0.1}, "failure_rates is not a known field; did you mean failure_rate?"),
        ({"failure_rate": 0.8, "hang_rate": 0.3}, "hang_rate and failure_rate must not sum to"),
        ({"failure_mix": {}}, "failure_mix must be an object like"),
        ({"failure_mix": {"a|b": -1}}, "failure_mix.a|b must be at least 0, not -1"),
        ({"failure_mix": {"a|b": 0}}, "failure_mix must have a weight above 0"),
        ({"success_after": "soon"}, "success_after must be a number, not the text 'soon'"),
        ({"success_after": {"distribution": "zipf"}}, "whose distribution is one of constant"),
        ({"success_after": {"distribution": "uniform", "min": 3}}, "success_after.max is missing"),
        (
            {"success_after": {"distribution": "uniform", "min": 3, "max": 2}},
            "success_after.max must not be below min",
        ),
        (
            {"success_after": {"distribution": "constant", "value": 3, "mean": 2}},
            "success_after.mean is not a known field",
        ),
        ({"start_time": "tomorrow"}, "start_time is not a time like 20260101T000000Z: 'tomorrow'"),
        ({"segments": {}}, "segments must be a list, not an object"),
        ({"segments": [{}]}, "segments[0].share or count or group must be given, and only one"),
        ({"segments": [{"group": "x"}]}, "segments[0].group names no group: 'x'"),
        ({"segments": [{"share": 0.6}, {"share": 0.6}]}, "segments must not take more than"),
        ({"groups": [{}]}, "groups[0].name is missing"),
        ({"groups": [{"name": "a", "segment": "x"}]}, "groups[0].segment names no segment: 'x'"),
        (
            {"groups": [{"name": "a", "devices": [1]}]},
            "groups[0].devices[0] must be a text, not",
        ),
        ({"packages": [{"package_id": "a"}]}, "packages[0].version is missing"),
        ({"batch_tasks": [{"task_id": "xyz"}]}, "batch_tasks[0].task_id is not of the form"),
        ({"batch_tasks": [{"targets": 1001}]}, "batch_tasks[0].targets is more than the fleet has"),
        ({"batch_tasks": [{"targets": "some"}]}, 'batch_tasks[0].targets must be "all", a count'),
        ({"switches": {"empty_targets": "maybe"}}, "switches.empty_targets must be one of all"),
        ({"switches": {"error_codes": {"x": "400 A"}}}, "switches.error_codes.x is not a known"),
        ({"switches": {"error_codes": {"stop_refused": "A"}}}, "error_codes.stop_refused is not"),
    ],
)
def test_a_wrong_scenario_names_its_field(scenario: Any, message: str) -> None:
    with pytest.raises(ScenarioError) as error:
        Scenario.read(scenario)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"task_name": "with-hyphen"}, "batch_tasks[0] is refused: 400 IOTDA.000006"),
        ({"task_type": "createDevices"}, "document_source is required"),
    ],
)
def test_a_task_that_the_platform_would_refuse_is_refused(task: Any, message: str) -> None:
    scenario = Scenario.read({"batch_tasks": [{"targets": ["a"], **task}]})
    with pytest.raises(ScenarioError) as error:
        World(scenario, 0, 0.0)
    assert message in str(error.value)


def test_two_tasks_can_not_share_an_id() -> None:
    scenario = Scenario.read({"batch_tasks": [{"task_id": "a" * 24}] * 2})
    with pytest.raises(ScenarioError, match=r"batch_tasks\[1\].task_id is taken"):
        World(scenario, 0, 0.0)


def test_a_segment_takes_what_it_does_not_say_from_the_scenario() -> None:
    scenario = Scenario.read(
        {"failure_rate": 0.2, "fw_version": "3.1", "segments": [{"share": 1, "hang_rate": 0.1}]}
    )
    behaviour = scenario.segments[0]
    assert (behaviour.failure_rate, behaviour.hang_rate) == (0.2, 0.1)
    assert behaviour.fw_version == "3.1"


def test_the_contracts_scenario_is_read() -> None:
    scenario = Scenario.read(
        {
            "devices": 1000,
            "failure_rate": 0.1,
            "failure_mix": {"IOTDA.005010|install failed": 3, "IOTDA.014016|offline": 1},
            "success_after": 120,
            "failure_after": {"distribution": "exponential", "mean": 60, "max": 600},
            "batch_tasks": [{}],
        }
    )
    assert scenario.failures[1] == ("IOTDA.014016", "offline", 1.0)
    assert scenario.success_after == Constant(value=120.0)
    assert scenario.failure_after == Exponential(mean=60.0, max=600.0)
    assert scenario.batch_tasks[0].all_devices


def test_error_codes_can_be_chosen() -> None:
    switches = Scenario.read(
        {"switches": {"error_codes": {"stop_refused": "403 IOTDA.1"}}}
    ).switches
    assert switches.error_codes.stop_refused == (403, "IOTDA.1")
    assert switches.error_codes.retry_refused == ErrorCodes().retry_refused
