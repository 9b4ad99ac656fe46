"""Chance that can be repeated."""

from __future__ import annotations

import math
import statistics

from iotda_provider.emulator.common.randomness import Draws, Mix


def test_draws_depend_on_seed_and_names_and_on_nothing_else() -> None:
    draw = Draws(1).stream("fate", 3)
    first = draw("a")
    draw("b")
    assert draw("a") == first
    assert Draws(1).stream("fate", 3)("a") == first
    others = (
        Draws(2).stream("fate", 3)("a"),
        Draws(1).stream("fate", 31)("a"),
        Draws(1).stream("fate", 3)("1a"),
        draw("b"),
    )
    assert first not in others


def test_draws_are_uniform() -> None:
    draw = Draws(0).stream("x")
    numbers = [u for n in range(2000) for u in draw(str(n))]
    assert all(0 <= u < 1 for u in numbers)
    assert math.isclose(statistics.fmean(numbers), 0.5, abs_tol=0.02)
    assert math.isclose(statistics.pvariance(numbers), 1 / 12, abs_tol=0.01)


def test_a_mix_is_drawn_by_weight() -> None:
    mix = Mix.of([7, 8, 9], [1, 0, 3])
    assert [mix.at(u) for u in (0, 0.24, 0.25, 0.99)] == [7, 7, 9, 9]
