"""All that the page reads of Airflow's database: a fixed number of queries for each request."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, case, or_, select

from iotda_provider.rollout_guard.alerts import ALERT_KEY
from iotda_provider.rollout_guard.live_record import HEADER_KEY, LIVE_KEY
from iotda_provider.ui.xcom_shapes import Header, header_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ANSWER_KEY, REASONS_KEY, RESULT_KEY = "answer", "reasons", "return_value"
#: A run that has failed is shown among the open ones for so long.
_FAILED_IS_OPEN = timedelta(days=7)
_UNFINISHED = ("queued", "running")


@dataclass(frozen=True)
class Record:
    """One guard, stop or release, as its XCom ``rollout`` tells of it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    dag_run_id: int
    header: Header
    at: datetime
    run_state: str
    run_began: datetime | None
    run_by: str | None
    task_state: str | None

    @property
    def run(self) -> tuple[str, str]:
        return self.dag_id, self.run_id


@dataclass(frozen=True)
class SeenXCom:
    """One XCom of a task instance, with the state of that task instance."""

    task_id: str
    map_index: int
    key: str
    value: Any
    at: datetime
    task_state: str | None
    task_began: datetime | None
    task_ended: datetime | None


@dataclass(frozen=True)
class Question:
    """A question to a person that nobody has answered yet."""

    task_id: str
    subject: str
    body: str
    options: list[str]
    asked_at: datetime | None


@dataclass(frozen=True)
class Seen:
    """What was read of some runs: their records, XComs and open questions."""

    records: Sequence[Record] = ()
    xcoms: dict[tuple[str, str], list[SeenXCom]] = field(default_factory=dict)
    questions: dict[tuple[str, str], list[Question]] = field(default_factory=dict)


def records(
    session: Session,
    dag_ids: Collection[str],
    *,
    limit: int,
    only_open_at: datetime | None = None,
    first: tuple[str, str] | None = None,
) -> list[Record]:
    """The guards, stops and releases of some DAGs: unfinished runs first, then the newest.

    :param only_open_at: the present time, for only those whose run is unfinished or has failed in
        the last seven days; None: all
    :param first: DAG id and run id of a run that comes before all others
    """
    is_unfinished = DagRun.state.in_(_UNFINISHED)
    order = [case((is_unfinished, 0), else_=1), XComModel.timestamp.desc()]
    if first is not None:
        is_first = and_(XComModel.dag_id == first[0], XComModel.run_id == first[1])
        order.insert(0, case((is_first, 0), else_=1))
    query = (
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.dag_run_id,
            XComModel.value.label("header"),
            XComModel.timestamp.label("at"),
            DagRun.state.label("run_state"),
            DagRun.start_date.label("run_began"),
            DagRun.triggering_user_name.label("run_by"),
            TaskInstance.state.label("task_state"),
        )
        .join(DagRun, DagRun.id == XComModel.dag_run_id)
        .join(TaskInstance, _of_the_same_task())
        .where(XComModel.key == HEADER_KEY, XComModel.dag_id.in_(dag_ids))
        .order_by(*order)
        .limit(limit)
    )
    if only_open_at is not None:
        has_failed = and_(
            DagRun.state == "failed", DagRun.end_date > only_open_at - _FAILED_IS_OPEN
        )
        query = query.where(or_(is_unfinished, has_failed))
    found = []
    for row in session.execute(query):
        header = header_of(_value(row.header))
        if header is not None:
            found.append(Record(**{**row._mapping, "header": header}))
    return found


def about_the_same(found: Sequence[Record], dag_id: str, run_id: str) -> list[Record]:
    """The records of one run, and all others that are about one of its batch tasks."""
    own = [record for record in found if record.run == (dag_id, run_id)]
    ids = {task_id for record in own for task_id in record.header.batch_task_ids}
    return [
        record
        for record in found
        if record.run == (dag_id, run_id) or ids & set(record.header.batch_task_ids)
    ]


def seen_of(session: Session, found: Sequence[Record], *, with_results: bool = False) -> Seen:
    """What the runs of some records show besides.

    :param with_results: also the return values of the tasks that have written the records
    """
    run_ids = {record.dag_run_id for record in found}
    return Seen(
        records=found,
        xcoms=_xcoms(session, run_ids, {r.task_id for r in found} if with_results else set()),
        questions=_questions(session, run_ids),
    )


def _xcoms(
    session: Session, run_ids: Collection[int], with_results: Collection[str]
) -> dict[tuple[str, str], list[SeenXCom]]:
    wanted: Any = XComModel.key.in_((LIVE_KEY, ALERT_KEY, ANSWER_KEY, REASONS_KEY))
    if with_results:
        is_result = and_(XComModel.key == RESULT_KEY, XComModel.task_id.in_(with_results))
        wanted = or_(wanted, is_result)
    query = (
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.key,
            XComModel.value,
            XComModel.timestamp.label("at"),
            TaskInstance.state.label("task_state"),
            TaskInstance.start_date.label("task_began"),
            TaskInstance.end_date.label("task_ended"),
        )
        .join(TaskInstance, _of_the_same_task())
        .where(XComModel.dag_run_id.in_(run_ids), wanted)
        .order_by(XComModel.timestamp)
    )
    found: dict[tuple[str, str], list[SeenXCom]] = {}
    for row in session.execute(query):
        shown = {**row._mapping, "value": _value(row.value)}
        run = shown.pop("dag_id"), shown.pop("run_id")
        found.setdefault(run, []).append(SeenXCom(**shown))
    return found


def _questions(session: Session, run_ids: Collection[int]) -> dict[tuple[str, str], list[Question]]:
    # Airflow 3.1.0 has other names for some of the columns.
    answered = getattr(HITLDetail, "responded_at", None) or HITLDetail.response_at
    asked = getattr(HITLDetail, "created_at", None)
    columns = [HITLDetail.subject, HITLDetail.body, HITLDetail.options]
    query = (
        select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            *columns,
            (TaskInstance.start_date if asked is None else asked).label("asked_at"),
        )
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .join(
            DagRun,
            and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id),
        )
        .where(DagRun.id.in_(run_ids), answered.is_(None), TaskInstance.end_date.is_(None))
    )
    found: dict[tuple[str, str], list[Question]] = {}
    for row in session.execute(query):
        found.setdefault((row.dag_id, row.run_id), []).append(
            Question(
                task_id=row.task_id,
                subject=str(row.subject or ""),
                body=str(row.body or ""),
                options=[str(option) for option in row.options or ()],
                asked_at=row.asked_at,
            )
        )
    return found


def dag(session: Session, dag_id: str) -> dict[str, bool]:
    """Whether a DAG is there, and whether it is paused."""
    query = select(DagModel.is_paused, DagModel.is_stale).where(DagModel.dag_id == dag_id)
    row = session.execute(query).first()
    exists = row is not None and not row.is_stale
    return {"exists": exists, "is_paused": bool(exists and row is not None and row.is_paused)}


def _of_the_same_task() -> Any:
    return and_(
        TaskInstance.dag_id == XComModel.dag_id,
        TaskInstance.run_id == XComModel.run_id,
        TaskInstance.task_id == XComModel.task_id,
        TaskInstance.map_index == XComModel.map_index,
    )


def _value(value: Any) -> Any:
    """The XCom's value; text that is no JSON is a value of its own."""
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
