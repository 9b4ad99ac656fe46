"""Writes requirements/LICENCES.md: the licences of what setup.cfg asks for, as they are installed.

It fails where a licence is unknown, or not known to be compatible with Apache-2.0.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "requirements" / "LICENCES.md"
#: May be used, and shipped beside what is under Apache-2.0, by anybody for anything.
PERMISSIVE = {
    *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "BSD", "0BSD", "ISC", "Zlib"),
    *("CC0-1.0", "PSF-2.0", "Unlicense"),
}
#: May be used unchanged, as we do: who changes its files must publish those.
WEAK_COPYLEFT = {"MPL-2.0"}
#: How older metadata says it.
SPELLINGS = {
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "mit license": "MIT",
    "bsd license": "BSD",
    "bsd": "BSD",
    "isc license (iscl)": "ISC",
    "python software foundation license": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
}
NO_LICENCE = ("License :: OSI Approved", "License :: DFSG approved")
USES = {
    "": "the provider",
    "emulator": "the emulator",
    "plot": "`iotda-guard --plot`",
    "test": "tests",
    "browser": "tests",
    "lint": "checks",
    "docs": "documentation",
    "distributed": "tests",
    "dev": "building",
}


class LicenceError(Exception):
    """A licence is unknown, or not compatible."""


def main() -> int:
    try:
        text = table()
    except LicenceError as error:
        print(f"licences: {error}", file=sys.stderr)
        return 1
    TABLE.write_text(text)
    print(f"{TABLE.relative_to(ROOT)}: {len(direct_dependencies())} packages.")
    return 0


def table() -> str:
    """The file.

    :raises LicenceError: a package is not installed, or its licence is unknown or not compatible
    """
    rows, problems = [], []
    for name, uses in direct_dependencies().items():
        try:
            found = licence_of(name)
            rows.append(f"| {name} | {', '.join(uses)} | {found} | {compatible(found)} |")
        except LicenceError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise LicenceError("; ".join(problems))
    return "\n".join([*HEAD.splitlines(), *rows, ""])


HEAD = """\
# Licences of what we depend on

`make licences` writes this file from the metadata of the installed packages. The provider is under
Apache-2.0. It ships no code of others: everything here is installed beside it, unchanged.

| package | for | licence | compatible |
| --- | --- | --- | --- |
"""


def direct_dependencies() -> dict[str, list[str]]:
    """What each package is for, by its name: what the provider needs comes first."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    found: dict[str, list[str]] = {}
    for extra, requirements in lists.items():
        for line in requirements.splitlines():
            match = re.match(r"[A-Za-z0-9][\w.-]*", line)
            if match and match[0] != "airflow-provider-iotda":
                uses = found.setdefault(re.sub(r"[-_.]+", "-", match[0]).lower(), [])
                if USES[extra] not in uses:
                    uses.append(USES[extra])
    return found


def licence_of(name: str) -> str:
    """Its licence, as an SPDX expression where the package says one.

    :raises LicenceError: it says none, or is not installed
    """
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        raise LicenceError("not installed: `make venv`") from None
    if expression := about.get("License-Expression"):
        return str(expression)
    said = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or ()
        if line.startswith("License :: ") and line not in NO_LICENCE
    ]
    said = said or [str(about.get("License") or "")]
    found = {SPELLINGS.get(one.strip().lower(), one.strip()) for one in said}
    if not all(found) or any("\n" in one or len(one) > 60 for one in found):
        raise LicenceError("its metadata names no licence")
    return " AND ".join(sorted(found))


def compatible(licence: str) -> str:
    """Whether we may depend on it, in a word or two.

    :raises LicenceError: that is not known
    """
    for choice in licence.split(" OR "):
        parts = {part.strip(" ()") for part in re.split(r" AND ", choice)}
        parts = {part.partition(" WITH ")[0] for part in parts}
        if parts <= PERMISSIVE:
            return "yes"
        if parts <= PERMISSIVE | WEAK_COPYLEFT:
            return "yes, used unchanged"
    raise LicenceError(f"{licence!r} is not known to be compatible with Apache-2.0")


if __name__ == "__main__":
    sys.exit(main())
