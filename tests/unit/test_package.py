"""What a release of the package consists of, and the licences of what it depends on."""

from __future__ import annotations

import importlib.util
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads one of scripts/."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_every_direct_dependency_has_its_licence_in_the_table(
    script: Callable[[str], ModuleType],
) -> None:
    """What `make licences` writes is up to date with setup.cfg."""
    table = (ROOT / "requirements" / "LICENCES.md").read_text().partition("| --- ")[2]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    wanted = script("licences").direct_dependencies()
    assert [row[0] for row in rows] == list(wanted), "run `make licences`"
    assert {row[3] for row in rows} == {"yes", "yes, used unchanged"}


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("MIT", "yes"),
        ("BSD-3-Clause AND Zlib", "yes"),
        ("GPL-3.0-only OR MIT", "yes"),
        ("Apache-2.0 WITH LLVM-exception", "yes"),
        ("MPL-2.0", "yes, used unchanged"),
        ("GPL-3.0-only", None),
        ("MIT AND AGPL-3.0-only", None),
        ("Proprietary", None),
    ],
)
def test_a_licence_is_compatible_or_refused(
    script: Callable[[str], ModuleType], licence: str, said: str | None
) -> None:
    licences = script("licences")
    if said is not None:
        assert licences.compatible(licence) == said
        return
    with pytest.raises(licences.LicenceError, match="not known to be compatible"):
        licences.compatible(licence)


def test_the_readme_for_an_index_leads_to_no_file_of_the_checkout(
    script: Callable[[str], ModuleType],
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = script("package").for_an_index(readme)
    assert set(re.findall(r"\]\((.*?)\)", shown)) == set(re.findall(r"\]\((https:.*?)\)", readme))
    for text in (
        "([the Rollouts page](docs/rollouts-page.md), ",
        "[`dags/`](dags)",
        "![",
        ".zh-CN",
    ):
        assert text in readme
    for text in ("(the Rollouts page, ", " `dags/` ", "*The Rollouts page: "):
        assert text in shown
    for text in ("![", ".zh-CN"):
        assert text not in shown


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Makes a wheel and a source distribution of the checkout, without and with some files."""

    def make(less: str = "", more: str = "", in_source: str = "") -> tuple[Path, Path]:
        package = ROOT / "provider"
        names = [
            path.relative_to(package).as_posix()
            for path in (package / "iotda_provider").rglob("*")
            if path.is_file() and ".egg-info" not in str(path) and "__pycache__" not in str(path)
        ]
        about = [f"x-0.1.dist-info/{one}" for one in ("licenses/LICENSE", "METADATA", "RECORD")]
        about.append("x-0.1.dist-info/entry_points.txt")
        wheel, archive = tmp_path / "x.whl", tmp_path / "x.tar.gz"
        with zipfile.ZipFile(wheel, "w") as file:
            for name in [*names, *about, *filter(None, [more])]:
                if name != less:
                    file.writestr(name, "")
        with tarfile.open(archive, "w:gz") as tar:
            sources = [f"provider/{name}" for name in names]
            for name in [*sources, "LICENSE", "README.md", "PKG-INFO", in_source]:
                if name:
                    tar.addfile(tarfile.TarInfo(f"x-0.1/{name}"))
        return wheel, archive

    return make


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, None),
        ({"less": "iotda_provider/py.typed"}, "the wheel lacks iotda_provider/py.typed"),
        ({"less": "iotda_provider/ui/static/style.css"}, "the wheel lacks .*style.css"),
        ({"less": "x-0.1.dist-info/licenses/LICENSE"}, "the wheel lacks its licenses/LICENSE"),
        ({"more": "tests/test_it.py"}, "the wheel has tests/test_it.py"),
        ({"more": "iotda_provider/x.egg-info/PKG-INFO"}, "the wheel has .*egg-info"),
        ({"in_source": "tests/test_it.py"}, "the source distribution has tests/test_it.py"),
    ],
)
def test_what_is_missing_in_the_package_or_too_much_is_found(
    script: Callable[[str], ModuleType], packed: Any, files: dict[str, str], said: str | None
) -> None:
    package = script("package")
    if said is None:
        package.check_contents(*packed(**files))
        return
    with pytest.raises(package.PackageError, match=said):
        package.check_contents(*packed(**files))
