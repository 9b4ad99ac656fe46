"""Where a release writes down its waves, their batch tasks, and its confirmations; it blocks.

It is JSON by key: ``manifest``; ``wave_2``, the ids of a wave as they were planned; ``begun_2``,
what the wave is for since it has begun, and its batch tasks; ``confirmed_2_1``, which devices
of its first batch task were confirmed, and the same once more, ``confirmed_2_1_copy`` (see
``SharedLedger``). With a ``manifest_path`` each is a file beside it. Otherwise each is an XCom of
*two* tasks, the first of the waves and the one after them, as Airflow deletes the XComs of a task
that starts again: whatever is cleared, one copy is left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from iotda_provider.api import MAX_TARGETS_PER_TASK
from iotda_provider.exceptions import IoTDAConfigError, IoTDAError, IoTDATransportError
from iotda_provider.models import json_text
from iotda_provider.models.log import Log
from iotda_provider.models.text import one_line
from iotda_provider.release.device_ids import hand_over, iter_ids
from iotda_provider.release.ledger import Ledger
from iotda_provider.release.manifest import (
    HELD,
    LOOKED,
    TRIAL,
    BegunWave,
    Manifest,
    Part,
    PlannedWave,
    digest_of,
)
from iotda_provider.release.planning import Membership
from iotda_provider.task_io.stored_files import missing, read_whole, write_whole

MANIFEST = "manifest"


@dataclass(frozen=True)
class ReleaseFiles(json_text.PlainJson):
    """Where a release is written down; a trigger gets it as plain JSON.

    :param dag_id: with ``run_id``: the DAG run
    :param plan_task_id: the task that has planned the waves
    :param keeper_task_id: a task that starts after all waves, which has a copy; None: there is none
    :param manifest_path: URL of the manifest; None: in XCom
    :param digest: the manifest's, as it was planned; empty: it is not known
    """

    dag_id: str
    run_id: str
    plan_task_id: str
    keeper_task_id: str | None = None
    manifest_path: str | None = None
    digest: str = ""

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
        path, digest = plan["manifest_path"], plan["digest"]
        return cls(ti.dag_id, ti.run_id, plan_task_id, keeper_task_id, path, digest)

    # --- the waves --------------------------------------------------------------------------------

    def read_manifest(self) -> Manifest | None:
        """The waves as they were planned; None: they were not.

        :raises IoTDAConfigError: they are damaged, or others were planned meanwhile
        :raises IoTDATransportError: they can't be read now
        """
        found = self.read(MANIFEST)
        if not found:
            return None
        try:
            manifest = Manifest.from_json(found[0])
        except ValueError as error:
            raise IoTDAConfigError(f"The waves at {self._place} can't be used: {error}") from error
        if self.digest and manifest.digest != self.digest:
            raise IoTDAConfigError(
                f"The waves at {self._place} are not those that {self.plan_task_id} had planned "
                "when this task began. Clear this task to go on with those."
            )
        return manifest

    def planned(self) -> Manifest:
        """The waves as they were planned, which they must have been.

        :raises IoTDAConfigError: they are gone (of XComs), damaged, or others
        :raises IoTDATransportError: they can't be read now, or their file is not there
        """
        manifest = self.read_manifest()
        if manifest is None:
            raise self._lost(MANIFEST, f"The waves at {self._place} are gone.")
        return manifest

    def write_waves(self, release: str, plan: Membership) -> Manifest:
        """Write down which device is in which wave; the manifest comes last.

        :raises IoTDAConfigError: there are too many for XComs
        """
        waves = []
        for place, (label, ids) in enumerate(zip(plan.labels, plan.waves, strict=True), start=1):
            held = hand_over(ids, self.manifest_path, f"wave_{place}")
            if isinstance(held, list):
                self.write(f"wave_{place}", held)
            reference = held if isinstance(held, str) else None
            waves.append(PlannedWave(label, len(ids), digest_of(ids), reference))
        manifest = Manifest(release, plan.seed, tuple(waves), plan.late)
        self.write(MANIFEST, manifest.to_json())
        return manifest

    def iter_planned(self, wave: int) -> Iterator[str]:
        """The ids of one wave as it was planned, in order.

        :raises IoTDAConfigError: they are not those that were planned
        :raises IoTDATransportError: they can't be read now
        """
        planned = self.planned().waves[wave - 1]
        if planned.ids is not None:
            yield from iter_ids(planned.ids, "manifest_path")
            return
        for ids in self.read(f"wave_{wave}"):
            if isinstance(ids, list) and digest_of(map(str, ids)) == planned.digest:
                yield from ids
                return
        raise IoTDAConfigError(
            f"The devices of wave {wave} that {self.plan_task_id} has planned are lost or changed. "
            "Clear this task to go on with those."
        )

    def read_begun(self, wave: int) -> BegunWave | None:
        """What a wave is for, and its batch tasks; None: it has not begun.

        :raises IoTDAConfigError: it is damaged
        :raises IoTDATransportError: it can't be read now
        """
        found = self.read(f"begun_{wave}")
        try:
            known = [BegunWave.from_json(one) for one in found]
        except ValueError as error:
            raise IoTDAConfigError(f"Wave {wave} at {self._place}: {error}") from error
        # A copy may be older by one batch task.
        return max(known, key=lambda one: one.created, default=None)

    def all_begun(self) -> list[BegunWave]:
        """The waves that have begun, in order.

        :raises IoTDAError: as :meth:`read_begun`
        """
        begun = []
        for wave in range(1, len(self.planned()) + 2):
            if (found := self.read_begun(wave)) is None:
                break
            begun.append(found)
        return begun

    def read_held(self, wave: int) -> list[str]:
        """The devices that earlier waves left out because other upgrades held them.

        :raises IoTDAError: as :meth:`read_begun`
        """
        found: list[str] = []
        for begun in self.all_begun()[: wave - 1]:
            ids = begun.left_out.get(HELD) or ()
            found += iter_ids(ids, "manifest_path") if isinstance(ids, str) else ids
        return found

    def created_parts(self) -> list[Part]:
        """All batch tasks of the release so far.

        :raises IoTDAError: as :meth:`read_begun`
        """
        return [part for wave in self.all_begun() for part in wave.parts if part.batch_task_id]

    def read_members(self, part: Part) -> list[str]:
        """The devices of one batch task, in order.

        :raises IoTDAConfigError: they are not those that were written down
        :raises IoTDATransportError: they can't be read now
        """
        begun = self.read_begun(part.wave)
        if begun is None:
            said = f"The devices of wave {part.wave} are gone at {self._place}."
            raise self._lost(f"begun_{part.wave}", said)
        start = (part.part - 1) * MAX_TARGETS_PER_TASK
        ids: Any = self.iter_planned(part.wave) if begun.ids is None else begun.ids
        if isinstance(ids, str):
            ids = iter_ids(ids, "manifest_path")
        every = iter(ids)
        members = list(islice(every, start, start + part.devices))
        for _ in every:
            pass  # to the end, where a digest is compared
        if len(members) != part.devices:
            raise IoTDAConfigError(
                f"Wave {part.wave} has {len(members)} device(s) for batch task "
                f"{part.batch_task_id}, and {part.devices} were written down."
            )
        return members

    def hand_over(self, ids: Sequence[str], key: str) -> list[str] | str:
        """The ids for an XCom or a record: themselves, or the reference of a file with them.

        :raises IoTDAConfigError: there are too many for an XCom, and there is no ``manifest_path``
        :raises IoTDATransportError: the file can't be written now
        """
        return hand_over(ids, self.manifest_path, key)

    def read_ledger(self, part: Part, log: Log) -> Ledger:
        """Which devices of a batch task were confirmed.

        :raises IoTDAError: as :meth:`read_members`; or the records can't be read now
        """
        assert part.batch_task_id is not None
        ledger = Ledger(part.batch_task_id, self.read_members(part))
        for record in chain.from_iterable(map(self.read, part.keys)):
            if not ledger.merge(record):
                log.warning("The noted confirmations are of another batch task: not used.")
        return ledger

    def copy_all(self, log: Log) -> None:
        """Write every record again: one of the two tasks has just lost its copies."""
        if self.manifest_path or self.keeper_task_id is None:
            return
        try:
            manifest = self.read_manifest()
            keys = [MANIFEST, *(f"wave_{n}" for n in range(1, len(manifest or ()) + 1))]
            begun = self.all_begun() if manifest else []
            keys += [LOOKED, TRIAL, *(f"{TRIAL}_{one.wave}" for one in begun)]
            keys += [f"before_{n}" for n in range(1, len(manifest or ()) + 1)]
            keys += [f"begun_{one.wave}" for one in begun]
            keys += [key for one in begun for part in one.parts for key in part.keys]
            for key in keys:
                for record in self.read(key)[:1]:
                    self.write(key, record)
        # Airflow may be down, in many ways. A task that finds no copy confirms no device.
        except Exception as error:  # noqa: BLE001
            log.warning("What was written down of the release could not be copied: %r", error)

    # --- by key -----------------------------------------------------------------------------------

    def read(self, key: str) -> list[Any]:
        """Each copy that is found under a key; none: nothing was written.

        :raises IoTDATransportError: it can't be read now
        """
        try:
            if self.manifest_path:
                data = read_whole(self._path(key))
                if data is None and key != MANIFEST and read_whole(self.manifest_path) is None:
                    # The manifest is missing, too: the record may have been written all the same.
                    raise missing("manifest_path", self.manifest_path)
                found = [None if data is None else _json(data)]
            else:
                found = [self._pull(task_id, key) for task_id in self._keepers]
        except IoTDAError:
            raise
        # Storage or Airflow may be down, in many ways; the caller waits until it is back.
        except Exception as error:
            raise IoTDATransportError(
                f"{key} of the release can't be read at {self._place}: {one_line(repr(error), 300)}"
            ) from error
        return [one for one in found if one is not None]

    def write(self, key: str, value: Any) -> None:
        """Write something down.

        :raises Exception: as the storage or Airflow does
        """
        if self.manifest_path:
            write_whole(self._path(key), json.dumps(value).encode())
            return
        for task_id in self._keepers:
            self._push(task_id, key, value)

    def recall(self, key: str, log: Log) -> list[Any] | None:
        """:meth:`read`; None where it can't be read."""
        try:
            return self.read(key)
        except IoTDATransportError as error:
            log.warning("%s", error)
            return None

    def note(self, key: str, value: Any, log: Log) -> bool:
        """:meth:`write`; whether that worked."""
        try:
            self.write(key, value)
        except Exception:
            log.exception("%s of the release could not be written down.", key)
            return False
        return True

    def _lost(self, key: str, said: str) -> IoTDAError:
        """The error for what must have been written: a file may be there again later."""
        if self.manifest_path:
            return missing("manifest_path", self._path(key))
        return IoTDAConfigError(said)

    @property
    def _place(self) -> str:
        return one_line(self.manifest_path or f"the XComs of {self.plan_task_id}", 300)

    def _path(self, key: str) -> str:
        assert self.manifest_path is not None
        return self.manifest_path if key == MANIFEST else f"{self.manifest_path}.{key}"

    @property
    def _keepers(self) -> Sequence[str]:
        return [self.plan_task_id, *([self.keeper_task_id] if self.keeper_task_id else [])]

    def _pull(self, task_id: str, key: str) -> Any:
        return _xcom().get_one(key=key, **self._owner(task_id))

    def _push(self, task_id: str, key: str, value: Any) -> None:
        _xcom().set(key, value, **self._owner(task_id))

    def _owner(self, task_id: str) -> dict[str, Any]:
        return {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": task_id, "map_index": -1}


def _json(data: bytes) -> Any:
    """JSON in a file; None where it was cut off."""
    try:
        return json_text.read_json(data.decode())
    except ValueError:
        return None


def _xcom() -> Any:
    from airflow.providers.common.compat.sdk import XCom

    return XCom
