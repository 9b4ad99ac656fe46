"""The published vectors, error rates and powers of the trial's two tests, every one of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import bdtr

from iotda_provider.trials import DeviceTrial, Group, exact

SHARE = 0.05
LOSS, PRODUCT = DeviceTrial(), DeviceTrial(method="product")


@pytest.mark.parametrize(
    ("treated", "control", "p", "loss", "loss_at_first_look", "product"),
    [
        ((3, 100), (30, 1000), 0.590773, 0.066191, 0.073617, 0.0259589),
        ((9, 100), (30, 1000), 0.00619578, 0.146633, 0.155710, 0.605449),
        ((12, 100), (30, 1000), 0.000181618, 0.183639, 0.193236, 0.875575),
        ((0, 100), (0, 300), 1, 0.036217, 0.041002, 0.00592053),
        ((1, 100), (5, 300), 0.824256, 0.049294, 0.055480, 0.00544363),
        ((5, 50), (10, 500), 0.00759102, 0.210532, 0.224228, 0.763722),
        ((5, 200), (18, 600), 0.720317, 0.040218, 0.045028, 0.000800836),
        ((20, 500), (15, 500), 0.245914, 0.044976, 0.048375, 0.000485484),
        ((34, 500), (15, 500), 0.00388186, 0.078164, 0.081996, 0.129125),
        ((30, 1000), (30, 1000), 0.552076, 0.022682, 0.024937, 1.6931e-09),
        ((300, 7500), (150, 7500), 3.09381e-13, 0.028210, 0.029009, 2.21472e-22),
        ((400, 7500), (300, 7500), 6.20063e-05, 0.023834, 0.024854, 6.29087e-23),
        ((80, 100), (800, 1000), 0.560476, 0.439972, 0.474078, 0.283721),
        ((900, 1000), (900, 1000), 0.529698, 0.317427, 0.343527, 0.188260),
        ((1000, 1000), (1000, 1000), 1, 1, 1, 1),
    ],
)
def test_the_tests_give_the_published_values(
    treated: tuple[int, int],
    control: tuple[int, int],
    p: float,
    loss: float,
    loss_at_first_look: float,
    product: float,
) -> None:
    first = 0.05 * exact.look_weight(1)
    assert exact.fisher(*treated, *control) == pytest.approx(p, rel=4e-6)
    assert exact.loss(*treated, *control, 0.05) == pytest.approx(loss, abs=6e-7)
    assert exact.loss(*treated, *control, first) == pytest.approx(loss_at_first_look, abs=6e-7)
    assert exact.product(*treated, *control, SHARE) == pytest.approx(product, rel=2e-5)


def test_looks_share_the_error_bounds_as_published() -> None:
    weights = [exact.look_weight(look) for look in (1, 2, 3)]
    assert weights == pytest.approx([0.607927, 0.151982, 0.067547], abs=6e-7)
    assert sum(exact.look_weight(look) for look in range(1, 100_000)) < 1
    bounds = [exact.product_bound(0.05 * weight) for weight in (1, *weights)]
    assert bounds == pytest.approx([0.00870494, 0.00479410, 0.000955462, 0.000380602], rel=2e-6)


def test_the_smallest_waves_that_can_pass_at_the_first_look() -> None:
    assert LOSS.smallest_passing(1000) == 82
    assert PRODUCT.smallest_passing(1000) == 105
    tens = range(10, 300, 10)
    assert next(n for n in tens if LOSS.can_pass(n, 1000, 0.03)) == 180
    assert next(n for n in tens if PRODUCT.can_pass(n, 1000, 0.03)) == 150


def chance(
    n_t: int, p_t: float, n_c: int, p_c: float, yes: Callable[[int, int], bool], most: bool
) -> float:
    """The exact chance that a test of independent devices says yes.

    :param most: it says yes up to a number of unhealthy treated devices, not from one on
    """
    counts = np.arange(n_c + 1)
    chances = np.diff(bdtr(counts, n_c, p_c), prepend=0)
    edge, total = 0, 0.0
    for x_c in counts[chances > 1e-9].tolist():
        # The edge never falls as the control group gets worse.
        while edge <= n_t and yes(edge, x_c) == most:
            edge += 1
        below = bdtr(edge - 1, n_t, p_t) if edge else 0.0
        total += float(chances[x_c]) * (below if most else 1 - below)
    return total


def goes(trial: DeviceTrial, n_t: int, n_c: int) -> Callable[[int, int], bool]:
    def yes(x_t: int, x_c: int) -> bool:
        answer = trial.judge(Group(x_t, n_t - x_t), Group(x_c, n_c - x_c))
        return answer.value < answer.goes_below

    return yes


@pytest.mark.parametrize(("rate", "published"), [(0.03, 0.0011), (0.30, 0.0018)])
def test_a_harmless_firmware_is_called_worse_as_seldom_as_published(
    rate: float, published: float
) -> None:
    def worse(x_t: int, x_c: int) -> bool:
        return exact.fisher(x_t, 100, x_c, 300) <= 0.0025

    assert chance(100, rate, 300, rate, worse, False) == pytest.approx(published, abs=6e-5)


@pytest.mark.parametrize(
    ("n_t", "n_c", "published"),
    [(100, 300, 0.0038), (200, 600, 0.0045), (500, 1000, 0.0043), (1000, 1000, 0.0031)],
)
def test_a_firmware_that_takes_the_margin_goes_on_as_seldom_as_published(
    n_t: int, n_c: int, published: float
) -> None:
    def no_worse(x_t: int, x_c: int) -> bool:
        return exact.loss(x_t, n_t, x_c, n_c, 0.05) < SHARE

    worse_by_margin = 1 - (1 - SHARE) * (1 - 0.03)
    assert chance(n_t, worse_by_margin, n_c, 0.03, no_worse, True) == pytest.approx(
        published, abs=6e-5
    )


def test_a_firmware_that_takes_the_margin_goes_on_seldom_whatever_the_control_rate() -> None:
    for control in (0.001, 0.003, 0.01, 0.05, 0.1, 0.15):
        rate = 1 - (1 - SHARE) * (1 - control)
        for n_t, n_c in ((100, 300), (200, 600), (500, 1000)):

            def no_worse(x_t: int, x_c: int, n_t: int = n_t, n_c: int = n_c) -> bool:
                return exact.loss(x_t, n_t, x_c, n_c, 0.05) < SHARE

            assert chance(n_t, rate, n_c, control, no_worse, True) <= 0.01595


@pytest.mark.parametrize(
    ("n_t", "n_c", "by_loss", "by_product", "worse"),
    [
        (100, 300, (0.37, 0.15, 0.08), (0.38, 0.25, 0.18), 0.31),
        (200, 600, (0.89, 0.48, 0.27), (0.91, 0.64, 0.47), 0.72),
        (500, 1000, (1.00, 0.95, 0.76), (1.00, 0.98, 0.91), 0.99),
        (1000, 1000, (1.00, 1.00, 0.96), (1.00, 1.00, 0.99), 1.00),
    ],
)
def test_the_first_look_decides_as_often_as_published(
    n_t: int, n_c: int, by_loss: tuple[float, ...], by_product: tuple[float, ...], worse: float
) -> None:
    for trial, published in ((LOSS, by_loss), (PRODUCT, by_product)):
        found = [
            chance(n_t, rate, n_c, rate, goes(trial, n_t, n_c), True) for rate in (0.01, 0.03, 0.05)
        ]
        assert found == pytest.approx(published, abs=0.006)
    level = exact.look_weight(1) * 0.01 / 4

    def is_worse(x_t: int, x_c: int) -> bool:
        return exact.fisher(x_t, n_t, x_c, n_c) <= level

    assert chance(n_t, 0.10, n_c, 0.03, is_worse, False) == pytest.approx(worse, abs=0.006)
