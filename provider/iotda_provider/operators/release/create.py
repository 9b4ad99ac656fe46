"""The operator that creates the batch tasks of one wave, in which every device waits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, Context

from iotda_provider.airflow_support.installation import refuse_a_copy
from iotda_provider.guards.retries import retry_warnings
from iotda_provider.models.platform_retries import PlatformRetries
from iotda_provider.models.text import what_is
from iotda_provider.operators.batch_task.create import not_before
from iotda_provider.operators.release.results import number_in
from iotda_provider.operators.release.window import WindowedOperator
from iotda_provider.release.create_job import CreateJob
from iotda_provider.release.create_wave import WaveCreation
from iotda_provider.release.gate import GO_ON
from iotda_provider.release.manifest import Part
from iotda_provider.release.other_releases import ReleaseNote
from iotda_provider.release.storage import ReleaseFiles
from iotda_provider.rollout_guard.live_record import HEADER_KEY
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.dag_parameters import flag, object_or_template, text_or_template
from iotda_provider.task_io.parameters import as_mapping, as_text, none_if_blank
from iotda_provider.task_io.reports import push_xcom


class CreateWaveOperator(WindowedOperator):
    """Create the batch tasks of one wave, each of them once; their devices wait to be confirmed.

    A wave of more than 30,000 devices has several batch tasks. The devices of the wave are written
    down before the first is created. Each name ends with a stamp that is the same at every try, so
    a task that was killed between two of them, or whose answer was lost, finds what it has created
    before. Meanwhile the guard watches the earlier waves, and stops them if a rule breaks.

    Before that, the devices are looked at again. Left out are those that run the version by now
    (``already_current``), those that do not exist any more (``gone``), those that belong to another
    product by now (``other_product``), and those that another unfinished upgrade holds
    (``held_elsewhere``), which are added to the last wave. With a ``from_version``, devices of
    another version (``runs_another_version``) and of an unknown one (``version_unread``) are left
    out, too. Of other upgrades the newest batch tasks are read first, and at most as many pages of
    rows as the release has devices; the log says what was not read.
    Also held are the devices in the groups of a release in this Airflow that began before and is
    under way, unless it is for another product; the log names it. A release without ``group_ids``
    gives way to those that began after it, too. The way back ignores the groups of other releases.
    While another release's groups can't be read, the wave waits, and a person is told.

    A batch task that the platform refuses, for a quota for example, does not end this task: a
    person is told, and it is asked for again. If that takes more than an hour, the devices that are
    in no batch task yet are looked at again, and may be left out in the same way. Where no device
    was confirmed yet, and the request itself makes no sense, it fails.

    XCom: the return value ``{"wave", "verdict": "created" | "breached" | "stopped_elsewhere" |
    "lost" | "surplus", "batch_task_ids", "parts", "all_parts", "devices", "left_out", "progress",
    "summary"}``. ``parts`` are the batch tasks of this wave, ``{"wave", "part", "task_name",
    "devices", "batch_task_id"}``, and ``all_parts``, with ``batch_task_ids``, all so far.

    :param task_name: how the names of the batch tasks begin: letters (a-z, A-Z, Chinese), digits or
        ``_`` (templated)
    :param task_type: ``firmwareUpgrade`` or ``softwareUpgrade`` (templated)
    :param document: ``{"package_ids": [...]}`` (templated)
    :param task_policy: as of ``CreateBatchTaskOperator`` (templated)
    :param app_id: resource space (templated)
    :param opened_by: the tasks that let this wave begin, as ids ``{"gate", "ask", "entry"}``. It
        begins if the gate has followed ``entry``, or has followed ``ask`` (None: nobody is asked)
        and a person has said yes there. A task that was only marked as a success by hand opens
        nothing. None: it begins in any case, as the first wave does
    :param from_version: only for devices that run this version when the wave begins, so that nobody
        loses a version that came meanwhile; None: whatever they run (templated)
    :param is_way_back: whether it brings the old version back: no other release holds it up
    """

    template_fields: Sequence[str] = (
        *WindowedOperator.template_fields,
        "task_name",
        "batch_task_type",
        "document",
        "task_policy",
        "app_id",
        "from_version",
    )

    procedure_class = WaveCreation
    trigger_name = "CreateWaveTrigger"

    def __init__(
        self,
        *,
        task_name: str,
        task_type: str,
        document: Mapping[str, Any] | str,
        task_policy: Mapping[str, Any] | str | None = None,
        app_id: str | None = None,
        opened_by: Mapping[str, str | None] | None = None,
        from_version: str | None = None,
        is_way_back: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.task_name = text_or_template(task_name, "task_name")
        # BaseOperator has a property task_type.
        self.batch_task_type = text_or_template(task_type, "task_type")
        self.document = object_or_template(document, "document")
        self.task_policy = object_or_template(task_policy, "task_policy")
        self.app_id = text_or_template(app_id, "app_id", optional=True)
        if not isinstance(opened_by, (Mapping, type(None))):
            raise ValueError(
                f"opened_by must be a mapping, got {what_is(opened_by, instead_of='a mapping')}"
            )
        self.opened_by = None if opened_by is None else dict(opened_by)
        self.from_version = text_or_template(from_version, "from_version", optional=True)
        self.is_way_back = flag(is_way_back, "is_way_back")

    def _warn_of_retries(self, policy: Any) -> None:
        """Log what the retries of the batch tasks hide from the rules."""
        retries, rules = PlatformRetries.of(policy), read_rules(self.rules)
        if retries is not None:
            for warning in retry_warnings(retries, rules, poll_interval=self.poll_interval):
                self.log.warning("task_policy: %s", warning)

    def is_guarded(self, part: Part) -> bool:
        return part.wave != self.wave  # the wave's own wait to be confirmed, if they exist

    def begin(self, context: Context, plan: Mapping[str, Any], parts: Sequence[Part]) -> CreateJob:
        from iotda_provider.api import check_version, create_batch_task

        ti: Any = context["ti"]
        refuse_a_copy(plan["installation"])
        self._check_opened(ti)
        policy = none_if_blank(self.task_policy)
        task = {
            "task_type": as_text(self.batch_task_type, "task_type"),
            "document": as_mapping(self.document, "document"),
            "task_policy": None if policy is None else as_mapping(policy, "task_policy"),
            "app_id": none_if_blank(self.app_id),
        }
        name = as_text(self.task_name, "task_name")
        only = self.from_version
        only = None if only is None else check_version(only, "from_version")
        # Refuses bad input before anything is read or written.
        create_batch_task(task_name=name, targets=["0"], need_confirm=True, **task)
        self._warn_of_retries(task["task_policy"])
        timeout = self.seconds_to_wait()
        return CreateJob(
            wave=self.wave,
            waves=len(plan["waves"]),
            devices=int(number_in(plan, "devices")),
            earlier=tuple(parts),
            task_name=name,
            task=task,
            identity={
                "installation": plan["installation"],
                "dag_id": ti.dag_id,
                "run_id": ti.run_id,
                "task_id": ti.task_id,
            },
            not_before=not_before(context),
            deadline=time.time() + timeout,
            timeout=timeout,
            window=self.open_window(),
            from_version=only,
            note=None if plan.get("note") is None else ReleaseNote.from_json(plan["note"]),
            is_way_back=self.is_way_back,
        )

    def _check_opened(self, ti: Any) -> None:
        """Check that the wave before has passed, by its numbers or by a person's word.

        :raises AirflowFailException: it has not
        """
        if self.opened_by is None:
            return
        gate, ask, entry = (self.opened_by[name] for name in ("gate", "ask", "entry"))
        followed = ti.xcom_pull(task_ids=gate, key="branch") or ()
        if entry in followed:
            return
        if ask is not None and ask in followed:
            answer = ti.xcom_pull(task_ids=ask, key="answer")
            if isinstance(answer, Mapping) and answer.get("option") == GO_ON:
                return
        raise AirflowFailException(
            f"Wave {self.wave} does not begin: neither the numbers of the wave before nor a "
            "person's answer have opened it (was a task marked as a success by hand?). Clear "
            f"{gate} to have that decided."
        )

    def conclude(self, context: Context, files: ReleaseFiles, result: dict[str, Any]) -> None:
        """Say what the release is about, with the batch tasks that it has by now."""
        about = context["ti"].xcom_pull(task_ids=self.plan_task_id, key=HEADER_KEY)
        if isinstance(about, Mapping):
            names = [part["task_name"] for part in result["all_parts"]]
            ids = result["batch_task_ids"]
            about = {**about, "batch_task_ids": ids, "batch_task_names": names}
            push_xcom(context, HEADER_KEY, about, self.log)
