"""Tokens and temporary keys."""

from __future__ import annotations

from iotda_provider.emulator.identity.iam import Iam, IamSettings
from iotda_provider.emulator.identity.signatures import Key


def test_of_tokens_and_keys_the_latest_thousand_are_known() -> None:
    iam = Iam(IamSettings(), Key("ak", "sk"), "p")
    tokens = [iam.token_for_identity("emulator-idp", "emulator.id.token")[0] for _ in range(1001)]
    for _ in range(1001):
        iam.key_for_agency(iam.metadata_token(60))

    assert [iam.knows([(b"x-auth-token", token.encode())]) for token in tokens[:2]] == [False, True]
    assert len(iam.given_secrets()) == 2 * 1000 + 2 * 1000
