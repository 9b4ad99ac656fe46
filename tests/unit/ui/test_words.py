"""The page's words, files and registration: all there, in both languages, and nothing inline."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "provider" / "iotda_provider" / "ui" / "static"
WORDS = {path.stem: json.loads(path.read_text("utf-8")) for path in STATIC.glob("words/*.json")}
SCRIPTS = {path.name: path.read_text("utf-8") for path in STATIC.glob("js/*.js")}
PLACE = re.compile(r"\{(\w+)\}")


def test_both_languages_say_the_same_with_the_same_values() -> None:
    assert set(WORDS) == {"en", "zh-CN"}
    english, chinese = WORDS["en"], WORDS["zh-CN"]
    assert set(english) == set(chinese)
    for key, text in english.items():
        assert set(PLACE.findall(text)) == set(PLACE.findall(chinese[key])), key
        assert chinese[key].strip(), key


def test_every_word_that_the_scripts_ask_for_is_there_and_every_one_there_is_asked_for() -> None:
    text = "\n".join(SCRIPTS.values())
    whole = set(re.findall(r'"([a-z][a-z_]*(?:\.[a-z_]+)*)"', text))
    begun = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)*\.)\$\{", text))
    asked = set(re.findall(r'\bt\("([^"]+)"', text))
    assert asked <= set(WORDS["en"])
    unknown = {key for key in WORDS["en"] if key not in whole and not key.startswith(tuple(begun))}
    assert not unknown


def test_every_state_has_its_words() -> None:
    pytest.importorskip("airflow.models.hitl", reason="the page needs Airflow 3.1")
    from iotda_provider.ui.states import NEED

    for state in NEED:
        for kind in ("state", "says", "todo"):
            assert f"{kind}.{state}" in WORDS["en"], state


def test_every_measure_of_a_rule_has_its_words() -> None:
    rules = (STATIC.parents[1] / "guards").glob("*.py")
    measures = {
        measure
        for path in rules
        for measure in re.findall(r'measure="(\w+)"', path.read_text("utf-8"))
    }
    assert measures
    assert {f"rule.{measure}" for measure in measures} <= set(WORDS["en"])


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", page)
    for name, text in {**SCRIPTS, "index.html": page}.items():
        assert "innerHTML" not in text, name
        assert "eval(" not in text, name
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), name


def test_all_sql_is_in_one_module() -> None:
    for path in STATIC.parent.glob("*.py"):
        text = path.read_text("utf-8")
        knows = re.findall(r"sqlalchemy|airflow\.models|\bexecute\(|\bselect\(", text)
        assert bool(knows) == (path.name == "reading.py"), path.name


def test_airflow_is_told_of_the_plugin_once_and_the_wheel_holds_its_files() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    entries = setup["options.entry_points"]["airflow.plugins"].split()
    assert entries == ["iotda_rollouts", "=", "iotda_provider.ui.plugin:RolloutsPlugin"]
    patterns = setup["options.package_data"]["iotda_provider.ui"].split()
    held = {path for pattern in patterns for path in STATIC.parent.glob(pattern)}
    assert {path for path in STATIC.rglob("*") if path.is_file()} <= held
