"""What tools make of an error, with the locals of its frames, shows nothing that is secret."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from iotda_provider.api.responses import Answer
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError

AUTH_TYPES = ["aksk", "token", "agency", "federation"]
#: Where a call may fail; nobody issues anything for an access key of one's own.
PLACES = [(auth_type, "iotda") for auth_type in AUTH_TYPES]
PLACES += [("token", "issuer"), ("agency", "issuer"), ("federation", "issuer")]
PLACES += [("federation", "keys")]
ID_TOKEN = "canary-id.token-canary.signature-canary"
SECRETS = ["canary-secret-key", "canary-security-token", "canary-password", ID_TOKEN]
SECRETS += ["canary-token", "canary-metadata-token", "canary-unscoped", "canary-proxy-password"]
KEYS = {
    "access": "canary-access-key",
    "secret": "canary-secret-key",
    "securitytoken": "canary-security-token",
    "expires_at": "2999-01-01T00:00:00.000000Z",
}


class Platform:
    """IoTDA, IAM and the metadata service in one; the last request to each is kept."""

    def __init__(self, reply: Any, fails_at: str, fault: Any) -> None:
        self.reply, self.fails_at, self.fault = reply, fails_at, fault
        self.signatures: set[str] = set()

    def __call__(self, seen: Any) -> Any:
        signed = seen.headers.get("Authorization", "")
        if "Signature=" in signed:
            self.signatures.add(signed.rpartition("Signature=")[2])
        place = self.place_of(seen.path)
        if place == self.fails_at or (self.fails_at == "issuer" and place != "iotda"):
            return self.fault(seen) if callable(self.fault) else self.fault
        return self.right(place)

    def place_of(self, path: str) -> str:
        for part, place in (
            ("/batchtasks", "iotda"),
            ("id-token", "unscoped"),
            ("securitytokens", "keys"),
            ("auth/tokens", "token"),
            ("api/token", "metadata token"),
            ("securitykey", "metadata"),
        ):
            if part in path:
                return place
        return "?"

    def right(self, place: str) -> Any:
        expires = {"token": {"expires_at": "2999-01-01T00:00:00.000000Z"}}
        if place == "token":
            return self.reply(201, expires, {"X-Subject-Token": "canary-token"})
        if place == "unscoped":
            return self.reply(201, expires, {"X-Subject-Token": "canary-unscoped"})
        if place == "metadata token":
            return self.reply(200, "canary-metadata-token")
        if place in ("keys", "metadata"):
            return self.reply(200, {"credential": KEYS})
        return self.reply(200, {"batchtasks": [], "page": {"count": 0}})


def echo(reply: Any, status: int) -> Any:
    """An answer that repeats the request, as a debugging proxy does."""
    return lambda seen: reply(status, {"batchtasks": [dict(seen.headers), seen.body]})


FAULTS = {
    "refused": lambda reply: reply(401, {"error_code": "APIGW.0301", "error_msg": "no"}),
    "forbidden": lambda reply: echo(reply, 403),
    "trouble": lambda reply: echo(reply, 503),
    "error in a success": lambda reply: reply(200, {"error_code": "X.1", "error_msg": "no"}),
    "nonsense": lambda reply: echo(reply, 200),
    "no JSON": lambda reply: reply(200, "{"),
    "closed": lambda reply: reply(fault="close"),
    "cut": lambda reply: reply(200, {"batchtasks": []}, fault="cut"),
    "timeout": lambda reply: reply(fault="hang"),
}


def connection_of(auth_type: str, folder: Path) -> dict[str, Any]:
    keys = {"login": "canary-access-key", "password": "canary-secret-key"}
    if auth_type == "aksk":
        return {**keys, "extra": {"security_token": "canary-security-token"}}
    if auth_type == "token":
        user = {"login": "user", "password": "canary-password"}
        return {**user, "extra": {"domain_name": "domain"}}
    if auth_type == "federation":
        file = folder / "id_token"
        file.write_text(ID_TOKEN)
        return {"extra": {"idp_id": "idp", "id_token_file": str(file)}}
    return {"extra": {}}


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """Of the error and of all that it was raised from, or in the midst of."""
    for one in (error.__cause__, error.__context__):
        if one is not None:
            yield from frames_of(one)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        yield frame


def texts_in(value: Any, depth: int = 0) -> Iterator[str]:
    """What a tool prints of a value: its repr, and of containers each part."""
    yield repr(value)
    if depth > 6:
        return
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from texts_in(part, depth + 1)


def shown_of(error: BaseException) -> str:
    texts = [str(error), repr(error), repr(vars(error))]
    texts += traceback.TracebackException.from_exception(error).format()
    for frame in frames_of(error):
        if frame.f_globals["__name__"] != __name__ and "conftest" not in frame.f_code.co_filename:
            for name, value in frame.f_locals.items():
                texts += [f"{frame.f_code.co_name}: {name} = {text}" for text in texts_in(value)]
    return "\n".join(texts)


@pytest.fixture
def reply(fake: Any) -> Any:
    return type(fake.answers[0])


@pytest.fixture
def connected(fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Sets the connection, whose host, IAM and metadata service are all the fake."""
    from iotda_provider.auth import authenticator

    def connect(auth_type: str, **extra: Any) -> None:
        authenticator._forget()
        connection = connection_of(auth_type, tmp_path)
        connection["extra"] |= {
            "auth_type": auth_type,
            "region": "cn-north-4",
            "project_id": "project-1",
            "iam_endpoint": fake.url,
            "metadata_endpoint": fake.url,
            "proxies": {"https": "http://me:canary-proxy-password@proxy.test:3128"},
            "max_attempts": 1,
            "timeout": 30.0,
            **extra,
        }
        connection |= {"conn_type": "iotda", "host": extra.pop("host", fake.url)}
        connection["extra"].pop("host", None)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(connection))

    return connect


def leaks(text: str, platform: Platform | None = None) -> list[str]:
    signatures = platform.signatures if platform else set()
    return [secret for secret in [*SECRETS, *signatures] if secret in text]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("auth_type", "where"), PLACES)
def test_no_frame_of_an_error_holds_a_secret(
    client: Any, fake: Any, reply: Any, connected: Any, auth_type: str, fault: str, where: str
) -> None:
    connected(auth_type, **({"timeout": 1.0} if fault == "timeout" else {}))
    platform = Platform(reply, where, FAULTS[fault](reply))
    fake.answer(platform)

    with pytest.raises(IoTDAError) as caught:
        client.list_batch_tasks(task_type="firmwareUpgrade")

    text = shown_of(caught.value)
    found = [line[:200] for line in text.splitlines() if leaks(line, platform)]
    assert found == []


@pytest.mark.parametrize("auth_type", AUTH_TYPES)
@pytest.mark.parametrize(
    "extra",
    [
        {"no_such_field": "canary-secret-key"},
        {"timeout": "never"},
        {"verify": "/no/such/bundle", "host": "https://iotda.test"},
        {"host": "http://iotda.test"},
        {
            "host": "http://iotda.test",
            "allow_http": True,
            "proxies": {"http": "https://me:canary-proxy-password@p.test"},
        },
        {"proxies": {"https": "socks5://me:canary-proxy-password@p.test"}},
        {"host": "https://127.0.0.1:1"},
    ],
    ids=str,
)
def test_no_frame_holds_a_secret_where_the_connection_is_wrong(
    client: Any, fake: Any, reply: Any, connected: Any, auth_type: str, extra: dict[str, Any]
) -> None:
    connected(auth_type, **extra)
    platform = Platform(reply, "", None)
    fake.answer(platform)

    with pytest.raises(IoTDAError) as caught:
        client.list_batch_tasks(task_type="firmwareUpgrade")

    text = shown_of(caught.value)
    assert [line[:200] for line in text.splitlines() if leaks(line, platform)] == []


@pytest.mark.parametrize("auth_type", AUTH_TYPES)
def test_what_run_returns_and_what_a_hook_knows_hold_no_secret_to_be_pickled(
    client: Any, fake: Any, reply: Any, connected: Any, auth_type: str
) -> None:
    connected(auth_type)
    platform = Platform(reply, "", None)
    fake.answer(platform)

    response = client.run("batchtasks")

    request = getattr(response, "request", None) or response.request_info
    assert leaks(repr(dict(getattr(response, "request_info", request).headers)), platform) == []
    assert "Signature=" not in repr(request.headers)
    if client.kind == "blocking":
        text = pickle.dumps(response).decode("latin-1")
        assert leaks(text, platform) == []
        assert pickle.loads(pickle.dumps(response)).json() == response.json()
    with pytest.raises(TypeError, match="holds secrets: it can't be pickled"):
        pickle.dumps(client.settings)
    with pytest.raises(TypeError, match="holds secrets: it can't be pickled"):
        pickle.dumps(Answer.of(200, [], b"", secrets=("canary-password",)))
    assert leaks(repr(client.settings)) == []


def test_a_refused_id_token_file_is_in_no_frame(
    client: Any, connected: Any, tmp_path: Path
) -> None:
    connected("federation")
    (tmp_path / "id_token").write_text("canary-password\n")
    with pytest.raises(IoTDAConfigError) as caught:
        client.list_batch_tasks(task_type="firmwareUpgrade")
    assert leaks(shown_of(caught.value)) == []


class TimesUp(BaseException):
    """As Airflow ends a task that takes too long."""


def failing(error: BaseException) -> Any:
    """A function of another library, whose frame holds what it was given."""
    space: dict[str, Any] = {"__name__": "elsewhere", "error": error}
    exec(
        "def fail(*given, **named):\n"
        "    held = given, [getattr(one, '__dict__', None) for one in given]\n"
        "    password = 'canary-password'\n"
        "    raise error\n"
        "async def fail_async(*given, **named):\n"
        "    fail(*given, **named)\n",
        space,
    )
    return space["fail"], space["fail_async"]


@pytest.mark.parametrize("kind", [RuntimeError, TimesUp])
@pytest.mark.parametrize("where", ["masker", "signer", "lookup"])
def test_no_frame_of_another_library_holds_a_secret(
    client: Any, connected: Any, monkeypatch: pytest.MonkeyPatch, where: str, kind: Any
) -> None:
    connected("aksk")
    client.test_connection()  # loads what is loaded at the first call
    client.wait_for(client.hook.close())
    # Of Airflow's errors not even the text is shown.
    text = "canary-password" if where == "lookup" and kind is RuntimeError else "no"
    fail, fail_async = failing(kind(text))
    for name, function in {
        "masker": {
            "iotda_provider.masking.airflow_masker.mask_secret": fail,
            "iotda_provider.masking.airflow_masker._mask_here": fail,
        },
        "signer": {
            "huaweicloudsdkcore.signer.signer.Signer.sign": fail,
            "huaweicloudsdkcore.signer.signer.DerivationAKSKSigner.sign": fail,
        },
        "lookup": {
            "iotda_provider.hooks.iotda.IoTDAHook.get_connection": fail,
            "iotda_provider.hooks.iotda_async.get_async_connection": fail_async,
        },
    }[where].items():
        monkeypatch.setattr(name, function)

    with pytest.raises(BaseException) as caught:
        client.list_batch_tasks(task_type="firmwareUpgrade")

    assert isinstance(caught.value, (kind, IoTDAError))
    assert [line[:200] for line in shown_of(caught.value).splitlines() if leaks(line)] == []


@pytest.mark.parametrize("fault", ["forbidden", "trouble", "closed"])
@pytest.mark.parametrize("auth_type", AUTH_TYPES)
def test_no_frame_of_a_task_holds_a_secret(
    fake: Any, reply: Any, connect: Any, connected: Any, auth_type: str, fault: str
) -> None:
    from iotda_provider.operators.batch_task import ListBatchTasksOperator

    connected(auth_type)
    platform = Platform(reply, "iotda", FAULTS[fault](reply))
    fake.answer(platform)
    operator = ListBatchTasksOperator(task_id="list", task_type="firmwareUpgrade")

    with pytest.raises(IoTDAError) as caught:
        operator.execute({"ti": SimpleNamespace(map_index=-1)})

    text = shown_of(caught.value)
    assert [line[:200] for line in text.splitlines() if leaks(line, platform)] == []
