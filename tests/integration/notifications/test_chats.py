"""Each line of the table in docs/howto/tell-people.md: the request that it sends, and its body.

The shapes and the limits are those of the vendors' documentation of their webhooks:
https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages (its error 460101),
https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot,
https://developer.work.weixin.qq.com/document/path/91770,
https://docs.slack.dev/reference/methods/chat.postMessage (truncating),
https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook,
https://developer.pagerduty.com/docs/send-alert-event (payload.summary), and RFC 5322, 2.1.1.
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
LINES: dict[str, tuple[str, str, str]] = {
    row[0]: (row[2].strip("`"), row[3].strip("`"), row[4])
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
BEGINS = f"STOPPED: {SENTENCE} https://airflow.example.com/"
ABOUT = About("d", "r", "guard", -1, 1, "iotda_default")
# The longest that there can be: ids as long as Airflow allows, and reasons in Chinese.
LONG = "Devices failed: " + "\u5347\u7ea7\u5931\u8d25\uff1a\u7535\u91cf\u4e0d\u8db3\uff1b" * 1000
LONG_ABOUT = About("d" * 250, "r" * 250, "t" * 250, -1, 1, "c" * 250)
Send = Callable[..., None]


def test_the_table_has_all_of_them() -> None:
    assert set(LINES) == {
        *("DingTalk", "Feishu", "WeCom", "Slack", "Teams", "e-mail", "PagerDuty"),
    }


@pytest.fixture(params=["worker", "triggerer"])
def send(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Send:
    """Tells of a stop by the line of a chat, as a guard does in a worker or in a triggerer."""
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example.com")

    def tell(
        chat: str, *, sentence: str = SENTENCE, about: About = ABOUT, **changes: Any
    ) -> dict[str, Any]:
        connection, line, _ = LINES[chat]
        for word, secret in SECRETS.items():
            connection = connection.replace(word, secret)
        names = notifiers_of_providers()
        (conn_id,) = re.findall(r'_conn_id="(\w+)"', line)
        known = json.dumps({**json.loads(connection), **changes})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", known)
        recorded = record([eval(line, names)], importable=True)
        if request.param == "triggerer":
            recorded = from_json(json.loads(json.dumps([one.to_json() for one in recorded])))
        audience = Audience(recorded, None, about)
        event = audience.event(Alert("stopped", sentence, {"batch_task_ids": ["a1"]}).to_json())
        if request.param == "triggerer":
            asyncio.run(in_triggerer.tell(audience, event, LOG))
        else:
            in_worker.tell(audience, event, LOG)
        return event

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
    assert text_block(body).startswith(BEGINS)


def text_block(body: dict[str, Any]) -> str:
    """The text on the card that Teams gets."""
    parts = body["attachments"][0]["content"]["body"]
    return next(str(part["text"]) for part in parts if part["type"] == "TextBlock")


def test_pagerduty(send: Send, requests_mock: Any) -> None:
    requests_mock.post("https://events.pagerduty.com/v2/enqueue", status_code=202, json={})
    send("PagerDuty")
    _, body, _ = posted(requests_mock)
    assert (body["routing_key"], body["event_action"]) == ("e" * 32, "trigger")
    payload = body["payload"]
    assert payload["summary"].startswith(BEGINS)
    assert payload["severity"] in ("critical", "error", "warning", "info")
    assert payload["severity"] == "critical"
    assert payload["source"] == "airflow"


#: What a chat takes at most, as the guide says it; the message in a request's body; and its size.
LIMITS: dict[str, tuple[str, Callable[[Any], str], Callable[[bytes, str], int]]] = {
    "DingTalk": ("20,000 bytes", lambda body: body["text"]["content"], lambda body, _: len(body)),
    "Feishu": ("20 kB", lambda body: body["content"]["text"], lambda body, _: len(body)),
    "WeCom": (
        "2,048 bytes",
        lambda body: body["text"]["content"],
        lambda _, text: len(text.encode()),
    ),
    "Slack": ("40,000 characters", lambda body: body["text"], lambda _, text: len(text)),
    "Teams": (
        "28 kB",
        text_block,
        lambda body, _: 2 * len(body),  # it counts in UTF-16
    ),
    "PagerDuty": (
        "1,024 characters",
        lambda body: body["payload"]["summary"],
        lambda _, text: len(text),
    ),
}


def assert_fits(chat: str, event: dict[str, Any], body: bytes) -> None:
    words, text_of, size_of = LIMITS[chat]
    assert LINES[chat][2] == words
    number, unit = words.split(" ")
    text = text_of(json.loads(body))
    assert size_of(body, text) <= int(number.replace(",", "")) * (1000 if unit == "kB" else 1)
    assert text.startswith("STOPPED: Devices failed: \u5347\u7ea7")
    assert f"\u2026 {event['link']}" in text


@pytest.mark.parametrize("chat", sorted(set(LIMITS) - {"Slack"}))
def test_the_longest_message_fits(send: Send, requests_mock: Any, chat: str) -> None:
    requests_mock.post(re.compile("https://"), json={"errcode": 0, "code": 0}, status_code=202)
    event = send(chat, sentence=LONG, about=LONG_ABOUT)
    (request,) = requests_mock.request_history
    data = request.body
    assert_fits(chat, event, data if isinstance(data, bytes) else data.encode())


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The address of a server, and the paths and bodies that were posted to it."""
    got: list[tuple[str, bytes]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/services", got
        server.shutdown()


def test_slack(send: Send, webhook: Any) -> None:
    url, got = webhook
    send("Slack", host=url)
    event = send("Slack", sentence=LONG, about=LONG_ABOUT, host=url)

    (path, body), (_, longest) = got
    assert path == "/services/T000/B000/TOKEN"
    assert json.loads(body)["text"].startswith(BEGINS)
    assert_fits("Slack", event, longest)


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


@pytest.fixture
def mailbox(mail_port: int) -> dict[str, Any]:
    """What the connection has to be for mail to come to this test."""
    plain = {"disable_ssl": True, "disable_tls": True}
    there = {"host": "127.0.0.1", "port": mail_port, "extra": plain}
    return there | {"login": None, "password": None}


def test_e_mail(send: Send, mailbox: dict[str, Any]) -> None:
    send("e-mail", **mailbox)

    (mail,) = (message_from_bytes(one, policy=policy.default) for one in Mailbox.mails)
    assert (mail["From"], mail["To"]) == ("airflow@example.com", "oncall@example.com")
    assert mail["Subject"] == "IoTDA: stopped"
    part = mail.get_body(("html",))
    assert part is not None
    assert part.get_content().startswith(BEGINS)


def test_the_longest_e_mail_is_whole(send: Send, mailbox: dict[str, Any]) -> None:
    event = send("e-mail", sentence=LONG, about=LONG_ABOUT, **mailbox)

    (data,) = Mailbox.mails
    assert max(map(len, data.splitlines())) <= 998  # RFC 5322
    part = message_from_bytes(data, policy=policy.default).get_body(("html",))
    assert part is not None
    assert part.get_content().rstrip().endswith(f"\u2026 {event['link']}")
