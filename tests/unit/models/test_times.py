"""Times as the platform has them."""

from __future__ import annotations

import subprocess
import sys

READS = """
import sys

from iotda_provider.models import BatchTask

facts = {"task_id": "5c8fb0d3c1a2e45678901234", "create_time": "20151212T121212Z"}
task = BatchTask.from_wire(facts)
imported = []
sys.addaudithook(lambda event, given: event == "import" and imported.append(given[0]))
print(task.created_at, imported)
"""


def test_on_an_event_loop_the_first_time_that_is_read_imports_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, check=True)
    assert done.stdout == "1449922332.0 []\n"
