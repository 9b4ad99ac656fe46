"""Airflow's web UI with the example DAGs, the emulator, and rollouts to look at.

make ui                          a free port; Ctrl-C ends everything
make ui ARGS="--port 8080"
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

from ui_rollouts import begin_rollouts, copy_dags
from workbench import ROOT, WorkbenchError, end, workbench

SCENARIO = ROOT / "scripts" / "scenarios" / "rollouts.json"
#: Airflow 2 has no page for rollouts.
IS_AIRFLOW_2 = version("apache-airflow").startswith("2.")
PAGE = "plugin/rollouts"
PATIENCE = 600.0
WHAT_THERE_IS = (
    "  Trigger stop_batch_task and fill in its form.\n"
    if IS_AIRFLOW_2
    else """\
  thermostats   a bad firmware: watch the guard stop it in a minute or two
  lamps         a healthy one
  meters        a release in waves, which soon waits for your answer
  cameras       its guard's worker hangs: in two minutes there is no news of it

"""
)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--port", type=int, default=0, help="the UI's port; 0: a free one")
    arguments.add_argument("--speed", type=float, default=1, help="virtual seconds in a second")
    arguments.add_argument("--scenario", type=Path, default=SCENARIO, help="what is played")
    options = arguments.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return serve(options)
    except WorkbenchError as error:
        print(f"ui: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nui: stopped; nothing is left running.", file=sys.stderr)
        return 0


def serve(options: argparse.Namespace) -> int:
    port = free_port(options.port)
    print("Preparing Airflow ...", flush=True)
    with workbench("ui", scenario=options.scenario, speed=options.speed) as bench:
        bench.environment.update(
            {
                "AIRFLOW__CORE__DAGS_FOLDER": str(copy_dags(bench.folder)),
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
                "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port(0)),
                "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port(0)),
                # Airflow 2:
                "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
                "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(port),
            }
        )
        log = bench.folder / "airflow.log"
        airflow = bench.airflow("standalone", log=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, airflow, log)
            if not IS_AIRFLOW_2:
                begin_rollouts(bench, url)
                url += f"/{PAGE}"
            print(
                f"\n  Airflow     {url}{login(bench.folder)}\n"
                f"  Emulator    {bench.emulator_url}, {options.speed:g}x as fast as real time\n"
                f"  Logs        {bench.folder.relative_to(ROOT)}\n\n{WHAT_THERE_IS}"
                "  Ctrl-C ends everything.\n",
                flush=True,
            )
            return airflow.wait()
        finally:
            end(airflow)


def free_port(wanted: int) -> int:
    """The wanted port where it is free, or any free one."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise WorkbenchError(
                f"Port {wanted} is taken; leave --port out to get a free one."
            ) from None
        return int(probe.getsockname()[1])


def wait_until_healthy(url: str, airflow: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the web server, saying so, for as long as Airflow runs."""
    begun = time.monotonic()
    while time.monotonic() - begun < PATIENCE:
        if airflow.poll() is not None:
            raise WorkbenchError(f"Airflow ended by itself; see {log}")
        for path in ("/api/v2/monitor/health", "/health"):  # Airflow 2: /health
            try:
                with urllib.request.urlopen(url + path, timeout=5) as answer:
                    if answer.status == 200:
                        print()
                        return
            except (urllib.error.URLError, OSError):
                continue
        print(".", end="", flush=True)
        time.sleep(1)
    raise WorkbenchError(f"Airflow did not answer within {PATIENCE:.0f} s; see {log}")


def login(folder: Path) -> str:
    """Airflow 2: its standalone makes an administrator; Airflow 3 needs no login here."""
    password = folder / "standalone_admin_password.txt"
    if password.exists():
        return f"  (user admin, password {password.read_text().strip()})"
    passwords = folder / "simple_auth_manager_passwords.json.generated"
    if passwords.exists():
        known = json.loads(passwords.read_text())
        return "".join(f"  (user {user}, password {word})" for user, word in known.items())
    return ""


if __name__ == "__main__":
    sys.exit(main())
