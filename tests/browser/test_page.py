"""What somebody on call sees, does and reads on the Rollouts page; the tests follow each other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.browser.conftest import Api, Page, hash_of

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

NEED = "main .need"


def press_enter(element: Any) -> None:
    element.send_keys(Keys.ENTER)


def states(page: Page) -> dict[str, str]:
    """The state of each rollout that the list shows, by its name, in the list's order."""
    found = page.driver.execute_script(
        "return [...document.querySelectorAll('.rollouts tbody tr')].map((row) =>"
        " [row.querySelector('.name a').textContent, row.querySelector('.badge').textContent])"
    )
    return {name.split(" · ")[0]: state for name, state in found}


def test_all_rollouts_are_there(page: Page) -> None:
    page.open(view="#/all")
    page.until(lambda: {"lamps", "thermostats", "cameras"} <= set(states(page)), "the rollouts")
    page.until(lambda: "started devices failed" in page.text(".says"), "what is known of them")
    assert page.driver.execute_script("return document.documentElement.lang") == "en"
    assert not page.complaints()


def test_a_bad_rollout_is_stopped_while_one_watches(page: Page, api: Api) -> None:
    page.open(view="#/all")
    page.act(f"a[data-key={hash_of(api.rollout('thermostats'))!r}]", press_enter)
    page.until(lambda: "thermostats" in page.text("h1"), "its own page")
    page.until(lambda: page.all(".verdict.stopped"), "the stop")

    verdict = page.text(".verdict")
    assert verdict.startswith("STOPPED by the guard")
    assert "tolerated" in verdict
    assert "had not started, and were spared" in verdict
    assert "What to do: Tell the people who built the firmware" in verdict
    assert not page.all("[data-key=stop]"), "there is nothing left to stop"
    page.until(lambda: "verification failed" in page.text(".reasons"), "the reasons")
    timeline = page.text(".timeline")
    for event in ("The guard began", "Stop sent", "Stop accepted", "End: STOPPED by the guard"):
        assert event in timeline
    # What the curves and the bar show is there as text, too.
    assert "the guard stops at" in page.text("figcaption")
    assert page.all(".card .bar[aria-label*=failed][aria-label*=stopped]")
    assert len(page.all(".chart svg[role=img][aria-label]")) == 2
    page.picture("stopped")

    page.dress("dark", "zh-CN")
    page.until(lambda: page.text(".verdict").startswith("已被守护停止"), "Chinese")
    assert "您要做什么" in page.text(".verdict")
    assert "dark" in page.driver.execute_script("return document.documentElement.className")
    page.picture("stopped-dark-zh")
    assert not page.complaints()


def test_theme_and_language_are_followed_without_a_reload(page: Page) -> None:
    page.open()
    page.leave()
    page.driver.execute_script(  # what Airflow does where a user chooses
        "document.documentElement.classList.add('dark');"
        "localStorage.setItem('i18nextLng', 'zh-CN'); document.documentElement.lang = 'zh-CN'"
    )
    page.enter()
    page.until(lambda: page.text("h1") == "升级任务", "Chinese")
    assert "dark" in page.driver.execute_script("return document.documentElement.className")


def test_a_release_that_asks_leads_to_the_question(page: Page, api: Api) -> None:
    page.open()
    page.until(lambda: states(page).get("release") == "WAITS FOR YOUR ANSWER", "the question")
    page.open(api.rollout("release"))
    assert page.text("h1").startswith("release · 3.1.0")
    watched = "A guard watches the devices that have started meanwhile"
    page.until(lambda: watched in page.text(".verdict"), "the guard's look")
    assert "asks you" in page.text(".waves")
    assert "To pass" in page.text(".waves")
    page.picture("release-asks")
    page.dress("dark", "zh-CN")
    page.until(lambda: page.text(".verdict").startswith("等待您的答复"), "Chinese")
    page.picture("release-asks-dark-zh")


def test_a_guard_that_hangs_comes_first(page: Page) -> None:
    page.open()
    page.until(lambda: states(page).get("cameras") == "NO NEWS", "the stale guard")
    assert next(iter(states(page))) == "cameras"
    page.until(lambda: "need somebody" in page.text(NEED), "the number of those in need")
    page.picture("list")
    page.dress("dark", "zh-CN")
    page.until(lambda: "没有消息" in page.text(".rollouts"), "Chinese")
    page.picture("list-dark-zh")


def test_an_answer_lets_the_next_wave_start(page: Page, api: Api) -> None:
    release = api.rollout("release")
    page.open(release)
    page.act("[data-key=answer]", lambda link: link.click())
    page.leave()
    page.until(lambda: page.driver.current_url.endswith("/required_actions"), "Airflow's question")
    page.until(lambda: "go on after wave 1?" in page.text(), "the question")
    assert "succeeded, " in page.text()
    assert not set("{}") & set(page.text("[role=tabpanel], main"))
    page.act("//button[normalize-space()='Go on']", lambda button: button.click())
    page.until(lambda: api.rollout("release")["question"] is None, "the answer")
    page.open(release)
    page.until(lambda: api.rollout("release")["progress"]["started"] > 200, "the next wave")
    page.until(lambda: page.all(".wave.running"), "the next wave on the page")
    assert page.all(".wave.passed, .wave.approved")
    assert page.text("h1").startswith("release · 3.1.0")


def test_a_narrow_window_shows_everything_without_scrolling_sideways(page: Page, api: Api) -> None:
    page.resize(480, 900)
    for row in (None, api.rollout("thermostats")):
        page.open(row)
        wide, seen = page.driver.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= seen
    page.open()
    page.until(lambda: page.all(".rollouts .name a"), "the rows")
    page.picture("narrow")


def test_old_data_stays_with_its_age_while_airflow_is_away(page: Page) -> None:
    page.open()
    page.until(lambda: page.all(".rollouts .name a"), "the rows")
    page.driver.set_network_conditions(offline=True, latency=0, throughput=0)
    try:
        page.until(lambda: "can't be reached" in page.text("#trouble"), "the trouble")
        assert "old" in page.text("#trouble")
        assert page.all(".rollouts .name a")
    finally:
        page.driver.delete_network_conditions()
    page.until(lambda: not page.one("#trouble").is_displayed(), "the end of it")
    page.complaints()  # of the requests that failed


def test_somebody_who_may_only_look_sees_why_they_cannot_stop(viewer: Page, api: Api) -> None:
    """Below a prefix, where every address on the page leads below it, too."""
    viewer.open()
    viewer.until(lambda: "lamps" in states(viewer), "the rollouts")
    lamps = api.rollout("lamps")
    viewer.act(f"a[data-key={hash_of(lamps)!r}]", press_enter)
    viewer.until(lambda: "lamps" in viewer.text("h1"), "its own page")
    assert viewer.all("[data-key=stop][disabled][aria-describedby=why-not]")
    assert "You may not start the DAG stop_batch_task" in viewer.text("#why-not")
    elsewhere = viewer.driver.execute_script(
        "return [...document.querySelectorAll('a')].map((a) => a.href)"
        ".filter((href) => !href.startsWith(arguments[0]))",
        f"{viewer.url}/",
    )
    assert not elsewhere
    viewer.act("[data-key=run]", lambda link: link.click())
    viewer.leave()
    run = f"{viewer.url}/dags/{lamps['dag_id']}/runs/{lamps['run_id']}"
    viewer.until(lambda: viewer.driver.current_url.startswith(run), "the run in Airflow")


def test_a_person_stops_a_rollout_by_keyboard(page: Page, api: Api) -> None:
    row = api.rollout("lamps")
    page.open(row)
    page.act("[data-key=stop]", press_enter)
    typed = page.until(lambda: page.one("#typed"), "the dialog")
    assert page.driver.switch_to.active_element == typed
    go = page.one("dialog button[type=submit]")
    typed.send_keys("zzzz")
    assert not go.is_enabled()
    typed.send_keys(Keys.BACKSPACE * 4)
    assert "can't be undone" in page.text("dialog")
    typed.send_keys(row["batch_task_ids"][0][-4:])
    assert go.is_enabled()
    page.picture("stop-dialog")
    typed.send_keys(Keys.ENTER)
    page.until(lambda: "Stopped." in page.text("dialog li"), "the stop")
    page.picture("stop-dialog-done")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.one("dialog").is_displayed(), "the end of the dialog")
    page.until(lambda: page.all(".verdict.stopped_elsewhere"), "the verdict")
    assert "A stop was started" in page.text(".timeline")
    runs = api.get("api/v2/dags/stop_batch_task/dagRuns")["dag_runs"]
    assert [run["note"] for run in runs] == ["Started from the Rollouts page."]
    # The page asks for the stop before that has told of anything: 404.
    assert not [line for line in page.complaints() if "404" not in line]


def test_why_on_a_guards_task_leads_here(page: Page, api: Api) -> None:
    row: dict[str, Any] = api.rollout("thermostats")
    run = page.driver.execute_script("return encodeURIComponent(arguments[0])", row["run_id"])
    path = f"api/v2/dags/{row['dag_id']}/dagRuns/{run}/taskInstances/guard/links"
    link = api.get(path)["extra_links"]["Why"]
    page.leave()
    page.driver.get("about:blank")
    page.driver.get(link)
    page.enter()
    page.until(lambda: "thermostats" in page.text("h1"), "its page")
    # A reload shows the same, as the address follows the view.
    page.leave()
    page.driver.refresh()
    page.enter()
    page.until(lambda: "thermostats" in page.text("h1"), "its page again")


@pytest.mark.parametrize(
    ("dag_id", "first"), [("stop_batch_task", "Batch task ID"), ("firmware_release", "Package")]
)
def test_no_field_of_a_form_is_red_before_somebody_types(
    page: Page, dag_id: str, first: str
) -> None:
    page.leave()
    page.driver.get(f"{page.url}/dags/{dag_id}")
    page.act("//button[normalize-space()='Trigger']", lambda button: button.click())
    page.until(lambda: first in page.text("[role=dialog]"), "the form")
    assert "This field is required" not in page.text("[role=dialog]")
    below = page.driver.execute_script(
        "const buttons = [...document.querySelectorAll('[role=dialog] button')];"
        "const trigger = buttons.filter((b) => b.innerText.trim() === 'Trigger').at(-1);"
        "return trigger.getBoundingClientRect().bottom - innerHeight"
    )
    # A stop is for somebody in a hurry.
    assert below <= 0 or dag_id == "firmware_release"
