"""The trial of one release: is a device worse off with the new firmware?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from iotda_provider.models import checks
from iotda_provider.models.json_text import plain_arguments
from iotda_provider.trials import exact
from iotda_provider.trials.answer import LEAST_UPDATED, LOSS, METHODS, Answer, Group

#: Says of devices whether each is healthy; a device that it leaves out, or None, is unknown.
Metric = Callable[[Sequence[str]], Mapping[str, "bool | None"]]
ONLINE, OWN = "online", "own"
_MOST_CONTROL = 100_000
#: What a form may say of a release's trial.
OFF, CAN_STOP, REQUIRED = CHOICES = ("off", "can stop", "required")


@dataclass(frozen=True, kw_only=True)
class DeviceTrial:
    """Compares the updated devices with those of later waves, which run the old firmware.

    Waves are drawn at random from one fleet, so what happens to both groups alike, such as an
    outage of the network or of the platform, is no fault of the firmware. Treated are **all**
    devices of the waves so far, whatever became of their update; the control group is drawn from
    the later waves. With x unhealthy of n in each, K gates in the release, and
    w_j = 6/(π²·j²) for the j-th look of a gate, each look answers two questions:

    *Is it worse?* One-sided Fisher exact test; an unknown treated device counts as healthy, an
    unknown control device as unhealthy. Worse where P <= w_j·false_stop/K. P(ever stopping a
    firmware that changes no device's state) <= false_stop over the whole release, without any
    assumption about networks or devices: the waves were drawn before anything started. This bound
    and the guard's add up.

    *Is it no worse?* An unknown treated device counts as unhealthy, an unknown control device as
    healthy. With u the share of the treated that report the new version, it is no worse where ::

        loss = 1 - (1 - upper(x_T, n_T)) / (1 - lower(x_C, n_C)) < margin·u

    with Clopper-Pearson bounds at w_j·false_go/2 each. P(going on while the firmware takes
    ``margin`` of the healthy devices or more) <= false_go over the whole release, under any
    dependence between the groups. Where u is below 0.5 this is not decided.

    Where more than a tenth of either group is unknown, neither is decided. Where both answers are
    yes (large groups: worse, but by less than ``margin``), it is worse; where the unknown devices
    alone keep it from being worse, nothing is decided.

    :param metric: ``online`` (the platform's state: ONLINE is healthy, OFFLINE and ABNORMAL are
        not, any other is unknown), or a function ``(device_ids) -> {device_id: bool}`` (True:
        healthy; left out or None: unknown). The function is always called in a worker
    :param required: whether a wave passes only where "no worse" is shown; otherwise the trial can
        stop a release, and never delays it
    :param margin: the share of devices that would be healthy which the firmware may take, above
        0 and below 1
    :param false_stop: the largest chance of stopping a release whose firmware harms no device
    :param false_go: the largest chance of going on where the firmware takes ``margin`` or more
    :param control_size: the most devices of the control group; of the treated devices at most as
        many are compared
    :param online_within: seconds; a device that went offline no longer than this before the look is
        healthy, too: for devices that sleep. None: the state at the look. Only for ``online``
    :param method: ``loss``, or ``product``, which needs fewer devices and holds where devices are
        independent: going on when for every control rate p the product
        P(X_T <= x_T | 1 - (1 - margin·u)(1 - p))·P(X_C >= x_C | p) <= κ, with
        κ·(1 - ln κ) = w_j·false_go
    :raises ValueError: a parameter makes no sense; the message names it

    Fisher 1935, The design of experiments; Clopper & Pearson 1934, Biometrika 26; Xia et al. 2019,
    Safe velocity (controlled experiments in each ring of a software rollout).
    """

    metric: str | Metric = ONLINE
    required: bool = False
    margin: float = 0.05
    false_stop: float = 0.01
    false_go: float = 0.05
    control_size: int = 1000
    online_within: float | None = None
    method: str = LOSS

    def __post_init__(self) -> None:
        if not callable(self.metric) and self.metric != ONLINE:
            checks.refuse("metric", "'online' or a function", self.metric)
        checks.flag("required", self.required)
        for name in ("margin", "false_stop", "false_go"):
            object.__setattr__(self, name, checks.rate(name, getattr(self, name)))
        size = checks.whole("control_size", self.control_size, least=1)
        if size > _MOST_CONTROL:
            raise ValueError(f"control_size must be at most {_MOST_CONTROL:,}")
        object.__setattr__(self, "control_size", size)
        if self.online_within is not None:
            within = checks.seconds("online_within", self.online_within)
            object.__setattr__(self, "online_within", within)
            if self.metric != ONLINE:
                raise ValueError("online_within goes with metric='online', not with a function")
        checks.choice("method", self.method, METHODS)

    # --- one look ---------------------------------------------------------------------------------

    def judge(
        self,
        treated: Group,
        control: Group,
        *,
        look: int = 1,
        gates: int = 1,
        updated: float = 1.0,
        newest: Group | None = None,
    ) -> Answer:
        """Answer both questions.

        :param look: which look of this gate, from 1; one whose time has passed counts, too
        :param gates: K, the gates of the release that have a control group
        :param updated: u, the share of the treated that report the new version
        :param newest: those of the treated that the newest wave holds, if there are others
        :raises ValueError: an argument makes no sense; the message names it
        """
        look = checks.whole("look", look, least=1)
        gates = checks.whole("gates", gates, least=1)
        updated = checks.share("updated", updated)
        weight = exact.look_weight(look)
        stops_at = weight * self.false_stop / gates
        p = _p(treated, control)
        value, goes_below, goes = self._no_worse(treated, control, weight, updated)
        known = all(group.devices and group.mostly_known for group in (treated, control))
        worse = known and p <= stops_at
        # If the unknown devices could make it worse, they must not make it no worse instead.
        may_be_worse = _p_at_worst(treated, control) <= stops_at
        return Answer(
            look=look,
            treated=treated,
            control=control,
            p=p,
            stops_at=stops_at,
            p_newest=None if newest is None else _p(newest, control),
            method=self.method,
            value=value,
            goes_below=goes_below,
            margin=self.margin,
            updated=updated,
            worse=worse,
            no_worse=(known and updated >= LEAST_UPDATED and goes and (worse or not may_be_worse)),
            what="offline" if self.metric == ONLINE else "unhealthy",
        )

    def _no_worse(
        self, treated: Group, control: Group, weight: float, updated: float
    ) -> tuple[float, float, bool]:
        """The value of the chosen method, where it goes on, and whether it does."""
        counts = (
            treated.unhealthy + treated.unknown,
            treated.devices,
            control.unhealthy,
            control.devices,
        )
        margin = self.margin * updated
        if self.method == LOSS:
            value = exact.loss(*counts, weight * self.false_go)
            return value, margin, value < margin
        value, bound = exact.product(*counts, margin), exact.product_bound(weight * self.false_go)
        return value, bound, value <= bound

    # --- before the start -------------------------------------------------------------------------

    def can_pass(self, treated: int, control: int, share: float = 0.0) -> bool:
        """Whether the first look can show "no worse" with so many devices in each group.

        :param share: the share of either group that is unhealthy
        """
        if not treated or not control:
            return False
        groups = (_group(treated, share), _group(control, share))
        return self._no_worse(*groups, exact.look_weight(1), 1.0)[2]

    def smallest_passing(self, control: int) -> int | None:
        """The fewest treated devices that can pass at the first look, all of either group healthy.

        None: no number up to 2^20 can.
        """
        fewest = next((1 << k for k in range(21) if self.can_pass(1 << k, control)), None)
        if fewest is None:
            return None
        can_pass = partial(self.can_pass, control=control)
        return bisect_left(range(fewest), True, fewest // 2 + 1, key=can_pass)

    # --- as plain JSON ----------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; a function is left out, and stays with whom it was given to."""
        return {**plain_arguments(self), "metric": ONLINE if self.metric == ONLINE else OWN}

    @classmethod
    def from_json(cls, data: object) -> DeviceTrial:
        """Read what :meth:`to_json` wrote; a function that was left out refuses to be called.

        :raises ValueError: it is something else
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"a trial must be an object, not {checks.short_repr(data)}")
        known = {field.name for field in fields(cls)}
        if unknown := set(data) - known:
            raise ValueError(f"a trial has no {checks.short_repr(sorted(map(str, unknown))[0])}")
        values = dict(data)
        if values.get("metric") == OWN:
            values["metric"] = _left_behind
        return cls(**values)


def _left_behind(_: Sequence[str]) -> Mapping[str, bool | None]:
    raise TypeError("this trial was read from JSON, without its metric")


def _p(treated: Group, control: Group) -> float:
    """P of "is it worse?"; what is not known speaks for the firmware."""
    return exact.fisher(
        treated.unhealthy, treated.devices, control.unhealthy + control.unknown, control.devices
    )


def _p_at_worst(treated: Group, control: Group) -> float:
    """The same where what is not known speaks against the firmware."""
    unhealthy = treated.unhealthy + treated.unknown
    return exact.fisher(unhealthy, treated.devices, control.unhealthy, control.devices)


def _group(devices: int, share: float) -> Group:
    unhealthy = round(devices * share)
    return Group(unhealthy, devices - unhealthy)


def as_trial(value: object) -> DeviceTrial | None:
    """The trial that a parameter means; None: there is none.

    :param value: a :class:`DeviceTrial`, its plain JSON, one of :data:`CHOICES`, or None
    :raises ValueError: it is something else
    """
    if isinstance(value, DeviceTrial):
        return value
    if value is None or value in ("", OFF):
        return None
    if isinstance(value, str) and value in CHOICES:
        return DeviceTrial(required=value == REQUIRED)
    if not isinstance(value, Mapping):
        checks.refuse("trial", f"a DeviceTrial, None, or one of {', '.join(CHOICES)}", value)
    return DeviceTrial.from_json(value)
