"""A real browser on the Airflow that `make ui` starts: its page, with rollouts that really run."""

from __future__ import annotations

import configparser
import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
#: Where the pictures go; `make test-browser` puts them into the documentation.
PICTURES = os.environ.get("IOTDA_PICTURES")
#: Seconds until a condition is given up: on a busy machine Airflow takes minutes for a task.
PATIENCE = 600.0


def what_is_missing() -> str | None:
    """Why there can be no such test here; None: nothing is missing."""
    if importlib.metadata.version("apache-airflow").startswith("2."):
        return "the page needs Airflow 3.1"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"there is no {program}: install Debian's chromium and chromium-driver"
    if importlib.util.find_spec("selenium") is None:
        return "there is no selenium: make venv"
    if not any(
        e.name == "iotda_rollouts" for e in importlib.metadata.entry_points(group="airflow.plugins")
    ):
        return "the plugin is not installed: make venv"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = what_is_missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(1800))
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def airflow() -> Iterator[str]:
    """The address of the Airflow that `make ui` has started."""
    port = free_port()
    command = [sys.executable, "scripts/ui.py", "--port", str(port), "--speed", "2"]
    environment = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | {"AIRFLOW_HOME": str(ROOT / ".cache" / "airflow")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            while "Ctrl-C ends everything" not in said:
                line = process.stdout.readline()
                if not line:
                    pytest.fail(f"make ui has ended: {said}")
                said += line
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass
class Api:
    """What the test asks besides the browser, as an administrator."""

    url: str
    token: str

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.get(f"{self.url}/{path}", headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def rollout(self, name: str) -> dict[str, Any]:
        """The row of a rollout by the name of its batch task."""
        rows = self.get("iotda/api/rollouts?state=all")["rollouts"]
        found = [row for row in rows if any(one.startswith(name) for one in row["names"][:1])]
        assert found, f"{name} is not among {[row['names'] for row in rows]}"
        return dict(found[0])


@pytest.fixture(scope="session")
def api(airflow: str) -> Api:
    answer = requests.get(f"{airflow}/auth/token", timeout=60)
    return Api(airflow, answer.json()["access_token"])


def hash_of(row: dict[str, Any]) -> str:
    """The part of the address that names one rollout."""
    return "#/run/" + "/".join(quote(row[name], safe="") for name in ("dag_id", "run_id"))


class Page:
    """The page in Airflow's frame, as a person sees it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url
        self.inside = False

    def open(self, row: dict[str, Any] | None = None, *, view: str = "") -> None:
        """Open all rollouts, or one."""
        view = view if row is None else hash_of(row)
        self.leave()
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/plugin/rollouts{view}")
        self.enter()

    def enter(self) -> None:
        """Look into the frame, once the page is in it."""
        self.inside = True

        def is_there() -> bool:
            self._look_where_one_looks()
            return bool(self.all("main h1"))

        self.until(is_there, "the page")

    def leave(self) -> None:
        """Look at Airflow around the frame."""
        self.inside = False
        self.driver.switch_to.default_content()

    def _look_where_one_looks(self) -> None:
        # Airflow may put another frame into the place of the one that was there.
        self.driver.switch_to.default_content()
        if self.inside:
            self.driver.switch_to.frame(self.one("iframe"))

    def dress(self, theme: str, language: str) -> None:
        """Airflow's user changes theme and language; the page follows."""
        self.leave()
        self.driver.execute_script(
            "localStorage.setItem('theme', arguments[0]);"
            "localStorage.setItem('i18nextLng', arguments[1]);",
            *(theme, language),
        )
        self.driver.refresh()
        self.enter()

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        """An element by CSS, or by XPath from the root."""
        by = "xpath" if selector.startswith("//") else "css selector"
        return self.driver.find_element(by, selector)

    def text(self, selector: str = "body") -> str:
        """What one reads there, in one call: the page may draw itself anew between two."""
        script = (
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText).join(' ')"
        )
        return str(self.driver.execute_script(script, selector))

    def act(self, selector: str, do: Callable[[Any], Any]) -> None:
        """Do something to an element as soon as it is there, whenever the page draws itself."""

        def done() -> bool:
            do(self.one(selector))
            return True

        self.until(done, selector)

    def until(self, is_so: Callable[[], Any], what: str) -> Any:
        """What a condition gives, once it holds; an element that has just gone is none."""
        from selenium.common import exceptions

        gone = (
            exceptions.NoSuchElementException,
            exceptions.NoSuchFrameException,
            exceptions.NoSuchWindowException,  # the frame, with what one looked at
            exceptions.StaleElementReferenceException,
            exceptions.JavascriptException,  # the frame is between two documents
        )
        began = time.monotonic()
        while True:
            with contextlib.suppress(*gone):
                if found := is_so():
                    return found
            if time.monotonic() - began > PATIENCE:
                pytest.fail(f"{what} did not come within {PATIENCE:.0f} s. The page: {self.text()}")
            time.sleep(0.2)
            with contextlib.suppress(*gone):
                self._look_where_one_looks()

    def resize(self, width: int, height: int) -> None:
        self.driver.set_window_size(width, height)

    def picture(self, name: str) -> None:
        """Keep what the browser shows."""
        folder = Path(PICTURES) if PICTURES else ROOT / ".cache" / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        self.driver.switch_to.default_content()
        self.driver.save_screenshot(str(folder / f"{name}.png"))
        self._look_where_one_looks()

    def complaints(self) -> list[str]:
        """What the browser's console says, without what it says of Airflow's own frame."""
        lines = [entry["message"] for entry in self.driver.get_log("browser")]
        return [line for line in lines if "sandbox" not in line and "/iotda/" in line]


def _driver() -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
        *("--window-size=1440,1000", "--hide-scrollbars", "--lang=en"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    driver = _driver()
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser: Any, airflow: str) -> Page:
    """Airflow's page of rollouts, light and in English."""
    page = Page(browser, airflow)
    page.resize(1440, 1000)
    browser.switch_to.default_content()
    browser.get(airflow)
    browser.execute_script(
        "localStorage.setItem('theme', 'light'); localStorage.setItem('i18nextLng', 'en');"
    )
    return page


@pytest.fixture
def viewer(api: Api) -> Iterator[Page]:
    """The page in the browser of somebody who may look and start nothing, below a prefix.

    The Airflow of `make ui` takes everybody for an administrator, so a second API server over the
    same database asks who it is. Its address is another one, too: http://.../airflow.
    """
    import jwt

    home = ROOT / ".demo" / "ui"
    config = configparser.ConfigParser(interpolation=None)
    config.read(home / "airflow.cfg")
    head = jwt.get_unverified_header(api.token)
    claims = jwt.decode(api.token, options={"verify_signature": False})
    token = jwt.encode(
        {**claims, "sub": "viewer", "role": "VIEWER"},
        config["api_auth"]["jwt_secret"],
        algorithm=head["alg"],
        headers=head,
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}/airflow"
    environment = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    environment |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "viewer:viewer",
        "AIRFLOW__API__BASE_URL": url,
    }
    command = [sys.executable, "-m", "airflow", "api-server"]
    command += ["--port", str(port), "--workers", "1"]
    with (home / "viewers-api-server.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    driver = _driver()
    try:
        wait_for(f"{url}/api/v2/monitor/health")
        driver.get(f"{url}/api/v2/version")
        driver.add_cookie({"name": "_token", "value": token, "path": "/"})
        yield Page(driver, url)
    finally:
        driver.quit()
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_for(url: str) -> None:
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        with contextlib.suppress(requests.RequestException):
            if requests.get(url, timeout=60).ok:
                return
        time.sleep(0.5)
    pytest.fail(f"{url} does not answer")
