"""Sorts a subtask's error into a class: environment, firmware or unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from iotda_provider.models import Subtask, SubtaskStatus, checks
from iotda_provider.models.text import one_line

ENVIRONMENT, FIRMWARE, UNKNOWN = checks.FAILURE_CLASSES

#: The characters of a failure that an expression is matched against: backtracking takes time.
_LONGEST = 300

# The messages are from the vendor's table "software/firmware upgrade errors" (support.
# huaweicloud.com/iothub_faq/iot_faq_01001.html) and its device result codes (api-iothub,
# iot_06_v5_3031). The vendor does not give their classes: those are our judgement.
_DEFAULT: tuple[tuple[str, str], ...] = (
    ("IOTDA.014016", ENVIRONMENT),  # device offline
    ("IOTDA.014112", ENVIRONMENT),  # topic not subscribed
    # A device that has the package and does not report may be bricked.
    (r"re:result time(?:d )?out|updating time(?:d )?out", FIRMWARE),
    (r"re:not report (?:the )?(?:upgrade )?result", FIRMWARE),
    (r"re:not online|offline|online time(?:d )?out|not subscribed", ENVIRONMENT),
    (r"re:task conflict|another (?:upgrade )?task|device (?:is )?in use", ENVIRONMENT),
    (r"re:report cellid time|report device \w{1,60} version time", ENVIRONMENT),
    (r"re:download(?:ed|ing)?(?: package)? time(?:d )?out|connection lost", ENVIRONMENT),
    (r"re:poor signal|low battery|already (?:the )?latest", ENVIRONMENT),
    (r"re:integrity check fail|verif\w{1,20} fail", FIRMWARE),
    (r"re:(?:unsupported|bad) (?:upgrade )?package type", FIRMWARE),
    (r"re:(?:not enough|insufficient|no) (?:storage|memory)|out of memory", FIRMWARE),
    (r"re:firmware update fail|install(?:ation)? fail|internal (?:exception|error)", FIRMWARE),
    (r"re:result[ _]?code\W{0,3}[12346]\b", ENVIRONMENT),
    (r"re:result[ _]?code\W{0,3}(?:[5789]|10|255)\b", FIRMWARE),
)

#: The most characters of a user's regular expression: compiling a long one takes time.
LONGEST_EXPRESSION = 2000
_Matcher = tuple["str | re.Pattern[str]", str]


@dataclass(frozen=True)
class FailureClasses:
    """Sorts failures into ``environment``, ``firmware`` and ``unknown`` by their code and message.

    ``environment``: failures that say nothing about the firmware and that a retry may cure: the
    device is offline, in use, has a poor signal or a low battery, runs another task or has the
    latest version already, or the download timed out. ``firmware``: failures of the package or of
    the device that runs it: no storage, no memory, failed verification or installation, an internal
    error, or no report after the download. Every other failure is ``unknown``. A careful rule
    counts it together with the firmware's: ``failure_class=("firmware", "unknown")``.

    The platform documents the messages, not their classes. Override what is different for you::

        FailureClasses({"IOTDA.005011": "firmware", "re:bootloader v1": "environment"})

    :param overrides: maps an error code (the whole code), or ``re:`` and a regular expression, to a
        class. The expression has at most 2,000 characters and is searched for in the first 300
        characters of ``"<code> <message>"``, without regard to case. The first match wins, and
        overrides come before the defaults. Avoid nested repetition such as ``(a+)+``: it may take
        hours for one message
    :param defaults: whether the default mapping is used after the overrides
    :raises ValueError: ``overrides`` has an unknown class or a broken expression
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    defaults: bool = True
    _matchers: tuple[_Matcher, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.overrides, Mapping):
            checks.refuse("overrides", "a mapping of code or 're:...' to class", self.overrides)
        checks.flag("defaults", self.defaults)
        object.__setattr__(self, "overrides", dict(self.overrides))
        entries = (*self.overrides.items(), *(_DEFAULT if self.defaults else ()))
        object.__setattr__(self, "_matchers", tuple(_matcher(*entry) for entry in entries))

    def __hash__(self) -> int:
        return hash((tuple(self.overrides.items()), self.defaults))

    def classify(self, error_code: str | None, error_msg: str | None = None) -> str:
        """The class of one failure."""
        code = str(error_code or "")
        text = f"{code[:_LONGEST]} {str(error_msg or '')[:_LONGEST]}"[:_LONGEST]
        for what, name in self._matchers:
            if code == what if isinstance(what, str) else what.search(text):
                return name
        return UNKNOWN

    def count(self, failed: Iterable[Subtask]) -> dict[str, int]:
        """The number of failed subtasks of each class. Each target counts once."""
        counts = dict.fromkeys(checks.FAILURE_CLASSES, 0)
        seen: set[str] = set()
        for subtask in failed:
            if subtask.status is SubtaskStatus.FAIL and subtask.target not in seen:
                seen.add(subtask.target)
                counts[self.classify(subtask.error_code, subtask.error_msg)] += 1
        return counts

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        return {"overrides": dict(self.overrides), "defaults": self.defaults}

    @classmethod
    def of(cls, value: FailureClasses | Mapping[str, object] | None) -> FailureClasses:
        """Convert what a user or a trigger passes: None, overrides, plain JSON or an object.

        :raises ValueError: it is none of these
        """
        if isinstance(value, FailureClasses):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            checks.refuse("failure_classes", "a mapping of code or 're:...' to class", value)
        if set(value) == {"overrides", "defaults"}:
            return cls(value["overrides"], value["defaults"])  # type: ignore[arg-type]
        return cls(value)  # type: ignore[arg-type]


def _matcher(what: object, name: object) -> _Matcher:
    if not isinstance(what, str) or not what:
        checks.refuse("failure_classes", "a mapping of code or 're:...' to class", what)
    word = checks.choice(f"failure_classes[{what[:60]!r}]", name, checks.FAILURE_CLASSES)
    if not what.startswith("re:"):
        return what, word
    if len(what) > LONGEST_EXPRESSION:
        raise ValueError(
            f"failure_classes[{what[:60]!r}] must have at most {LONGEST_EXPRESSION} characters, "
            f"got {len(what)}"
        )
    try:
        return re.compile(what[3:], re.IGNORECASE), word
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"failure_classes[{what[:60]!r}]: not a regular expression: {one_line(error, 200)}"
        ) from error


def classify(error_code: str | None, error_msg: str | None = None) -> str:
    """The class of one failure by the default mapping."""
    return _defaults().classify(error_code, error_msg)


@cache
def _defaults() -> FailureClasses:
    return FailureClasses()
