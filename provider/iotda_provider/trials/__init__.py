"""Waves as randomised trials: counts of two groups in, an answer out. No Airflow, no I/O."""

from iotda_provider.trials.answer import Answer, Decision, Group
from iotda_provider.trials.device_trial import DeviceTrial

__all__ = ["Answer", "Decision", "DeviceTrial", "Group"]
