"""Forms and questions in the language of the installation."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from iotda_provider.airflow_support import words
from iotda_provider.guards import MaxFailures
from iotda_provider.operators.release import questions

DAGS = Path(__file__).resolve().parents[3] / "dags"
#: The DAGs with forms, and their files.
FORMS = {
    "build_to_fleet": "build_to_fleet",
    "firmware_release": "firmware_release",
    "roll_back_release": "roll_back_release",
    "guard_one_rollout": "rollout_guard",
    "stop_batch_task": "stop_batch_task",
}
CHINESE = json.loads(Path(words.__file__).with_name("words.zh-CN.json").read_text(encoding="utf-8"))
HAN = re.compile("[\u3400-\u9fff]")
#: What a translation may not change: places for values, templates, and JSON.
KEPT = re.compile(r"\{[^{}]*\}|\{\{.*?\}\}|\d+(?:[.,]\d+)*%?")


# Airflow 2: can't ask.
can_ask = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow asks people from 3.1 on")


@pytest.fixture
def in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IOTDA__LANGUAGE", "zh-CN")


def form(dag_id: str) -> dict[str, dict[str, Any]]:
    """The fields of a shipped DAG's form, read anew from its file."""
    path = DAGS / f"{FORMS[dag_id]}.py"
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    params = getattr(module, dag_id)().params
    return {name: params.get_param(name).dump() for name in params}


def texts(field: dict[str, Any]) -> list[str]:
    schema = field["schema"]
    found = [schema["title"], schema.get("section"), field["description"]]
    found += schema.get("values_display", {}).values()
    return [text for text in found if text]


@pytest.mark.parametrize("dag_id", FORMS)
def test_a_form_is_chinese_and_takes_the_same_values(
    dag_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = form(dag_id)
    monkeypatch.setenv("AIRFLOW__IOTDA__LANGUAGE", "zh-CN")
    chinese = form(dag_id)
    assert chinese.keys() == english.keys()
    for name, field in chinese.items():
        assert [text for text in texts(field) if not HAN.search(text)] == []
        shown = field["schema"].pop("values_display", {})
        assert set(shown) <= set(field["schema"].get("enum", ()))
        for word in {"title", "section"} & set(field["schema"]):
            field["schema"][word] = english[name]["schema"][word]
        field["description"] = english[name]["description"]
        assert field == english[name]


@can_ask  # else the forms have fewer choices
def test_each_translation_belongs_to_a_form_or_a_question_and_keeps_its_values() -> None:
    used = {text for dag_id in FORMS for field in form(dag_id).values() for text in texts(field)}
    used |= {
        choice
        for dag_id in FORMS
        for field in form(dag_id).values()
        for choice in field["schema"].get("enum", ())
    }
    asked = {text for text in vars(questions).values() if isinstance(text, str) and "{" in text}
    assert asked <= set(CHINESE)
    used |= asked
    unused = set(CHINESE) - used
    # The name of a release in its question.
    assert {text for text in unused if "{{" not in text} == set()
    assert len(unused) == 2
    for english, translation in CHINESE.items():
        kind = "May {devices} device(s) go back to {kind}"
        gone = {"{kind}"} if english.startswith(kind) else set()
        gone |= {"{{ ti.xcom_pull('check')['kind'] }}"}
        assert set(KEPT.findall(translation)) == set(KEPT.findall(english)) - gone, english


def test_numbers_that_a_dag_file_changes_are_shown(in_chinese: None) -> None:
    text = "The largest chance of ever stopping a rollout within all of that, from {} to {}."
    assert words.in_language(text.format("0.001", "0.05")).endswith("从 0.001 到 0.05。")


def test_a_text_that_a_team_has_written_stays_as_it_is(in_chinese: None) -> None:
    assert words.in_language("Our own devices, 5 % at most.") == "Our own devices, 5 % at most."


@pytest.mark.parametrize("setting", ["", "en", "EN", "fr", "../words", "zh-TW"])
def test_every_other_setting_means_english(
    setting: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__IOTDA__LANGUAGE", setting)
    words._known.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert words.in_language("Package") == "Package"
    unknown = setting.lower() not in ("", "en")
    assert unknown == ("[iotda] language must be one of en, zh-CN" in caplog.text)


@pytest.mark.parametrize("setting", ["zh-CN", "zh_CN", "ZH-cn"])
def test_chinese_is_known_by_its_usual_names(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__IOTDA__LANGUAGE", setting)
    assert words.in_language("Package") == "升级包"


@can_ask
def test_a_question_is_chinese_and_its_answers_are_the_same(in_chinese: None) -> None:
    ask = questions.question(
        2,
        "the release {{ run_id }}",
        "ti.xcom_pull('watch')",
        if_go_on="wave_3",
        if_stop="stop",
        rules=MaxFailures(3),
        plan_task_id="plan",
        create_task_id="create",
    )
    assert ask.subject == "发布 {{ run_id }} 在第 2 批之后可以继续吗\uff1f"
    assert list(ask.options_mapping) == ["Go on", "Stop the release"]
    assert "{{ ti.xcom_pull('watch')['summary'] }}" in ask.body
    assert HAN.search(ask.body)
    assert questions.question_of("it", 2) == "May it go on after wave 2?"
    back = questions.ask_about_way_back("ask", if_yes="go", if_no="end", find_task_id="find")
    assert back.subject == (
        "{{ ti.xcom_pull('find')['devices'] }} 台设备可以回退到版本 "
        "{{ ti.xcom_pull('find')['old_version'] }} 吗\uff1f"
    )
    assert back.options == [questions.GIVE_BACK, questions.LEAVE]
