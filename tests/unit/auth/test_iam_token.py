"""The IAM token: asked for once, shared, renewed in time and after a rejection."""

from __future__ import annotations

import json

import pytest
import requests

from iotda_provider.auth.authenticator import authenticator_for
from iotda_provider.exceptions import IoTDAConfigError

IAM = "https://iam.cn-north-4.myhuaweicloud.com"
METADATA = "http://169.254.169.254"


def test_token_is_asked_for_once_and_sent_instead_of_a_signature(
    web, settings, outgoing, issue_tokens
):
    iam = issue_tokens(web)
    authenticator = authenticator_for(settings("token"))
    assert not authenticator.is_ready()

    authenticator.prepare()
    authenticator.prepare()
    headers = authenticator.authenticate(outgoing(Accept="x"))

    assert headers["X-Auth-Token"] == "token-1"
    assert headers["Accept"] == "x"
    assert "Authorization" not in headers
    assert iam.call_count == 1
    assert json.loads(iam.last_request.body)["auth"] == {
        "identity": {
            "methods": ["password"],
            "password": {
                "user": {
                    "name": "somebody",
                    "password": "pass-word-1",
                    "domain": {"name": "the account"},
                }
            },
        },
        "scope": {"project": {"id": "project-1"}},
    }


@pytest.mark.parametrize("project", ["..", "a/../../b", "a\r\nX-Evil: 1", "\xe9", "", 5])
def test_project_of_a_token_that_could_leave_its_place_is_none(
    web, project, settings, issue_tokens
):
    issue_tokens(web, project=project)
    authenticator = authenticator_for(settings("token", project_id=None))
    authenticator.prepare()

    with pytest.raises(IoTDAConfigError, match="No project id"):
        _ = authenticator.project_id


def test_token_without_a_project_is_for_the_regions_and_says_which_that_is(
    web, settings, issue_tokens
):
    iam = issue_tokens(web, project="the-regions")
    authenticator = authenticator_for(settings("token", project_id=None))
    authenticator.prepare()

    assert authenticator.project_id == "the-regions"
    scope = json.loads(iam.last_request.body)["auth"]["scope"]
    assert scope == {"project": {"name": "cn-north-4"}}


def test_token_is_shared_by_all_that_use_the_connection(web, settings, issue_tokens):
    iam = issue_tokens(web)
    for _ in range(5):
        authenticator = authenticator_for(settings("token"))
        if not authenticator.is_ready():
            authenticator.prepare()

    assert iam.call_count == 1


@pytest.mark.parametrize(
    "other",
    [
        {"password": "pass-word-2"},
        {"login": "another"},
        {"domain_name": "another"},
        {"project_id": "project-2"},
        {"iam_endpoint": "https://iam.example.com"},
        {"base_url": "https://iotda.example.com"},
    ],
)
def test_token_is_not_shared_with_another_connection(other, settings):
    assert authenticator_for(settings("token")) is not authenticator_for(settings("token", **other))


def test_token_is_renewed_before_it_expires(web, settings, outgoing, issue_tokens):
    issue_tokens(web, lifetime=1)
    authenticator = authenticator_for(settings("token"))
    clock = authenticator._token
    now = clock._now()
    clock._now = lambda: now
    authenticator.prepare()
    assert authenticator.is_ready()

    clock._now = lambda: now + 0.95
    assert not authenticator.is_ready()
    authenticator.prepare()

    assert authenticator.authenticate(outgoing())["X-Auth-Token"] == "token-2"


def test_tokens_life_is_told_by_iams_clock_alone(web, settings, in_seconds):
    """A clock that is a day wrong neither wears out IAM nor sends expired tokens."""
    for offset in (-86_400, 86_400):
        facts = {"issued_at": in_seconds(offset), "expires_at": in_seconds(offset + 3600)}
        web.post(
            f"{IAM}/v3/auth/tokens",
            status_code=201,
            headers={"X-Subject-Token": "token-1"},
            json={"token": facts},
        )
        authenticator = authenticator_for(settings("token", domain_name=str(offset)))
        authenticator.prepare()

        assert authenticator.is_ready()
        now = authenticator._token._now()
        authenticator._token._now = lambda now=now: now + 3400
        assert not authenticator.is_ready()


def test_rejected_token_is_renewed_once_by_however_many_saw_it_rejected(
    web, settings, outgoing, issue_tokens
):
    iam = issue_tokens(web)
    authenticator = authenticator_for(settings("token"))
    authenticator.prepare()
    first = authenticator.authenticate(outgoing())

    assert authenticator.rejected(first)
    assert not authenticator.is_ready()
    authenticator.prepare()
    assert authenticator.rejected(first), "the second to see it gets the new one"
    assert authenticator.is_ready(), "which is not thrown away for it"
    assert authenticator.authenticate(outgoing())["X-Auth-Token"] == "token-2"
    assert iam.call_count == 2


def test_rejection_is_recognised_in_the_headers_as_they_were_sent(
    web, settings, outgoing, issue_tokens
):
    issue_tokens(web)
    authenticator = authenticator_for(settings("token"))
    authenticator.prepare()
    sent = requests.structures.CaseInsensitiveDict(authenticator.authenticate(outgoing()))
    assert authenticator.rejected({name.lower(): text for name, text in sent.items()})
    assert not authenticator.is_ready()
