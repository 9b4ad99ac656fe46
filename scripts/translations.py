"""The Chinese of the guides: brings docs/locale up to date with docs/, or checks it.

translations.py            writes the catalogues anew: what is unchanged keeps its translation
translations.py --check    says what is missing or wrong, and changes nothing

Translators keep to docs/locale/zh_CN/TERMS.md. What has no words (code, numbers) is in no
catalogue.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LOCALE = DOCS / "locale" / "zh_CN"
CATALOGUES = LOCALE / "LC_MESSAGES"
#: Without dates, so that a change shows only what has changed.
HEADER = """\
# Written by `make translations`, translated by hand: see TERMS.md.
msgid ""
msgstr ""
"Language: zh_CN\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""
#: Names, units and values that are the same in every language.
SAME = {"AWS", "Airflow", "Extra", "False", "HTTP", "IAM", "IOTDA", "None", "Slack", "Teams"}
SAME |= {"MB", "kB", "ms", "s"}
HAN = r"[\u3400-\u9fff]"
#: The name of something on a screen that is English in every language.
LABEL = r"(?<!\*)\*([A-Z][A-Za-z ]*)\*(?!\*)"
#: Stands for a piece of code.
CODE = "\ufffc"
WRONG = {
    rf"{HAN}[A-Za-z0-9{CODE}]|[A-Za-z0-9%{CODE}]{HAN}": "no space between Chinese and Latin",
    rf"{HAN} ?[,;:?!.(]|{HAN}\)|[,;:?!] ?{HAN}|[()]{HAN}": "punctuation of half a width",
    rf"{HAN} +{HAN}": "a space between Chinese characters",
    r"[A-Za-z]+(?: [a-z]+){3}": "English words",
}


MARKDOWN = MarkdownIt("commonmark")


def inline(markdown: str) -> list[Token]:
    (paragraph,) = MARKDOWN.parseInline(markdown)
    return paragraph.children or []


def prose(markdown: str) -> str:
    """A text without marks and targets of links; each piece of code is one character."""
    kinds = {"code_inline": CODE, "softbreak": " "}
    return "".join(
        part.content if part.type in ("text", "image") else kinds.get(part.type, "")
        for part in inline(markdown)
    )


def has_words(markdown: str) -> bool:
    """Whether there is anything to translate: more than code, numbers, names and units."""
    return not set(re.findall(r"[^\W\d_]+", prose(markdown))) <= SAME


def marks(markdown: str) -> Counter[str]:
    """What a translation must have as its original has it: code, links, pictures, emphasis."""
    found: Counter[str] = Counter()
    for part in inline(markdown):
        if part.type == "code_inline":
            found[f"`{part.content}`"] = 1  # a sentence may have to name it once more
        elif part.type == "link_open":
            found[f"a link to {part.attrs['href']}"] += 1
        elif part.type == "image":
            found[f"the picture {part.attrs['src']}"] += 1
        elif part.type in ("strong_open", "em_open"):
            found[f"{part.markup}...{part.markup}"] += 1
    return found + Counter(re.findall(r"\{[\w.-]+\}", prose(markdown)))


def numbers(markdown: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", prose(markdown)))


def required_terms() -> dict[str, str]:
    """The first table of TERMS.md: what every translation calls as IoTDA's console calls it."""
    table = (LOCALE / "TERMS.md").read_text(encoding="utf-8").split("\n## ")[1]
    return dict(re.findall(r"^\| ([a-z ]+) \| (\S+) \|", table, re.MULTILINE))


def faults(original: str, translation: str, terms: dict[str, str]) -> Iterator[str]:
    """What is wrong with a translation.

    :param terms: see :func:`required_terms`
    """
    if not translation:
        yield "is not translated"
        return
    text = prose(re.sub(LABEL, r"`\1`", translation))
    if not re.search(HAN, text):
        yield "has no Chinese character"
    before, after = marks(original), marks(translation)
    yield from (f"lacks {mark}" for mark in before - after)
    yield from (f"has {mark}, unlike the original" for mark in after - before)
    yield from (f"lacks the number {number}" for number in numbers(original) - numbers(translation))
    for english, chinese in terms.items():
        if re.search(rf"\b{english}s?\b", prose(original), re.IGNORECASE) and chinese not in text:
            yield f"does not call a {english} {chinese}"
    for pattern, what in WRONG.items():
        if found := re.search(pattern, text):
            yield f"has {what}: {found[0].replace(CODE, '`...`')}"


def read(path: Path) -> Catalog:
    if not path.is_file():
        return Catalog()
    return read_po(io.BytesIO(path.read_bytes()), locale="zh_CN", charset="utf-8")


def messages(catalogue: Catalog) -> list[Message]:
    return [message for message in catalogue if message.id]


def written(page: Catalog, known: Catalog) -> str:
    """The catalogue of a page.

    :param page: what is to be translated
    :param known: the catalogue until now
    :returns: empty if the page has no words
    """
    catalogue = Catalog(locale="zh_CN")
    for message in messages(page):
        if has_words(str(message.id)):
            before = known.get(message.id)
            new = catalogue.add(
                message.id, before.string if before else "", flags=before.flags if before else ()
            )
            # Babel takes "2 % of" for a placeholder.
            new.flags -= {"python-format", "python-brace-format"}
    text = io.BytesIO()
    write_po(text, catalogue, omit_header=True, width=0)
    return HEADER + text.getvalue().decode() if len(catalogue) else ""


def up_to_date() -> dict[Path, str]:
    """The catalogues as they should be, by their paths."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "gettext", str(DOCS), folder]
        subprocess.run(command, check=True)
        found = {}
        for template in sorted(Path(folder).rglob("*.pot")):
            path = CATALOGUES / template.relative_to(folder).with_suffix(".po")
            if text := written(read(template), read(path)):
                found[path] = text
    return found


def check() -> list[str]:
    """What is missing or wrong in the catalogues, one line each."""
    found = []
    wanted = up_to_date()
    for path in sorted(wanted.keys() | set(CATALOGUES.rglob("*.po"))):
        name = path.relative_to(ROOT)
        if wanted.get(path) != (path.read_text(encoding="utf-8") if path.is_file() else None):
            found.append(f"{name} is out of date: run `make translations`")
        found += [f"{name}: {fault}" for fault in faults_of(read(path))]
    return found


def faults_of(catalogue: Catalog) -> Iterator[str]:
    """What is missing or wrong in one catalogue."""
    terms = required_terms()
    for message in catalogue.obsolete.values():
        yield f"{shown(message)} is obsolete"
    for message in messages(catalogue):
        if message.fuzzy:
            yield f"{shown(message)} is fuzzy"
        for fault in faults(str(message.id), str(message.string or ""), terms):
            yield f"{shown(message)} {fault}"


def shown(message: Message) -> str:
    return repr(str(message.id)[:60])


def update() -> None:
    wanted = up_to_date()
    for path in set(CATALOGUES.rglob("*.po")) - wanted.keys():
        path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        found = check()
        print("\n".join(found), file=sys.stderr)
        return bool(found)
    update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
