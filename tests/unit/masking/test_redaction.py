"""Secrets in texts that come from elsewhere, in whatever spelling, whole or cut off."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.utils import requote_uri
from tests.growth import growth

from iotda_provider.masking.redaction import redact, redacted_line

TOKEN = "MIIabc+/=" * 20


PASSWORD = "pa<ss>&w\"ord'\\ünï/+%20=x€😀\n\\\\y z"


def every_character(form: str) -> Callable[[str], str]:
    """Spells what is no letter or digit of ASCII by its number."""
    return lambda text: "".join(
        char if char.isascii() and char.isalnum() else form.format(ord(char)) for char in text
    )


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "URL": quote,
    "URL, all of it": lambda text: quote(text, safe=""),
    "URL, lower case": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), quote(text, safe="")
    ),
    "URL, what looks encoded left alone": requote_uri,
    "URL in JSON, slashes escaped": lambda text: quote(text).replace("/", "\\/"),
    "URL in JSON, HTML escaped": lambda text: re.sub(
        "[&'=+]", lambda found: f"\\u{ord(found[0]):04x}", requote_uri(text)
    ),
    "URL in a repr": lambda text: repr(f'"{requote_uri(text)}')[2:-1],
    "form": quote_plus,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, unicode": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON, slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON, HTML escaped": lambda text: re.sub(
        "[<>&']", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text)[1:-1]
    ),
    "JSON, HTML escaped, upper case": lambda text: re.sub(
        "[<>&'=+]", lambda found: f"\\u{ord(found[0]):04X}", json.dumps(text)[1:-1]
    ),
    "repr": lambda text: repr(text)[1:-1],
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64, URL": lambda text: urlsafe_b64encode(text.encode()).decode(),
}


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("secret", [TOKEN, PASSWORD, PASSWORD * 3], ids=["token", "odd", "long"])
def test_a_secret_is_gone_in_every_spelling(spell: str, secret: str) -> None:
    assert redact(f"got {SPELLINGS[spell](secret)} back", [secret]) == "got *** back"


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("gAAAAAB+x/yz=Q12345", '{"url":"gAAAAAB%2Bx\\/yz%3DQ12345"}'),
        ("ab%cd ef12345", "https://host/?p=ab%cd%20ef12345"),
        ("ab%25cd ef12345", "https://host/?p=ab%25cd%20ef12345"),
        ("ab%25cd ef12345", "https://host/?p=ab%2525cd+ef12345"),
        ("ab%2525%c ef12345", "https:\\/\\/host\\/?p=ab%2525%c%20ef12345"),
        ("ab\\c%d ef12345", "https://host/?p=ab\\c%d%20ef12345"),
    ],
)
def test_a_secret_in_a_url_is_gone_however_little_of_it_is_encoded(secret: str, text: str) -> None:
    told = redact(text, [secret])
    assert "***" in told
    assert "12345" not in told


def test_looking_for_what_is_not_there_takes_no_time_to_speak_of() -> None:
    text = "{'error_msg': 'Something that is \\\\\\\\ and <else>', 'n': 5}" * 2_000
    secrets = [TOKEN * 40, PASSWORD, f"SDK-HMAC-SHA256 Access=AK, Signature={'a0' * 32}"]
    redact(text, secrets)
    start = time.thread_time()  # whatever else the machine is busy with
    for _ in range(20):
        redact(text, secrets)
    assert (time.thread_time() - start) / 20 < 0.01


FILLINGS = ["\\", "&amp;", "%25", "pa<ss>&w\\", "%20", "&#0000", "x\\\\", "&lt", "\\ud83d", "%c3"]
FILLINGS += ["%2525", "%", "\\%25", "+"]
FILLINGS += ["<title>", "secret-beginning", "&#37;26", "\\\\x5c", "'", "\n"]
# Names of HTML that are equal but for case; bytes; a text that is itself full of spellings.
SECRETS = ['&<>"' * 4, PASSWORD, "\\" * 20 + "paw", "pa" + "\\/" * 10 + "w", "&amp;%25\\u0026" * 3]
SECRETS += ["secret-beginning", "secret-beginning" * 256, "ÖöÄä&<>", "%" * 4096]
SECRETS += ["pa" + "%25" * 80 + "w", "pa" + "%2525" * 40 + "w", "pa" + "% +" * 80 + "w"]


@pytest.mark.parametrize("filling", FILLINGS, ids=repr)
def test_time_grows_with_the_text_and_no_faster(filling: str) -> None:
    def work(size: int) -> Callable[[], str]:
        text = "pa" + filling * (size // len(filling))
        return lambda: redact(text, SECRETS)

    assert growth(work, 8_192, tries=3) < 2.5


@pytest.mark.parametrize("part", ['&<>"', "a&", "\\", "%25", "&amp;", "ü", "x"])
def test_time_grows_with_a_secret_and_no_faster(part: str) -> None:
    def work(size: int) -> Callable[[], str]:
        secret = part * (size // len(part))
        text = quote(secret)[: 2 * size] * 4
        return lambda: redact(text, [secret])

    assert growth(work, 4_096) < 2.5


@pytest.mark.parametrize("part", ['\\"', "\\'", "\\ ", "\\!&", '\\\\"'], ids=repr)
def test_backslashes_before_other_symbols_are_matched_in_one_way(part: str) -> None:
    """Else each pair would double the time: a text that almost ends as the secret does."""

    def work(size: int) -> Callable[[], str]:
        count = size // len(part)
        text = "\\" + part * count + "! Z"
        doubled = part.replace("\\", "\\\\") * count + "! Z"
        return lambda: redact(text + doubled, [part * count + "Z"])

    assert growth(work, 512) < 2.5


@given(st.text(alphabet="\\\"' &!%a", min_size=8, max_size=40))
def test_backslashes_among_symbols_are_found_in_each_spelling(mixed: str) -> None:
    secret = f"{mixed}Zq9x"
    for spelled in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="")):
        assert "Zq9x" not in redact(f"x {spelled} y", [secret])


def test_time_grows_with_the_number_of_secrets_and_no_faster() -> None:
    text = "secret-12 & <b> %20 \\u0026" * 400

    def work(size: int) -> Callable[[], str]:
        secrets = [f"secret-{number % 100}&{number}" for number in range(size)]
        return lambda: redact(text, secrets)

    assert growth(work, 200) < 2.5


@pytest.mark.parametrize("spell", SPELLINGS)
def test_one_of_markup_only_is_gone_in_every_spelling(spell: str) -> None:
    secret = '&<>"' * 3 + "&<"
    assert redact(f"got {SPELLINGS[spell](secret)} back", [secret]) == "got *** back"


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("end", ["&", "%", "\\", "\\u00", "&am", "&#3"])
def test_what_follows_in_the_text_does_not_bring_one_back(spell: str, end: str) -> None:
    secret = f"pass<word>{end}"
    text = SPELLINGS[spell](secret)
    told = redact(f"a{text}41lt;p;9" if "base" not in spell else f"a {text}", [secret])
    assert "pass" not in told
    assert "word" not in told


def test_a_line_shows_no_part_of_a_secret_on_whose_middle_the_text_is_cut() -> None:
    secret = "&#x00000" * 3
    for shift in range(0, 200, 9):
        text = "x " * 8_000 + " " * shift + every_character("\\u{:04x}")(secret) * 20
        line = redacted_line(text.replace("x ", f"{secret} "), [secret], 20_000)
        assert "#" not in line


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
def test_one_in_the_base64_of_more_is_gone(before: str) -> None:
    encoded = b64encode(f"{before}{PASSWORD}@after".encode()).decode()
    told = redact(f"got {encoded} back", [PASSWORD])
    assert told.endswith("*** back")
    assert len(told) <= len("got *** back") + len(before) * 2


@pytest.mark.parametrize("length", [16, 50, 100, 179])
def test_one_that_was_cut_off_is_gone_too(length: int) -> None:
    text = f"Got more than 8190 bytes when reading: b'X-Auth-Token: {TOKEN[:length]}'."
    assert redact(text, [TOKEN]) == "Got more than 8190 bytes when reading: b'X-Auth-Token: ***'."


def test_words_that_a_header_begins_with_are_no_secret() -> None:
    header = "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=" + "a0" * 32
    text = "The algorithm SDK-HMAC-SHA256 is not supported."
    assert redact(text, [header]) == text


@given(st.text(), st.lists(st.text(min_size=5, max_size=60), max_size=3))
def test_no_secret_is_left(text: str, secrets: list[str]) -> None:
    told = redact(" ".join([text, *secrets]), secrets)
    # What a mask itself, or its neighbours, happen to spell is no leak.
    assert all(secret not in told for secret in secrets if "*" not in secret and " " not in secret)


@pytest.mark.parametrize("part", ["%25", "%2525", "%", "%\\", "% ", "%252"])
def test_percent_signs_before_digits_are_matched_in_one_way(part: str) -> None:
    def work(size: int) -> Callable[[], str]:
        secret = part * (size // len(part))
        texts = (secret, quote(secret), part.replace("%", "%25%") * (size // len(part)))
        text = "".join(f"x{spelled}! Z" for spelled in texts)
        return lambda: redact(text * 8, [f"x{secret}Zq9"])

    assert growth(work, 512) < 2.5
