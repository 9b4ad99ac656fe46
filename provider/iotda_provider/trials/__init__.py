"""Waves as randomised trials: counts of two groups in, an answer out. No Airflow, no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iotda_provider.models.lazy_names import lazily

if TYPE_CHECKING:
    from iotda_provider.trials.answer import Answer, Decision, Group
    from iotda_provider.trials.device_trial import DeviceTrial

__all__ = ["Answer", "Decision", "DeviceTrial", "Group"]

__getattr__ = lazily(
    __name__,
    {
        "answer": ("Answer", "Decision", "Group"),
        "device_trial": ("DeviceTrial",),
    },
)
