"""Secrets in texts that come from elsewhere, in whatever spelling, whole or cut off."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.redaction import redact

TOKEN = "MIIabc+/=" * 20


@pytest.mark.parametrize("spell", [str, quote, lambda text: json.dumps(text)[1:-1]])
def test_a_secret_is_gone_in_every_spelling(spell) -> None:
    assert redact(f"got {spell(TOKEN)} back", [TOKEN]) == "got *** back"


@pytest.mark.parametrize("length", [16, 50, 100, 179])
def test_one_that_was_cut_off_is_gone_too(length: int) -> None:
    text = f"Got more than 8190 bytes when reading: b'X-Auth-Token: {TOKEN[:length]}'."
    assert redact(text, [TOKEN]) == "Got more than 8190 bytes when reading: b'X-Auth-Token: ***'."


def test_words_that_a_header_begins_with_are_no_secret() -> None:
    header = "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=" + "a0" * 32
    text = "The algorithm SDK-HMAC-SHA256 is not supported."
    assert redact(text, [header]) == text


@given(st.text(), st.lists(st.text(min_size=5, max_size=60), max_size=3))
def test_no_secret_is_left(text: str, secrets: list[str]) -> None:
    told = redact(" ".join([text, *secrets]), secrets)
    # What a mask itself, or its neighbours, happen to spell is no leak.
    assert all(secret not in told for secret in secrets if "*" not in secret and " " not in secret)
