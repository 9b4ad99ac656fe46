"""The order of coming events."""

from __future__ import annotations

from iotda_provider.emulator.service.event_queue import WHOLE_TASK, EventQueue


def test_events_come_in_the_order_of_time_then_task_then_row() -> None:
    queue = EventQueue()
    events = [(5, 2, 7), (5, 1, 9), (1, 3, 0), (5, 1, WHOLE_TASK), (2**45, 1, 30_000)]
    queue.push_many(events[:3])
    for event in events[3:]:
        queue.push(*event)
    popped = []
    while (event := queue.pop_until(2**50)) is not None:
        popped.append(event)
    assert popped == sorted(events)
    queue.push(10, 1, 1)
    assert queue.pop_until(9) is None
