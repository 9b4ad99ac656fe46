"""What the operators of one wave share: whose turn it is, and a guard that looks first."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from iotda_provider.guard_worker import OnAlert, WorkerSteps, load_memory, save_memory
from iotda_provider.guarding import GuardPlan, Memory, Outcome
from iotda_provider.guarding.plan import DEFAULT_STOP_TIMEOUT, check_needs
from iotda_provider.guards import (
    FailureClasses,
    Rule,
    checked_rules,
    rules_from_json,
    rules_to_json,
)
from iotda_provider.operators.base import CONNECTION_FIELDS, IoTDABaseOperator
from iotda_provider.operators.wave_plan import plan_of
from iotda_provider.parameters import positive
from iotda_provider.release.watching import WaveWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.hooks.iotda import IoTDAHook

CONFIRMED, PASSED, UNPROVEN, REJECTED, SURPLUS = (
    "confirmed",
    "passed",
    "unproven",
    "rejected",
    "surplus",
)
_STATE_KEY = "guard_state"


class WaveOperator(IoTDABaseOperator):
    """One task of one wave. It has a guard of its own, which stops the release on a breach.

    What is decided is decided from what the platform says now and from the manifest, so a task that
    was killed and started again goes on where it was.

    :param wave: which wave, from 1
    :param plan_task_id: the task of :class:`~iotda_provider.operators.wave_plan.PlanWavesOperator`
    :param rules: the guard's rules, as objects or as JSON of them (templated)
    :param failure_classes: how failures are classed, where the default does not fit
    :param after: task ids whose guards' state is carried on, the latest last
    :param on_alert: a function, or the dotted path of one, that is told what a person should know
    :param poll_interval: seconds between two looks
    :param iotda_conn_id: the connection (templated)
    :param project_id: instead of the connection's (templated)
    :param instance_id: instead of the connection's (templated)
    """

    template_fields: Sequence[str] = ("rules", *CONNECTION_FIELDS)

    def __init__(
        self,
        *,
        wave: int,
        plan_task_id: str,
        rules: Any,
        failure_classes: FailureClasses | Mapping[str, str] | None = None,
        after: Sequence[str] = (),
        on_alert: OnAlert | None = None,
        poll_interval: float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wave = int(positive(wave, "wave"))
        self.plan_task_id = plan_task_id
        self.rules = rules if is_template(rules) else rules_to_json(read_rules(rules))
        self.failure_classes = FailureClasses.of(failure_classes)
        self.after = tuple(after)
        self.on_alert = on_alert
        self.poll_interval = positive(poll_interval, "poll_interval")

    def plan(self, context: Context) -> dict[str, Any]:
        """What the plan task has returned."""
        return plan_of(context["ti"], self.plan_task_id)

    @contextmanager
    def guarded(self, context: Context, batch_task_id: str) -> Iterator[Guarded]:
        """A hook and a guard over the release; its memory is kept when this is left."""
        memory = self._memory(context, batch_task_id)
        plan = GuardPlan(
            batch_task_ids=(batch_task_id,),
            rules=read_rules(self.rules),
            failure_classes=self.failure_classes,
            stop_on_breach=True,
            stop_timeout=DEFAULT_STOP_TIMEOUT,
            poll_interval=self.poll_interval,
            max_outage=self.max_outage,
            audit_limit=100,
        )
        watch = WaveWatch(plan, memory, self.log, clock=time.time)
        with self.hook() as hook:
            yield Guarded(hook, watch, WorkerSteps(hook, context, self.log, self.on_alert))
        save_memory(context, memory.to_json(), self.log)
        ti: Any = context["ti"]
        ti.xcom_push(key=_STATE_KEY, value=memory.state)

    def _memory(self, context: Context, batch_task_id: str) -> Memory:
        memory = Memory.from_json(load_memory(context), (batch_task_id,), 100)
        ti: Any = context["ti"]
        for task_id in reversed(self.after):
            if memory.state:
                break
            memory.state = dict(ti.xcom_pull(task_ids=task_id, key=_STATE_KEY) or {})
        return memory

    def told(self, result: dict[str, Any]) -> dict[str, Any]:
        """Log a result's sentence, by how well it bodes, and return the result."""
        well = result["verdict"] in (CONFIRMED, PASSED, SURPLUS)
        (self.log.info if well else self.log.warning)("%s", result["summary"])
        return result

    def surplus(self) -> dict[str, Any]:
        """The result of a wave that this release does not have."""
        return self.told(
            {
                "wave": self.wave,
                "verdict": SURPLUS,
                "summary": f"There is no wave {self.wave} in this release.",
            }
        )


class Guarded:
    """An open hook, and a guard that looks through it."""

    def __init__(self, hook: IoTDAHook, watch: WaveWatch, steps: WorkerSteps) -> None:
        self.hook = hook
        self.watch = watch
        self._steps = steps

    def look(self) -> Outcome | None:
        """One look; an outcome where the release is over, one way or the other."""
        return self._steps.run(self.watch.poll())


def is_template(value: Any) -> bool:
    """Whether it will be something else when the task runs."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return hasattr(value, "resolve")


def read_rules(rules: Any) -> tuple[Rule, ...]:
    """The guard's rules, from objects or JSON of them.

    :raises ValueError: one makes no sense, or needs what this guard does not read
    """
    items = rules if isinstance(rules, (list, tuple)) else (rules,)
    is_json = any(isinstance(item, (str, bytes, Mapping)) for item in items)
    found = checked_rules(rules_from_json(rules) if is_json else rules)
    check_needs(found, None)
    return found


def read_number(value: Any, name: str, *, zero: bool = False) -> float:
    """A number that may have been rendered from a template.

    :raises ValueError: it is none
    """
    if isinstance(value, str):
        try:
            value = float(value.strip())
        except ValueError:
            raise ValueError(f"{name} must be a number, got {value!r}") from None
    return positive(value, name, zero=zero)
