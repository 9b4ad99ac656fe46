"""Lists and counts, in every form in which a DAG hands them over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.exceptions import IoTDAConfigError
from iotda_provider.task_io.parameters import as_count, as_list

DEVICE_IDS = st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True)
ROWS = st.fixed_dictionaries({"target": DEVICE_IDS, "error_msg": st.text(max_size=20) | st.none()})
FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "lazy": lambda items: (item for item in items),
    "json": json.dumps,
    "rendered": str,
}


@pytest.mark.parametrize("form", FORMS)
@given(items=st.lists(DEVICE_IDS, max_size=20))
def test_device_ids_come_out_the_same_in_every_form(form: str, items: list[str]) -> None:
    assert as_list(FORMS[form](items), "targets") == items


@pytest.mark.parametrize("form", FORMS)
@given(items=st.lists(ROWS, max_size=5))
def test_rows_come_out_the_same_in_every_form(form: str, items: list[dict[str, Any]]) -> None:
    assert as_list(FORMS[form](items), "failures") == items


@pytest.mark.parametrize("value", [[], (), "[]", " [ ] ", "()"])
def test_an_empty_list_is_a_list(value: Any) -> None:
    assert as_list(value, "targets") == []


@pytest.mark.parametrize("value", [None, "None", "none", "null", "", "  ", " None\n"])
def test_what_was_rendered_to_none_is_an_error_that_tells_how_to_mean_none(value: Any) -> None:
    with pytest.raises(IoTDAConfigError, match=r"targets was rendered to None.*pass an empty list"):
        as_list(value, "targets")


@pytest.mark.parametrize("value", ['"device1"', "'device1'", "('device1')", "b'device1'"])
def test_one_quoted_device_is_no_list_of_its_letters(value: str) -> None:
    with pytest.raises(IoTDAConfigError, match=r"targets must be a list, got"):
        as_list(value, "targets")


@pytest.mark.parametrize("value", ["device1", "a,b", "[device1]", "['a'", "{", "[[[" * 9000])
def test_text_that_holds_no_list_is_an_error_that_shows_one(value: str) -> None:
    with pytest.raises(IoTDAConfigError, match=r"targets must be a list, or text that holds one"):
        as_list(value, "targets")


@pytest.mark.parametrize("value", [7, 1.5, True, {"a": 1}, '{"a": 1}', b"ab", "7", "true"])
def test_what_is_no_list_is_an_error_that_names_the_parameter(value: Any) -> None:
    with pytest.raises(IoTDAConfigError, match=r"^targets must be"):
        as_list(value, "targets")


@given(text=st.text())
def test_any_text_is_a_list_or_one_line_of_error(text: str) -> None:
    try:
        said = str(as_list(text, "targets"))
    except IoTDAConfigError as error:
        said = str(error)
    assert said.startswith(("[", "targets"))
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("value", [3, "3", " 3 ", ["a", "b", "c"], '["a", "b", "c"]'])
def test_a_count_is_a_number_or_the_list_that_is_counted(value: Any) -> None:
    assert as_count(value, "requested") == 3


@pytest.mark.parametrize("value", [-1, "-1", True, None, "None", "", 1.5, "²", "many", "9" * 5000])
def test_what_is_no_count_is_an_error_that_names_the_parameter(value: Any) -> None:
    with pytest.raises(IoTDAConfigError, match=r"^requested "):
        as_count(value, "requested")


@pytest.mark.parametrize(
    "value",
    [
        ["100", "200"],
        "['100', '200']",
        '["100"]',
        ["0", "0"],
        [" 7 "],
        ["1e3", "1.0"],
        ["", "None"],
    ],
)
def test_texts_that_may_be_numbers_are_neither_added_up_nor_counted(value: Any) -> None:
    with pytest.raises(
        IoTDAConfigError, match=r"^requested is a list of texts that may be numbers"
    ):
        as_count(value, "requested")


@pytest.mark.parametrize(
    "value",
    [
        ["860000000000001", "860000000000002"],
        ["100", "device2"],
        '["4915112345678", "00491511234"]',
    ],
)
def test_ids_of_digits_are_counted(value: Any) -> None:
    assert as_count(value, "requested") == 2


@pytest.mark.parametrize("value", [[None, None], ["device1", None], "[null]", [b"device1"]])
def test_what_is_neither_an_id_nor_a_number_is_not_counted(value: Any) -> None:
    with pytest.raises(IoTDAConfigError, match=r"requested must be a number, a list of numbers"):
        as_count(value, "requested")


def test_rows_are_counted_and_the_results_of_mapped_tasks_are_not() -> None:
    rows = [{"target": "d1", "error_code": "X"}, {"device_id": "d2"}]
    results = [{"batch_task_id": "a1", "requested": 100, "failed": 0}] * 2

    assert as_count(rows, "failed") == 2
    with pytest.raises(IoTDAConfigError, match=r"^failed is a list of objects without a target"):
        as_count(results, "failed")
