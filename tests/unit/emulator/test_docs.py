"""What docs/emulator.md lists is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from iotda_provider.emulator import __main__
from iotda_provider.emulator.common import strict_json
from iotda_provider.emulator.identity import iam
from iotda_provider.emulator.scenario import faults, scenario, switches
from iotda_provider.emulator.service import request_models
from iotda_provider.emulator.web import broken_answers, control, gateway, iam_routes
from iotda_provider.models import json_text

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "emulator.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##+ )", PAGE + "\n## end", re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


@pytest.mark.parametrize("field", switches.Switches.model_fields)
def test_every_switch_is_listed(field: str) -> None:
    assert f"`{field}`" in section("Switches")


@pytest.mark.parametrize(("name", "default"), list(switches.ErrorCodes()))
def test_every_refusal_is_listed_with_its_code(name: str, default: tuple[int, str]) -> None:
    [row] = [line for line in section("Switches").splitlines() if f"`{name}`" in line]
    assert " ".join(map(str, default)) in row


@pytest.mark.parametrize("kind", faults.KINDS)
def test_every_fault_is_listed(kind: str) -> None:
    assert f"| `{kind}` |" in section("Faults")


@pytest.mark.parametrize(
    "field",
    [
        field
        for kind in (
            *(scenario.Scenario, scenario.Segment, scenario.Group),
            *(scenario.Package, scenario.Outage),
        )
        for field in kind.model_fields
    ],
)
def test_every_field_of_a_scenario_is_listed(field: str) -> None:
    assert f"`{field}`" in section("Scenarios")


@pytest.mark.parametrize("field", iam.IamSettings.model_fields)
def test_every_field_of_iam_is_listed(field: str) -> None:
    assert f"`{field}`" in section("IAM")


def test_control_calls_are_listed_under_their_prefix() -> None:
    assert control.CONTROL_KEY in section("Control calls")
    assert section("Control calls").count(control.CONTROL_PREFIX) >= 6


@pytest.mark.parametrize("name", ["AK", "SK", "SECURITY_TOKEN", "CONTROL_KEY"])
def test_every_key_of_the_environment_is_listed(name: str) -> None:
    assert f"`{__main__.ENVIRONMENT}{name}`" in section("As a command")


@pytest.mark.parametrize(
    ("title", "what"),
    [
        ("Inferred", f"{strict_json.MAX_DEPTH} levels"),
        ("Inferred", f"{json_text.MAX_DIGITS} digits"),
        ("Inferred", f"{request_models.MAX_DOCUMENT:,} characters"),
        ("Inferred", f"{request_models.MAX_SHADOW:,}"),
        ("Inferred", f"{request_models.MAX_GROUP_IDS:,} groups"),
        ("Who may talk to it", f"{iam_routes.MAX_BODY // 1024} KiB"),
        ("Who may talk to it", f"{gateway.MAX_BODY // 1024 // 1024} MiB"),
        ("Who may talk to it", f"head has at most {broken_answers.MAX_HEAD // 1024} KiB"),
        ("Documented", scenario.DEFAULT_APP_ID),
    ],
)
def test_limits_are_those_of_the_code(title: str, what: str) -> None:
    assert what in " ".join(section(title).split())


@pytest.mark.parametrize("word", request_models._LISTED_TYPES + request_models._LISTED_STATUSES)
def test_every_word_that_only_lists_know_is_listed(word: str) -> None:
    assert f"`{word}`" in section("Inferred")


def test_the_scenario_of_the_first_example_is_one() -> None:
    [example] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert scenario.Scenario.read(json.loads(example)).devices == 1000
