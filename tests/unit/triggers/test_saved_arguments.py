"""What an earlier version has saved in Airflow's database still makes a trigger."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAParameterError
from iotda_provider.guards import Overdue, SequentialFailureTest, rules_from_json
from iotda_provider.rollout_guard import GuardPlan
from iotda_provider.triggers.batch_task import BatchTaskTrigger

SAVED: dict[str, dict[str, Any]] = json.loads("""
{
 "iotda_provider.triggers.batch_task.BatchTaskTrigger": {
  "iotda_conn_id": "iotda_default",
  "project_id": null,
  "instance_id": null,
  "stop_on_kill": false,
  "poll_interval": 10.0,
  "deadline": null,
  "limit": "timeout",
  "max_outage": 900.0,
  "silent_fail": false,
  "memo": {},
  "batch_task_id": "5c8fb9d0e2f14a5b9c0d1e2f",
  "target_statuses": [],
  "failure_statuses": [],
  "end_from_trigger": false
 },
 "iotda_provider.triggers.rollout_guard.RolloutGuardTrigger": {
  "iotda_conn_id": "iotda_default",
  "project_id": null,
  "instance_id": null,
  "stop_on_kill": false,
  "plan": {
   "batch_task_ids": [
    "5c8fb9d0e2f14a5b9c0d1e2f"
   ],
   "rules": [
    {
     "rule": "SequentialFailureTest",
     "tolerated_rate": 0.02,
     "false_alarm": 0.01,
     "hold_at": null,
     "failure_class": null,
     "leave_worst_out": false,
     "cluster": null
    },
    {
     "rule": "Overdue",
     "after_seconds": 60.0,
     "tolerated_rate": 0.05,
     "false_alarm": 0.01,
     "hold_at": null,
     "failure_class": null
    }
   ],
   "failure_classes": {
    "overrides": {},
    "defaults": true
   },
   "cluster_of": null,
   "already_current": 0,
   "stop_on_breach": false,
   "shadow": false,
   "on_guard_lost": "fail",
   "rehearse_stop": false,
   "wait_for_stop": true,
   "stop_timeout": 600.0,
   "poll_interval": 10.0,
   "max_outage": 900.0,
   "deadline": null,
   "audit_limit": 500
  },
  "owner": {
   "dag_id": "d",
   "run_id": "r",
   "task_id": "t",
   "map_index": -1
  },
  "on_alert": null
 }
}
""")


def make(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)(**SAVED[path])


@pytest.mark.parametrize("path", SAVED)
def test_a_trigger_is_made_of_what_an_earlier_version_has_saved(path: str) -> None:
    assert make(path).serialize()[0] == path


def test_a_guard_that_an_earlier_version_has_deferred_watches_on() -> None:
    plan = make("iotda_provider.triggers.rollout_guard.RolloutGuardTrigger").plan
    assert GuardPlan.from_dict(plan).rules == (
        SequentialFailureTest(0.02),
        Overdue(60, tolerated_rate=0.05),
    )


def test_what_is_gone_and_was_asked_for_is_refused() -> None:
    with pytest.raises(IoTDAParameterError, match="silent_fail"):
        BatchTaskTrigger(batch_task_id="5c8fb9d0e2f14a5b9c0d1e2f", silent_fail=True)
    with pytest.raises(ValueError, match="no parameter 'cluster'"):
        rules_from_json({"rule": "SequentialFailureTest", "tolerated_rate": 0.1, "cluster": "a"})
