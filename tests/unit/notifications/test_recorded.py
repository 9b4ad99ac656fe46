"""Notifiers as plain JSON: from the object in a DAG file to the object in a triggerer."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from airflow.providers.common.compat.notifier import BaseNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from iotda_provider.notifications.recorded import RecordedNotifier, from_json, record
from iotda_provider.sensors.batch_task import RolloutGuardSensor


class Paging(BaseNotifier):
    """A notifier that keeps its arguments under other names, and changes them."""

    template_fields = ("_words",)

    def __init__(self, words: str, *rest: str, to: Any = None, **more: Any) -> None:
        super().__init__()
        self._words = words.upper()
        self._whom = (to, rest, more)

    def notify(self, context: Any) -> None:
        """Tell nobody."""


class Keyed(Paging):
    """The same without ``*rest``."""

    def __init__(self, words: str, to: Any = None, **more: Any) -> None:
        super().__init__(words, to=to, **more)


def through_json(notifiers: Any) -> list[RecordedNotifier]:
    plain = [one.to_json() for one in record(notifiers, importable=True)]
    return list(from_json(json.loads(json.dumps(plain))))


def test_a_notifier_is_made_again_from_what_it_was_made_with() -> None:
    (read,) = through_json([Keyed("hallo", ("a", "b"), retries=3)])

    assert read.load() is Keyed
    assert read.arguments == {"words": "hallo", "to": ["a", "b"], "retries": 3}
    again = read.load()(**read.arguments)
    assert (again._words, again._whom) == ("HALLO", (["a", "b"], (), {"retries": 3}))


def test_a_notifier_of_a_provider_is_made_again() -> None:
    (read,) = through_json([SmtpNotifier(to=["a@b.c"], subject="{{ message }}")])

    assert read.load() is SmtpNotifier
    assert read.arguments == {"to": ["a@b.c"], "subject": "{{ message }}"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "an object"),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), "a datetime"),
        ({"when": [datetime(2026, 1, 1, tzinfo=timezone.utc)]}, ""),
        ({1: "a"}, ""),
        (float("nan"), ""),
        (b"bytes", ""),
    ],
)
def test_an_argument_that_is_no_json_is_refused_by_its_name_when_the_dag_is_parsed(
    value: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=r"^notifiers\[1\]: the argument to of Keyed") as refused:
        guard(notifiers=[Keyed("fine"), Keyed("hallo", to=value)])

    assert len(str(refused.value)) < 400
    assert "plain JSON" in str(refused.value)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    "notifiers",
    ["slack", {"a": 1}, 5, Keyed("one, not a list"), ["a.dotted.path"], [Keyed], [None]],
)
def test_what_is_no_list_of_notifiers_is_refused(notifiers: Any, deferrable: bool) -> None:
    with pytest.raises(ValueError, match=r"^notifiers") as refused:
        guard(notifiers=notifiers, deferrable=deferrable)
    assert len(str(refused.value)) < 400


def test_arguments_by_position_only_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^notifiers\[0\]: Paging takes rest by its position"):
        record([Paging("a", "b")], importable=True)


class Misspelt(BaseNotifier):
    """Its method is not the one that is called."""

    def notfy(self, context: Any) -> None:
        """Tell."""


@pytest.mark.parametrize("deferrable", [True, False])
def test_one_that_can_tell_nobody_is_refused(deferrable: bool) -> None:
    with pytest.raises(ValueError, match=r"^notifiers\[1\]: Misspelt tells nobody"):
        guard(notifiers=[Keyed("a"), Misspelt()], deferrable=deferrable)


def test_too_many_and_too_long_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 20"):
        record([Keyed("a")] * 21, importable=True)
    with pytest.raises(ValueError, match=r"notifiers\[0\].*characters long"):
        record([Keyed("a" * 30_000)], importable=True)


def test_a_local_class_is_refused_where_a_triggerer_has_to_import_it() -> None:
    class Local(Keyed):
        """A class of this function."""

    with pytest.raises(ValueError, match=r"^notifiers\[0\]: what is deferred needs"):
        guard(notifiers=[Local("a")], deferrable=True)
    assert guard(notifiers=[Local("a")], deferrable=False).notifiers[0].load() is Local


@pytest.mark.parametrize(
    "data",
    [5, "text", [5], [{"class": "a.b"}], [{"class": 5, "arguments": {}}], [{}] * 30],
)
def test_stored_nonsense_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="notifier"):
        from_json(data)


def test_what_is_no_notifier_is_never_made() -> None:
    with pytest.raises(Exception, match="is not a notifier of Airflow"):
        RecordedNotifier("subprocess.Popen", {"args": ["false"]}).load()


def guard(**parameters: Any) -> RolloutGuardSensor:
    given = {"batch_task_id": "5c8fb9d0e2f14a5b9c0d1e2f"}
    given["rules"] = '[{"rule": "MaxFailures", "count": 3}]'
    return RolloutGuardSensor(task_id="guard", **{**given, **parameters})
