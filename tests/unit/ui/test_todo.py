"""What the page tells a person, and what to do, from the page's own script, run in Node.js."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

STATIC = Path(__file__).resolve().parents[3] / "provider" / "iotda_provider" / "ui" / "static"
ROW = {"state": "guard_failed", "guards": [], "unfinished_ids": [], "batch_task_ids": []}
# A page around the scripts; the row comes on standard input.
SCRIPT = """
import { readFileSync } from "node:fs";
globalThis.window = { localStorage: { getItem: () => process.argv[2] } };
window.parent = window;
globalThis.document = { baseURI: "http://localhost/iotda/page/", documentElement: {} };
globalThis.fetch = async (url) => ({ ok: true, json: async () => JSON.parse(readFileSync(url)) });
const { loadWords } = await import("./js/words.js");
const pieces = await import("./js/pieces.js");
await loadWords();
console.log(pieces[process.argv[3]](JSON.parse(readFileSync(0))));
"""

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")


def todo(folder: Path, language: str, *, function: str = "todo", **row: Any) -> str:
    """The page's words for a row of the list, by one of its functions."""
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    (folder / "script.js").write_text(SCRIPT, "utf-8")
    done = subprocess.run(
        ["node", str(folder / "script.js"), language, function],
        input=json.dumps({**ROW, **row}),
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("language", "each"), [("en", "for each of"), ("zh-CN", "每个")])
def test_each_unguarded_batch_task_gets_a_guard_of_its_own(
    tmp_path: Path, language: str, each: str
) -> None:
    said = todo(tmp_path, language, unfinished_ids=["one", "two"], batch_task_ids=["one", "two"])

    assert each in said
    assert "one, two" in said
    assert "guard_one_rollout" in said


@pytest.mark.parametrize(("language", "console"), [("en", "console"), ("zh-CN", "控制台")])
def test_a_run_without_a_known_batch_task_sends_a_person_to_the_console(
    tmp_path: Path, language: str, console: str
) -> None:
    said = todo(tmp_path, language)

    assert console in said
    assert "{" not in said
    assert "guard_one_rollout" in said


def test_a_stopped_rollout_shows_the_counts_that_the_stop_was_decided_on(tmp_path: Path) -> None:
    said = todo(
        tmp_path,
        "en",
        function="sentence",
        state="stopped",
        decided=[439, 50],
        progress={"total": 4000, "started": 439, "fail": 55},
        rules=[],
        judged=[{"rule": "Stalled", "measure": "seconds_still", "value": 7200, "bound": 3600}],
    )
    assert said == (
        "50 of 439 started devices failed (11.4%). No change for 2 h; it is stopped after 60 min. "
        "3,561 devices had not started, and were spared."
    )
