"""What comes from outside as JSON can be printed, written again and counted with."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from tests.growth import growth

from iotda_provider.models.json_text import read_json


def nested(levels: int) -> str:
    return '{"a": [' * (levels // 2) + "]}" * (levels // 2)


@pytest.mark.parametrize("text", ["null", "5", '"[[["', "[]", '{"a": [1, 2.5, {"b": null}]}'])
def test_json_is_read(text: str) -> None:
    assert read_json(text) == json.loads(text)


def test_of_levels_there_are_at_most_64() -> None:
    assert read_json(nested(64)) == json.loads(nested(64))


@pytest.mark.parametrize("levels", [66, 800, 100_000])
def test_what_is_nested_without_end_is_none(levels: int) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(nested(levels))


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "-1e999", "9" * 400])
def test_a_number_that_no_float_can_hold_is_none(number: str) -> None:
    with pytest.raises(ValueError, match="no number of JSON"):
        read_json(f'{{"looks": [{number}]}}')


@pytest.mark.parametrize("part", ["[]", "5", "1.5", '{"a": [1]}', '"["'])
def test_the_time_grows_with_the_text_and_no_faster(part: str) -> None:
    def work(size: int) -> Any:
        text = f"[{','.join([part] * size)}]"
        return lambda: read_json(text)

    gc.disable()  # which looks through all that other tests have left, at moments of its own
    try:
        assert growth(work, 5_000) <= 2.5
    finally:
        gc.enable()
