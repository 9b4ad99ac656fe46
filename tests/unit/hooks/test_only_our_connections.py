"""Whoever may choose a connection gets at those of type iotda only, and at no secret of others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.hooks.iotda import IoTDAAsyncHook, IoTDAHook
from iotda_provider.operators.batch_task import StopBatchTaskOperator

SECRET = "s3cret-of-another"
EXTRA = {"region": "cn-north-4", "project_id": "p"}
GOOD = {"conn_type": "iotda", "login": "AK", "password": "SK", "extra": EXTRA}
#: The same secret in each place of a connection to something else.
FOREIGN = [
    {"host": f"https://hooks.example/{SECRET}", "extra": EXTRA},
    {"host": SECRET, "extra": EXTRA},
    {"login": "user", "password": SECRET, "host": "h.example", "extra": EXTRA},
    {"schema": SECRET, "host": "h.example", "extra": EXTRA},
    {"host": "h.example", "extra": {**EXTRA, SECRET: "x"}},
    {"host": "h.example", "extra": {"timeout": SECRET}},
    {"host": "h.example", "extra": SECRET},
]


def refusals(conn_id: Any, **overrides: Any) -> list[str]:
    """What both hooks say instead of connecting, in one line each."""
    with pytest.raises(IoTDAConfigError) as blocking, IoTDAHook(conn_id, **overrides) as hook:
        _ = hook.settings

    async def settings() -> None:
        async with IoTDAAsyncHook(conn_id, **overrides) as hook:
            await hook.get_settings()

    with pytest.raises(IoTDAConfigError) as asynchronous:
        asyncio.run(settings())
    said = [str(blocking.value), str(asynchronous.value)]
    assert all(len(text.splitlines()) == 1 for text in said)
    return said


@pytest.mark.parametrize("fields", FOREIGN)
@pytest.mark.parametrize("kind", ["http", "slackwebhook", "IoTDA", "", None, "x" * 300, "a\nb"])
def test_a_connection_of_another_type_is_not_read(monkeypatch, kind, fields):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": kind, **fields}))
    for said in refusals("other"):
        assert "nothing of it was read" in said
        assert SECRET not in said


def test_a_connection_without_a_type_is_not_read(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(FOREIGN[0]))
    for said in refusals("other"):
        assert "set its Connection Type" in said
        assert SECRET not in said


@pytest.mark.parametrize("scheme", ["http", "https", "mysql", "slack"])
def test_a_uri_of_another_type_is_not_read(monkeypatch, scheme):
    uri = f"{scheme}://AK:{SECRET}@h.example/{SECRET}?region=cn-north-4&project_id=p&x={SECRET}"
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", uri)
    for said in refusals("other"):
        assert f"of type '{scheme}'" in said
        assert SECRET not in said


@pytest.mark.parametrize(
    "value", ["iotda://AK:SK@h.example?region=cn-north-4&project_id=p", json.dumps(GOOD)]
)
def test_ours_is_read_in_every_notation(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_CONN_OURS.1", value)
    with IoTDAHook("ours.1") as hook:
        assert hook.settings.project_id == "p"


@pytest.mark.parametrize(
    "host",
    [
        f"h.example/{SECRET}",
        f"h.example?{SECRET}",
        f"h.example#{SECRET}",
        f"https://h.example:443/{SECRET}",
        f"{SECRET}://h.example",
        f"https://user:{SECRET}@h.example",
        f"h.example:{SECRET}",
        f"h.example/services/{SECRET}/x",
    ],
)
def test_no_error_quotes_what_stands_around_a_host(monkeypatch, host):
    for fields in ({"host": host}, {"host": "h.example", "extra": {**EXTRA, "iam_endpoint": host}}):
        monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps({**GOOD, **fields}))
        for said in refusals("ours"):
            assert SECRET not in said.replace("s3cret-of-another", SECRET)


@pytest.mark.parametrize(
    "conn_id",
    [
        "../../other/secret",
        "..",
        "a/b",
        "a\\b",
        "a..b",
        "/etc",
        "a b",
        "a\n",
        "a%2fb",
        "",
        "é",
        ".a",
        "-a",
        "a" * 201,
        None,
        5,
        1.5,
        True,
        b"a",
        ["iotda_default"],
        {"a": 1},
        {1, 2},
    ],
)
def test_an_id_that_might_lead_elsewhere_is_not_looked_up(monkeypatch, conn_id):
    asked: list[Any] = []
    monkeypatch.setattr(IoTDAHook, "get_connection", asked.append)
    monkeypatch.setattr(
        "iotda_provider.hooks.iotda_async.get_async_connection", lambda *a, **k: asked.append(a)
    )
    for said in refusals(conn_id):
        assert said.startswith("iotda_conn_id must be")
        assert len(said) < 400
    assert asked == []


@pytest.mark.parametrize("name", ["project_id", "instance_id", "region"])
@pytest.mark.parametrize(
    "value", ["a/../b", "a b", "a" * 129, 12, 1.5, True, ["a"], {"a": 1}, b"a"]
)
def test_what_overrides_the_connection_is_bounded(monkeypatch, name, value):
    monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(GOOD))
    for said in refusals("ours", **{name: value}):
        assert said.startswith(f"{name} is not a valid ")
        assert len(said) < 400


def test_an_operator_asks_for_nothing_of_another_type_either(monkeypatch, run):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http", **FOREIGN[0]}))
    operator = StopBatchTaskOperator(task_id="t", batch_task_id="ab", iotda_conn_id="other")
    with pytest.raises(IoTDAConfigError, match="nothing of it was read") as refusal:
        run(operator)
    assert SECRET not in str(refusal.value)
