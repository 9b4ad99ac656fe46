"""The examples of docs/howto/release-in-waves.md do what the page says.

Its DAG runs in tests/system/release/test_documented_release.py, and the shipped DAG, which it
includes, in tests/system/release/test_firmware_release.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from iotda_provider.airflow_support.questions import checked_users
from iotda_provider.release.device_ids import read_devices
from iotda_provider.release.planning import plan_waves
from iotda_provider.release.wave_specs import wave_specs

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "howto" / "release-in-waves.md").read_text(encoding="utf-8")
DAG_FILE = (ROOT / "dags" / "firmware_release.py").read_text(encoding="utf-8")
DEVICES = [f"device-{number:04}" for number in range(1000)]


def test_the_command_for_a_file_of_ids_makes_a_reference_that_the_release_takes(
    tmp_path: Path,
) -> None:
    (command,) = re.findall(r"(?m)^    (echo .*)$", PAGE)
    file = tmp_path / "devices.txt"
    file.write_text("".join(f"{device}\n" for device in DEVICES))
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    reference = done.stdout.strip()
    assert reference.startswith(f"{file}#1000-")
    assert read_devices(reference) == DEVICES
    file.write_text("".join(f"{device}\n" for device in DEVICES[:-1]))
    with pytest.raises(Exception, match="is not the one that was written with 1000 device"):
        read_devices(reference)


@pytest.mark.parametrize(
    ("row", "sizes"),
    [
        ("1%, 5%, 25%", [10, 40, 200, 750]),
        ("100, 500", [100, 400, 500]),
        ("group:<id>", [300, 700]),
        ("100%", [1000]),
        ("rest", [1000]),
    ],
)
def test_each_form_of_waves_means_what_the_table_says(row: str, sizes: list[int]) -> None:
    group = "0000000a-0000"
    (rows,) = re.findall(r"\| `waves` \| means \|\n\|[-|]+\n((?:\|.*\n)+)", PAGE)
    named = re.findall(r"`([^`]+)`", " ".join(line.split("|")[1] for line in rows.splitlines()))
    assert row in named
    waves = row.replace("<id>", group) + ("" if row in ("100%", "rest") else ", rest")
    plan = plan_waves(DEVICES, wave_specs(waves), seed="a", groups={group: set(DEVICES[:300])})
    assert [len(wave) for wave in plan.waves] == sizes
    assert sorted(device for wave in plan.waves for device in wave) == DEVICES


def test_the_approvers_are_taken_and_the_dag_passes_them_on() -> None:
    (example,) = re.findall(r"```python\n(APPROVERS = .*?)```", PAGE, re.DOTALL)
    names: dict[str, list[str]] = {}
    exec(example, names)
    assert [user["id"] for user in checked_users(names["APPROVERS"])] == ["erika", "jun"]
    assert re.search(r"(?m)^APPROVERS = None$", DAG_FILE)
    assert "assigned_users=APPROVERS" in DAG_FILE


def test_each_constant_that_the_page_names_is_one_of_the_dag_file() -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]{4,})`", PAGE))
    assert {"MANIFEST_PATH", "LARGEST_FIRST_WAVE"} <= named
    assert {name for name in named if not re.search(rf"(?m)^{name}(:.*)? = ", DAG_FILE)} == set()


def test_the_simulation_takes_the_options_that_the_page_gives_it() -> None:
    (command,) = re.findall(r"\$ python (benchmarks/\S+ .*)", PAGE)
    script, *options = command.split()
    shown = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=True
    )
    for option in options:
        assert not option.startswith("--") or option in shown.stdout
