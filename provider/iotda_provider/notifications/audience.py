"""The people who are told: what each notifier gets of an event, and how it is called."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from iotda_provider.airflow_support.pages import all_rollouts_page, rollouts_page
from iotda_provider.airflow_support.threads import no_exit
from iotda_provider.masking.redaction import redacted_line
from iotda_provider.notifications.messages import LONGEST_LINK, message_of
from iotda_provider.notifications.on_alert import OnAlert, load_function
from iotda_provider.notifications.recorded import RecordedNotifier, implements

#: A notifier is given up after so many seconds.
SECONDS_FOR_EACH = 10.0
_PATH_OF_A_URL = re.compile(r"(?<=[\s:/(\[{'\"])/[^\s'\")]{4,}")
_SEVERITIES = {
    "critical": (
        "breach",
        "stop_failed",
        "guard_lost",
        "may_not_stop",
        "overdue",
        "not_rolled_back",
    ),
    "error": (
        *("blind", "lost", "stopped", "not_released"),
        *("confirm_failed", "evidence_failed", "unconfirmed"),
    ),
    "info": ("wave_passed", "released", "rolled_back"),
}


@dataclass(frozen=True)
class About:
    """The task instance that tells, and its connection."""

    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int = 1
    iotda_conn_id: str = ""


class Audience:
    """Whom a task tells of events.

    :param notifiers: Airflow's notifiers
    :param on_alert: a function that gets each event, or its dotted path
    :param about: the task instance that tells
    :param render: renders a notifier's templates, at the first event; None: they are rendered
        already
    """

    def __init__(
        self,
        notifiers: Sequence[RecordedNotifier] = (),
        on_alert: OnAlert | None = None,
        about: About | None = None,
        *,
        render: Callable[[RecordedNotifier], RecordedNotifier] | None = None,
    ) -> None:
        self.about = about or About()
        self.members: list[Member] = [NotifierMember(one, render) for one in notifiers]
        if on_alert is not None:
            self.members.append(FunctionMember(on_alert))

    @classmethod
    def of(cls, value: Audience | OnAlert | None) -> Audience:
        """The audience itself, or one of a function alone."""
        return value if isinstance(value, Audience) else cls(on_alert=value)

    def event(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        """An alert as an event: with ``severity``, ``link`` and ``message``, which begins with the
        outcome and ends with the link."""
        about, kind = self.about, str(alert["kind"])
        link = rollouts_page(about.dag_id, about.run_id) if about.dag_id else ""
        # Each Chinese character of an id becomes nine characters in a URL.
        short = next((u for u in (link, all_rollouts_page()) if len(u) <= LONGEST_LINK), "")
        severity = next((one for one, kinds in _SEVERITIES.items() if kind in kinds), "warning")
        message = message_of(kind, str(alert["sentence"]), short)
        return {**alert, "severity": severity, "link": link, "message": message}

    def context(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """What a notifier gets: the ids, the event, and its message."""
        ids = vars(self.about)
        # Templates of Airflow's own notifiers use ti; before 3.0, a notifier asks for dag.
        return {**ids, "ti": SimpleNamespace(**ids), "dag": None, "event": dict(event)} | {
            "message": event["message"]
        }

    def remove(self, member: Member) -> None:
        """Call a member no more: it can't be called in this process."""
        self.members.remove(member)

    def missing(self) -> Iterator[tuple[Member, BaseException]]:
        """The members that can't be called in this process. This call blocks: it imports them."""
        for member in list(self.members):
            try:
                member.load()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it runs the user's code
                yield member, error


class Member(ABC):
    """A member of an audience.

    :ivar name: its name in the log
    """

    name = ""

    @abstractmethod
    def load(self) -> Any:
        """Import it.

        :raises Exception: it can't be called in this process
        """

    @abstractmethod
    def prepare(self, context: Mapping[str, Any]) -> Prepared:
        """Make it ready for one event; this call blocks."""

    def failure(self, error: BaseException) -> str:
        """An error of it in one line, without its secrets."""
        return without_addresses(error)


@dataclass(frozen=True)
class Prepared:
    """A notifier that is ready for one event; one of the two is None.

    :param call: blocks until the people are told; what an ``async def`` returns is to be awaited
    :param coroutine: makes a coroutine that does the same
    """

    call: Callable[[], Any] | None
    coroutine: Callable[[], Any] | None


class NotifierMember(Member):
    """A notifier of Airflow."""

    def __init__(
        self,
        notifier: RecordedNotifier,
        render: Callable[[RecordedNotifier], RecordedNotifier] | None,
    ) -> None:
        self._notifier = notifier
        self._render = render
        self.name = notifier.name

    def load(self) -> type[Any]:
        return self._notifier.load()

    def prepare(self, context: Mapping[str, Any]) -> Prepared:
        cls = self.load()
        if self._render is not None:
            self._notifier, self._render = self._render(self._notifier), None
        notifier = cls(**self._notifier.arguments)
        mine: Any = deepcopy(dict(context))  # a copy, because a notifier may change it
        notifier.render_template_fields(mine)
        suspends = implements(cls, "async_notify")
        return Prepared(
            # No partial: asgiref refuses one of an ``async def``.
            call=(lambda: notifier.notify(mine)) if implements(cls, "notify") else None,
            coroutine=(lambda: awaited(notifier.async_notify(mine))) if suspends else None,
        )

    def failure(self, error: BaseException) -> str:
        named = self._notifier.arguments.items()
        hidden = [
            text for name, value in named if not name.endswith("conn_id") for text in _texts(value)
        ]
        return without_addresses(error, hidden)


async def awaited(answer: Awaitable[Any]) -> None:
    """Await what the user's code has returned; its ``sys.exit()`` ends no event loop."""
    try:
        await answer
    except (SystemExit, KeyboardInterrupt) as error:
        raise no_exit(error) from error


def _texts(value: Any) -> Iterator[str]:
    """All texts in plain JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


class FunctionMember(Member):
    """The user's function ``on_alert``."""

    name = "on_alert"

    def __init__(self, function: OnAlert) -> None:
        self._function = function

    def load(self) -> Callable[[Mapping[str, Any]], Any]:
        function = self._function
        return load_function(function) if isinstance(function, str) else function

    def prepare(self, context: Mapping[str, Any]) -> Prepared:
        function, event = self.load(), deepcopy(context["event"])
        return Prepared(call=lambda: function(event), coroutine=None)


def without_addresses(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """An error in one line; of a URL the host is left, as its path is the secret of a webhook.

    :param secrets: texts that the line must not show
    """
    kind = type(error).__name__
    try:
        text = _PATH_OF_A_URL.sub("/...", redacted_line(str(error), secrets, 300))
    except Exception:  # noqa: BLE001 - an error of the user's code, whose text may be one, too
        return kind
    return f"{kind}: {text}" if text else kind
