"""A header that says how long an answer is, in ways that a number is not written."""

from __future__ import annotations

import pytest

from iotda_provider.exceptions import IoTDATransportError
from iotda_provider.hooks.iotda import IoTDAHook


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1", "5, 5", "x"])
def test_an_answer_of_an_odd_length_is_trouble_of_the_transport(iotda, length):
    iotda.answers("GET", f"/{iotda.task_id}", {"text": "", "headers": {"Content-Length": length}})

    with IoTDAHook() as hook, pytest.raises(IoTDATransportError):
        hook.get_batch_task(iotda.task_id)
