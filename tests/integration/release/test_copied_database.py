"""A release that goes on in a copy of Airflow's database confirms no device there."""

from __future__ import annotations

from typing import Any

import pytest

from iotda_provider.exceptions import IoTDAConfigError


def test_a_copy_that_has_its_own_id_creates_and_confirms_nothing(
    rollout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rollout(devices=100, success_after=5)
    run.plan("50%, 100%")
    run.create(1)
    before = run.task_ids

    monkeypatch.setenv("AIRFLOW__IOTDA__INSTALLATION_ID", "staging")
    for act in (run.confirm, lambda: run.create(2)):
        with pytest.raises(IoTDAConfigError, match=r"by the installation tests, .* staging"):
            act()
    assert run.task_ids == before
    assert run.confirmations == []

    monkeypatch.setenv("AIRFLOW__IOTDA__INSTALLATION_ID", "tests")
    run.confirm(1)
    assert run.watch(1)["verdict"] == "passed"
