"""The release pipeline's DAG file with its seconds made short, and what tests tell it."""

from __future__ import annotations

import re
from pathlib import Path

DAGS = Path(__file__).resolve().parents[2] / "dags"
DAG_ID = "firmware_release"
PACKAGE = "a1b2c3d4e5f60718293a4b5c"
VERSION = "2.0.0"
#: The group of all devices.
ALL = "0000000a-0000"
#: What failures by the environment, and by the firmware, report.
WEAK, BAD = "IOTDA.014016|device offline", "IOTDA.005010|installation failed"


def hurried_release(*, looks: float, grace: float, retries: float, dag_id: str = DAG_ID) -> str:
    """The text of the DAG file, where it waits for less, and by another id.

    :param looks: seconds between two looks
    :param grace: seconds for devices that were installing when the release was stopped
    :param retries: seconds before the next try of a task
    """
    text = (DAGS / "firmware_release.py").read_text()
    for name, before, now in (
        ("SECONDS_BETWEEN_LOOKS", "10", looks),
        ("SECONDS_BEFORE_A_RETRY", "60", retries),
        # A fleet that is emulated in seconds needs no ceilings.
        ("LEAST_BAKE_MINUTES", "5", 0),
        ("LARGEST_FIRST_WAVE", "0.5", 1),
    ):
        text, count = re.subn(rf"(?m)^{name} = {before}\b", f"{name} = {now:g}", text)
        assert count == 1, name
    whole = 'grace="{{ params.report_within_minutes * 60 }}"'
    assert text.count(whole) == text.count(f'dag_id="{DAG_ID}"') == 1
    text = text.replace(whole, f"grace={grace:g}")
    return text.replace(f'dag_id="{DAG_ID}"', f'dag_id="{dag_id}"')


def hurried_way_back(
    *, looks: float = 0.02, grace: float = 1, retries: float = 0.1, deferrable: bool = False
) -> str:
    """The text of ``dags/roll_back_release.py``, where it waits for less; see above.

    :param deferrable: whether its waves wait in the triggerer
    """
    text = (DAGS / "roll_back_release.py").read_text()
    for name, before, now in (
        ("SECONDS_BETWEEN_LOOKS", "10", f"{looks:g}"),
        ("SECONDS_BEFORE_A_RETRY", "60", f"{retries:g}"),
        ("DEFERRABLE", "True", str(deferrable)),
        ("LEAST_BAKE_MINUTES", "1", "0"),
        ("BAKE_MINUTES", "5", "0"),
    ):
        text, count = re.subn(rf"(?m)^{name} = {before}\b", f"{name} = {now}", text)
        assert count == 1, name
    whole = 'grace="{{ params.report_within_minutes * 60 }}"'
    assert text.count(whole) == 1
    return text.replace(whole, f"grace={grace:g}")
