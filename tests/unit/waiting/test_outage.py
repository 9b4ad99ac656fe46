"""Which errors may pass by themselves, and when an outage is too long."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotda_provider.exceptions import (
    IoTDAApiError,
    IoTDAAuthError,
    IoTDAConfigError,
    IoTDAError,
    IoTDANotFoundError,
    IoTDAServerError,
    IoTDAThrottledError,
    IoTDATransportError,
)
from iotda_provider.waiting.outage import Outage, is_gone, is_transient

TRANSIENT = [IoTDATransportError("gone"), IoTDAServerError(503), IoTDAThrottledError(429)]
TRANSIENT += [IoTDAApiError(200, "IOTDA.000001", "internal")]
REFUSALS = [IoTDAAuthError(401), IoTDANotFoundError(404), IoTDAApiError(400), IoTDAConfigError("x")]
REFUSALS += [IoTDAAuthError(200, "APIGW.0301")]


@pytest.mark.parametrize("error", TRANSIENT)
def test_trouble_is_transient(error):
    assert is_transient(error)


@pytest.mark.parametrize("error", REFUSALS)
def test_a_refusal_is_not_tolerated(error):
    with pytest.raises(type(error)):
        Outage(900).tolerate(error, 0)


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (IoTDANotFoundError(404, "IOTDA.014217", "no such task"), True),
        (IoTDANotFoundError(404, "APIGW.0101", "no such API"), False),
        (IoTDANotFoundError(404, None, "an HTML page titled '404 Not Found'"), False),
        (IoTDAApiError(400, "IOTDA.014217", "no such task"), False),
    ],
)
def test_only_the_platforms_own_word_says_that_something_is_gone(error, gone):
    assert is_gone(error) is gone


@given(
    moments=st.lists(st.floats(0, 600), min_size=1, max_size=200).map(sorted),
    error=st.sampled_from(TRANSIENT),
)
def test_trouble_is_logged_once_a_minute_at_most_and_tolerated_up_to_max_outage(moments, error):
    outage = Outage(600)

    said = [moment for moment in moments if outage.tolerate(error, moment)]

    assert said[0] == moments[0]
    assert all(later - earlier >= 60 for earlier, later in pairwise(said))


def test_trouble_that_lasts_ends_in_an_error_with_its_length_and_cause():
    outage = Outage(100)
    assert "giving up after 100 s more" in str(outage.tolerate(IoTDATransportError("cut off"), 5))
    with pytest.raises(IoTDATransportError, match=r"for 101 s, .*\(100 s\)\. Last: cut") as error:
        outage.tolerate(IoTDATransportError("cut off"), 106)
    assert isinstance(error.value.__cause__, IoTDAError)


def test_a_good_answer_starts_the_count_anew_and_is_said_only_after_trouble():
    outage = Outage(100)
    assert outage.answered(0) is None
    outage.tolerate(IoTDAServerError(503), 10)
    assert outage.answered(50) == "IoTDA answers again, after 40 s."
    assert outage.answered(51) is None
    assert outage.tolerate(IoTDAServerError(503), 200), "no error: the count has begun anew"


def test_a_proxys_404_is_tolerated_once_the_platform_has_answered():
    outage, proxys = Outage(100), IoTDANotFoundError(404, None, "an HTML page")
    with pytest.raises(IoTDANotFoundError):
        outage.tolerate(proxys, 0)
    outage.answered(1)
    assert "giving up after 100 s more" in str(outage.tolerate(proxys, 10))
    with pytest.raises(IoTDATransportError, match=r"for 101 s"):
        outage.tolerate(proxys, 111)
    with pytest.raises(IoTDANotFoundError):
        outage.tolerate(IoTDANotFoundError(404, "IOTDA.014217", "no such task"), 111)
