"""Ends all that a harness has started, where the harness itself was killed and can't.

``python -m tests.distributed.keeper MARK`` waits for the end of its input, which comes with the end
of whoever has started it, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

#: What every process of a harness has in its environment, and so what they start.
MARK = "IOTDA_HARNESS"
ROOT = Path(__file__).resolve().parents[2]


class Keeper:
    """While this context manager is open, processes that are started do not outlive this one."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)

    def __enter__(self) -> Keeper:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.keeper", self.mark],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        os.environ[MARK] = self.mark
        return self

    def __exit__(self, *error: object) -> None:
        del os.environ[MARK]
        self._process.communicate()


def folder_for_others() -> Path:
    """A new folder that another user may look into; it goes with the harness."""
    made = Path(tempfile.mkdtemp(prefix=f"iotda-{os.environ.get(MARK, 'harness')}-", dir="/tmp"))
    made.chmod(0o755)
    return made


def marked(mark: str) -> list[psutil.Process]:
    """What runs of a harness."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def main() -> None:
    (mark,) = sys.argv[1:]
    sys.stdin.read()
    while found := marked(mark):
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=10)
    for folder in Path("/tmp").glob(f"iotda-{mark}-*"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
