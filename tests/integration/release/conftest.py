"""The operators of a staged rollout over real HTTP against the emulator, outside of Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from iotda_provider.emulator import Emulator
from iotda_provider.guards import SequentialFailureTest
from iotda_provider.hooks.iotda import IoTDAHook
from iotda_provider.operators.wave_confirm import ConfirmWaveOperator
from iotda_provider.operators.wave_plan import PlanWavesOperator
from iotda_provider.operators.wave_watch import WatchWaveOperator

TASK_ID = "5c8fb9d0e2f14a5b9c0d1e2f"
RULES = SequentialFailureTest(0.02)


class TaskInstance:
    """A running task instance as far as the operators look at it."""

    dag_id, run_id, map_index = "dag", "run", -1

    def __init__(self, xcoms: dict[tuple[str, str], Any], task_id: str, try_number: int) -> None:
        self._xcoms = xcoms
        self.task_id, self.try_number = task_id, try_number

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep a value as JSON, as Airflow does."""
        self._xcoms[self.task_id, key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        """A value that another task has left."""
        return self._xcoms.get((task_ids, key))


class Rollout:
    """One rollout: its platform, and what its tasks have left."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.tries: dict[str, int] = {}

    def run(self, operator: Any) -> Any:
        """Execute an operator as Airflow does, as its next try."""
        number = self.tries[operator.task_id] = self.tries.get(operator.task_id, 0) + 1
        for key in [key for key in self.xcoms if key[0] == operator.task_id]:
            del self.xcoms[key]
        ti = TaskInstance(self.xcoms, operator.task_id, number)
        result = operator.execute({"ti": ti})
        if result is not None:
            ti.xcom_push("return_value", result)
        return result

    def plan(self, waves: Any = "10%, 25%, 50%, 100%", gate: Any = 0.1, **given: Any) -> Any:
        """Plan the waves."""
        return self.run(
            PlanWavesOperator(
                task_id="plan",
                batch_task_id=TASK_ID,
                waves=waves,
                gate=gate,
                poll_interval=0.05,
                **given,
            )
        )

    def confirm(self, wave: int = 1, **given: Any) -> Any:
        """Confirm one wave."""
        return self.run(
            ConfirmWaveOperator(
                task_id=f"confirm_{wave}",
                wave=wave,
                plan_task_id="plan",
                after=[f"watch_{wave - 1}"],
                **{"rules": RULES, "poll_interval": 0.05, **given},
            )
        )

    def watch(self, wave: int = 1, **given: Any) -> Any:
        """Watch one wave."""
        return self.run(
            WatchWaveOperator(
                task_id=f"watch_{wave}",
                wave=wave,
                plan_task_id="plan",
                confirm_task_id=f"confirm_{wave}",
                after=[f"confirm_{wave}"],
                **{"rules": RULES, "gate": 0.1, "poll_interval": 0.05, "wave_timeout": 20, **given},
            )
        )

    def wave(self, number: int) -> list[str]:
        """The devices of one wave."""
        members: list[str] = self.xcoms["plan", f"wave_{number}"]
        return members

    @property
    def confirmations(self) -> list[list[str]]:
        """The targets of every confirmation that was asked for."""
        bodies = [e["body"] for e in self.emulator.journal("confirm_batch_task")]
        assert all(body and body.get("targets") for body in bodies), bodies
        return [body["targets"] for body in bodies]

    @property
    def confirmed(self) -> list[str]:
        """Every device that was confirmed, as often as it was."""
        return [device for targets in self.confirmations for device in targets]

    @property
    def stops(self) -> int:
        """How often a stop was asked for."""
        return len(self.emulator.journal("stop_batch_task"))


@pytest.fixture
def rollout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Rollout]]:
    """Starts a platform with one batch task in which every device waits."""
    running: list[Emulator] = []

    def start(speed: float = 300, devices: int = 400, **scenario: Any) -> Rollout:
        whole = {
            "devices": devices,
            "success_after": 60,
            "failure_after": 30,
            "batch_tasks": [{"task_id": TASK_ID, "need_confirm": True}],
            "switches": {"initializing": 0, "stop_after": 0},
            **scenario,
        }
        emulator = Emulator(whole, speed=speed)
        emulator.start()
        emulator.advance(1)
        running.append(emulator)
        monkeypatch.setenv("AIRFLOW_CONN_IOTDA_DEFAULT", json.dumps(emulator.airflow_connection))
        return Rollout(emulator)

    yield start
    for emulator in running:
        emulator.close()


class KilledError(BaseException):
    """The end of a worker, at once: nothing may catch it."""


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Kills the worker at one confirmation, before or after it has reached the platform."""

    def at(call: int, *, sent: bool) -> None:
        real = IoTDAHook.confirm_batch_task
        calls = iter(range(1, 10_000))

        def confirm(self: IoTDAHook, *args: Any, **kwargs: Any) -> Any:
            dies = next(calls) == call
            if dies and not sent:
                raise KilledError
            result = real(self, *args, **kwargs)
            if dies:
                raise KilledError
            return result

        monkeypatch.setattr(IoTDAHook, "confirm_batch_task", confirm)

    return at
