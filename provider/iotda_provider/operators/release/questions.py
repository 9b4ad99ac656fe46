"""The questions that a release asks people: what is asked, and by which task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.notifier import BaseNotifier

from iotda_provider.airflow_support import questions
from iotda_provider.airflow_support.words import in_language
from iotda_provider.notifications.from_task import tell_people
from iotda_provider.release.gate import GO_ON, STOP

#: The answers to the question of the way back, and for how long it is open.
GIVE_BACK, LEAVE = "Give the old package back", "Leave them as they are"
_A_DAY = timedelta(hours=24)
# The words of the questions; words.zh-CN.json translates them.
_MAY_GO_ON = "May {about} go on after wave {wave}?"
_ABOUT_WAVE = (
    "{summary}\n\n{success} succeeded, {fail} failed, {running} running, {waiting} waiting, of "
    "{total} devices so far.\n\n- **{go_on}**: the guard looks once more. If nothing is against "
    "it, the next wave starts; after the last one the release is over.\n- **{stop}**: all of its "
    "batch tasks are stopped at once. It can't be undone.\n\nMeanwhile the guard goes on: it "
    "stops them if a rule is broken, and closes this question."
)
_MAY_GO_BACK = "May {devices} device(s) go back to {kind} {version}?"
_ABOUT_WAY_BACK = (
    "The release of {bad_version} was stopped. {summary}\n\n*{give_back}*: in waves, behind a "
    "guard of its own. *{leave}*: nothing is done. Without an answer nothing is done, either, and "
    "the question is closed after {time}."
)


def question_of(about: str, wave: int) -> str:
    """What a person is asked after a wave, in English as all messages are.

    :param about: how the question names the release
    """
    return _MAY_GO_ON.format(about=about, wave=wave)


def question(wave: int, about: str, result: str, **arguments: Any) -> Any:
    """The task that asks a person about a wave.

    :param about: how it names the release
    :param result: the expression, in a template, for what the wave's watch has returned
    :param arguments: of ``WaveApprovalOperator``
    """
    from iotda_provider.operators.release.approval import WaveApprovalOperator

    def count(*names: str) -> str:
        counts = [f"(({result}['progress'] or {{}}).get('{name}') or 0)" for name in names]
        return f"{{{{ {' + '.join(counts)} }}}}"

    return WaveApprovalOperator(
        task_id=f"wave_{wave}_ask",
        wave=wave,
        subject=in_language(_MAY_GO_ON).format(about=in_language(str(about)), wave=wave),
        body=in_language(_ABOUT_WAVE).format(
            summary=f"{{{{ {result}['summary'] }}}}",
            running=count("processing", "fail_wait_retry"),
            **{name: count(name) for name in ("success", "fail", "waiting", "total")},
            go_on=GO_ON,
            stop=STOP,
        ),
        **arguments,
    )


class _OpenQuestion(BaseNotifier):
    """Tells people of a question, in English as all messages are.

    :param question: the question (templated by the task that asks it)
    """

    def __init__(self, question: str, notifiers: Sequence[Any], iotda_conn_id: str) -> None:
        super().__init__()
        self._question = question
        self._notifiers = tuple(notifiers)
        self._iotda_conn_id = iotda_conn_id

    def notify(self, context: Any) -> None:
        said = context["task"].render_template(self._question, context)
        conn_id = self._iotda_conn_id
        tell_people(self._notifiers, context, "question_open", said, iotda_conn_id=conn_id)


def ask_about_way_back(
    task_id: str,
    *,
    if_yes: str,
    if_no: str,
    find_task_id: str,
    answer_within: timedelta = _A_DAY,
    notifiers: Sequence[Any] = (),
    assigned_users: Sequence[str | Mapping[str, str]] | None = None,
    iotda_conn_id: str = "iotda_default",
    **arguments: Any,
) -> Any:
    """The task that asks a person whether devices get the old package back.

    No answer within the time means no.

    :param if_yes: the task that follows a yes
    :param if_no: the task that follows a no
    :param find_task_id: the task of ``FindDevicesToRollBackOperator``
    :param answer_within: for how long the question is open
    :param notifiers: Airflow's notifiers that tell people of it; the event is ``question_open``
    :param assigned_users: who may answer: see ``staged_rollout``
    :param iotda_conn_id: the connection, for notifiers
    :param arguments: of the task, such as ``retries``
    """
    from iotda_provider.operators.release.approval import BranchByAnswerOperator

    users = questions.checked_users(assigned_users)
    found = f"ti.xcom_pull('{find_task_id}')"
    facts = {
        "devices": f"{{{{ {found}['devices'] }}}}",
        "kind": f"{{{{ {found}['kind'] }}}}",
        "version": f"{{{{ {found}['old_version'] }}}}",
        "bad_version": f"{{{{ {found}['version'] }}}}",
        "summary": f"{{{{ {found}['summary'] }}}}",
        "give_back": GIVE_BACK,
        "leave": LEAVE,
        "time": answer_within,
    }
    said = f"{_MAY_GO_BACK} {_ABOUT_WAY_BACK} Answer at Airflow's Required Actions."
    return BranchByAnswerOperator(
        task_id=task_id,
        subject=in_language(_MAY_GO_BACK).format_map(facts),
        body=in_language(_ABOUT_WAY_BACK).format_map(facts),
        options=[GIVE_BACK, LEAVE],
        options_mapping={GIVE_BACK: if_yes, LEAVE: if_no},
        defaults=[LEAVE],
        response_timeout=answer_within,
        notifiers=[_OpenQuestion(said.format_map(facts), notifiers, iotda_conn_id)],
        **({"assigned_users": users} if users else {}),
        **arguments,
    )
