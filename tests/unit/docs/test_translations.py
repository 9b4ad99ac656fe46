"""The guides in Chinese are complete, and scripts/translations.py sees what is missing or wrong.

`make docs` compares the catalogues with the guides.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Catalog

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
CATALOGUES = DOCS / "locale" / "zh_CN" / "LC_MESSAGES"
GUIDES = [*DOCS.glob("*.md"), *DOCS.glob("howto/*.md")]
NAMES = sorted(str(guide.relative_to(DOCS).with_suffix("")) for guide in GUIDES)


def load() -> ModuleType:
    path = ROOT / "scripts" / "translations.py"
    spec = importlib.util.spec_from_file_location("translations", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


translations = load()


def catalogue(*messages: tuple[str, str], **more: object) -> Catalog:
    made = Catalog(locale="zh_CN")
    for original, translation in messages:
        made.add(original, translation, **more)
    return made


def written(catalogue: Catalog, folder: Path) -> Catalog:
    """A catalogue as it comes back from a file."""
    path = folder / "page.po"
    path.write_text(translations.written(catalogue, catalogue), encoding="utf-8")
    return translations.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_of_a_guide_is_translated(name: str) -> None:
    known = translations.read(CATALOGUES / f"{name}.po")
    assert len(known)
    assert list(translations.faults_of(known)) == []


def test_there_is_no_catalogue_without_a_guide() -> None:
    found = {str(path.relative_to(CATALOGUES).with_suffix("")) for path in CATALOGUES.rglob("*.po")}
    assert found == set(NAMES)


ORIGINAL = "A **guard** stops `x` after 30 s: [why](guards.md#why)"
GOOD = "**守护**在 30 s 之后停止 `x`\uff1a[原因](guards.md#why)"


@pytest.mark.parametrize(
    ("translation", "fault"),
    [
        ("", "is not translated"),
        ("**Guard** stops `x` after 30 s: [why](guards.md#why)", "has no Chinese character"),
        (GOOD.replace("`x`", "`y`"), "lacks `x`"),
        (GOOD.replace("`x`", "`x` 和 `y`"), "has `y`, unlike the original"),
        (GOOD.replace("#why", "#reason"), "lacks a link to guards.md#why"),
        (GOOD.replace("**守护**", "守护"), "lacks **...**"),
        (GOOD.replace("30", "3"), "lacks the number 30"),
        (GOOD.replace("守护", "卫士"), "does not call a guard 守护"),
        (GOOD.replace(" 30 s ", "30 s "), "has no space between Chinese and Latin: 在3"),
        (GOOD.replace(" `x`", "`x`"), "has no space between Chinese and Latin: 止`...`"),
        (GOOD.replace("\uff1a", ": "), "has punctuation of half a width: : 原"),
        (
            GOOD.replace("\uff1a", "\uff1athe guard stops it "),
            "has English words: the guard stops it",
        ),
    ],
)
def test_a_fault_of_a_translation_is_named(translation: str, fault: str) -> None:
    terms = translations.required_terms()
    assert list(translations.faults(ORIGINAL, GOOD, terms)) == []
    assert fault in list(translations.faults(ORIGINAL, translation, terms))


def test_bold_that_markdown_would_not_show_is_a_fault() -> None:
    found = list(translations.faults("**Stop.** It", "**停止。**它", {}))
    assert found == ["lacks **...**"]


def test_fuzzy_and_obsolete_entries_are_faults(tmp_path: Path) -> None:
    fuzzy = written(catalogue(("a stop", "停止"), flags=["fuzzy"]), tmp_path)
    assert list(translations.faults_of(fuzzy)) == ["'a stop' is fuzzy"]
    fuzzy.obsolete["a stop"] = fuzzy["a stop"]
    fuzzy.delete("a stop")
    assert list(translations.faults_of(fuzzy)) == ["'a stop' is obsolete"]


def test_an_update_keeps_what_is_unchanged_and_guesses_nothing() -> None:
    known = catalogue(("a stop", "停止"), ("the second stop", "第二次停止"))
    page = catalogue(("a stop", ""), ("the third stop", ""), ("`a` 3.5 kB", ""), ("2 % of it", ""))
    text = translations.written(page, known)
    assert 'msgid "a stop"\nmsgstr "停止"' in text
    assert 'msgid "the third stop"\nmsgstr ""' in text
    assert "second" not in text
    assert "kB" not in text
    assert "#," not in text
    assert "Date" not in text


def test_the_terms_of_the_console_are_required() -> None:
    terms = translations.required_terms()
    wanted = {"batch task": "批量任务", "subtask": "子任务", "upgrade package": "升级包"}
    assert wanted.items() | {("device group", "群组")} <= terms.items()
