"""Tokens and temporary keys, and calls that are denied."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from iotda_provider.emulator.common.errors import ApiError, ScenarioError
from iotda_provider.emulator.identity.iam import ACTIONS, Iam, IamSettings
from iotda_provider.emulator.identity.signatures import Key
from iotda_provider.emulator.web import routes

CALLS = [
    route.name
    for module in pkgutil.iter_modules(routes.__path__, f"{routes.__name__}.")
    for route in importlib.import_module(module.name).routes.routes
]


def test_of_tokens_and_keys_the_latest_thousand_are_known() -> None:
    iam = Iam(IamSettings(), Key("ak", "sk"), "p")
    tokens = [iam.token_for_identity("emulator-idp", "emulator.id.token")[0] for _ in range(1001)]
    for _ in range(1001):
        iam.key_for_agency(iam.metadata_token(60))

    assert [iam.knows([(b"x-auth-token", token.encode())]) for token in tokens[:2]] == [False, True]
    assert len(iam.given_secrets()) == 2 * 1000 + 2 * 1000


@pytest.mark.parametrize("call", CALLS)
def test_every_call_can_be_denied(call: str) -> None:
    denied = tuple(ACTIONS.values())
    with pytest.raises(ApiError) as refusal:
        Iam(IamSettings(denied=denied), Key("ak", "sk"), "p").permit(call)
    assert refusal.value.status == 403


def test_an_action_that_no_call_needs_can_not_be_denied() -> None:
    with pytest.raises(ScenarioError) as error:
        IamSettings.read({"denied": ["iotda:batchtask:stop"]}, "iam")
    assert "iam.denied[0] is needed by no call: 'iotda:batchtask:stop'; the" in str(error.value)
    assert "iotda:batchtasks:stop" in str(error.value)
