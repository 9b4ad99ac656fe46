"""Carries out in a worker what the watch over a rollout asks for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from iotda_provider.airflow_support.threads import InTurn
from iotda_provider.driving import drive
from iotda_provider.durable import LARGEST, Notes, VariableNotes, notes_of, owner_of
from iotda_provider.exceptions import IoTDAAuthError, IoTDAConfigError, IoTDAError
from iotda_provider.guarding import ReadFailed, ReadTasks, RehearseStop, Save, Step, StopTask, Tell
from iotda_provider.guarding.memory import fitted
from iotda_provider.guarding.signature import Signature
from iotda_provider.masking import mask_all, telling_later
from iotda_provider.retrying import retries_unsaid
from iotda_provider.text import one_line

if TYPE_CHECKING:
    from types import TracebackType

    from airflow.providers.common.compat.sdk import Context

    from iotda_provider.guarding import Memory, Watch
    from iotda_provider.guarding.steps import Log, Procedure
    from iotda_provider.hooks.iotda import IoTDAHook
    from iotda_provider.models import BatchTask

_log = logging.getLogger(__name__)

T = TypeVar("T")
Alert = Mapping[str, Any]
OnAlert = str | Callable[[Alert], Any]

#: The key of a guard's memory, among a task instance's notes and in XCom.
MEMORY_KEY = "guard_memory"
ALERT_KEY = "alert"
#: Seconds that Airflow may take to keep a memory before a guard goes on; it may be kept later. No
#: more than this may pass between a breach and its stop, but for the platform.
SECONDS_BEFORE_STOP = 2.0
#: Of them, seconds in which what an earlier try knew may come late for the first look.
SECONDS_FOR_RECALL = 1.0
#: Seconds that a verdict waits for it, where it hangs on it.
SECONDS_WITHOUT_MEMORY = 300.0
#: Seconds that a task waits at its end for what is still being written, and for ``on_alert``.
_LAST_SECONDS = 60.0


class WorkerSteps:
    """The blocking driver of a watch; a context manager.

    What it asks Airflow for, and ``on_alert``, goes on in a thread, one call after the other, as a
    task may have one conversation with Airflow at a time before 3.3. So no look waits for it; a
    stop waits for the memory of why it is sent, for two seconds at most. At the end of the context
    all of it has ended, or has had a minute.

    :param hook: an open hook
    :param context: Airflow's context of the running task instance
    :param log: where its lines go
    :param on_alert: whom to tell besides the log and the XCom ``alert``
    """

    def __init__(
        self,
        hook: IoTDAHook,
        context: Context,
        log: Log,
        on_alert: OnAlert | None = None,
    ) -> None:
        self._hook = hook
        self._context = context
        self._log = log
        self._on_alert = on_alert
        self._airflow = InTurn()
        self._saving: Future[bool] | None = None
        self._stop_is_due = float("inf")
        self._earlier: EarlierInWorker | None = None

    def __enter__(self) -> WorkerSteps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.call(lambda: None, seconds=_LAST_SECONDS)
        except FutureTimeoutError:
            self._log.error("Airflow, or on_alert, takes its time; the task goes on without it.")
        self._airflow.end()

    def run(self, procedure: Procedure[T]) -> T:
        """Carry out all steps of a procedure; its result.

        :raises IoTDAError: as the procedure does
        """
        with retries_unsaid(), telling_later(lambda secrets: self.begin(mask_all, secrets)):
            return drive(procedure, self._do)

    def recall(self, watch: Watch, recall: Callable[[], Memory]) -> EarlierInWorker:
        """Begin to recall what an earlier try knew; the looks go on meanwhile."""
        self._earlier = EarlierInWorker(watch, self.begin(recall), self._log)
        return self._earlier

    def begin(self, function: Callable[..., T], *args: Any, first: bool = False) -> Future[T]:
        """Have something done that may take its time, after all that was begun before.

        :param first: a stop waits for it: only what is under way may come before it
        """
        return self._airflow.begin(function, *args, first=first)

    def call(
        self,
        function: Callable[..., T],
        *args: Any,
        seconds: float | None = None,
        first: bool = False,
    ) -> T:
        """The same, and wait for it.

        :param seconds: for how long at most; it is done to its end even so
        :raises TimeoutError: it takes longer; of ``concurrent.futures``
        """
        return self.begin(function, *args, first=first).result(seconds)

    @property
    def patience_before_stop(self) -> float:
        """Seconds that are left of those that a stop that was decided on may wait."""
        return min(SECONDS_BEFORE_STOP, max(0.1, self._stop_is_due - time.monotonic()))

    def _do(self, step: Step) -> Any:
        if isinstance(step, ReadTasks):
            answers = [self._read(batch_task_id) for batch_task_id in step.batch_task_ids]
            if self._earlier is not None:
                self._earlier.hand_over()
            return answers
        if isinstance(step, ReadFailed):
            for row in self._hook.iter_subtasks(step.batch_task_id, status="Fail"):
                step.tally.add(row)
            return None
        if isinstance(step, StopTask):
            self._hook.stop_batch_task(step.batch_task_id)
            return None
        if isinstance(step, RehearseStop):
            self._hook.rehearse_stop(step.batch_task_id)
            return None
        if isinstance(step, Save):
            return self._save(step)
        return self._tell(step)

    def _save(self, step: Save) -> bool:
        if step.routine and self._earlier is not None and not self._earlier.is_settled:
            return False  # it would take the place of what the guard has not read yet
        if self._saving is not None:
            self._saving.cancel()  # where it has not begun, this one is newer
        signature = Signature(self._hook.last_settings, owner_of(self._context["ti"]))
        save = partial(save_memory, self._context, step.memory, self._log, signature)
        self._saving = self.begin(save, first=not step.routine)
        if step.routine:
            return True
        seconds = SECONDS_BEFORE_STOP
        if self._earlier is not None and not self._earlier.is_settled:
            seconds = max(0.1, seconds - SECONDS_FOR_RECALL)  # which has been waited for
        self._stop_is_due = time.monotonic() + seconds
        try:
            return self._saving.result(seconds)
        except FutureTimeoutError:
            return False

    def try_on_alert(self, batch_task_ids: Sequence[str]) -> None:
        """Say at once where ``on_alert`` can't be called here, and not at the first alert."""
        alert = missing_on_alert(self._on_alert, batch_task_ids)
        if alert is not None:
            self._on_alert = None
            self._tell(alert)

    def _read(self, batch_task_id: str) -> BatchTask | IoTDAError:
        try:
            return self._hook.get_batch_task(batch_task_id)
        except IoTDAAuthError as error:
            # Perhaps the connection has new keys by the next look.
            self._hook.close()
            return error
        except IoTDAError as error:
            return error

    def _tell(self, alert: Tell) -> None:
        """Begin to tell a person; no look and no stop waits for the end of it."""
        self._log.error("%s", alert.sentence)
        self.begin(self._tell_them, alert.to_json())

    def _tell_them(self, alert: Alert) -> None:
        ti: Any = self._context["ti"]
        try:
            ti.xcom_push(key=ALERT_KEY, value=alert)
        except Exception as error:  # noqa: BLE001 - as with the memory
            self._log.warning(
                "The alert could not be kept as an XCom; the guard goes on: %s", short(error)
            )
        if self._on_alert is not None:
            call_on_alert(self._on_alert, alert, self._log)


class EarlierInWorker:
    """What an earlier try of a guard knew. Where Airflow does not answer, no look waits for it.

    It is there by the time at which the first look has its answer, or within a second of it. Until
    it is, the watch decides from the platform's counts alone, and says nothing final about a
    rollout that is gone or being stopped: that may be its own doing.

    :param watch: gets it between two looks
    :param recalling: brings it
    :param log: where its lines go
    """

    def __init__(self, watch: Watch, recalling: Future[Memory], log: Log) -> None:
        self._watch = watch
        self._recalling: Future[Memory] | None = recalling
        self._log = log
        self._seconds = SECONDS_FOR_RECALL
        self._patience_ends = time.monotonic() + SECONDS_WITHOUT_MEMORY
        watch.awaits_memory = True

    def hand_over(self) -> None:
        """Let the watch have it, where it has come; called within a look, before it is judged."""
        if self._recalling is None:
            return
        wait([self._recalling], self._seconds)
        if not self._recalling.done():
            self._seconds = 0.0
            if time.monotonic() >= self._patience_ends:
                self._watch.awaits_memory = False
            return
        recalled, self._recalling = self._recalling, None
        self._watch.awaits_memory = False
        if (error := recalled.exception()) is not None:
            self._log.warning("What an earlier try knew can't be read: %s", short(error))
            return
        self._watch.memory.adopt(recalled.result())

    @property
    def is_settled(self) -> bool:
        """Whether it is known, or not to be had for a long time."""
        return self._recalling is None or time.monotonic() >= self._patience_ends

    def wait(self, seconds: float) -> None:
        """Wait for it, for so long at most."""
        assert self._recalling is not None
        wait([self._recalling], max(0.0, seconds))


def call_on_alert(on_alert: OnAlert, alert: Alert, log: Log) -> Any:
    """Call the user's function; whatever goes wrong in it must not end the watch."""
    try:
        function = load_function(on_alert) if isinstance(on_alert, str) else on_alert
        return function(alert)
    except Exception:
        log.exception("on_alert failed; the guard goes on.")
        return None


def missing_on_alert(on_alert: OnAlert | None, batch_task_ids: Sequence[str]) -> Tell | None:
    """What to say at once where ``on_alert`` can't be called in this process; None: it can.

    It blocks, as it imports the function's module.
    """
    if not isinstance(on_alert, str):
        return None
    try:
        load_function(on_alert)
    except Exception as error:  # noqa: BLE001 - importing runs the user's code
        facts = {"batch_task_ids": list(batch_task_ids), "time": time.time(), "progress": {}}
        return Tell(
            "on_alert_missing",
            "ALERTS REACH NOBODY but this log and the XCom alert, as on_alert can't be called here "
            f"({one_line(error, 300)}). Put it into a package that is installed wherever "
            "triggerers and workers run: a module beside a DAG file is found by workers only. The "
            "guard goes on.",
            facts,
        )
    return None


def load_function(path: str) -> Callable[[Alert], Any]:
    """The function behind a dotted path.

    :raises IoTDAConfigError: there is none
    """
    module, _, name = path.rpartition(".")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise IoTDAConfigError(f"on_alert: {path!r} can't be imported: {error}") from error
    if not callable(function):
        raise IoTDAConfigError(f"on_alert: {path!r} is not a function")
    return function  # type: ignore[no-any-return]


def short(error: BaseException) -> str:
    """An error's type and the first line of its text."""
    text = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# --- memory: among the notes that outlive a try ---------------------------------------------------


def signature_of(hook: IoTDAHook, owner: Mapping[str, Any]) -> Signature:
    """Signs and checks what the guard of a task instance keeps, by its connection's secret."""
    with suppress(IoTDAError):  # the first look says so
        _ = hook.settings
    return Signature(hook.last_settings, owner)


def save_memory(
    context: Context, memory: Mapping[str, Any], log: Log, signature: Signature
) -> bool:
    """Sign and keep a guard's memory; whether that worked."""
    return _keep(context, signature.sign(fitted(memory, LARGEST)), log)


def _keep(context: Context, signed: Mapping[str, Any], log: Log) -> bool:
    try:
        notes_of(context).set(MEMORY_KEY, signed)
    # Airflow's database or API may be down, which must not stop the guard.
    except Exception as error:  # noqa: BLE001
        log.warning("The guard's memory could not be written; the guard goes on: %s", short(error))
        return False
    return True


def load_memory(context: Context, log: Log | None = None) -> Any:
    """What this task instance has kept, in this try or an earlier one, or None."""
    try:
        return notes_of(context).get(MEMORY_KEY)
    except Exception:  # noqa: BLE001 - the same: one that has forgotten is better than none
        (log or _log).exception("What an earlier try knew can't be read; the guard begins afresh.")
        return None


class SharedMemory:
    """The memory of a guard that may be deferred: who has it when, and who hands it to whom.

    A worker keeps it among its notes (the task state store, or a Variable before Airflow 3.3). At a
    deferral it hands it over to the trigger, in a Variable, as a trigger reaches nothing else, and
    the trigger keeps that up to date. At its end the trigger hands it back in an XCom, which the
    worker empties once it has written down the trail (:func:`forget_triggers_memory`). So a guard
    that waits keeps at most ``LARGEST`` bytes, and one that has ended its trail, once.

    While there is a Variable it is newer than what a task state store holds, because whoever goes
    on in a worker takes it back first.

    All of it is signed, because whoever may edit Variables or XComs may write a memory there
    (:class:`~iotda_provider.guarding.signature.Signature`).

    :param context: Airflow's context of the running task instance
    :param log: where its lines go
    :param signature: signs it
    """

    def __init__(self, context: Context, log: Log, signature: Signature) -> None:
        self._context = context
        self._log = log
        self.signature = signature
        self._ours = notes_of(context)
        self._triggers = VariableNotes(owner_of(context["ti"]))
        self._is_apart = not isinstance(self._ours, VariableNotes)

    def recall(self, batch_task_ids: tuple[str, ...], audit_limit: int, *more: Any) -> Memory:
        """What an earlier try has kept, in its worker or in its trigger.

        :param more: other copies that there may be
        """
        return self.signature.recall(
            *more, self._load(), batch_task_ids=batch_task_ids, audit_limit=audit_limit
        )

    def _load(self) -> Any:
        try:
            found = self._triggers.get(MEMORY_KEY)
        except Exception:  # noqa: BLE001 - one that has forgotten is better than none
            self._log.exception("What a trigger knew can't be read; the guard goes on without it.")
            found = None
        if found is None:
            return load_memory(self._context, self._log) if self._is_apart else None
        # As it was signed, or was not.
        if self._is_apart and _keep(self._context, found, self._log):
            self._forget(self._triggers)
        return found

    def hand_over(self, memory: Mapping[str, Any]) -> None:
        """Keep it where the trigger reads it: in a Variable, or else in an XCom."""
        kept = self.signature.sign(fitted(memory, LARGEST))
        try:
            self._triggers.set(MEMORY_KEY, kept)
        except Exception:  # noqa: BLE001 - the same
            self._log.exception("The guard's memory could not be handed to its trigger.")
            self._context["ti"].xcom_push(key=MEMORY_KEY, value=kept)

    def take_back(self, memory: Mapping[str, Any]) -> None:
        """Keep it where this worker does, and there alone."""
        worked = save_memory(self._context, memory, self._log, self.signature)
        if worked and self._is_apart:
            self._forget(self._triggers)

    def settle(self, memory: Mapping[str, Any]) -> None:
        """The guard has ended well: leave no more behind than one that is cleared has to know.

        That is a stop, without the trail, which is an XCom or a file by now.
        """
        if memory.get("intent"):
            save_memory(self._context, {**memory, "trail": []}, self._log, self.signature)
        else:
            self._forget(self._ours)

    def _forget(self, notes: Notes) -> None:
        try:
            notes.delete(MEMORY_KEY)
        except Exception:  # noqa: BLE001 - the same
            self._log.exception("A note that nobody needs any more could not be deleted.")


def forget_triggers_memory(context: Context) -> None:
    """Empty what the trigger of this try has handed back: it is kept elsewhere by now."""
    ti: Any = context["ti"]
    if load_triggers_memory(context):
        ti.xcom_push(key=MEMORY_KEY, value={})


def load_triggers_memory(context: Context) -> Any:
    """What the trigger of this try has kept in full at its end, or None."""
    ti: Any = context["ti"]
    return ti.xcom_pull(task_ids=ti.task_id, key=MEMORY_KEY, map_indexes=ti.map_index)
