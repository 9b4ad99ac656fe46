"""Faults by rule: which call goes wrong, how often, and in which way.

Pure: a rule says what is to happen to a request; doing it is the gateway's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from iotda_provider.emulator.common.json_reader import Reader, ScenarioError
from iotda_provider.emulator.common.randomness import Draws

# Those that only change how a request is served; it may meet another fault besides.
BENIGN = ("latency", "clock_skew")
# Those that take the place of the answer.
FATAL = (
    "status",
    "throttle",
    "rate_limit",
    "refuse",
    "reset",
    "lost",
    "truncate",
    "malformed",
    "html",
    "expired_key",
)
KINDS = (*BENIGN, *FATAL)

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_HTML = (
    "<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n"
    "<center><h1>{status} {phrase}</h1></center>\r\n<hr><center>proxy</center>\r\n"
    "</body>\r\n</html>\r\n"
)


@dataclass(frozen=True)
class Fault:
    """One rule.

    :param fault_id: its name, by which it can be taken back
    :param kind: what happens, one of ``KINDS``
    :param calls: patterns of the calls that it is for, such as ``stop_batch_task`` or ``*_task``
    :param count: how many requests it hits at most; None: all
    :param probability: the chance that it hits a request that is its turn
    :param after: how many matching requests it lets pass first
    :param status: the status of a ``status`` or ``html`` fault
    :param body: the body of a ``status`` fault: an object becomes JSON, a text stays as it is
    :param headers: more headers of a ``status`` fault
    :param acted: whether the call has had its effect all the same
    :param retry_after: the ``Retry-After`` of a ``throttle``, in seconds; None: none
    :param per_second: how many requests a second a ``rate_limit`` lets each key make
    :param burst: how many it lets through at once
    :param seconds: the delay of ``latency``, the length of ``refuse``, the offset of
        ``clock_skew``; real seconds
    :param jitter: up to this much more delay
    :param keep: the share of the body that ``truncate`` and ``malformed`` leave
    """

    fault_id: str
    kind: str
    calls: tuple[str, ...] = ("*",)
    count: int | None = None
    probability: float = 1.0
    after: int = 0
    status: int = 503
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    acted: bool = False
    retry_after: int | None = 1
    per_second: float = 1.0
    burst: int = 1
    seconds: float = 0.0
    jitter: float = 0.0
    keep: float = 0.5

    def is_for(self, call: str) -> bool:
        """Whether the rule is about this call."""
        return any(fnmatchcase(call, pattern) for pattern in self.calls)


def read_fault(data: object, fault_id: str, path: str = "fault") -> Fault:
    """Check one rule as JSON gave it.

    :param fault_id: its id where it names none
    :raises ScenarioError: one line that names the field
    """
    reader = Reader(data, path)
    kind = reader.choice("kind", "", KINDS)
    call = reader.raw("call", "*")
    calls = (call,) if isinstance(call, str) else call
    if not isinstance(calls, (list, tuple)) or not all(isinstance(c, str) for c in calls):
        raise reader.fail("call", "must be the name of a call, or a list of them")
    headers = reader.raw("headers", {})
    if not isinstance(headers, Mapping) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in headers.items()
    ):
        raise reader.fail("headers", "must be an object of texts")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise reader.fail("headers", f"holds what is no HTTP header: {name[:60]!r}")
    seconds = reader.number("seconds", 1.0 if kind == "refuse" else 0.0)
    if kind != "clock_skew" and seconds < 0:
        raise reader.fail("seconds", "must be at least 0")
    fault = Fault(
        fault_id=reader.text("id", fault_id, r"[A-Za-z0-9_.-]{1,64}"),
        kind=kind,
        calls=tuple(calls),
        count=reader.whole("count", None),
        probability=reader.number("probability", 1.0, 0, 1),
        after=reader.whole("after", 0),
        status=reader.whole("status", 502 if kind == "html" else 503, 200, 599),
        body=reader.raw("body"),
        headers=dict(headers),
        acted=reader.flag("acted", False),
        retry_after=reader.whole("retry_after", None if "retry_after" in reader else 1),
        per_second=reader.number("per_second", 1.0, 1e-6),
        burst=reader.whole("burst", 1, 1),
        seconds=seconds,
        jitter=reader.number("jitter", 0.0, 0),
        keep=reader.number("keep", 0.5, 0, 1),
    )
    reader.done()
    return fault


@dataclass
class _State:
    """How far a rule has come."""

    fault: Fault
    seen: int = 0
    fired: int = 0
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """A rule that hits this request; ``u`` is the chance it was given, for the jitter."""

    fault: Fault
    u: float = 0.0
    wait: float = 0.0


class Faults:
    """The rules in force, in their order; the first fatal one that hits decides.

    :param noted: called after each change of a rule's counts, so that they can be kept
    """

    def __init__(
        self,
        draws: Draws,
        noted: Callable[[str, int, int], None] | None = None,
        real: Callable[[], float] = time.monotonic,
    ) -> None:
        self._draws = draws
        self._noted = noted
        self._real = real
        self._states: dict[str, _State] = {}
        self._made = 0

    def next_id(self) -> str:
        """An id for a rule that brings none."""
        self._made += 1
        return f"fault-{self._made}"

    def add(self, fault: Fault) -> None:
        """Put a rule in force, last in order; one of the same id is replaced."""
        self._states.pop(fault.fault_id, None)
        self._states[fault.fault_id] = _State(fault)

    def remove(self, fault_id: str | None = None) -> None:
        """Take one rule back, or all of them."""
        if fault_id is None:
            self._states.clear()
        else:
            self._states.pop(fault_id, None)

    def restore(self, fault_id: str, seen: int, fired: int) -> None:
        """Give a rule the counts that it had before a restart."""
        state = self._states.get(fault_id)
        if state is not None:
            state.seen, state.fired = seen, fired

    def describe(self) -> list[dict[str, Any]]:
        """The rules and how often each has matched and hit."""
        return [
            {
                "id": state.fault.fault_id,
                "kind": state.fault.kind,
                "call": list(state.fault.calls),
                "seen": state.seen,
                "fired": state.fired,
            }
            for state in self._states.values()
        ]

    def hits(self, call: str, key: str | None) -> list[Hit]:
        """The rules that hit a request of this call, benign ones first, then at most one other."""
        if not self._states:
            return []
        found = []
        for state in self._states.values():
            if not state.fault.is_for(call):
                continue
            hit = self._try(state, key)
            if hit is not None:
                found.append(hit)
                if hit.fault.kind in FATAL:
                    break
        return found

    def _try(self, state: _State, key: str | None) -> Hit | None:
        fault = state.fault
        state.seen += 1
        hit = None
        if state.seen > fault.after and (fault.count is None or state.fired < fault.count):
            chance, u, _, _ = self._draws.stream("fault", fault.fault_id)(str(state.seen))
            if fault.kind == "rate_limit":
                wait = _take(state.buckets, key or "", fault, self._real())
                hit = Hit(fault, u, wait) if wait > 0 else None
            elif chance < fault.probability:
                hit = Hit(fault, u)
        if hit is not None:
            state.fired += 1
        if self._noted is not None:
            self._noted(fault.fault_id, state.seen, state.fired)
        return hit


def _take(buckets: dict[str, tuple[float, float]], key: str, limit: Fault, now: float) -> float:
    """Take one token of a key's bucket; answers 0, or the seconds until there is one."""
    tokens, since = buckets.get(key, (float(limit.burst), now))
    tokens = min(float(limit.burst), tokens + (now - since) * limit.per_second)
    if tokens >= 1:
        buckets[key] = (tokens - 1, now)
        return 0.0
    buckets[key] = (tokens, now)
    return (1 - tokens) / limit.per_second


def html_page(status: int, phrase: str) -> str:
    """What a proxy shows when what is behind it does not answer."""
    return _HTML.format(status=status, phrase=phrase)


def check_faults(items: Iterable[object], next_id: Callable[[], str]) -> list[Fault]:
    """Check a scenario's rules.

    :raises ScenarioError: one line that names the field
    """
    faults: list[Fault] = []
    for place, item in enumerate(items):
        fault = read_fault(item, next_id(), f"faults[{place}]")
        if any(fault.fault_id == other.fault_id for other in faults):
            raise ScenarioError(f"faults[{place}].id is taken: {fault.fault_id!r}")
        faults.append(fault)
    return faults
