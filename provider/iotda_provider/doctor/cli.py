"""The console script ``iotda-guard``: the commands that try rules, and ``doctor``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from iotda_provider.guards.lab import cli

if TYPE_CHECKING:
    from iotda_provider.doctor.findings import Report

_WORDS = "check a connection end to end on your own instance; it changes nothing"


def main(argv: Sequence[str] | None = None) -> int:
    """The console script ``iotda-guard``."""
    return cli.main(argv, more=(_add_doctor,))


def _add_doctor(commands: Any) -> None:
    sub = commands.add_parser(
        "doctor",
        help=_WORDS,
        description=f"{_WORDS[0].upper()}{_WORDS[1:]}. Ends with 1 if something would fail at the "
        "worst moment, otherwise with 0.",
    )
    sub.set_defaults(command=_doctor)
    sub.add_argument("connection", nargs="?", default="iotda_default", help="(%(default)s)")
    sub.add_argument("--project-id", metavar="ID", help="instead of the connection's")
    sub.add_argument("--instance-id", metavar="ID", help="instead of the connection's")
    sub.add_argument(
        "--batch-task-id",
        metavar="ID",
        help="rehearse the stop with this batch task; left out: the newest that has not ended",
    )
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _doctor(options: argparse.Namespace) -> int:
    # Airflow writes its log to stdout, where the report goes; Airflow 3 to the stdout that was
    # there when it was imported.
    with redirect_stdout(sys.stderr):
        report = _report(options)
    if options.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print(report.table(width))
    return report.exit_code


def _report(options: argparse.Namespace) -> Report:
    # Airflow 3 reads connections of its database only in processes that say that they are its own.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    from iotda_provider.api import check_task_id
    from iotda_provider.doctor.examination import examine
    from iotda_provider.exceptions import IoTDAConfigError
    from iotda_provider.hooks.iotda import IoTDAHook

    try:
        if options.batch_task_id is not None:
            check_task_id(options.batch_task_id, "--batch-task-id")
    except IoTDAConfigError as error:
        raise ValueError(str(error)) from None
    with IoTDAHook(
        options.connection, project_id=options.project_id, instance_id=options.instance_id
    ) as hook:
        return examine(hook, options.batch_task_id)
