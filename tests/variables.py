"""Airflow's Variables without its database, for tests outside of Airflow."""

from __future__ import annotations

from typing import Any

import pytest


class Variables(dict[str, str]):
    """In the place of Airflow's ``Variable``: texts by name, and what was written and read."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptions: dict[str, str] = {}
        self.calls: list[str] = []
        self.is_down = False
        #: The DAG runs, by dag_id and run_id, that have ended.
        self.runs_over: set[tuple[str, str]] = set()

    def _called(self, call: str) -> None:
        self.calls.append(call)
        if self.is_down:
            raise RuntimeError("Airflow's database is down")

    def get(self, name: str, default: Any = None) -> Any:  # type: ignore[override]
        """A Variable's text."""
        self._called("get")
        return super().get(name, default)

    def set(self, name: str, text: str, description: str) -> None:
        """Keep a Variable."""
        self._called("set")
        assert isinstance(text, str)
        self[name], self.descriptions[name] = text, description

    def delete(self, name: str) -> None:
        """Forget a Variable."""
        self._called("delete")
        self.pop(name, None)


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    """The Variables of this test."""
    made = Variables()
    monkeypatch.setattr("iotda_provider.airflow_support.task_notes.variables", lambda: made)
    over = made.runs_over
    monkeypatch.setattr(
        "iotda_provider.release.under_way.is_under_way", lambda dag, run: (dag, run) not in over
    )
    return made
