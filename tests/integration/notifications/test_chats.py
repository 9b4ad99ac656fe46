"""Each line of the table in docs/howto/tell-people.md: the request that it sends, and its body.

The shapes are those of the vendors' documentation of their webhooks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from iotda_provider.notifications import in_triggerer, in_worker
from iotda_provider.notifications.audience import About, Audience
from iotda_provider.notifications.recorded import from_json, record
from iotda_provider.rollout_guard.alerts import Alert

LOG = logging.getLogger("iotda_provider.test")
GUIDE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "tell-people.md"
LINES: dict[str, tuple[str, str]] = {
    row[0]: (row[2].strip("`"), row[3].strip("`"))
    for line in GUIDE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "_conn_id=" in line
    for row in [[cell.strip() for cell in line.strip("|").split(" | ")]]
}
SECRETS = {
    "dingtalk://TOKEN": f"dingtalk://{'a' * 64}",
    "feishu://TOKEN": f"feishu://{'b' * 36}",
    'KEY"': 'abcd1234-ab12-ab12-ab12-abcdefabcdef"',
    "HOST": "prod-1.example.logic.azure.com",
    "WORKFLOW": "c" * 32,
    "SIGNATURE": "d" * 43,
    "INTEGRATION_KEY@API_KEY": f"{'e' * 32}@{'f' * 20}",
}
SENTENCE = "16 of 260 devices failed (6.2 %; 2 % tolerated)."
LINK = "https://airflow.example.com/plugin/rollouts#/run/d/r"
BEGINS = f"STOPPED: {SENTENCE} https://airflow.example.com/"
Send = Callable[[str], None]


def test_the_table_has_all_of_them() -> None:
    assert set(LINES) == {
        *("DingTalk", "Feishu", "WeCom", "Slack", "Teams", "e-mail", "PagerDuty"),
    }


@pytest.fixture(params=["worker", "triggerer"])
def send(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Tells of a stop by the line of a chat, as a guard does in a worker or in a triggerer."""
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example.com")

    def tell(chat: str, **changes: Any) -> None:
        connection, line = LINES[chat]
        for word, secret in SECRETS.items():
            connection = connection.replace(word, secret)
        names = notifiers_of_providers()
        (conn_id,) = re.findall(r'_conn_id="(\w+)"', line)
        known = json.dumps({**json.loads(connection), **changes})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", known)
        recorded = record([eval(line, names)], importable=True)
        about = About("d", "r", "guard", -1, 1, "iotda_default")
        if request.param == "triggerer":
            recorded = from_json(json.loads(json.dumps([one.to_json() for one in recorded])))
        audience = Audience(recorded, None, about)
        event = audience.event(Alert("stopped", SENTENCE, {"batch_task_ids": ["a1"]}).to_json())
        if request.param == "triggerer":
            asyncio.run(in_triggerer.tell(audience, event, LOG))
        else:
            in_worker.tell(audience, event, LOG)

    return tell


def notifiers_of_providers() -> dict[str, Any]:
    names: dict[str, Any] = {"SmtpNotifier": SmtpNotifier}
    apprise = pytest.importorskip("airflow.providers.apprise.notifications.apprise")
    slack = pytest.importorskip("airflow.providers.slack.notifications.slack_webhook")
    return names | {
        "AppriseNotifier": apprise.AppriseNotifier,
        "SlackWebhookNotifier": slack.SlackWebhookNotifier,
    }


def posted(mock: Any) -> tuple[str, dict[str, Any], dict[str, list[str]]]:
    """The address without its query, the body, and the query of the only request."""
    (request,) = mock.request_history
    assert request.method == "POST"
    url = urlsplit(request.url)
    return f"{url.scheme}://{url.netloc}{url.path}", request.json(), parse_qs(url.query)


def test_dingtalk(send: Send, requests_mock: Any) -> None:
    requests_mock.post("https://oapi.dingtalk.com/robot/send", json={"errcode": 0})
    send("DingTalk")
    url, body, query = posted(requests_mock)
    assert url == "https://oapi.dingtalk.com/robot/send"
    assert query["access_token"] == ["a" * 64]
    assert body["msgtype"] == "text"
    assert body["text"]["content"].startswith(BEGINS)
    assert "rollout" in body["text"]["content"]  # the robot's keyword


def test_feishu(send: Send, requests_mock: Any) -> None:
    requests_mock.post(re.compile("https://open.feishu.cn/"), json={"code": 0})
    send("Feishu")
    url, body, _ = posted(requests_mock)
    assert url.rstrip("/") == f"https://open.feishu.cn/open-apis/bot/v2/hook/{'b' * 36}"
    assert (body["msg_type"], set(body["content"])) == ("text", {"text"})
    assert body["content"]["text"].startswith(BEGINS)


def test_wecom(send: Send, requests_mock: Any) -> None:
    requests_mock.post("https://qyapi.weixin.qq.com/cgi-bin/webhook/send", json={"errcode": 0})
    send("WeCom")
    _, body, query = posted(requests_mock)
    assert query == {"key": ["abcd1234-ab12-ab12-ab12-abcdefabcdef"]}
    assert body["msgtype"] == "text"
    assert body["text"]["content"].startswith(BEGINS)
    assert len(body["text"]["content"].encode()) <= 2048  # WeCom's limit


def test_teams(send: Send, requests_mock: Any) -> None:
    requests_mock.post(re.compile("https://prod-1.example.logic.azure.com"), status_code=202)
    send("Teams")
    url, body, query = posted(requests_mock)
    assert url.endswith(f"/workflows/{'c' * 32}/triggers/manual/paths/invoke")
    assert query["sig"] == ["d" * 43]
    (card,) = body["attachments"]
    assert body["type"] == "message"
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["type"] == "AdaptiveCard"
    texts = [part["text"] for part in card["content"]["body"] if part["type"] == "TextBlock"]
    assert texts[0].startswith(BEGINS)


def test_pagerduty(send: Send, requests_mock: Any) -> None:
    requests_mock.post("https://events.pagerduty.com/v2/enqueue", status_code=202, json={})
    send("PagerDuty")
    _, body, _ = posted(requests_mock)
    assert (body["routing_key"], body["event_action"]) == ("e" * 32, "trigger")
    payload = body["payload"]
    assert payload["summary"].startswith(BEGINS)
    assert len(payload["summary"]) <= 1024  # PagerDuty's limit
    assert payload["severity"] in ("critical", "error", "warning", "info")
    assert payload["severity"] == "critical"
    assert payload["source"] == "airflow"


def test_slack(send: Send) -> None:
    got: list[tuple[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        send("Slack", host=f"http://127.0.0.1:{server.server_port}/services")
        server.shutdown()

    ((path, body),) = got
    assert path == "/services/T000/B000/TOKEN"
    assert body["text"].startswith(BEGINS)


class Mailbox(socketserver.StreamRequestHandler):
    """As much of a mail server as a client needs."""

    mails: list[bytes] = []

    def handle(self) -> None:
        def say(line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        say("220 here")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"EHLO":
                say("250-here")
                say("250 AUTH PLAIN")
            elif word == b"AUTH":
                say("235 yes")
            elif word == b"DATA":
                say("354 go on")
                mail = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    mail += line
                self.mails.append(mail)
                say("250 taken")
            elif word == b"QUIT":
                say("221 bye")
                return
            else:
                say("250 yes")


@pytest.fixture
def mail_port() -> Iterator[int]:
    Mailbox.mails = []
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_e_mail(send: Send, mail_port: int) -> None:
    plain = {"disable_ssl": True, "disable_tls": True}
    nobody = {"login": None, "password": None}
    send("e-mail", host="127.0.0.1", port=mail_port, extra=plain, **nobody)

    (mail,) = (message_from_bytes(one, policy=policy.default) for one in Mailbox.mails)
    assert (mail["From"], mail["To"]) == ("airflow@example.com", "oncall@example.com")
    assert mail["Subject"] == "IoTDA: stopped"
    part = mail.get_body(("html",))
    assert part is not None
    assert part.get_content().startswith(BEGINS)
