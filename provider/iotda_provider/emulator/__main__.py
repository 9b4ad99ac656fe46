"""The command ``iotda-emulator``."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from iotda_provider.emulator import explained
from iotda_provider.emulator.common import strict_json
from iotda_provider.emulator.common.errors import ScenarioError

if TYPE_CHECKING:
    from iotda_provider.emulator.web.server import Server

MAX_PORT = 65_535
# The prefix of keys in the environment; a list of processes shows arguments to every user.
ENVIRONMENT = "IOTDA_EMULATOR_"
# A scenario is read into memory, and its path may lead to a file without an end.
MAX_SCENARIO = 64 * 1024 * 1024
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ACCESS_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until a signal ends it; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except (ScenarioError, OSError, ModuleNotFoundError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iotda-emulator",
        description="Huawei Cloud IoTDA's batch-task API on this machine, over a simulated fleet.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="0 picks a free port (8765)")
    parser.add_argument("--allow-remote", action="store_true", help="listen beyond loopback")
    parser.add_argument("--ak", help=f"the access key of callers (${ENVIRONMENT}AK, emulator-ak)")
    parser.add_argument("--sk", help=f"its secret key (${ENVIRONMENT}SK, emulator-sk)")
    parser.add_argument(
        "--security-token", help=f"makes the key a temporary one (${ENVIRONMENT}SECURITY_TOKEN)"
    )
    parser.add_argument("--project-id", default="emulator-project", help="the callers' project")
    parser.add_argument("--scenario", type=Path, metavar="FILE.json", help="what to emulate")
    parser.add_argument("--seed", type=int, default=0, help="the source of all chance (0)")
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="virtual seconds per real second (1); 0: only control calls move time",
    )
    parser.add_argument("--state", type=Path, metavar="FILE", help="keeps the state over a restart")
    parser.add_argument(
        "--control", action="store_true", help="answer control calls; their key is printed"
    )
    parser.add_argument(
        "--control-key", help=f"answer control calls with this key (${ENVIRONMENT}CONTROL_KEY)"
    )
    return parser


def _run(options: argparse.Namespace) -> None:
    # Imported late: the web framework takes half a second, and a wrong option should fail at once.
    try:
        from iotda_provider.emulator.state.instance import Instance, Settings, check_speed
        from iotda_provider.emulator.web.host_check import is_loopback
        from iotda_provider.emulator.web.server import Server, bind, url_of
    except ModuleNotFoundError as error:
        raise explained(error) from error

    if not options.allow_remote and not is_loopback(options.host):
        raise ScenarioError(f"--host {options.host} is not loopback; --allow-remote permits it")
    check_speed(options.speed, "--speed")
    if not 0 <= options.port <= MAX_PORT:
        raise ScenarioError(f"--port must be from 0 to {MAX_PORT}, not {options.port}")
    if not _PROJECT.fullmatch(options.project_id):
        raise ScenarioError("--project-id must be 1 to 64 letters, digits, _ or -")
    access = _key(options.ak, "AK") or "emulator-ak"
    if not _ACCESS_KEY.fullmatch(access):
        raise ScenarioError(f"--ak or {ENVIRONMENT}AK must be 1 to 128 letters, digits, _ or -")
    control_key = _key(options.control_key, "CONTROL_KEY")
    made_up = None
    if control_key is None and options.control:
        control_key = made_up = secrets.token_urlsafe(18)
    settings = Settings(
        ak=access,
        sk=_key(options.sk, "SK") or "emulator-sk",
        project_id=options.project_id,
        security_token=_key(options.security_token, "SECURITY_TOKEN"),
        seed=options.seed,
        speed=options.speed,
        state=options.state,
        control_key=control_key,
    )
    instance = Instance(_read(options.scenario), settings)
    try:
        bound = bind(options.host, options.port)

        def announce() -> None:
            print(f"iotda-emulator ready on {url_of(bound)}", flush=True)
            if made_up is not None:
                print(f"iotda-emulator control key {made_up}", flush=True)

        asyncio.run(_serve(lambda: Server(instance, bound, options.host), announce))
    finally:
        instance.close()


async def _serve(make: Callable[[], Server], announce: Callable[[], None]) -> None:
    server = make()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.end)
    await server.serve_until_end(announce)


def _key(given: str | None, name: str) -> str | None:
    """A key from its option, or else from the environment.

    :raises ScenarioError: it is empty
    """
    found = os.environ.get(ENVIRONMENT + name) if given is None else given
    if found is not None and not found.strip():
        raise ScenarioError(f"--{name.lower().replace('_', '-')} or {ENVIRONMENT}{name} is empty")
    return found


def _read(path: Path | None) -> object:
    if path is None:
        return None
    with path.open("rb") as file:
        raw = file.read(MAX_SCENARIO + 1)
    if len(raw) > MAX_SCENARIO:
        raise ScenarioError(f"{path} has more than {MAX_SCENARIO} bytes")
    try:
        return strict_json.parse(raw.decode("utf-8"))
    except ValueError as error:
        raise ScenarioError(f"{path} is not JSON: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
