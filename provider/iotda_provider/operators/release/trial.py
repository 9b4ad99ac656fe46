"""Plans the trial of a release: who is compared, and which waves are too small for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iotda_provider.exceptions import IoTDAConfigError, IoTDAError
from iotda_provider.models import Device, TaskType
from iotda_provider.models.log import Log
from iotda_provider.release.planning import Membership
from iotda_provider.release.preflight import BY_GROUP
from iotda_provider.release.trial_job import TrialPlan, TrialRecord, too_small_for_trial
from iotda_provider.release.wave_specs import GROUP, WaveSpec
from iotda_provider.task_io.dag_parameters import is_template
from iotda_provider.trials import DeviceTrial
from iotda_provider.trials.device_trial import ONLINE, Metric, as_trial
from iotda_provider.trials.draw import Draw, drawn
from iotda_provider.waiting.outage import may_pass

if TYPE_CHECKING:
    from iotda_provider.hooks.iotda import IoTDAHook

#: Devices that are read at a time, and rows of a page.
_BLOCK, _PAGE = 500, 50
#: More than these are not read by pages, so that they need not be held at once.
_MOST_BY_PAGES = 50_000
NO_TIME_TO_LOOK = "with a bake_time of 0 it has no time to look"


def trial_parameter(value: Any) -> tuple[Any, Metric | None]:
    """A ``trial`` as a template field, which is plain JSON, and its own metric.

    :raises ValueError: it is no trial
    """
    if is_template(value):
        return value, None
    trial = as_trial(value)
    if trial is None:
        return None, None
    return trial.to_json(), None if isinstance(trial.metric, str) else trial.metric


def plan_trial(
    hook: IoTDAHook,
    trial: DeviceTrial | None,
    waves: Membership,
    specs: Sequence[WaveSpec],
    *,
    packages: Sequence[str],
    task_type: str,
    bake: float,
    log: Log,
) -> TrialPlan:
    """Draw the devices that are compared: they are online now, and no child devices.

    :param waves: who is in which wave
    :param specs: the waves as they were asked for
    :param packages: the ids of the packages that the release brings
    :param bake: the bake time in seconds
    :raises IoTDAConfigError: it is required, and there can be none
    :raises IoTDAError: the devices can't be read
    """
    if trial is None:
        return TrialPlan()
    try:
        product, versions = _brought(hook, packages)
    except IoTDAError as error:
        if may_pass(error):
            raise
        return _without(trial, f"the release's package can't be read: {error}", log)
    if any(spec.kind == GROUP for spec in specs):
        return _without(trial, BY_GROUP, log)
    if bake <= 0:
        return _without(trial, NO_TIME_TO_LOOK, log)
    compared = waves.waves[: len(waves) - waves.late]
    reading = _Reading(hook, waves.seed, trial.control_size, product, log)
    online = [reading.online(wave) for wave in reading.chosen(compared)]
    draw = Draw.of(waves.seed, trial.control_size, online)
    column = "fw_version" if task_type == TaskType.FIRMWARE_UPGRADE else "sw_version"
    return TrialPlan(TrialRecord(draw, product, column, versions), "", reading.offline_share)


def _without(trial: DeviceTrial, why: str, log: Log) -> TrialPlan:
    if trial.required:
        raise IoTDAConfigError(f"trial: it is required, and {why.rstrip('.')}.")
    log.warning("There is no trial in this release: %s.", why.rstrip("."))
    return TrialPlan(off=why)


def _brought(hook: IoTDAHook, packages: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The product of some packages, and the versions that they bring."""
    found = [hook.get_ota_package(package) for package in packages]
    products = {package.product_id for package in found}
    product = products.pop() if len(products) == 1 else None
    return product, tuple(package.version for package in found)


class _Reading:
    """Reads which devices can be compared."""

    def __init__(
        self, hook: IoTDAHook, seed: str, size: int, product: str | None, log: Log
    ) -> None:
        self._hook = hook
        self._seed = seed
        self._size = size
        self._product = product
        self._log = log
        self._known: dict[str, Device] | None = None
        self._seen = self._offline = 0

    def chosen(self, waves: Sequence[Sequence[str]]) -> list[list[str]]:
        """The devices of each wave in the order in which they are asked for."""
        everybody = sum(map(len, waves))
        wanted = sum(min(len(wave), self._size) for wave in waves)
        if everybody <= min(_MOST_BY_PAGES, _PAGE * wanted) and self._product is not None:
            ids = [device for wave in waves for device in wave]
            answers = self._hook.read_devices(ids, product_id=self._product)
            self._known = {one.device_id: one for one in _devices(answers)}
        return [drawn(wave, self._seed, "trial") for wave in waves]

    def online(self, wave: Sequence[str]) -> list[str]:
        """The devices of a wave that can be compared, as many as are needed."""
        found: list[str] = []
        for start in range(0, len(wave), _BLOCK):
            block = wave[start : start + _BLOCK]
            for device in self._read(block):
                if device.is_direct and device.status in ("ONLINE", "OFFLINE"):
                    self._seen += 1
                    self._offline += device.status == "OFFLINE"
                    if device.status == "ONLINE":
                        found.append(device.device_id)
            if len(found) >= self._size:
                break
        return found

    @property
    def offline_share(self) -> float:
        """The share of offline devices among those that are no child devices."""
        return self._offline / self._seen if self._seen else 0.0

    def _read(self, block: Sequence[str]) -> list[Device]:
        if self._known is not None:
            return [self._known[one] for one in block if one in self._known]
        return _devices(self._hook.read_devices(block))


def _devices(answers: Sequence[Device | IoTDAError]) -> list[Device]:
    """Those that could be read.

    :raises IoTDAError: none could, and that may pass by itself
    """
    errors = [one for one in answers if isinstance(one, IoTDAError)]
    if errors and len(errors) == len(answers) and may_pass(errors[0]):
        raise errors[0]
    return [one for one in answers if isinstance(one, Device)]


def summary(
    trial: DeviceTrial | None, plan: TrialPlan, *, bake: float, wave_timeout: float
) -> tuple[dict[str, Any] | None, list[str]]:
    """What the plan says of the trial: plain JSON, and sentences that a person should read."""
    if trial is None:
        return None, []
    about: dict[str, Any] = {"required": trial.required, "off": plan.off or None}
    if plan.record is None:
        return about, [f"There is no trial in this release: {plan.off.rstrip('.')}."]
    draw = plan.record.draw
    waves, sentences = [], []
    for wave in range(1, len(draw.waves) + 1):
        treated, control = len(draw.treated(wave)), len(draw.control(wave))
        can_pass = trial.can_pass(treated, control)
        waves.append({"wave": wave, "treated": treated, "control": control, "can_pass": can_pass})
        if draw.has_gate(wave) and (why := too_small_for_trial(trial, wave, treated, control)):
            sentences.append(why)
    if draw.gates == 0:
        sentences.append("The trial has no gate: there are no later waves to compare with.")
    largest = max((w for w in waves if draw.has_gate(w["wave"])), default=None, key=_size)
    if largest and trial.online_within is None and trial.metric == ONLINE and plan.offline > 0:
        groups = largest["treated"], largest["control"]
        if trial.can_pass(*groups) and not trial.can_pass(*groups, plan.offline):
            sentences.append(
                f"{plan.offline:.0%} of the devices are offline. If they sleep, and as many of "
                "those that are compared do so at a look, the trial can't show that a wave is no "
                "worse: give it online_within, the seconds within which a healthy device comes "
                "online."
            )
    first = (trial.online_within or 0.0) + bake
    if draw.gates and first >= wave_timeout + bake:
        sentences.append(
            f"The trial first looks {first:.0f} s after a wave has begun, and a wave's time is "
            f"over {wave_timeout:.0f} s after its last confirmation: let it have more."
        )
    return {**about, "gates": draw.gates, "waves": waves}, sentences


def _size(wave: dict[str, Any]) -> int:
    return int(wave["treated"])
