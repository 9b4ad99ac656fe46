"""What a release may say of its trial, and what is refused before anything is created."""

from __future__ import annotations

import json
from typing import Any

import pytest

from iotda_provider.operators.release.trial import trial_parameter
from iotda_provider.release.preflight import ReleaseParameters
from iotda_provider.release.trial_job import TrialPlan
from iotda_provider.trials import DeviceTrial
from iotda_provider.trials.device_trial import as_trial

BY_GROUP = "group:e495cf17-ff79-4294-8f64-4d367919d665, 100%"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("off", None),
        ("can stop", DeviceTrial()),
        ("required", DeviceTrial(required=True)),
        (DeviceTrial(margin=0.1), DeviceTrial(margin=0.1)),
        ({"required": True, "margin": 0.1}, DeviceTrial(required=True, margin=0.1)),
    ],
)
def test_a_trial_is_given_in_words_or_as_an_object(value: Any, expected: Any) -> None:
    assert as_trial(value) == expected


@pytest.mark.parametrize("value", ["always", 1, True, ["required"], {"margins": 1}, {"margin": 2}])
def test_anything_else_is_refused_and_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"trial|margin"):
        as_trial(value)
    [fault] = ReleaseParameters({"trial": value}, 6).faults
    assert fault.startswith("trial")


def test_a_required_trial_and_waves_by_groups_exclude_each_other() -> None:
    [fault] = ReleaseParameters({"waves": BY_GROUP, "trial": "required"}, 6).faults
    assert fault.startswith("trial: it is required, and waves by device groups are not drawn")
    assert not ReleaseParameters({"waves": BY_GROUP, "trial": "can stop"}, 6).faults
    assert not ReleaseParameters({"waves": "5%, 100%", "trial": "required"}, 6).faults


def test_a_template_field_is_plain_and_a_function_stays_beside_it() -> None:
    def metric(ids: Any) -> dict[str, bool]:
        return {}

    field, function = trial_parameter(DeviceTrial(metric=metric, margin=0.1))
    assert json.loads(json.dumps(field))["margin"] == 0.1
    assert function is metric
    assert trial_parameter("{{ params.trial }}") == ("{{ params.trial }}", None)
    assert trial_parameter("required") == (DeviceTrial(required=True).to_json(), None)
    assert trial_parameter("off") == (None, None)


@pytest.mark.parametrize("data", [None, [], {"record": 1}, {"off": 5}, {"offline": -1}, {"new": 1}])
def test_a_plan_that_was_changed_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="trial"):
        TrialPlan.from_json(data)
