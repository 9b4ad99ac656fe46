"""The rules are imported wherever a DAG is parsed: they must cost nothing there."""

from __future__ import annotations

import subprocess
import sys

from iotda_provider.guards import warm_up

SCRIPT = """
import sys
import iotda_provider.guards as guards
rules = [
    guards.SequentialFailureTest(0.02), guards.Overdue(60, 0.02), guards.EnoughSuccess(0.05),
    guards.Combined([guards.SequentialFailureTest(0.02)]),
]
guards.rules_from_json(guards.rules_to_json(rules))
guards.checked_rules(rules[:2])
print(sorted({"airflow", "scipy", "numpy", "matplotlib", "requests"} & set(sys.modules)))
"""


def test_what_the_first_look_would_import_can_be_imported_before() -> None:
    warm_up()
    assert "scipy.special" in sys.modules


def test_making_rules_imports_neither_airflow_nor_scipy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
