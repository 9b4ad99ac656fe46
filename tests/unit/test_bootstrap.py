"""What the virtual environment is made from: every package of the lock files by its hashes."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
LOCK = """\
# made by a tool
uvicorn==0.1 \\
    --hash=sha256:aa
uv==1.2.3 ; python_full_version < "3.12" \\
    --hash=sha256:bb \\
    --hash=sha256:cc
uv==1.2.4 ; python_full_version >= "3.12" \\
    --hash=sha256:dd
zipp==3 \\
    --hash=sha256:ee
"""


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_is_found_with_all_its_versions_and_hashes(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)

    assert bootstrap.locked(lock, "uv") == LOCK[LOCK.index("uv==1.2.3") : LOCK.index("zipp")]
    assert bootstrap.locked(lock, "zipp") == LOCK[LOCK.index("zipp") :]


def test_a_package_that_is_not_locked_is_an_error(bootstrap: ModuleType, tmp_path: Path) -> None:
    """Left out in silence, it would be missed later, and elsewhere."""
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK)

    with pytest.raises(SystemExit, match=r"lock\.txt has no setuptools"):
        bootstrap.locked(lock, "setuptools")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_lock_file_has_a_hash_and_none_an_address(
    bootstrap: ModuleType, lock: Path
) -> None:
    text = lock.read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?=\S)", text):
        if not entry.startswith("#"):
            assert re.match(r"[a-z0-9._-]+==\S+ ", entry), entry
            assert re.search(r"--hash=sha256:[0-9a-f]{64}$", entry), entry
    for builder in ("uv", "setuptools"):
        assert "--hash=sha256:" in bootstrap.locked(lock, builder)


def test_nothing_but_the_project_itself_is_installed_without_a_hash(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bootstrap, "CACHE", tmp_path)
    monkeypatch.setenv("IOTDA_BOOTSTRAP", "pip")
    ran: list[list[str]] = []
    monkeypatch.setattr(bootstrap, "run", lambda *words, **_: ran.append([*map(str, words)]))

    bootstrap.install_project(Path("python"), next(iter(bootstrap.LOCKED_AIRFLOWS)))

    *locked, own = ran
    assert len(locked) == 2
    for command in locked:
        # Nor is anything resolved, and so looked for, that the file does not name.
        assert {"--require-hashes", "--no-deps", "--no-build-isolation"} <= set(command)
    assert own[-4:] == ["--no-build-isolation", "--no-deps", "--editable", str(ROOT)]


def test_the_tests_that_ci_names_are_there() -> None:
    """Who moves a test also changes .ci/run."""
    named = re.findall(r"tests/[\w/.{},*]+", (ROOT / ".ci" / "run").read_text())
    assert named
    for path in named:
        parts = (part.split(",") for part in re.split(r"\{(.*?)\}", path))
        for choice in itertools.product(*parts):
            assert list(ROOT.glob("".join(choice))), path
