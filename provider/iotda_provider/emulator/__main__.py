"""The command ``iotda-emulator``."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iotda_provider.emulator.scenario import Scenario, ScenarioError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iotda-emulator", description="Huawei Cloud IoTDA's batch-task API on this machine."
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="0 picks a free port (8765)")
    parser.add_argument("--allow-remote", action="store_true", help="listen beyond loopback")
    parser.add_argument("--ak", default="emulator-ak", help="the access key of callers")
    parser.add_argument("--sk", default="emulator-sk", help="its secret key")
    parser.add_argument("--security-token", help="makes the key a temporary one")
    parser.add_argument("--project-id", default="emulator-project", help="the callers' project")
    parser.add_argument("--scenario", type=Path, metavar="FILE.json", help="what to emulate")
    parser.add_argument("--seed", type=int, default=0, help="all chance comes from it (0)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="virtual seconds per real second (1)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the emulator until it is told to end; answers the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (ScenarioError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def _run(options: argparse.Namespace) -> int:
    from iotda_provider.emulator.platform import Platform, Settings
    from iotda_provider.emulator.server import is_loopback, listen, url_of

    if not options.allow_remote and not is_loopback(options.host):
        raise ScenarioError(f"--host {options.host} is not loopback; --allow-remote permits it")
    if options.speed < 0:
        raise ScenarioError("--speed must not be negative")
    platform = Platform(
        Scenario.read(_read(options.scenario)),
        Settings(
            options.ak,
            options.sk,
            options.project_id,
            options.security_token,
            options.seed,
            options.speed,
        ),
    )
    listener = listen(options.host, options.port)

    def announce() -> None:
        print(f"iotda-emulator ready on {url_of(listener)}", flush=True)

    asyncio.run(_serve(platform, listener, announce))
    return 0


async def _serve(platform: Any, listener: Any, announce: Any) -> None:
    from iotda_provider.emulator.server import Server

    server = Server(platform, listener)
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    await server.run_until_told(announce)


def _read(path: Path | None) -> object:
    if path is None:
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScenarioError(f"{path} is not JSON: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
