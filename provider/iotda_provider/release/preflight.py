"""Reads a release's parameters before anything is created, and says which can't be right."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from zoneinfo import available_timezones

from iotda_provider.exceptions import IoTDAError
from iotda_provider.guards import EnoughSuccess
from iotda_provider.models.sorted_ids import SortedIds
from iotda_provider.release.gate import APPROVALS, NEVER, as_gate
from iotda_provider.release.maintenance_window import MaintenanceWindow
from iotda_provider.release.planning import (
    LATE_LABEL,
    Membership,
    cut_waves,
    shuffled,
    split_late,
)
from iotda_provider.release.trial_job import waves_too_small
from iotda_provider.release.wave_specs import GROUP, WaveSpec, wave_specs
from iotda_provider.rollout_guard.plan import read_rules
from iotda_provider.task_io.dag_parameters import one_of
from iotda_provider.task_io.parameters import none_if_blank, optional_text, read_number
from iotda_provider.trials import DeviceTrial
from iotda_provider.trials.device_trial import as_trial

#: How much of a misspelt timezone is compared with others: comparing is slow.
_LONGEST_ZONE = 64
_ANY_DAY = ("00:00", "00:00")
#: Why there is no trial in some releases.
BY_GROUP = "waves by device groups are not drawn device by device, so they can't be compared"

Devices = Collection[str]
#: The devices of groups, by the groups' ids.
Groups = Mapping[str, Devices]


class ReleaseParameters:
    """What a release was asked for, read by the code that plans and carries it out.

    :param values: the parameters that the DAG has passed, by name, as they were rendered: some of
        ``waves``, ``window``, ``timezone``, ``rules``, ``gate`` and ``approval``
    :param max_waves: the most waves that the DAG has room for, the late one included
    :param largest_first_wave: the largest share of the devices that the first wave may hold
    """

    def __init__(
        self, values: Mapping[str, Any], max_waves: Any, largest_first_wave: float = 1
    ) -> None:
        self.specs: tuple[WaveSpec, ...] = ()
        self.max_waves = 0
        self.largest_first_wave = largest_first_wave
        self.gate: EnoughSuccess | None = None
        self.approval = ""
        self.trial: DeviceTrial | None = None
        #: What can't be right: one sentence each, beginning with the parameter's name.
        self.faults: list[str] = []
        self._values = values
        self._read("max_waves", self._read_max_waves, max_waves)
        for name, read in (
            ("waves", self._read_waves),
            ("timezone", _read_timezone),
            ("window", self._read_window),
            ("rules", read_rules),
            ("gate", self._read_gate),
            ("approval", self._read_approval),
            ("trial", self._read_trial),
        ):
            if name in values:
                self._read(name, read, values[name])

    @property
    def group_ids(self) -> list[str]:
        """The device groups that are waves."""
        return [spec.group_id for spec in self.specs if spec.kind == GROUP]

    def too_many(self, devices: Devices, groups: Groups, late: Devices) -> str:
        """Why these devices don't fit into the waves that there is room for; empty: they do.

        Waves that would be empty don't count. If some waves are device groups, the devices of the
        others are drawn later, so all of the others count.

        :param groups: the devices of each group that is a wave
        :param late: devices that come last, in a wave of their own
        """
        if not self.specs or not self.max_waves:
            return ""
        if groups:
            members = ((spec, groups.get(spec.group_id, ())) for spec in self.specs)
            labels = [
                spec.label
                for spec, group in members
                if spec.kind != GROUP or any(one in devices and one not in late for one in group)
            ]
            labels += [LATE_LABEL] if late else []
        else:
            count = len(devices) - len(late)
            labels = list(cut_waves(range(count), range(len(late)), self.specs).labels)
        if len(labels) <= self.max_waves:
            return ""
        room = self.max_waves - bool(late)
        return (
            f"waves: with these devices there are {len(labels)} ({', '.join(labels)}), and this "
            f"DAG has room for max_waves={self.max_waves}: name at most {room}"
            + (
                ", as the devices that were not online lately form one of their own."
                if late
                else "."
            )
        )

    def too_small(self, devices: Devices, groups: Groups, late: Devices) -> str:
        """Why a release to these devices is sure to end with its first wave; empty: it is not.

        A wave that can't pass by its numbers needs a person, and where none is asked it is stopped.

        :param groups: the devices of each group that is a wave
        :param late: devices that come last
        """
        if not self.specs or self.gate is None or self.approval != NEVER:
            return ""
        plan = self.waves(devices, groups, late)
        label, first = plan.labels[0], plan.cumulative[0]
        needed = self.gate.smallest_passing_sample()
        if first >= needed:
            why = waves_too_small(self.trial, plan.cumulative[: len(plan) - plan.late]).get(1)
            if not why:
                return ""
            return (
                f"waves: {why} With approval '{NEVER}' the release would be stopped there: let the "
                "first wave have more devices, or have a person asked."
            )
        return (
            f"waves: the first one ({label}) has {first} device(s), and even if all of "
            f"them succeed, to rule out a failure rate of {100 * self.gate.max_failure_rate:g} % "
            f"takes {needed}. With approval '{NEVER}' the release would be stopped there: let the "
            "first wave have more devices, rule out a higher rate, or have a person asked."
        )

    def too_large(self, devices: Devices, groups: Groups, late: Devices) -> str:
        """Why the first wave, before which nothing is known, is too large; empty: it is not.

        :param groups: the devices of each group that is a wave
        :param late: devices that come last
        """
        if not self.specs or not self.max_waves or self.largest_first_wave >= 1:
            return ""
        label, first = self._first_wave(devices, groups, late)
        if first <= max(1, self.largest_first_wave * len(devices)):
            return ""
        return (
            f"waves: the first one ({label}) has {first} of the {len(devices)} devices, and this "
            f"DAG lets it have at most {self.largest_first_wave:.0%} of them "
            "(largest_first_wave): begin with fewer, such as 1%."
        )

    def waves(self, devices: Devices, groups: Groups, late: Devices) -> Membership:
        """The waves that these devices will form, by their sizes.

        Which device is in which wave is drawn when the release starts. The sizes depend on that
        only if a wave that is a device group comes after another wave.

        :param groups: the devices of each group that is a wave
        :param late: devices that come last
        """
        waiting = SortedIds(late)
        on_time: Sequence[str] = [device for device in devices if device not in waiting]
        if groups:
            on_time = shuffled(on_time, seed="")
        plan = cut_waves(on_time, range(len(late)), self.specs, groups=groups)
        return split_late(plan, self.specs, self.max_waves)

    def _first_wave(self, devices: Devices, groups: Groups, late: Devices) -> tuple[str, int]:
        """The first wave's label, and how many devices it holds."""
        plan = self.waves(devices, groups, late)
        return plan.labels[0], len(plan.waves[0])

    def _read(self, name: str, read: Any, value: Any) -> None:
        try:
            read(value)
        except (ValueError, IoTDAError) as error:
            said = str(error).rstrip(".")
            self.faults.append(f"{said if said.startswith(name) else f'{name}: {said}'}.")

    def _read_max_waves(self, value: Any) -> None:
        number = read_number(value, "max_waves")
        if number != int(number):
            raise ValueError(f"max_waves must be a whole number, got {value!r}")
        self.max_waves = int(number)

    def _read_waves(self, value: Any) -> None:
        self.specs = wave_specs(value)

    def _read_gate(self, value: Any) -> None:
        try:
            gate = as_gate(value)
            gate.smallest_passing_sample()
        except ValueError as error:
            raise ValueError(
                f"gate: {error}: give the failure rate to rule out, above 0 and below 1, such as "
                "0.05"
            ) from None
        self.gate = gate

    def _read_trial(self, value: Any) -> None:
        trial = as_trial(value)
        if trial is not None and trial.required and self.group_ids:
            raise ValueError(f"trial: it is required, and {BY_GROUP}")
        self.trial = trial

    def _read_approval(self, value: Any) -> None:
        self.approval = one_of(value, "approval", APPROVALS)

    def _read_window(self, value: Any) -> None:
        zone = self._values.get("timezone")
        try:
            _read_timezone(zone)
        except (ValueError, IoTDAError):
            zone = None  # told already
        MaintenanceWindow.of(none_if_blank(value), _zone(zone))


def _zone(value: Any) -> str:
    return optional_text(value, "timezone") or "UTC"


def _read_timezone(value: Any) -> None:
    zone = _zone(value)
    try:
        MaintenanceWindow(*_ANY_DAY, zone)
    except ValueError as error:
        near = difflib.get_close_matches(zone[:_LONGEST_ZONE], sorted(available_timezones()), n=1)
        hint = f"did you mean {near[0]}?" if near else "give a name such as Asia/Shanghai or UTC"
        raise ValueError(f"{error}: {hint}") from None
