"""The operators that report at the end of a release, and of a way back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.airflow_support.dag_runs import TasksOfRun
from iotda_provider.models.text import one_line
from iotda_provider.notifications.telling_task import TellingTask
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.release.manifest import CURRENT, OTHER_VERSION
from iotda_provider.task_io.dag_parameters import text_or_template

_LONGEST_ERROR, _LONGEST_NAME = 1_400, 250


@dataclass(frozen=True)
class Report:
    """What came of a run.

    :param text: for people
    :param facts: for other tasks
    :param batch_task_ids: the batch tasks that it is about
    :param is_good: the run may be green
    """

    text: str
    facts: dict[str, Any]
    batch_task_ids: Sequence[str] = ()
    is_good: bool = True


class _ReportOperator(TellingTask, IoTDABaseOperator):
    """Tell people what the other tasks of the run have left, in any case, and fail if it is bad.

    :param notifiers: Airflow's notifiers; the event is ``report``. The log has the report anyway
    """

    def __init__(self, *, notifiers: Iterable[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**{"trigger_rule": "all_done", **kwargs})
        self._tell_to(notifiers, deferrable=False)

    def execute(self, context: Context) -> dict[str, Any]:
        report = self._report(TasksOfRun(cast("dict[str, Any]", context)), context)
        ti: Any = context["ti"]
        # Other tasks find it even if this one fails.
        ti.xcom_push(key="return_value", value=report.facts)
        self.log.warning("%s", report.text)
        self.tell(context, "report", report.text, batch_task_ids=report.batch_task_ids)
        if not report.is_good:
            raise AirflowFailException(one_line(report.text, _LONGEST_ERROR))
        return report.facts

    @abstractmethod
    def _report(self, tasks: TasksOfRun, context: Context) -> Report:
        """What the tasks have left, in words and facts."""


class ReportReleaseOperator(_ReportOperator):
    """Tell people how a release has ended, in any case; fail if its version is not announced.

    It is the last task of ``dags/firmware_release.py``, and reads what the tasks ``check``,
    ``preview``, ``rollout.outcome``, ``collect``, ``reconcile``, ``announce``, ``try_again``,
    ``quarantine`` and ``way_back`` have left since the last clear. A DAG may lack any of these but
    ``announce``.

    XComs: the return value is that of ``rollout.outcome`` with ``announced``, ``failed_tasks`` and
    the ``counts`` of ``reconcile``; of a dry run it is that of ``preview``.

    :param package_id: names the release where its check has not (templated)
    :param notifiers: Airflow's notifiers; the event is ``report``. The log has the report anyway
    :param trigger_rule: Airflow's; ``all_done`` unless you say otherwise
    :param iotda_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("package_id", *CONNECTION_FIELDS)

    def __init__(self, *, package_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.package_id = text_or_template(package_id, "package_id")

    def _report(self, tasks: TasksOfRun, context: Context) -> Report:
        about, found = tasks.left_by("check") or {}, tasks.left_by("reconcile") or {}
        if preview := tasks.left_by("preview"):
            what = f"Dry run of the release of {about['kind']} {about['version']}."
            return Report(f"{what} {preview['summary']}", dict(preview))
        refused = context["ti"].xcom_pull(task_ids="check", key="refused")
        result = tasks.left_by("rollout.outcome") or {
            "verdict": "refused before it began" if refused else "unknown",
            "summary": refused,
        }
        ids = result.get("batch_task_ids") or ()
        announced = tasks.has_succeeded("announce")
        what = (
            "{kind} {version}".format_map(about)
            if about
            else f"package {_named(self.package_id) or '(none)'}"
        )
        said = [
            f"Release of {what} "
            f"{'announced' if announced else 'NOT announced'}: {result['verdict']}.",
            result.get("summary"),
            found.get("summary"),
            _never_begun(found),
            None if refused else _failed(tasks, ids),
            _cleaned_up(tasks),
        ]
        facts = {
            **result,
            "announced": announced,
            "failed_tasks": tasks.failed,
            "counts": found.get("counts"),
        }
        return Report(" ".join(filter(None, said)), facts, ids, is_good=announced)


class ReportWayBackOperator(_ReportOperator):
    """Tell people how a way back has ended; fail unless its devices have left the bad version.

    A device that was left out because it ran the old version already has left the bad one. So has a
    device that runs a third version now, such as a fix, and keeps it. If a person has said no, or
    nobody has answered, this task does not fail. It is the last task of
    ``dags/roll_back_release.py``, and reads what the tasks ``find``, ``ask``, ``find_again``,
    ``way_back.plan``, ``way_back.outcome`` and ``reconcile`` have left since the last clear.

    XComs: the return value ``{"done", "devices", "running", "on_another_version", "answer",
    "verdict", "counts"}``.

    :param release_run_id: the DAG run of the release (templated)
    :param notifiers: Airflow's notifiers; the event is ``report``. The log has the report anyway
    :param trigger_rule: Airflow's; ``all_done`` unless you say otherwise
    :param iotda_conn_id: the connection (templated)
    """

    template_fields: Sequence[str] = ("release_run_id", *CONNECTION_FIELDS)

    def __init__(self, *, release_run_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release_run_id = text_or_template(release_run_id, "release_run_id")

    def _report(self, tasks: TasksOfRun, context: Context) -> Report:
        again = tasks.left_by("find_again")
        found, result = (
            again or tasks.left_by("find") or {},
            tasks.left_by("way_back.outcome") or {},
        )
        after, answer = tasks.left_by("reconcile") or {}, tasks.left_by("ask", "answer")
        # Another version of the provider may not have written it.
        left_out = after.get("left_out") or {}
        # A run that is cleared as a whole finds fewer devices, and keeps its waves.
        wanted = (tasks.left_by("way_back.plan") or found).get("devices")
        current = left_out.get(CURRENT, 0)
        running, others = after.get("running", 0) + current, left_out.get(OTHER_VERSION, 0)
        is_done = wanted == running + others and not tasks.failed
        ids = result.get("batch_task_ids") or ()
        said = [
            f"The way back of {_named(self.release_run_id)}: {running} of "
            f"{'an unknown number of' if wanted is None else wanted} device(s) run "
            f"{found.get('old_version', 'the old version')}.",
            f"{others} device(s) run another version by now, and keep it." if others else "",
            _left_out(left_out),
            found.get("summary"),
            result.get("summary"),
            after.get("summary"),
        ]
        is_no = answer is not None and not again and not result
        if is_no:
            by = answer["by"] or "nobody has answered in time"
            said.append(f"Nothing is done: {answer['option']} ({by}).")
        said.append(_failed(tasks, ids))
        facts = {"done": is_done, "devices": wanted, "running": running, "answer": answer}
        facts["on_another_version"] = others
        facts |= {"verdict": result.get("verdict"), "counts": after.get("counts")}
        is_good = is_done or (is_no and not tasks.failed)
        return Report(" ".join(filter(None, said)), facts, ids, is_good=is_good)


def _left_out(counts: Mapping[str, int]) -> str:
    """Who was left out of the way back and is still where it was; empty: nobody."""
    said = [
        f"{count} {why.replace('_', ' ')}"
        for why, count in counts.items()
        if count and why not in (CURRENT, OTHER_VERSION)
    ]
    return f"Left out: {', '.join(said)} (the XCom left_out of the task reconcile)." if said else ""


def _named(name: object) -> str:
    return one_line(name, _LONGEST_NAME)


def _failed(tasks: TasksOfRun, batch_task_ids: Sequence[str]) -> str:
    """Which tasks have failed, and what to do; empty: none."""
    if not tasks.failed:
        return ""
    said = f"FAILED: {', '.join(tasks.failed)}. Their logs say why; clear them to go on from there."
    if batch_task_ids:
        said += f" See at the console what these batch tasks do: {', '.join(batch_task_ids)}."
    return said


def _never_begun(found: dict[str, Any]) -> str:
    """How many devices were in waves that never began, and where they are named."""
    count = found.get("counts", {}).get("wave_not_begun")
    if not count:
        return ""
    return (
        f"{count} device(s) of waves that never began are in no batch task: see the XCom "
        "wave_not_begun of the task reconcile"
        + (f", and {found['report_path']}." if found["report_path"] else ".")
    )


def _cleaned_up(tasks: TasksOfRun) -> str:
    """Why devices failed, and what was done for them."""
    said = []
    if reasons := tasks.left_by("collect", "failures_by_class"):
        said.append(f"Failures: {reasons}.")
    if group := tasks.left_by("quarantine"):
        said.append(f"{group['added']} device(s) are in the group {group['name']}.")
    if again := tasks.left_by("try_again"):
        held = f"Batch task {' and '.join(again['batch_task_ids'])}"
        said.append(
            f"{held} has ended already ({again['status']})."
            if again["ended"]
            else f"{held} holds the {again['devices']} device(s) that failed by their environment. "
            "Confirm it, or stop it before the next release to any of them."
        )
    if tasks.has_succeeded("way_back"):
        said.append("A run of roll_back_release gives devices the old package back, or asks.")
    return " ".join(said)
