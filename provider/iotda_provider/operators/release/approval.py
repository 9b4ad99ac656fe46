"""The tasks that ask a person about a release; for Airflow 3.1 and later."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import Context
from airflow.providers.standard.operators.hitl import HITLBranchOperator

from iotda_provider.airflow_support import questions
from iotda_provider.airflow_support.deferral import DeferrableTask
from iotda_provider.airflow_support.task_notes import notes_of, owner_of
from iotda_provider.airflow_support.trigger_events import Event
from iotda_provider.exceptions import IoTDAError
from iotda_provider.models.text import one_line
from iotda_provider.operators.branch import BranchOperator
from iotda_provider.operators.release.plan import created_parts
from iotda_provider.operators.release.wave import AUDIT_LIMIT, GuardedOperator
from iotda_provider.release.gate import GO_ON, STOP
from iotda_provider.release.open_question import ANSWERED, THE_GUARD, QuestionJob
from iotda_provider.rollout_guard import Memory
from iotda_provider.rollout_guard.memory_store import forget_triggers_memory, load_triggers_memory
from iotda_provider.task_io.dag_parameters import airflow_id, text_or_template
from iotda_provider.task_io.parameters import whole_number

#: Airflow's own limit of a deferral is later than the question's, which the trigger closes first.
_MARGIN = timedelta(minutes=5)
#: The note of a person's stop. The next try has a question of its own, without the answer.
_STOP_NOTE = "stop_answer"


class BranchByAnswerOperator(HITLBranchOperator):
    """Follow the task that a person has chosen.

    Not an ``ApprovalOperator``, whose Reject skips everything downstream, a stop included. Without
    an answer nothing happens, for as long as it takes, unless ``defaults`` and ``response_timeout``
    say otherwise.

    XComs: those of ``HITLBranchOperator``, and ``answer``: ``{"option", "by"}``, pushed before
    anything is skipped.
    """

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        ti: Any = context["ti"]
        if "error" not in event:
            answer = questions.answer_of(event)
            ti.xcom_push(key="answer", value=answer)
            self.log.info("The answer is %r.", answer["option"])
        return super().execute_complete(context=context, event=event)


class WaveApprovalOperator(DeferrableTask, GuardedOperator, BranchOperator):
    """Ask a person after a wave: go on with the next one, or stop the release.

    While the question is open, the guard goes on in the triggerer, whatever the release's
    ``deferrable``. A breach stops all batch tasks at once and closes the question: its answer is
    then *Stop the release*, given by nobody, with the reason beside it. It does the same if
    somebody else has stopped or deleted a batch task. If a breach and an answer come at the same
    moment, the breach counts. Without a triggerer, as in ``dag.test()``, Airflow 3.3 still takes
    the answer, and nobody guards meanwhile.

    Notifiers, or an ``on_alert``, that the triggerer can't import are called once the task resumes.

    Without an answer nothing happens, for as long as it takes, unless ``response_timeout`` is set:
    then silence stops the release. A stop is noted as soon as the task resumes with it: if the
    worker dies then, the next try follows it and asks nobody. It asks again after a *Go on*.

    XComs: ``answer``: ``{"option", "by", "verdict", "rule", "summary"}``, where ``verdict`` is
    ``answered``, or what the guard has seen (``breached``, ``stopped_elsewhere``, ``lost``), in
    which case ``by`` is ``the guard``; ``branch``, the tasks that were followed; and ``live``.

    :param wave: after which wave it is asked, from 1
    :param create_task_id: the wave's ``CreateWaveOperator``, whose result names the batch tasks
    :param subject: what is asked (templated)
    :param body: what there is to know before one answers (templated)
    :param if_go_on: the task that follows a yes
    :param if_stop: the task that follows a no, and a stop by the guard
    :param assigned_users: who may answer, as ``{"id", "name"}``; none: whoever may answer questions
        of this DAG at all
    :param response_timeout: for how long the question is open; None: until it is answered
    """

    template_fields: Sequence[str] = (*GuardedOperator.template_fields, "subject", "body")

    def __init__(
        self,
        *,
        wave: int,
        create_task_id: str,
        subject: str,
        body: str,
        if_go_on: str,
        if_stop: str,
        assigned_users: Sequence[str | Mapping[str, str]] | None = None,
        response_timeout: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave = whole_number(wave, "wave")
        self.create_task_id = airflow_id(create_task_id, "create_task_id")
        self.subject = text_or_template(subject, "subject")
        self.body = text_or_template(body, "body")
        self.options_mapping = {
            GO_ON: airflow_id(if_go_on, "if_go_on"),
            STOP: airflow_id(if_stop, "if_stop"),
        }
        self.assigned_users = questions.checked_users(assigned_users)
        if not isinstance(response_timeout, (timedelta, type(None))):
            raise ValueError("response_timeout must be a timedelta")
        self.response_timeout = response_timeout
        self.defaults = None if response_timeout is None else [STOP]
        try:
            self._tell_to(self.notifiers, self.on_alert, deferrable=True)
            self._tells_late = False
        except ValueError:
            self._tells_late = True

    def execute(self, context: Context) -> Any:
        self.refuse_mapped(context)
        ti: Any = context["ti"]
        if isinstance(noted := notes_of(context).get(_STOP_NOTE), Mapping):
            self.log.warning("An earlier try was told to stop the release, and did not end.")
            return self._answered(context, {"option": STOP, "by": noted.get("by")})
        questions.put(
            str(ti.id),
            subject=self.subject,
            body=self.body,
            options=list(self.options_mapping),
            defaults=self.defaults,
            assigned_users=self.assigned_users,
        )
        self.log.info("Waiting for an answer.")
        questions.park_in_dag_test("execute_complete", self.response_timeout)
        return self._wait(context, self.memory_of(context, tuple(self.waited_for(context))))

    def _wait(self, context: Context, memory: Memory) -> NoReturn:
        """Wait for the answer in the triggerer, where the guard goes on."""
        from iotda_provider.triggers.open_question import OpenQuestionTrigger

        ti: Any = context["ti"]
        now, limit = time.time(), self.response_timeout
        self.memory_store(context).hand_over(memory.to_json())
        job = QuestionJob(
            wave=self.wave,
            batch_task_ids=memory.batch_task_ids,
            ti_id=str(ti.id),
            until=None if limit is None else now + limit.total_seconds(),
        )
        nobody: dict[str, Any] = {"on_alert": None, "notifiers": [], "try_number": 1}
        trigger = OpenQuestionTrigger(
            guard=self.watch_over(memory).plan.to_dict(),
            job=job.to_json(),
            files=self.files(context).to_json(),
            owner=owner_of(ti),
            began=now,
            starts_at=now,
            **(nobody if self._tells_late else self.told(context)),
            **self.connection,
        )
        self.wait_for_event(trigger, None if limit is None else limit + _MARGIN)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Resume with the trigger's event, or, since Airflow 3.3, with the answer itself.

        :raises IoTDAError: the event makes no sense, or reports an error
        """
        if not isinstance(event, Mapping) or "status" in event:
            return super().execute_complete(context, event)
        if "chosen_options" not in event:
            raise IoTDAError(f"The question was not answered: {one_line(event, 300)}")
        return self._answered(context, questions.answer_of(event))

    def waited_for(self, context: Context) -> Sequence[str]:
        parts = created_parts(context["ti"], self.create_task_id)
        return [str(part.batch_task_id) for part in parts]

    def resumed(self, context: Context, event: Event) -> Any:
        if event.result is not None and event.result["verdict"] == ANSWERED:
            self._note(context, event.result)
        more = (event.memory, load_triggers_memory(context))
        store = self.memory_store(context)
        memory = store.recall(event.batch_task_ids, AUDIT_LIMIT, *more)
        if event.result is not None:
            return self._conclude(context, memory, event.result)
        store.take_back(memory.to_json())
        forget_triggers_memory(context)
        raise self.error_of(event)

    def without_triggerer(self, context: Context) -> Any:
        self.log.warning("Nobody has answered in time, and no triggerer has guarded meanwhile.")
        return self._answered(context, {"option": STOP, "by": None})

    def _answered(self, context: Context, answer: Mapping[str, Any]) -> Any:
        """Go on with an answer that the trigger may not know of."""
        self._note(context, answer)
        memory = self.memory_of(context, tuple(self.waited_for(context)))
        if memory.intent is not None:
            self.log.warning("The guard was stopping the release when the answer came.")
            self._wait(context, memory)
        said = f"The answer after wave {self.wave} is {answer['option']!r}."
        return self._conclude(context, memory, {**answer, "verdict": ANSWERED, "summary": said})

    def _note(self, context: Context, answer: Mapping[str, Any]) -> None:
        """Keep a stop for the next try."""
        if answer["option"] != STOP:
            return
        try:
            notes_of(context).set(_STOP_NOTE, {"by": answer["by"]})
        except Exception:
            self.log.exception("The answer can't be noted: if this try dies, the next asks again.")

    def _conclude(self, context: Context, memory: Memory, result: Mapping[str, Any]) -> Any:
        option, summary = result["option"], str(result["summary"])
        if option not in self.options_mapping:
            raise IoTDAError(f"The answer {one_line(option, 100)!r} is no option of the question.")
        self.leave_memory(context, memory)
        ti: Any = context["ti"]
        kept = ("option", "by", "verdict", "rule", "summary")
        ti.xcom_push(key="answer", value={key: result.get(key) for key in kept})
        if self._tells_late and result["by"] == THE_GUARD:
            ids = memory.batch_task_ids
            self.tell(context, "breach", summary, batch_task_ids=ids)
        self.settle_memory(context, memory)
        forget_triggers_memory(context)
        return self.follow(context, [self.options_mapping[option]], summary.rstrip("."))
