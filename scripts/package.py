"""A release of the package: builds it, looks into it, and tries it where there is nothing else.

    package.py --airflow 3.3 3.2

1. Wheel and source distribution are built from a copy without anything that was made before, and
   with a README whose links to files of the checkout are text.
2. ``twine check``, and what is in them: all modules and data files, the licence, and no more.
3. The wheel alone is installed in an empty environment, with the versions of the lock file.
4. There, outside of the checkout: ``airflow providers list``, the plugin, the console scripts, the
   pytest plugin, and ``airflow dags test`` of a guard that stops a bad rollout of emulated devices.

The environment is .cache/package/airflow-*; the files are in dist/.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bootstrap import CACHE, LOCKS, ROOT, environment, say

WORK = CACHE / "package"
DIST = ROOT / "dist"
#: What the distributions are built from.
SOURCES = ("provider", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
MADE = shutil.ignore_patterns("*.egg-info", "__pycache__", "*.pyc", "build")
#: Modules and files that would be missed, or that nobody would notice to be missing.
NEEDED = (
    "iotda_provider/py.typed",
    "iotda_provider/get_provider_info.py",
    "iotda_provider/ui/static/index.html",
    "iotda_provider/ui/static/words/en.json",
)


class PackageError(Exception):
    """Something is wrong with the package."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--airflow", nargs="+", required=True, help="whose lock files name the versions"
    )
    airflows = parser.parse_args().airflow
    began = time.monotonic()
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        wheel = build()
        # Each waits for network and disk now and then: two at a time.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(partial(install_and_try, wheel), airflows))
    except (PackageError, subprocess.SubprocessError) as error:
        print(f"package: {error}", file=sys.stderr)
        return 1
    named = ", ".join(airflows)
    say(f"{wheel.name} works with Airflow {named}: {time.monotonic() - began:.0f} s.")
    return 0


# --- what is in it --------------------------------------------------------------------------------


def build() -> Path:
    """Build both distributions, and look into them; the wheel."""
    say("Building the wheel and the source distribution.")
    source = WORK / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=MADE)
        else:
            shutil.copy(ROOT / name, source / name)
    readme = source / "README.md"
    readme.write_text(for_an_index(readme.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(DIST, ignore_errors=True)
    # The wheel is made from the source distribution. Isolated, it would download without hashes.
    command = ("-m", "build", "--no-isolation", "--outdir", DIST, source)
    run(sys.executable, *command, quiet=True)
    made = sorted(DIST.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *made)
    (archive,) = DIST.glob("*.tar.gz")
    (wheel,) = DIST.glob("*.whl")
    check_contents(wheel, archive)
    return wheel


def for_an_index(readme: str) -> str:
    """The README as an index of packages shows it, which has no files of the checkout.

    A link or a picture of such a file becomes its text.
    """
    readme = re.sub(r"(?m)^English \| .*\n\n", "", readme)
    readme = re.sub(r"!\[([^]]*)\]\((?!https:)[^)]*\)", r"*\1*", readme)
    return re.sub(r"\[([^]]+)\]\((?!https:)[^)]+\)", r"\1", readme)


def check_contents(wheel: Path, archive: Path) -> None:
    """
    :raises PackageError: something is missing, or does not belong there
    """
    package = ROOT / "provider"
    wanted = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and not {"__pycache__"} & set(path.parts)
        if not any(part.endswith(".egg-info") for part in path.parts)
    }
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if not name.endswith("/")}
    about = {name for name in found if ".dist-info/" in name}
    problems = [f"the wheel lacks {name}" for name in sorted(wanted - found)]
    problems += [f"the wheel has {name}" for name in sorted(found - wanted - about)]
    problems += [f"the wheel lacks {name}" for name in NEEDED if name not in found]
    problems += [
        f"the wheel lacks its {name}"
        for name in ("licenses/LICENSE", "entry_points.txt", "METADATA")
        if not any(one.endswith(f".dist-info/{name}") for one in about)
    ]
    with tarfile.open(archive) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    needed = {*(f"provider/{name}" for name in wanted), "LICENSE", "README.md", "PKG-INFO"}
    problems += [f"the source distribution lacks {name}" for name in sorted(needed - inside)]
    foreign = {name for name in inside if name.startswith(("tests", "docs", "dags", ".", "build"))}
    problems += [f"the source distribution has {name}" for name in sorted(foreign)]
    if problems:
        raise PackageError("; ".join(problems[:10]))
    size = wheel.stat().st_size // 1024
    say(f"{len(wanted)} files of the package and nothing else, {size} kB.")


# --- in an empty environment ----------------------------------------------------------------------


def install_and_try(wheel: Path, airflow: str) -> None:
    """
    :raises PackageError: something does not work
    """
    worked = try_out(install(wheel, airflow), airflow)
    say("\n   ".join([f"With Airflow {airflow}:", *worked]))


def install(wheel: Path, airflow: str) -> Path:
    """Make an environment with the wheel, and nothing else that it does not ask for.

    :returns: its interpreter
    """
    lock = LOCKS / f"airflow-{airflow}.txt"
    if not lock.is_file():
        raise PackageError(f"there is no {lock.relative_to(ROOT)}")
    folder = WORK / f"airflow-{airflow}"
    say(f"Installing {wheel.name} in an empty environment with Airflow {airflow}.")
    shutil.rmtree(folder, ignore_errors=True)
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = (*uv, "pip", "install", "--quiet", "--python", python, "--constraint", lock)
    run(*pip, wheel)
    # What needs the extra is tried with it; pytest is whatever the user of the plugin has.
    run(*pip, f"airflow-provider-iotda[emulator] @ {wheel.as_uri()}", "pytest")
    return python


def try_out(python: Path, airflow: str) -> list[str]:
    """Use what is installed, far from the checkout.

    :returns: what has worked, in sentences
    :raises PackageError: something does not work
    """
    home = WORK / f"airflow-{airflow}" / "home"
    (home / "dags").mkdir(parents=True)
    script = home / "try_installed.py"
    shutil.copy(ROOT / "scripts" / "try_installed.py", script)
    env = environment() | {
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "as long as Airflow wants it, and secret to nobody " * 2,
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    log = home / "log.txt"
    with log.open("wb") as out:
        command = [str(python), str(script), str(ROOT)]
        answer = subprocess.run(
            command,
            check=False,
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
        )
    try:
        lines = json.loads(answer.stdout.decode().splitlines()[-1])
    except (ValueError, IndexError):
        raise PackageError(f"trying it out has failed: {log}\n{log.read_text()[-3000:]}") from None
    if answer.returncode or lines["failed"]:
        raise PackageError("; ".join(lines["failed"]) or f"it has failed: {log}")
    worked: list[str] = lines["worked"]
    return worked


def run(*command: str | Path, quiet: bool = False) -> None:
    """Run a command; what it says is shown if it fails, or unless ``quiet``."""
    words: Sequence[str] = [str(word) for word in command]
    env = environment()
    if not quiet:
        subprocess.run(words, env=env, stdin=subprocess.DEVNULL, check=True)
        return
    answer = subprocess.run(
        words, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise PackageError(f"{' '.join(words)} has failed:\n{answer.stdout}{answer.stderr}")


if __name__ == "__main__":
    sys.exit(main())
