"""Makes the virtual environment that every Make target runs in, from the lock file, once.

    bootstrap.py install --venv .venv --airflow 3.3     nothing to do? then it returns at once
    bootstrap.py lock                                   writes requirements/airflow-*.txt anew

It needs only the standard library and a package index, and writes nothing outside the checkout:
caches and temporary files are in .cache/. It installs by uv, or by pip with the same lock file if
there is no uv (IOTDA_BOOTSTRAP=pip forces that).

Everything that is downloaded must have a hash in the lock file, also uv itself and the packages
that build this project. Only an Airflow without a lock file is resolved anew, without hashes.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LOCKS = ROOT / "requirements"
#: The newest first. With each what its own requirements leave open and does not work with it.
LOCKED_AIRFLOWS = {
    "3.3": "",
    # svcs 26.2 forgets what dag.test() has registered before its first request.
    "3.2": "fastapi<0.137\nsvcs<26",
    "3.1": "",
    "2.11": "",
}
STAMP = ".made-from"
# They would bring foreign packages in, or install ours elsewhere.
STRANGERS = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV", "UV_PYTHON"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install")
    install.add_argument("--venv", type=Path, required=True)
    install.add_argument("--airflow", required=True)
    install.add_argument("--python", help="the interpreter the user asked for, if any")
    commands.add_parser("lock")
    args = parser.parse_args()

    if args.command == "install" and is_up_to_date(args.venv.absolute(), args.airflow, args.python):
        return 0  # even while another environment is being made

    CACHE.mkdir(exist_ok=True)
    with one_at_a_time(CACHE / "bootstrap.lock"):
        try:
            if args.command == "lock":
                write_locks()
            else:
                make_venv(args.venv.absolute(), args.airflow, wanted_python=args.python)
        except subprocess.CalledProcessError as error:
            say(f"Failed, with the message above: {' '.join(map(str, error.cmd))}")
            say("Nothing half-made is used: the next run starts again.")
            say("Where setup.cfg asks for what the lock files do not allow, `make lock` helps.")
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


def is_up_to_date(venv: Path, airflow: str, wanted_python: str | None) -> bool:
    """Whether the environment is whole: its stamp is written last, and removed first."""
    stamp = venv / STAMP
    version = version_of(wanted_python or base_interpreter())
    return (
        stamp.is_file()
        and stamp.read_text() == fingerprint(airflow, version)
        and version_of(str(venv / "bin" / "python")) == version
    )


def make_venv(venv: Path, airflow: str, *, wanted_python: str | None) -> None:
    if is_up_to_date(venv, airflow, wanted_python):
        return  # another process made it meanwhile

    python = venv / "bin" / "python"
    stamp = venv / STAMP
    base = wanted_python or base_interpreter()
    version = version_of(base)
    state = fingerprint(airflow, version)
    started = time.monotonic()
    # No stamp: the last run was interrupted. Another Python: its packages are of no use.
    reusable = stamp.is_file() and version_of(str(python)) == version
    stamp.unlink(missing_ok=True)
    if not reusable:
        say(
            f"Making {venv.name} with Python {version} and Airflow {airflow}: about a minute, once."
        )
        run(base, "-m", "venv", "--clear", venv)
    else:
        say(f"Bringing {venv.name} up to date.")
    install_project(python, airflow)
    stamp.write_text(state)
    say(f"{venv.name} is ready after {time.monotonic() - started:.0f} s.")


def install_project(python: Path, airflow: str) -> None:
    lock = LOCKS / f"airflow-{airflow}.txt"
    if not lock.is_file():
        say(f"There is no {lock.relative_to(ROOT)}: packages are resolved anew, without hashes.")
        any_patch = ".*" if airflow.count(".") < 2 else ""
        install(python, None, "--editable", f"{ROOT}[dev]", f"apache-airflow=={airflow}{any_patch}")
        return
    # First the packages that build others and this project. Otherwise each build would download
    # them again, without hashes.
    builder = CACHE / "setuptools.txt"
    builder.write_text(locked(lock, "setuptools"))
    # Nothing is resolved anew: the lock file is complete, and some versions of pip refuse a package
    # that another one requires with an extra, such as celery[redis], although its hash is there.
    hashed = ("--require-hashes", "--no-deps", "--no-build-isolation", "--requirement")
    install(python, lock, *hashed, builder)
    install(python, lock, *hashed, lock)
    # The project itself has no hash.
    install(python, lock, "--no-build-isolation", "--no-deps", "--editable", ROOT)


def install(python: Path, lock: Path | None, *wanted: str | Path) -> None:
    if uv := get_uv(python, lock):
        if run(*uv, "pip", "install", "--quiet", "--python", python, *wanted, check=False) == 0:
            return
        say("uv could not install everything; trying the same with pip, which takes longer.")
    run(python, "-m", "pip", "install", "--quiet", *wanted)


def write_locks() -> None:
    tools = CACHE / "uv-venv"
    run(base_interpreter(), "-m", "venv", "--clear", tools)
    uv = get_uv(tools / "bin" / "python", LOCKS / f"airflow-{next(iter(LOCKED_AIRFLOWS))}.txt")
    if not uv:
        raise SystemExit("Locking needs uv, and pip could not install it.")
    for airflow, also in LOCKED_AIRFLOWS.items():
        pin = CACHE / f"airflow-{airflow}.in"
        pin.write_text(f"apache-airflow=={airflow}.*\n{also}\n")
        lock = LOCKS / f"airflow-{airflow}.txt"
        say(f"Locking {lock.relative_to(ROOT)}.")
        run(
            *(*uv, "pip", "compile", "--quiet", "--upgrade"),
            *("--universal", "--python-version", "3.10", "--generate-hashes"),
            *("--extra", "dev", "--constraint", pin),
            *("--no-emit-index-url", "--no-emit-find-links", "--no-annotate"),
            *("--custom-compile-command", "make lock"),
            *("--output-file", lock, ROOT / "pyproject.toml"),
        )


def get_uv(python: Path, lock: Path | None) -> list[str | Path] | None:
    """uv, installed beside the interpreter: whatever uv the user may have stays out of it.

    :param lock: the file that names its version and hashes; None: any version
    """
    if os.environ.get("IOTDA_BOOTSTRAP") == "pip":
        return None
    wanted: list[str | Path] = ["uv"]
    if lock is not None:
        only_uv = CACHE / "uv.txt"
        only_uv.write_text(locked(lock, "uv"))
        wanted = ["--require-hashes", "--only-binary", ":all:", "--requirement", only_uv]
    if run(python, "-m", "pip", "install", "--quiet", *wanted, check=False) != 0:
        say("uv cannot be had here; using pip.")
        return None
    return [python, "-m", "uv"]


def locked(lock: Path, name: str) -> str:
    """What a lock file says of one package: its version and the hashes of its files."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    found = [entry for entry in entries if entry.startswith(f"{name}==")]
    if not found:
        raise SystemExit(f"{lock.name} has no {name}: `make lock` resolves it anew.")
    return "\n".join(found) + "\n"


def run(*command: str | Path, check: bool = True) -> int:
    # None of these may ask for input.
    env = environment()
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=check).returncode


def environment() -> dict[str, str]:
    """The caller's, kept inside the checkout, with one package index for pip and uv alike."""
    env = {name: value for name, value in os.environ.items() if name not in STRANGERS}
    temporary = CACHE / "tmp"
    temporary.mkdir(exist_ok=True)
    env |= {
        "PIP_CACHE_DIR": str(CACHE / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_USER": "0",
        "TMPDIR": str(temporary),
        "UV_CACHE_DIR": str(CACHE / "uv"),
        "UV_PYTHON_DOWNLOADS": "never",
        # The machine's own certificates, for a company's proxy; the second name is older.
        "UV_SYSTEM_CERTS": env.get("UV_SYSTEM_CERTS", "1"),
        "UV_NATIVE_TLS": env.get("UV_NATIVE_TLS", "1"),
    }
    uv_index = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")
    pip_index = env.get("PIP_INDEX_URL") or configured_index()
    if pip_index and not uv_index:
        env["UV_DEFAULT_INDEX"] = pip_index
    if uv_index and not pip_index:
        env["PIP_INDEX_URL"] = uv_index
    if "PIP_CERT" in env:
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    return env


@functools.cache
def configured_index() -> str:
    """The index that pip's own files name, for uv, which does not read them."""
    answer = subprocess.run(
        [base_interpreter(), "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return answer.stdout.strip() if answer.returncode == 0 else ""


def base_interpreter() -> str:
    """The interpreter behind this one, which may be that of the environment to be replaced."""
    return getattr(sys, "_base_executable", sys.executable)


def version_of(python: str) -> str:
    """Its version, or nothing when it does not run."""
    try:
        answer = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return answer.stdout.strip()


def fingerprint(airflow: str, python_version: str) -> str:
    """What the environment is made from; another fingerprint means it is out of date."""
    digest = hashlib.sha256()
    lock = LOCKS / f"airflow-{airflow}.txt"
    for path in (ROOT / "setup.cfg", ROOT / "pyproject.toml", Path(__file__), lock):
        digest.update(path.read_bytes() if path.is_file() else b"")
    # An editable install points at the checkout: a moved one is made anew.
    return f"{airflow} {python_version} {ROOT} {digest.hexdigest()}\n"


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another make in this checkout.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    print(f"-- {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
