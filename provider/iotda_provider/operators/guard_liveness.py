"""Checks that guards still watch, and sends a heartbeat to a service outside of Airflow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import Context

from iotda_provider.airflow_support.guard_runs import GUARD_TASK_ID
from iotda_provider.models import BatchTask
from iotda_provider.models.log import Log
from iotda_provider.models.times import read_time
from iotda_provider.notifications.audience import Audience
from iotda_provider.notifications.in_worker import tell
from iotda_provider.release import under_way
from iotda_provider.rollout_guard.alerts import Alert
from iotda_provider.rollout_guard.live_record import LIVE_KEY, STALE_SECONDS, WRITES_PER_SECOND
from iotda_provider.rollout_guard.outcome import to_text

#: At most so many records are read in one look, with one request each. With more guards, each is
#: read less often: each look goes on where the one before has stopped.
_MOST_READ = 300
#: Key of the XCom ``{"last", "without_record"}``: the last guard that was read, and since when each
#: guard that watches has had no record.
_READ = "read_guards"
#: A guard writes its first record within seconds; without one after so many, it is overdue.
_SECONDS_WITHOUT_RECORD = 600.0
#: Key of the XCom that says when people were last told of each overdue guard.
_TOLD = "told_of_overdue_guards"
_TELL_EVERY = 3600.0
#: Even if rollouts wait, a notifier has so many seconds: it may not end after the task has ended.
_SECONDS_FOR_EACH_IF_URGENT = 2.0
#: The most rollouts that a message names.
_MOST_NAMED = 5
_HEARTBEAT_SECONDS = 5.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def left_before(ti: Any, key: str) -> Mapping[str, Any]:
    """What the look before has left in an XCom; empty: nothing."""
    # Without map_indexes, Airflow 3 returns the XComs of all earlier looks.
    left = ti.xcom_pull(task_ids=ti.task_id, key=key, include_prior_dates=True, map_indexes=-1)
    return left if isinstance(left, Mapping) else {}


def find_overdue_guards(
    context: Context,
    watched: Mapping[str, str],
    dag_id: str,
    log: Log,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """The guards whose XCom ``live`` is overdue, and by how many seconds.

    After the death of a triggerer another one takes its guards over and writes all their records,
    five in a second. So a guard is overdue only after the time that all guards together need. A
    guard without any record is overdue after ten minutes.

    :param watched: the id of the guard's run, by batch task
    :param dag_id: the DAG of these runs
    :param is_over: whether there is no time to read a further record in this look
    :returns: the seconds by which a guard is overdue, by batch task
    """
    ti: Any = context["ti"]
    now = time.time()
    before = left_before(ti, _READ)
    last, without = str(before.get("last")), before.get("without_record")
    since = {
        batch_task_id: min(now, float(moment))
        for batch_task_id, moment in (without if isinstance(without, Mapping) else {}).items()
        if batch_task_id in watched and isinstance(moment, (int, float))
    }
    patience = STALE_SECONDS + len(watched) / WRITES_PER_SECOND
    overdue: dict[str, float] = {}
    in_turn = sorted(watched, key=lambda batch_task_id: (batch_task_id <= last, batch_task_id))
    for batch_task_id in in_turn[:_MOST_READ]:
        if is_over():
            break
        try:
            record = _xcom().get_one(
                dag_id=dag_id,
                run_id=watched[batch_task_id],
                task_id=GUARD_TASK_ID,
                key=LIVE_KEY,
                map_index=-1,
            )
        except Exception as error:  # noqa: BLE001 - a record that can't be read is no alarm
            log.warning("The records of guards can't be read now: %s", error)
            break
        last = batch_task_id
        if record is None:
            waited = now - since.setdefault(batch_task_id, now)
            if waited > max(patience, _SECONDS_WITHOUT_RECORD):
                overdue[batch_task_id] = waited
            continue
        since.pop(batch_task_id, None)
        # None: the guard has ended.
        due = _seconds(record.get("due")) if isinstance(record, Mapping) else None
        if due is not None and now - due > patience:
            overdue[batch_task_id] = now - due
    ti.xcom_push(key=_READ, value={"last": last, "without_record": since})
    return overdue


def _xcom() -> Any:
    """Airflow's XComs; in Airflow 2 a task instance pulls none of other runs."""
    from airflow.providers.common.compat.sdk import XCom

    return XCom


def find_paused_releases(ti: Any, log: Log) -> dict[str, str]:
    """A sentence for each release under way whose DAG is paused, by the release's name.

    A wave that waits in the triggerer goes on, and confirms its devices. Behind it Airflow starts
    no task, so nobody guards these devices.
    """
    try:
        return {
            note.release: f"{note} MAY BE UNGUARDED: its DAG is paused, so Airflow starts none of "
            "its tasks, and those that are deferred go on. Unpause it; then mark the run as failed "
            "if nothing of it is to go on."
            for note in under_way.paused(ti, log)
        }
    except Exception as error:  # noqa: BLE001 - what can't be read is no alarm
        log.warning("Whether releases are paused can't be read now: %s", error)
        return {}


def report_overdue_guards(
    context: Context,
    overdue: Mapping[str, float],
    rollouts: Mapping[str, BatchTask],
    audience: Audience,
    log: Log,
    is_urgent: Callable[[], bool] = lambda: False,
    paused: Mapping[str, str] | None = None,
) -> None:
    """Log an error for each overdue guard and paused release, and tell people of each once an hour.

    If nobody has been told by the end of this call, the next look tells them again.

    :param overdue: the seconds by which a guard is overdue, by batch task
    :param rollouts: the running rollouts, by batch task
    :param paused: a sentence for each paused release
    :param audience: whom to tell
    :param is_urgent: whether rollouts without a guard wait for the end of this call; then each
        notifier has two seconds, not ten
    """
    ti: Any = context["ti"]
    lines = {
        batch_task_id: f"{batch_task_id} ({rollouts[batch_task_id].task_name}) MAY BE UNGUARDED: "
        f"its guard is overdue by {seconds:.0f} s. Are enough triggerers alive, with room for it?"
        for batch_task_id, seconds in overdue.items()
    } | dict(paused or {})
    for line in lines.values():
        log.error("%s", line)
    now = time.time()
    told = {
        each: moment
        for each, moment in left_before(ti, _TOLD).items()
        if isinstance(moment, (int, float)) and now - moment < _TELL_EVERY
    }
    news = [each for each in lines if each not in told]
    if news:
        said = " ".join(lines[each] for each in news[:_MOST_NAMED])
        ids = [each for each in news if each in overdue]
        facts = {"batch_task_ids": ids, "time": to_text(now), "progress": []}
        alert = Alert("overdue", f"{len(news)} rollout(s) MAY BE UNGUARDED. {said}", facts)
        event, least = audience.event(alert.to_json()), _SECONDS_FOR_EACH_IF_URGENT
        if tell(audience, event, log, is_urgent, least_seconds=least):
            told |= dict.fromkeys(news, now)
    ti.xcom_push(key=_TOLD, value=told)


def check_heartbeat_url(url: object) -> str | None:
    """Check the parameter ``heartbeat_url``, and return it; None if it is empty.

    :raises ValueError: it is not an https URL
    """
    if url is None or url == "":
        return None
    if not isinstance(url, str):
        raise ValueError(f"heartbeat_url must be text, got a {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise ValueError(f"heartbeat_url is not a URL: {error}") from None
    # The message does not show the URL, because its path may be a secret.
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise ValueError("heartbeat_url must begin with https://")
    if not host:
        raise ValueError("heartbeat_url has no host")
    return url


def send_heartbeat(url: str, log: Log, seconds: float = 2 * _HEARTBEAT_SECONDS) -> None:
    """Request the URL (GET). If that fails, log one line without the URL's path.

    The request runs in a thread, because a server that answers very slowly must not hold up the
    look.

    :param seconds: how long to wait for the answer at most
    """
    thread = threading.Thread(target=_get, args=(url, log), daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        host = urlsplit(url).hostname
        log.warning("heartbeat_url: %s has not answered within %.0f s.", host, seconds)


def _get(url: str, log: Log) -> None:
    import requests

    host = urlsplit(url).hostname
    try:
        # The body is not read, no redirect is followed, and no password of ~/.netrc is sent.
        with requests.get(
            url,
            timeout=_HEARTBEAT_SECONDS,
            allow_redirects=False,
            stream=True,
            auth=lambda request: request,
        ) as answer:
            if not 200 <= answer.status_code < 300:
                log.warning("heartbeat_url: %s answers with HTTP %d.", host, answer.status_code)
    except Exception as error:  # noqa: BLE001 - no error of a heartbeat may fail the look
        log.warning("heartbeat_url: %s can't be reached: %s", host, type(error).__name__)


def _seconds(text: Any) -> float | None:
    """A time in ISO 8601 in seconds since the epoch; None: the text is something else."""
    try:
        return read_time(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None
