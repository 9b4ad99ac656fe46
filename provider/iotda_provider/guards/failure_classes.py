"""What kind of failure a subtask's error is: the surroundings', the firmware's, or not known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from iotda_provider.guards import validation
from iotda_provider.models import Subtask, SubtaskStatus
from iotda_provider.models.text import one_line

ENVIRONMENT, FIRMWARE, UNKNOWN = validation.CLASSES

#: As much of a failure as an expression of a user's sees: one that backtracks takes its time.
_LONGEST = 300

# The messages are those of the vendor's table "software/firmware upgrade errors" (support.
# huaweicloud.com/iothub_faq/iot_faq_01001.html) and of its device result codes (api-iothub,
# iot_06_v5_3031). Which class each belongs to is our judgement: the vendor does not say.
_DEFAULT: tuple[tuple[str, str], ...] = (
    ("IOTDA.014016", ENVIRONMENT),  # device offline
    ("IOTDA.014112", ENVIRONMENT),  # topic not subscribed
    # A device that stays silent once it has the package may be a brick.
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

#: Of a user's own regular expression: compiling one takes time, too.
LONGEST_EXPRESSION = 2000
_Matcher = tuple["str | re.Pattern[str]", str]


@dataclass(frozen=True)
class FailureClasses:
    """Sorts failures into ``environment``, ``firmware`` and ``unknown`` by their code and message.

    Environmental are failures that say nothing of the firmware, and that a retry may cure: offline,
    in use, poor signal, low battery, download timed out, another task under way, already the
    latest. The firmware's are those of the package or of the device that runs it: no storage, no
    memory, verification or installation failed, internal error, and a device that had the package
    and never reported. Everything else is ``unknown``, and a careful rule counts it with the
    firmware's: ``failure_class=("firmware", "unknown")``.

    The platform documents the messages, not their classes; override what is different for you::

        FailureClasses({"IOTDA.005011": "firmware", "re:bootloader v1": "environment"})

    :param overrides: error code (the whole of it), or ``re:`` and a regular expression that is
        searched for in the first 300 characters of ``"<code> <message>"`` without regard to case,
        → class. What stands first wins; overrides stand before the defaults. An expression that
        repeats what repeats, such as ``(a+)+``, may take hours for one message: avoid it. 2,000
        characters at most
    :param defaults: False to start from nothing
    :raises ValueError: ``overrides`` has an unknown class or a broken expression
    """

    overrides: Mapping[str, str] = field(default_factory=dict)
    defaults: bool = True
    _matchers: tuple[_Matcher, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.overrides, Mapping):
            validation.refuse("overrides", "a mapping of code or 're:...' to class", self.overrides)
        validation.flag("defaults", self.defaults)
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
        """How many failed subtasks are of which class, each target once; others do not count."""
        counts = dict.fromkeys(validation.CLASSES, 0)
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
        """Whatever a user or a trigger hands over: None, a plain mapping, JSON, or the object.

        :raises ValueError: it is none of these
        """
        if isinstance(value, FailureClasses):
            return value
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            validation.refuse("failure_classes", "a mapping of code or 're:...' to class", value)
        if set(value) == {"overrides", "defaults"}:
            return cls(value["overrides"], value["defaults"])  # type: ignore[arg-type]
        return cls(value)  # type: ignore[arg-type]


def _matcher(what: object, name: object) -> _Matcher:
    if not isinstance(what, str) or not what:
        validation.refuse("failure_classes", "a mapping of code or 're:...' to class", what)
    word = validation.choice(f"failure_classes[{what[:60]!r}]", name, validation.CLASSES)
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
