"""The README's examples do what they say, and links between the pages at the top lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import DAG

from iotda_provider.connection.settings import ConnectionSettings

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IN_CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_connection_example_is_one_that_the_hook_takes() -> None:
    (example,) = [block for block in blocks("bash") if "AIRFLOW_CONN_" in block]
    data = json.loads(example.split("'")[1])
    host = data["host"].replace("<instance>", "1a2b3c")
    extra = {**data["extra"], "project_id": "0a1b2c", "instance_id": "3d4e5f"}
    connection = SimpleNamespace(
        host=host,
        login=data["login"].replace("<access key>", "AK"),
        password=data["password"].replace("<secret key>", "SK"),
        schema=None,
        port=None,
        extra=json.dumps(extra),
    )
    settings = ConnectionSettings.from_connection(connection, conn_id="iotda_default")
    assert settings.base_url == f"https://{host}"
    assert settings.region == "cn-north-4"


def test_the_examples_build_their_tasks() -> None:
    names: dict[str, Any] = {}
    with DAG("readme", schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC")) as dag:
        for example in blocks("python"):
            exec(example, names)
    assert set(dag.task_ids) == {"guard", "stop", "what_failed"}
    assert names["branch"].upstream_task_ids == {"stop"}
    # Nothing has failed to stop in a rollout that is over: it must not lead to "all_stopped".
    assert names["branch"].if_none == ("all_stopped",)
    assert names["stop"].if_ended == "fail"


@pytest.mark.parametrize(
    "page", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
)
def test_links_inside_the_project_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = set(re.findall(r"\]\((?!https?:)([^)#]+)\)", text))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_somebody_with_ten_minutes_reads_it_whole() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("target", sorted(set(re.findall(r"[`$] ?make ([a-z-]+)", README))))
def test_every_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_transcript_names_what_the_demo_runs() -> None:
    (transcript,) = blocks("text")
    dags = (ROOT / "dags" / "rollout_guard.py").read_text(encoding="utf-8")
    demo = (ROOT / "scripts" / "demo.py").read_text(encoding="utf-8")
    dag_id = re.search(r"runs the DAG (\w+)", transcript)
    rule = re.search(r"Why +STOPPED: [^;]+; [^;]+; (\w+) stops at", transcript)
    followed = re.search(r"followed: (.+)", transcript)
    assert dag_id
    assert rule
    assert followed
    assert f'"{dag_id[1]}"' in dags
    assert f'"{dag_id[1]}"' in demo
    assert rule[1] in dags
    for path in followed[1].split(", "):
        assert f"def {path}(" in dags


CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")


def sections(text: str) -> list[tuple[str, str]]:
    """The sections of a README without its code blocks: how many # it has, and what it says."""
    return re.findall(r"^(#+) (.+?)(?=^#|\Z)", CODE_BLOCK.sub("", text), re.MULTILINE | re.DOTALL)


def test_the_readme_in_chinese_has_the_same_sections_and_code() -> None:
    assert CODE_BLOCK.findall(IN_CHINESE) == CODE_BLOCK.findall(README)
    english, chinese = sections(README), sections(IN_CHINESE)
    assert [level for level, _ in chinese] == [level for level, _ in english]
    for (_, text), (_, translation) in zip(english, chinese, strict=True):
        assert set(SPAN.findall(text)) <= set(SPAN.findall(translation))
        for pattern in (r"^[-|] ?(?=\S)", r"^\*\*\d"):
            assert len(re.findall(pattern, translation, re.MULTILINE)) == len(
                re.findall(pattern, text, re.MULTILINE)
            )
        assert re.search("[\u4e00-\u9fff]", translation)


def test_each_readme_leads_to_the_other() -> None:
    def links(text: str) -> set[str]:
        return set(re.findall(r"\]\((?!https:)(?!docs/images)([^)]+)\)", text))

    assert links(README) - {"README.zh-CN.md"} == links(IN_CHINESE) - {"README.md"}
    assert "README.zh-CN.md" in links(README)
    assert "README.md" in links(IN_CHINESE)
