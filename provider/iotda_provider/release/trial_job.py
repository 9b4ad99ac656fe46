"""What the trial of a release writes down, and what travels with a trigger. No Airflow, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iotda_provider.models.json_text import PlainJson, checked_fields
from iotda_provider.trials import DeviceTrial
from iotda_provider.trials.draw import Draw
from iotda_provider.trials.looks import Schedule


@dataclass(frozen=True)
class TrialPlan(PlainJson):
    """A release's trial before its first wave, as it is written down.

    :param record: who is compared; None: there is no trial
    :param off: why there is none; empty: nobody has asked for one, or there is one
    :param offline: the share of the comparable devices that were offline then
    """

    record: TrialRecord | None = None
    off: str = ""
    offline: float = 0.0

    title = "trial"
    readers = {"record": lambda one: None if one is None else TrialRecord.from_json(one)}


def _read_versions(data: Any) -> tuple[str, ...]:
    if not isinstance(data, (list, tuple)) or not all(isinstance(one, str) for one in data):
        raise ValueError("trial: versions must be texts")
    return tuple(data)


@dataclass(frozen=True)
class TrialRecord(PlainJson):
    """Who is compared in a release.

    :param draw: who is compared
    :param product_id: the product that the devices belong to
    :param column: ``fw_version`` or ``sw_version``
    :param versions: the versions that the release brings
    """

    draw: Draw
    product_id: str | None
    column: str
    versions: tuple[str, ...]

    title = "trial"
    readers = {"draw": Draw.from_json, "versions": _read_versions}


@dataclass
class TrialJob(PlainJson):
    """The trial of one wave; a part of a trigger's argument.

    :param begun: when the wave has begun, in seconds since 1970
    :param bake: its bake time in seconds, above 0
    :param span: its whole time in seconds, above 0
    :param look: the next look, from 1
    :param open: whether a look has shown "no worse"
    :param told: whether a person was told that the metric can't be asked
    :param trouble: why the last look has no answer; empty: it has one
    :param answer: the last look's, as plain JSON
    :param finished: how many devices had succeeded when: pairs of seconds since 1970 and a count
    """

    trial: DeviceTrial
    begun: float
    bake: float
    span: float
    look: int = 1
    open: bool = False
    told: bool = False
    trouble: str = ""
    answer: dict[str, Any] | None = None
    finished: list[list[float]] = field(default_factory=list)

    @property
    def schedule(self) -> Schedule:
        """When its looks are."""
        return Schedule(self.begun, self.bake, self.span, self.trial.online_within or 0.0)

    @classmethod
    def from_json(cls, data: Any) -> TrialJob:
        """The inverse of :meth:`to_json`.

        :raises ValueError: it is not what that returns
        """
        readers = {
            "trial": DeviceTrial.from_json,
            "answer": _read_answer,
            "finished": _read_finished,
        }
        values = checked_fields(cls, data, "trial", **readers)
        if not values["bake"] or not values["span"] or not values.get("look", 1):
            raise ValueError("trial: bake, span and look must be above 0")
        return cls(**values)


def _read_answer(data: Any) -> dict[str, Any] | None:
    if data is not None and not isinstance(data, Mapping):
        raise ValueError("trial: answer must be an object")
    return None if data is None else dict(data)


def _read_finished(data: Any) -> list[list[float]]:
    finished = data or []
    if not isinstance(finished, list) or not all(_is_pair(one) for one in finished):
        raise ValueError("trial: finished must be pairs of numbers")
    return finished


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in value)
    )


def too_small_for_trial(trial: DeviceTrial, wave: int, treated: int, control: int) -> str:
    """Why a wave can't pass before a person has decided; empty: the trial may let it pass.

    :param treated: updated devices that are compared at the gate after the wave
    :param control: how many others they are compared with
    """
    if not trial.required or trial.can_pass(treated, control):
        return ""
    needed = trial.smallest_passing(control)
    return (
        f"Wave {wave}: TOO SMALL for the trial to show that it is no worse: {treated:,} "
        f"device(s) can be compared with {control:,} others (at least "
        f"{f'{needed:,}' if needed else 'more others'} are needed): a person must decide."
    )


def waves_too_small(trial: DeviceTrial | None, cumulative: Sequence[int]) -> dict[int, str]:
    """The waves that can't pass without a person, even if all devices can be compared.

    :param trial: None: there is none
    :param cumulative: the devices of each wave with those before it, without the late waves
    """
    if trial is None:
        return {}
    found: dict[int, str] = {}
    # After the last one there is nobody to compare with.
    for wave, devices in enumerate(cumulative[:-1], start=1):
        groups = (min(n, trial.control_size) for n in (devices, cumulative[-1] - devices))
        if why := too_small_for_trial(trial, wave, *groups):
            found[wave] = why
    return found
