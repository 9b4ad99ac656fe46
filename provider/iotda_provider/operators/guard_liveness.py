"""Whether guards that should watch do, and a sign of life to somebody outside of Airflow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from iotda_provider.airflow_support.guard_runs import GUARD_TASK_ID
from iotda_provider.rollout_guard.live_record import LIVE_KEY, STALE_SECONDS, WRITES_PER_SECOND

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.models import BatchTask
    from iotda_provider.models.log import Log

#: Records that are read at one look: a question each. With more guards each is read less often.
_MOST_READ = 300
#: XCom: when people were last told of each guard that does not watch.
_TOLD = "told_of_overdue_guards"
_TELL_EVERY = 3600.0
_HEARTBEAT_SECONDS = 5.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def find_overdue_guards(
    context: Context, watched: Mapping[str, str], dag_id: str, log: Log
) -> dict[str, float]:
    """The guards whose record is overdue, and by how many seconds.

    Where a triggerer has died, another one takes its guards over and writes a record of each, some
    in a second: a guard is overdue only where all guards together would have had their turn.

    :param watched: the id of the run, for each batch task whose guard should watch
    """
    ti: Any = context["ti"]
    now = time.time()
    parts = -(-len(watched) // _MOST_READ) or 1
    part = int(now // 60) % parts
    patience = STALE_SECONDS + len(watched) / WRITES_PER_SECOND
    overdue: dict[str, float] = {}
    for number, (batch_task_id, run_id) in enumerate(sorted(watched.items())):
        if number % parts != part:
            continue
        try:
            record = ti.xcom_pull(
                dag_id=dag_id,
                run_id=run_id,
                task_ids=GUARD_TASK_ID,
                key=LIVE_KEY,
                map_indexes=-1,
            )
        except Exception as error:  # noqa: BLE001 - what is not known is no reason for an alarm
            log.warning("Whether guards watch can't be read now: %s", error)
            break
        due = _seconds(record.get("due")) if isinstance(record, Mapping) else None
        # It has ended, or comes from a release of ours that wrote none.
        if due is not None and now - due > patience:
            overdue[batch_task_id] = now - due
    return overdue


def complain_of_overdue_guards(
    context: Context,
    overdue: Mapping[str, float],
    rollouts: Mapping[str, BatchTask],
    tell_people: Callable[[str, str], Any] | None,
    log: Log,
) -> None:
    """An error for each guard that does not watch, and a message to people once an hour."""
    ti: Any = context["ti"]
    lines = {
        batch_task_id: f"{batch_task_id} ({rollouts[batch_task_id].task_name}) MAY BE UNGUARDED: "
        f"its guard is overdue by {seconds:.0f} s. Are enough triggerers alive, with room for it?"
        for batch_task_id, seconds in overdue.items()
    }
    for line in lines.values():
        log.error("%s", line)
    # Without an index Airflow 3 returns those of all looks ever.
    before = ti.xcom_pull(task_ids=ti.task_id, key=_TOLD, include_prior_dates=True, map_indexes=-1)
    now = time.time()
    told = {
        batch_task_id: moment
        for batch_task_id, moment in (before if isinstance(before, Mapping) else {}).items()
        if isinstance(moment, (int, float)) and now - moment < _TELL_EVERY
    }
    news = [batch_task_id for batch_task_id in overdue if batch_task_id not in told]
    if news and tell_people is not None:
        try:
            tell_people(
                f"{len(news)} rollout(s) MAY BE UNGUARDED",
                "\n".join(lines[batch_task_id] for batch_task_id in news[:20]),
            )
        except Exception:  # whatever a user's function does
            log.exception("tell_people failed; people have to read this log.")
    ti.xcom_push(key=_TOLD, value={**told, **dict.fromkeys(news, now)})


def check_heartbeat_url(url: object) -> str | None:
    """The URL as it was given; empty is None.

    :raises ValueError: it is no https URL
    """
    if url is None or url == "":
        return None
    if not isinstance(url, str):
        raise ValueError(f"heartbeat_url must be text, got a {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise ValueError(f"heartbeat_url is no URL: {error}") from None
    # What is behind the host may be a secret.
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise ValueError("heartbeat_url must begin with https://")
    if not host:
        raise ValueError("heartbeat_url names no host")
    return url


def send_heartbeat(url: str, log: Log) -> None:
    """Ask for the URL; where that fails there is one line in the log, without the URL's path.

    In a thread, as somebody who answers byte by byte must not hold up the look.
    """
    thread = threading.Thread(target=_ask_for, args=(url, log), daemon=True)
    thread.start()
    thread.join(2 * _HEARTBEAT_SECONDS)
    if thread.is_alive():
        log.warning("heartbeat_url: %s takes its time.", urlsplit(url).hostname)


def _ask_for(url: str, log: Log) -> None:
    import requests

    host = urlsplit(url).hostname
    try:
        # What comes is not read, no redirect leads anywhere else, and nothing is sent of ~/.netrc.
        with requests.get(
            url,
            timeout=_HEARTBEAT_SECONDS,
            allow_redirects=False,
            stream=True,
            auth=lambda request: request,
        ) as answer:
            if not 200 <= answer.status_code < 300:
                log.warning("heartbeat_url: %s answers with HTTP %d.", host, answer.status_code)
    except Exception as error:  # noqa: BLE001 - whatever it is, the look was a good one
        log.warning("heartbeat_url: %s can't be reached: %s", host, type(error).__name__)


def _seconds(text: Any) -> float | None:
    """A moment as Airflow's users read it, in seconds since the epoch."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return None
