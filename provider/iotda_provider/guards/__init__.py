"""The rules that stop a rollout: counts in, a verdict out. No Airflow, no I/O."""

from iotda_provider.guards.combined import Combined
from iotda_provider.guards.enough_success import EnoughSuccess
from iotda_provider.guards.evaluation import checked_rules, evaluate, needs_of
from iotda_provider.guards.failure_classes import FailureClasses, classify
from iotda_provider.guards.look import Look, Observed, total_progress
from iotda_provider.guards.reporting_delay import ReportingDelay
from iotda_provider.guards.rule import Rule
from iotda_provider.guards.sequential import SequentialFailureTest
from iotda_provider.guards.serialization import rules_from_json, rules_to_json
from iotda_provider.guards.start_history import History
from iotda_provider.guards.thresholds import MaxFailureRate, MaxFailures
from iotda_provider.guards.time_rules import Overdue, Stalled
from iotda_provider.guards.verdict import Decision, Undecided, Verdict
from iotda_provider.models.heavy_libraries import warm_up

__all__ = [
    "Combined",
    "Decision",
    "EnoughSuccess",
    "FailureClasses",
    "History",
    "Look",
    "MaxFailureRate",
    "MaxFailures",
    "Observed",
    "Overdue",
    "ReportingDelay",
    "Rule",
    "SequentialFailureTest",
    "Stalled",
    "Undecided",
    "Verdict",
    "checked_rules",
    "classify",
    "evaluate",
    "needs_of",
    "rules_from_json",
    "rules_to_json",
    "total_progress",
    "warm_up",
]
