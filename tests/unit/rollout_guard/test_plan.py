"""A guard's plan as the argument of its trigger."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.rollout_guard.plan import GuardPlan


@pytest.mark.parametrize("plan", [None, 5, "plan", [], {}, {"rules": []}])
def test_what_is_no_plan_is_refused_in_one_line(plan: Any) -> None:
    with pytest.raises(ValueError, match=r"^plan (must be an object|lacks batch_task_ids)"):
        GuardPlan.from_dict(plan)
