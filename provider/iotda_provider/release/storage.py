"""Where a release's waves and its accepted confirmations are written down; every call blocks.

Either in files at ``manifest_path``, or in XComs. Airflow deletes the XComs of a task that starts
again, so both are in those of *two* tasks, the first of the waves and the one after them, which
copy them from each other: whatever is cleared, one copy is left.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError, IoTDAError, IoTDATransportError
from iotda_provider.models import json_text
from iotda_provider.models.text import one_line
from iotda_provider.release.manifest import Manifest, digest_of
from iotda_provider.task_io.parameters import as_list, whole_number

if TYPE_CHECKING:
    from iotda_provider.models.log import Log

#: The XCom that holds the accepted confirmations, and the end of the file's name.
CONFIRMED_KEY, CONFIRMED_FILE = "confirmed_devices", ".confirmed"
#: The XCom that holds the copy of who is in which wave.
PLANNED_KEY = "planned_waves"


@dataclass(frozen=True)
class ReleaseFiles:
    """Where it is; plain JSON can be made of it for a trigger.

    :param batch_task_id: whose waves they are
    :param digest: the manifest's, as it was planned
    :param cumulative: devices in each wave and those before it, as they were planned
    :param manifest_path: URL of the manifest; None: in XCom
    :param dag_id: with ``run_id``: the DAG run
    :param plan_task_id: the task that has planned the waves
    :param keeper_task_id: a task that starts after all waves, which has a copy; None: there is none
    """

    batch_task_id: str
    digest: str
    cumulative: tuple[int, ...]
    manifest_path: str | None
    dag_id: str
    run_id: str
    plan_task_id: str
    keeper_task_id: str | None = None

    @classmethod
    def of(
        cls,
        plan: Mapping[str, Any],
        ti: Any,
        plan_task_id: str,
        keeper_task_id: str | None = None,
    ) -> ReleaseFiles:
        """The files of the release that a task instance works for.

        :param plan: what the plan task has returned
        """
        return cls(
            plan["batch_task_id"],
            plan["digest"],
            tuple(wave["cumulative"] for wave in plan["waves"]),
            plan["manifest_path"],
            ti.dag_id,
            ti.run_id,
            plan_task_id,
            keeper_task_id,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "cumulative": list(self.cumulative)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReleaseFiles:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        values = json_text.checked_fields(cls, data, "files", read_by_caller=("cumulative",))
        cumulative = as_list(values["cumulative"], "files: cumulative")
        for one in cumulative:
            whole_number(one, "files: cumulative", zero=True)
        return cls(**{**values, "cumulative": tuple(cumulative)})

    def read_waves(self) -> list[list[str]]:
        """The devices of every wave.

        :raises IoTDAConfigError: they are not what was planned
        :raises IoTDATransportError: they can't be read now
        """
        try:
            return self._read_waves()
        except IoTDAError:
            raise
        # Storage or Airflow may be down, in many ways; whoever asks waits until it is back.
        except Exception as error:
            raise IoTDATransportError(f"The waves can't be read: {error!r}") from error

    def _read_waves(self) -> list[list[str]]:
        if self.manifest_path:
            manifest = read_manifest(self.manifest_path, self.batch_task_id)
            if manifest is None or manifest.digest != self.digest:
                raise IoTDAConfigError(
                    f"The manifest at {one_line(self.manifest_path, 300)} "
                    "is not the one that was planned."
                )
            return [list(wave) for wave in manifest.waves]
        count = len(self.cumulative)
        waves = [
            list(self._pull(self.plan_task_id, f"wave_{n}") or ()) for n in range(1, count + 1)
        ]
        if digest_of(self.batch_task_id, waves) != self.digest:
            raise IoTDAConfigError(
                f"The waves that {one_line(self.plan_task_id, 300)} has planned are gone, "
                "or it has planned others meanwhile. Clear this task to go on with those."
            )
        return waves

    def read_confirmed(self, log: Log) -> list[Any] | None:
        """The records of accepted confirmations that are found; None where they can't be read."""
        try:
            if self.manifest_path:
                found = [read_json(self.manifest_path + CONFIRMED_FILE)]
            else:
                found = [self._pull(task_id, CONFIRMED_KEY) for task_id in self._keepers]
        # Storage or Airflow may be down, in many ways; whoever asks waits until it is back.
        except Exception as error:  # noqa: BLE001
            log.warning("Who was confirmed before can't be read: %r", error)
            return None
        return [record for record in found if record is not None]

    def write_confirmed(self, record: Mapping[str, Any], log: Log) -> bool:
        """Write a record down; whether that worked."""
        try:
            if self.manifest_path:
                write_json(self.manifest_path + CONFIRMED_FILE, dict(record))
            else:
                for task_id in self._keepers:
                    self._push(task_id, CONFIRMED_KEY, dict(record))
        except Exception:
            log.exception("Who was confirmed could not be written down.")
            return False
        return True

    def write_planned(self, manifest: Manifest) -> None:
        """Leave with the keeper who is in which wave, so that a cleared plan finds it."""
        if self.keeper_task_id and not self.manifest_path:
            self._push(self.keeper_task_id, PLANNED_KEY, manifest.to_json())

    def copy_planned(self, plan: Mapping[str, Any], log: Log) -> None:
        """The same, as the plan has left it: the keeper has just lost its copy.

        :param plan: what the plan task has returned
        """
        if self.manifest_path:
            return
        try:
            self.write_planned(
                Manifest(
                    self.batch_task_id,
                    plan["seed"],
                    tuple(wave["label"] for wave in plan["waves"]),
                    tuple(map(tuple, self.read_waves())),
                    plan["late"],
                )
            )
        # Airflow may be down, in many ways. A plan that does not find it lets nobody start.
        except Exception as error:  # noqa: BLE001
            log.warning("Who is in which wave could not be copied: %r", error)

    def copy_confirmed(self, log: Log) -> None:
        """Write down again what is found: a task of the two has just lost its copy."""
        if not self.manifest_path:
            for record in (self.read_confirmed(log) or [])[:1]:
                self.write_confirmed(record, log)

    @property
    def _keepers(self) -> Sequence[str]:
        return [self.plan_task_id, *([self.keeper_task_id] if self.keeper_task_id else [])]

    def _pull(self, task_id: str, key: str) -> Any:
        return _xcom().get_one(
            key=key, dag_id=self.dag_id, run_id=self.run_id, task_id=task_id, map_index=-1
        )

    def _push(self, task_id: str, key: str, value: Any) -> None:
        _xcom().set(
            key, value, dag_id=self.dag_id, run_id=self.run_id, task_id=task_id, map_index=-1
        )


def read_planned(ti: Any, keeper_task_id: str, batch_task_id: str) -> Manifest | None:
    """The waves that an earlier try of this run's plan has left with its keeper; None: none.

    :param ti: the plan's task instance
    :raises IoTDAConfigError: they are damaged
    """
    data = _xcom().get_one(
        key=PLANNED_KEY, dag_id=ti.dag_id, run_id=ti.run_id, task_id=keeper_task_id, map_index=-1
    )
    if data is None:
        return None
    try:
        manifest = Manifest.from_json(data)
    except ValueError as error:
        raise IoTDAConfigError(
            f"The waves that {keeper_task_id} has kept can't be used: {error}"
        ) from error
    return manifest if manifest.batch_task_id == batch_task_id else None


def read_manifest(path: str, batch_task_id: str) -> Manifest | None:
    """The manifest in a file; None where there is no such file.

    :raises IoTDAConfigError: it is another release's, or damaged
    """
    file = _file(path)
    if not file.exists():
        return None
    try:
        manifest = Manifest.from_json(json_text.read_json(file.read_text()))
    except ValueError as error:
        raise IoTDAConfigError(
            f"The manifest at {one_line(path, 300)} can't be used: {error}"
        ) from error
    if manifest.batch_task_id != batch_task_id:
        raise IoTDAConfigError(
            f"The manifest at {one_line(path, 300)} is that of batch task "
            f"{manifest.batch_task_id}, not of {batch_task_id}: give every release a path "
            "of its own."
        )
    return manifest


def read_json(path: str) -> Any:
    """What is in a file of JSON; None where there is no such file, or it was cut off."""
    file = _file(path)
    if not file.exists():
        return None
    try:
        return json_text.read_json(file.read_text())
    except ValueError:
        return None


def write_json(path: str, data: Mapping[str, Any]) -> None:
    """Write a file of JSON where every worker can read it: all of it, or nothing."""
    file = _file(path)
    if file.protocol not in ("", "file", "local"):
        file.write_text(json.dumps(data))  # object storages put a file there as a whole
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(f"{file.path}.{uuid.uuid4().hex}")
    try:
        beside.write_text(json.dumps(data), encoding="utf-8")
        beside.replace(file.path)
    finally:
        beside.unlink(missing_ok=True)


def _file(path: str) -> Any:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return ObjectStoragePath(path)


def _xcom() -> Any:
    from airflow.providers.common.compat.sdk import XCom

    return XCom
