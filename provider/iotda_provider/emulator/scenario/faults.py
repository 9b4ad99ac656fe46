"""Faults by rule: which call goes wrong, how often, and in which way.

No I/O: a rule says what is to happen to a request; the gateway does it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from iotda_provider.emulator.common.errors import ScenarioError
from iotda_provider.emulator.common.field_types import LARGEST, Count, Many, Rate, Share, within
from iotda_provider.emulator.common.randomness import Draws
from iotda_provider.emulator.common.strict_model import StrictModel, wrong
from iotda_provider.emulator.identity.iam import matching_a_call

if TYPE_CHECKING:
    from typing_extensions import Self

Kind = Literal[
    "latency",
    "clock_skew",
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
]
KINDS: tuple[str, ...] = get_args(Kind)
# These only change how a request is served: other faults may hit the same request.
BENIGN = ("latency", "clock_skew")
# These replace the answer.
FATAL = tuple(kind for kind in KINDS if kind not in BENIGN)
# The defaults that differ from those of the other kinds.
_DEFAULTS: dict[str, dict[str, Any]] = {"refuse": {"seconds": 1.0}, "html": {"status": 502}}

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_HTML = (
    "<html>\r\n<head><title>{status} {phrase}</title></head>\r\n<body>\r\n"
    "<center><h1>{status} {phrase}</h1></center>\r\n<hr><center>proxy</center>\r\n"
    "</body>\r\n</html>\r\n"
)


def _as_patterns(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be the name of a call, or a list of them")
    return value


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise ValueError("must name at least one call")
    return tuple(map(matching_a_call, patterns))


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"holds what is no HTTP header: {name[:60]!r}")
    return headers


class Fault(StrictModel):
    """One rule.

    :param id: the name by which the rule can be removed; empty: it gets one when it is added
    :param kind: what happens, one of ``KINDS``
    :param call: patterns of the calls that the rule is for, such as ``stop_batch_task``,
        ``*_task``; each matches a call
    :param count: how many requests the rule hits at most; None: all
    :param probability: the chance that the rule hits a matching request
    :param after: how many matching requests pass before the rule hits one
    :param status: the status of a ``status`` (503) or ``html`` (502) fault
    :param body: the body of a ``status`` fault: an object becomes JSON, a text stays as it is
    :param headers: more headers of a ``status`` or ``html`` fault
    :param acted: whether the call has its effect before the fault
    :param retry_after: the ``Retry-After`` of a ``throttle``, in seconds; None: no header
    :param per_second: how many requests a second a ``rate_limit`` lets each key make
    :param burst: how many requests a ``rate_limit`` lets through at once
    :param seconds: the delay of ``latency``, the length of ``refuse`` (1), the offset of
        ``clock_skew``; real seconds
    :param jitter: up to this much is added to the delay of ``latency``; real seconds
    :param keep: the share of the body that ``truncate`` and ``malformed`` leave
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = ""
    kind: Kind
    call: Annotated[Many[str], BeforeValidator(_as_patterns), AfterValidator(_check_patterns)] = (
        "*",
    )
    count: Count | None = None
    probability: Share = 1.0
    after: Count = 0
    status: Annotated[int, within(200, 599)] = 503
    body: Any = None
    headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = {}
    acted: bool = False
    retry_after: Count | None = 1
    per_second: Rate = 1.0
    burst: Annotated[int, within(1)] = 1
    seconds: Annotated[float, within(-LARGEST)] = 0.0
    jitter: Annotated[float, within(0)] = 0.0
    keep: Share = 0.5

    @model_validator(mode="before")
    @classmethod
    def _has_its_kinds_defaults(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("kind"), str):
            return {**_DEFAULTS.get(data["kind"], {}), **data}
        return data

    @model_validator(mode="after")
    def _delays_are_not_negative(self) -> Self:
        if self.kind != "clock_skew" and self.seconds < 0:
            raise wrong("seconds", "must be at least 0")
        return self

    def is_for(self, call: str) -> bool:
        """Whether the rule is about this call."""
        return any(fnmatchcase(call, pattern) for pattern in self.call)

    def named(self, fault_id: str) -> Fault:
        """The rule with this id, unless it has one."""
        return self if self.id else self.model_copy(update={"id": fault_id})


@dataclass
class _State:
    """A rule, and how often it matched and hit."""

    fault: Fault
    seen: int = 0
    fired: int = 0
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """A rule that hits this request; ``u`` is a random number for the jitter."""

    fault: Fault
    u: float = 0.0
    wait: float = 0.0


class Faults:
    """The rules in their order; the first fatal one that hits decides.

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
        """An id for a rule that has none."""
        self._made += 1
        return f"fault-{self._made}"

    def add(self, fault: Fault) -> None:
        """Add a rule at the end; it replaces a rule of the same id."""
        self._states.pop(fault.id, None)
        self._states[fault.id] = _State(fault)

    def remove(self, fault_id: str | None = None) -> None:
        """Remove one rule, or all of them."""
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
                "id": state.fault.id,
                "kind": state.fault.kind,
                "call": list(state.fault.call),
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
            chance, u, _, _ = self._draws.stream("fault", fault.id)(str(state.seen))
            if fault.kind == "rate_limit":
                wait = _take(state.buckets, key or "", fault, self._real())
                hit = Hit(fault, u, wait) if wait > 0 else None
            elif chance < fault.probability:
                hit = Hit(fault, u)
        if hit is not None:
            state.fired += 1
        if self._noted is not None:
            self._noted(fault.id, state.seen, state.fired)
        return hit


def _take(buckets: dict[str, tuple[float, float]], key: str, limit: Fault, now: float) -> float:
    """Take one token of a key's bucket; returns 0, or the seconds until there is one."""
    tokens, since = buckets.get(key, (float(limit.burst), now))
    tokens = min(float(limit.burst), tokens + (now - since) * limit.per_second)
    if tokens >= 1:
        buckets[key] = (tokens - 1, now)
        return 0.0
    buckets[key] = (tokens, now)
    return (1 - tokens) / limit.per_second


def html_page(status: int, phrase: str) -> str:
    """What a proxy answers when the server behind it does not."""
    return _HTML.format(status=status, phrase=phrase)


def name_faults(faults: Iterable[Fault], next_id: Callable[[], str]) -> list[Fault]:
    """Give an id to each of a scenario's rules that has none.

    :raises ScenarioError: two rules have the same id
    """
    named: list[Fault] = []
    for place, fault in enumerate(faults):
        named.append(fault.named(next_id()))
        if any(named[-1].id == other.id for other in named[:-1]):
            raise ScenarioError(f"faults[{place}].id is taken: {named[-1].id!r}")
    return named
