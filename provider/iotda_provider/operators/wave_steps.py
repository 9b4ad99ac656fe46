"""Carries out in a worker what a procedure of a release asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.driving import drive
from iotda_provider.exceptions import IoTDAAuthError
from iotda_provider.models import SubtaskStatus
from iotda_provider.release.steps import (
    Ask,
    Confirm,
    EvidenceFailedError,
    Note,
    ReadWaiting,
    ReadWaves,
    Recall,
    Sleep,
)

if TYPE_CHECKING:
    from iotda_provider.guard_worker import WorkerSteps
    from iotda_provider.guarding import Step as GuardStep
    from iotda_provider.guarding.steps import Log
    from iotda_provider.guarding.steps import Procedure as GuardProcedure
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.release.steps import Procedure, Step
    from iotda_provider.release_files import ReleaseFiles

T = TypeVar("T")
AskEvidence = Callable[[Mapping[str, Any]], str]
#: Seconds that the user's function waits for the guard's own conversation with Airflow.
_FOR_AIRFLOW = 2.0


class MustWaitError(Exception):
    """The procedure has to wait, and not in this worker.

    :param seconds: for how long at least
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing to do for {seconds:.1f} s")
        self.seconds = seconds


class WaveSteps:
    """The blocking driver of a release's procedures.

    :param hook: an open hook
    :param guard: carries out what the guard asks for
    :param log: where its lines go
    :param files: where waves and confirmations are written down
    :param ask: asks for the external evidence
    :param waits: whether to wait here; otherwise it raises :class:`MustWaitError`
    :param show: is called before each wait, thus after each look
    """

    def __init__(
        self,
        hook: IoTDAHook,
        guard: WorkerSteps,
        log: Log,
        *,
        files: ReleaseFiles | None = None,
        ask: AskEvidence | None = None,
        waits: bool = True,
        show: Callable[[], None] = lambda: None,
    ) -> None:
        self._hook = hook
        self._guard = guard
        self._log = log
        self._files = files
        self._ask = ask
        self._waits = waits
        self._show = show

    def run(self, procedure: Procedure[T]) -> T:
        """Carry out all steps of a procedure; its result.

        :raises MustWaitError: it has to wait, and this driver does not
        :raises IoTDAError: as the procedure does
        """
        return drive(procedure, self._do)

    def _do(self, step: Step) -> Any:
        try:
            return self._carry_out(step)
        except IoTDAAuthError:
            # Perhaps the connection has new keys by the next look.
            self._hook.close()
            raise

    def _carry_out(self, step: Step) -> Any:
        if isinstance(step, Sleep):
            self._show()
            if not self._waits:
                raise MustWaitError(step.seconds)
            return time.sleep(max(0.0, step.seconds))
        if isinstance(step, ReadWaiting):
            found = self._hook.iter_subtasks(step.batch_task_id, status=SubtaskStatus.WAITING)
            return {row.target for row in found}
        if isinstance(step, Confirm):
            return self._hook.confirm_batch_task(step.batch_task_id, list(step.targets))
        if isinstance(step, Ask):
            return self._ask_evidence(step.facts)
        if isinstance(step, (ReadWaves, Recall, Note)):
            files = self._files
            assert files is not None
            if isinstance(step, ReadWaves):
                return self._guard.call(files.read_waves)
            if isinstance(step, Recall):
                return self._guard.call(files.read_confirmed, self._log)
            return self._write(files, step)
        return self._guard.run(_alone(step))

    def _write(self, files: ReleaseFiles, step: Note) -> bool:
        seconds = self._guard.patience_before_stop if step.urgent else None
        try:
            return self._guard.call(
                *(files.write_confirmed, step.record, self._log),
                seconds=seconds,
                first=step.urgent,
            )
        except FutureTimeoutError:
            self._log.warning("The release's files take their time; the stop does not wait.")
            return False

    def _ask_evidence(self, facts: Mapping[str, Any]) -> str:
        assert self._ask is not None
        with suppress(FutureTimeoutError):
            # Before Airflow 3.3 the user's function can't ask Airflow while the guard does.
            self._guard.call(lambda: None, seconds=_FOR_AIRFLOW)
        try:
            return self._ask(facts)
        # It is the user's function, or can't be imported: many ways to go wrong, and one answer.
        except Exception as error:
            self._log.exception("The external evidence can't be asked; the guard goes on.")
            if isinstance(error, EvidenceFailedError):
                raise
            # What it says may hold a secret of the user's, which is no matter of XComs and alerts.
            raise EvidenceFailedError(
                f"it raises {type(error).__name__} (the task's log says more)"
            ) from error


def _alone(step: GuardStep) -> GuardProcedure[Any]:
    """A procedure of one step."""
    return (yield step)
