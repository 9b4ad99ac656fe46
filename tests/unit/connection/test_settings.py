"""A connection is read once: what may stand in it, what it means, and what is wrong in one line."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import growth

from iotda_provider.connection.addresses import check_url, is_loopback
from iotda_provider.connection.extra import secrets_in
from iotda_provider.connection.fields import EXTRA_FIELDS
from iotda_provider.connection.settings import ConnectionSettings
from iotda_provider.exceptions import IoTDAConfigError

AKSK = {"login": "AK", "password": "the-secret-key", "host": "iotda.example.com"}
TOKEN = AKSK | {"login": "an iam user", "password": "a pass word"}
BLANK = dict.fromkeys((spec.name for spec in EXTRA_FIELDS), " \t")
NO_KEYS = {"host": "iotda.example.com"}


def connection(extra=None, **fields) -> SimpleNamespace:
    base = dict.fromkeys(("host", "login", "password", "schema", "port"))
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return SimpleNamespace(**(base | (fields or AKSK)), extra=text)


def read(extra=None, *, conn_id="here", project_id=None, region=None, instance_id=None, **fields):
    return ConnectionSettings.from_connection(
        connection(extra, **fields),
        conn_id=conn_id,
        project_id=project_id,
        region=region,
        instance_id=instance_id,
    )


def refused(*args, **kwargs) -> str:
    with pytest.raises(IoTDAConfigError) as caught:
        read(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- defaults and values ------------------------------------------------------------------------


def test_empty_extra_means_the_defaults():
    for extra in (None, "", "  ", "{}", {"region": None, "timeout": "", "verify": ""}, BLANK):
        settings = read(extra)
        assert (settings.auth_type, settings.derived_auth) == ("aksk", "auto")
        assert (settings.verify, settings.timeout, settings.max_attempts) == (True, 30.0, 4)
        assert settings.max_requests_per_second is None
        assert settings.proxies == {}
        assert settings.allow_http is False
        assert settings.base_url == "https://iotda.example.com"


@pytest.mark.parametrize(
    ("extra", "seconds"),
    [
        ({}, 10),
        ({"timeout": 6}, 2),
        ({"timeout": 300}, 10),
        ({"timeout": "6", "attempt_timeout": " "}, 2),
        ({"timeout": 300, "attempt_timeout": 60}, 60),
        ({"timeout": 6, "attempt_timeout": "5.5"}, 5.5),
    ],
)
def test_an_attempt_has_a_third_of_the_time_at_most_ten_seconds_or_what_is_said(extra, seconds):
    assert read(extra).attempt_timeout == pytest.approx(seconds)


def test_values_arrive_with_their_types_also_where_a_uri_made_them_texts():
    proxies = {"https": "http://proxy.example:3128"}
    typed = {
        "timeout": 5.5,
        "max_attempts": 2,
        "max_requests_per_second": 0.5,
        "allow_http": True,
        "verify": False,
        "proxies": proxies,
        "project_id": "12345",
    }
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in typed.items()
    }
    numbers = typed | {"project_id": 12345, "allow_http": 1, "verify": 0}

    assert read(typed) == read(texts) == read(numbers)
    assert read(typed).proxies == proxies


@pytest.mark.parametrize("word", ["true", "True", " yes ", "on", "1", "t"])
def test_flag_reads_the_words_that_people_write(word):
    assert read({"allow_http": word}).allow_http is True


def test_verify_may_be_the_path_of_a_bundle():
    assert read({"verify": "/etc/ssl/private-ca.pem"}).verify == "/etc/ssl/private-ca.pem"


def test_operators_ids_win_over_the_connections():
    extra = {"project_id": "p1", "region": "cn-north-4", "instance_id": "i1"}
    settings = read(extra, project_id="p2", region="cn-south-1", instance_id="i2")

    assert (settings.project_id, settings.region, settings.instance_id) == (
        "p2",
        "cn-south-1",
        "i2",
    )
    assert read(extra, project_id="").project_id == "p1"


# --- Extra: what is wrong with it ---------------------------------------------------------------


def test_unknown_field_is_named_with_the_one_that_was_meant():
    assert refused({"projct_id": "x"}) == (
        "Connection 'here': unknown Extra field 'projct_id'; did you mean 'project_id'?"
    )
    assert "known are region, project_id" in refused({"zzz": "x"})


@pytest.mark.parametrize("extra", ["[]", '"text"', "5", "{", "{'a': 1}", "[" * 100_000])
def test_extra_that_is_no_object_is_refused(extra):
    assert "Extra" in refused(extra)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("region", 5, "must be text, not int"),
        ("region", "CN North", "not a valid region"),
        ("region", "cn-north-4/evil", "not a valid region"),
        ("project_id", "a/b", "not a valid project id"),
        ("project_id", "..", "not a valid project id"),
        ("project_id", "a%2fb", "not a valid project id"),
        ("project_id", "a\nX-Evil: 1", "control character"),
        ("project_id", True, "must be text, not bool"),
        ("project_id", 1.5, "must be text, not float"),
        ("instance_id", "a b", "not a valid instance id"),
        ("instance_id", "a\r\nX-Evil: 1", "control character"),
        ("auth_type", "magic", "must be one of aksk, token, agency, federation"),
        ("auth_type", ["aksk"], "must be one of"),
        ("derived_auth", "maybe", "must be one of auto, always, never"),
        ("timeout", "soon", "must be a number greater than 0"),
        ("timeout", 0, "must be a number greater than 0"),
        ("timeout", -1, "must be a number greater than 0"),
        ("timeout", True, "must be a number greater than 0"),
        ("timeout", "nan", "must be a number greater than 0"),
        ("timeout", "inf", "must be a number greater than 0"),
        ("timeout", 1e300, "must be at most 1,000,000"),
        ("timeout", [], "must be a number greater than 0"),
        ("attempt_timeout", "soon", "must be a number greater than 0"),
        ("attempt_timeout", 0, "must be a number greater than 0"),
        ("attempt_timeout", 30, "must be less than timeout (30 s)"),
        (
            "attempt_timeout",
            "31.5",
            "must be less than timeout (30 s), so that another attempt has its time, got '31.5'",
        ),
        ("max_attempts", 0, "must be a whole number of 1 or more"),
        ("max_attempts", 1.5, "must be a whole number of 1 or more"),
        ("max_attempts", "many", "must be a whole number of 1 or more"),
        ("max_requests_per_second", 0, "must be a number greater than 0"),
        ("allow_http", "perhaps", "must be true or false"),
        ("allow_http", 2, "must be true or false"),
        ("allow_http", 1.0, "must be true or false"),
        ("verify", 5, "must be true, false or the path of a CA bundle"),
        ("verify", {"a": 1}, "must be true, false or the path of a CA bundle"),
        ("proxies", "http://proxy", "must be a JSON object of texts"),
        ("proxies", {"https": 1}, "must be a JSON object of texts"),
        *(
            ("proxies", {key: "http://proxy.example:3128"}, "keys that no request is looked up by")
            for key in ("HTTPS", "htpp", "socks", "no", "", "https://", "https://h:443", "all://H")
        ),
        ("security_token", 5, "must be text, not int"),
    ],
)
def test_ill_typed_field_is_named(name, value, says):
    text = refused({name: value})

    assert f"'{name}'" in text
    assert says in text


@pytest.mark.parametrize(
    "extra",
    [
        {"security_token": "secret\nsecret-5"},
        {"security_token": ["secret-5"]},
        {"proxies": "http://u:secret-5@proxy"},
        {"proxies": {"https": ["http://u:secret-5@proxy"]}},
        {"auth_type": "agency", "security_token": "secret-5"},
    ],
)
def test_error_about_a_secret_does_not_show_it(extra):
    assert "secret-5" not in refused(extra)


PROXIES = [
    "http://proxy.example:3128",
    "proxy.example:3128",
    "https://user:p%40ss%2Fword@proxy.example/",
    "http://user:p%C3%A4ss@[2001:db8::7]:3128",
    "http://user@10.0.0.8",
]


@pytest.mark.parametrize("address", PROXIES)
def test_proxy_is_a_host_by_http_or_https(address):
    for key in ("http", "https", "all", "https://iotda.example.com", "all://2001:db8::7"):
        (stored,) = read({"proxies": {key: address}}).proxies.values()
        assert stored == (address if "://" in address else f"http://{address}")


@pytest.mark.parametrize(
    "address",
    [
        "socks5://user:pass-word@proxy.example:1080",
        "ftp://user:pass-word@proxy.example",
        "http://user:pass-word@proxy.example:99999",
        "http://user:pass-word@proxy.example:port",
        "http://user:pass-word@[::1",
        "http://user:pass-word@two words:1",
        "http://user:pass-word@proxy.example:1\r\nX-Evil: 1",
        "http://user:pass-word/1@proxy.example",
        "http://user:pass-word?1@proxy.example",
        "http://user:pass-word#1@proxy.example",
        "http://user:pass-word@proxy.example/path",
        "http://user:pass-word\u4e2d@proxy.example",
        "http://user:pass-word@",
        f"http://user:pass-word@{'a' * 64}.example",
        f"http://user:pass-word@{'a.' * 150}example",
        "http://",
        "://x",
        "",
        " ",
    ],
)
def test_what_is_no_proxy_is_named_and_not_shown(address):
    text = refused({"proxies": {"https": address}})

    assert "Extra field 'proxies': the proxy for https must be" in text
    assert "pass-word" not in text


# --- Host ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "iotda.example.com"}, "https://iotda.example.com"),
        ({"host": "IoTDA.Example.com", "port": 8443}, "https://iotda.example.com:8443"),
        ({"host": "https://iotda.example.com/"}, "https://iotda.example.com"),
        (
            {"host": "https://iotda.example.com:8443", "port": 8443},
            "https://iotda.example.com:8443",
        ),
        ({"host": "iotda.example.com", "schema": "HTTPS"}, "https://iotda.example.com"),
        ({"host": "http://127.0.0.1:8765"}, "http://127.0.0.1:8765"),
        ({"host": "127.0.0.1", "schema": "http", "port": 8765}, "http://127.0.0.1:8765"),
        ({"host": "localhost", "schema": "http"}, "http://localhost"),
        ({"host": "http://[::1]:8765"}, "http://[::1]:8765"),
        ({"host": "2001:db8::7", "port": 8443}, "https://[2001:db8::7]:8443"),
        ({"host": "::1", "schema": "http", "port": 8765}, "http://[::1]:8765"),
        ({"host": "  iotda.example.com "}, "https://iotda.example.com"),
    ],
)
def test_host_is_a_bare_host_or_a_url(fields, url):
    settings = read({}, **(AKSK | fields))

    assert settings.base_url == url
    assert settings.host == url.split("://")[1]


def test_empty_host_means_the_regions_shared_endpoint():
    fields = {"login": "AK", "password": "the-secret-key"}

    assert read({"region": "cn-north-4"}, **fields).host == "iotda.cn-north-4.myhuaweicloud.com"
    assert read({}, region="cn-south-1", **fields).host == "iotda.cn-south-1.myhuaweicloud.com"
    assert "has no Host" in refused({}, **fields)


@pytest.mark.parametrize(
    "host",
    [
        "ftp://iotda.example.com",
        "https://user:pass-word@iotda.example.com",
        "https://user@iotda.example.com",
        "https://iotda.example.com/path",
        "https://iotda.example.com?query",
        "https://iotda.example.com#part",
        "https://iotda.example.com\\@evil.example",
        "https://iotda.example.com\r\nX-Evil: 1",
        "iotda.example.com evil.example",
        "https://",
        "https://iotda.example.com:99999",
        "https://iotda.example.com:port",
        "https://[::1",
        "iotda.ex\u0430mple.com",
        "iotda..example.com",
        f"{64 * 'a'}.example.com",
        "//evil.example",
    ],
)
def test_host_that_could_lead_elsewhere_is_refused(host):
    text = refused({}, **(AKSK | {"host": host}))

    assert "Host of connection 'here'" in text
    assert "pass-word" not in text


@pytest.mark.parametrize("port", [99_999, 65_536, 0, -1])
def test_port_that_is_none_is_refused(port):
    text = refused({}, **(AKSK | {"port": port}))
    assert text == f"Connection 'here': Port must be from 1 to 65535, got {port}."


def test_two_different_ports_are_refused():
    fields = AKSK | {"host": "https://iotda.example.com:1", "port": 2}
    assert "Host names port 1, Port says 2" in refused({}, **fields)


@pytest.mark.parametrize(
    "host", ["http://iotda.example.com", "http://10.0.0.8", "http://127.0.0.1.example.com"]
)
def test_plain_http_to_another_machine_needs_allow_http(host):
    fields = AKSK | {"host": host}

    assert "plain http" in refused({}, **fields)
    assert read({"allow_http": True}, **fields).base_url == host


@given(st.text(max_size=60))
def test_no_text_as_host_leads_anywhere_but_to_a_host(host):
    try:
        url = check_url(f"https://{host}", "it", allow_http=False)
    except IoTDAConfigError:
        return
    scheme, rest = url.split("://")
    assert scheme == "https"
    assert not set(rest) & set("/\\?#@ \r\n\t%")


def test_loopback_is_told_without_asking_anybody():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]")))
    assert not any(map(is_loopback, ("localhost.evil.example", "0.0.0.0", "10.0.0.1", "")))


# --- credentials --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "fields", "missing"),
    [
        ({}, NO_KEYS, ["Login (the access key)", "Password (the secret key)"]),
        ({}, NO_KEYS | {"login": "AK"}, ["Password (the secret key)"]),
        (
            {"auth_type": "token"},
            NO_KEYS,
            ["Login (the IAM user)", "Password", "domain_name", "project_id or region"],
        ),
        (
            {"auth_type": "token", "domain_name": "d", "project_id": "p"},
            TOKEN,
            ["region (or iam_endpoint)"],
        ),
        (
            {"auth_type": "federation"},
            NO_KEYS,
            ["idp_id", "id_token_file", "region (or iam_endpoint)"],
        ),
    ],
)
def test_missing_credentials_are_named_all_at_once(extra, fields, missing):
    text = refused(extra, **fields)

    assert all(name in text for name in missing)
    assert text.endswith("must be set.")


@pytest.mark.parametrize("auth_type", ["agency", "federation"])
def test_keys_beside_an_agency_or_federation_are_refused(auth_type):
    extra = {"auth_type": auth_type, "region": "r", "idp_id": "i", "id_token_file": "/f"}

    assert "must be empty" in refused(extra)
    assert read(extra, **NO_KEYS).auth_type == auth_type


@pytest.mark.parametrize("stray", [" ", "\n", "\r\nX-Evil: 1", "\t", "é", "\x00", "\u200b"])
@pytest.mark.parametrize("where", ["login", "password", "security_token"])
def test_stray_characters_in_a_key_are_named_and_not_shown(where, stray):
    extra, fields = {}, dict(AKSK)
    if where == "security_token":
        extra = {"security_token": f"secret-5{stray}x"}
    else:
        fields[where] = f"secret-5{stray}x"
    text = refused(extra, **fields)

    assert "secret-5" not in text


def test_iam_users_password_may_hold_anything():
    extra = {"auth_type": "token", "domain_name": "the account", "region": "cn-north-4"}

    assert read(extra, **(TOKEN | {"password": " é\u4e2d \t"})).password == " é\u4e2d \t"


def test_iam_is_the_regions_unless_an_endpoint_is_set():
    extra = {"auth_type": "token", "domain_name": "d", "region": "cn-north-4"}

    assert read(extra, **TOKEN).iam_url == "https://iam.cn-north-4.myhuaweicloud.com"
    own = read(extra | {"iam_endpoint": "iam.example.com"}, **TOKEN)
    assert own.iam_url == "https://iam.example.com"


@pytest.mark.parametrize(
    "endpoint",
    ["http://iam.example.com", "https://u:p@iam.example.com", "https://iam/v3", "ftp://x"],
)
def test_iam_endpoint_is_held_to_the_rules_of_host(endpoint):
    assert "'iam_endpoint'" in refused({"iam_endpoint": endpoint})


def test_iam_over_plain_http_only_on_this_machine_or_where_allowed():
    assert read({"iam_endpoint": "http://127.0.0.1:1"}).iam_endpoint == "http://127.0.0.1:1"
    allowed = read({"iam_endpoint": "http://iam.example.com", "allow_http": True})
    assert allowed.iam_endpoint == "http://iam.example.com"


@pytest.mark.parametrize(
    "endpoint",
    ["http://169.254.169.254.example.com", "http://10.0.0.1", "https://metadata.example.com"],
)
def test_metadata_comes_from_the_instance_or_this_machine_alone(endpoint):
    extra = {"auth_type": "agency", "metadata_endpoint": endpoint, "allow_http": True}

    assert "'metadata_endpoint'" in refused(extra, **NO_KEYS)


def test_metadata_endpoint_on_this_machine_is_for_tests():
    extra = {"auth_type": "agency", "metadata_endpoint": "http://127.0.0.1:8765"}

    assert read(extra, **NO_KEYS).metadata_endpoint == "http://127.0.0.1:8765"
    assert read({"auth_type": "agency"}, **NO_KEYS).metadata_endpoint == "http://169.254.169.254"


def test_project_may_be_asked_for_at_an_iam_that_the_connection_names():
    endpoint = {"iam_endpoint": "https://iam.example.com"}

    assert read({"region": "cn-north-4"} | endpoint).may_ask_for_project
    assert not read({"region": "cn-north-4"}).may_ask_for_project
    assert not read(endpoint).may_ask_for_project


# --- secrets ------------------------------------------------------------------------------------


def test_repr_shows_no_secret():
    extra = {
        "security_token": "the-security-token",
        "proxies": {"https": "http://user:proxy-pass@proxy.example:3128"},
    }
    settings = read(extra)

    for text in (repr(settings), str(settings), f"{settings}"):
        for secret in ("the-secret-key", "the-security-token", "proxy-pass", "'AK'"):
            assert secret not in text


def test_missing_project_is_named_where_it_is_needed():
    with pytest.raises(IoTDAConfigError, match=r"No project id: set project_id .* 'here'"):
        read({}).require_project_id()


def test_every_field_of_the_form_is_a_setting():
    assert {field.name for field in EXTRA_FIELDS} <= set(vars(read({})))


# --- whatever stands there, it stalls nothing ----------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("host", "a." * 200, "Host has 400 characters; at most 300"),
        ("password", "p" * 20_000, "Password has 20,000 characters; at most 16,384"),
        ("login", "p" * 20_000, "Login has 20,000 characters"),
        ("schema", "https" * 100, "Schema has 500 characters"),
    ],
)
def test_a_field_that_is_too_long_says_how_long_it_may_be(field, value, says):
    assert says in refused(**{**AKSK, field: value})
    assert "ppp" not in refused(**{**AKSK, field: value})


def test_an_extra_that_is_too_long_says_how_long_it_may_be():
    assert "Extra has 100,014 characters; at most 65,536" in refused({"region": "r" * 100_000})


@pytest.mark.parametrize("part", ["timeout", "a", "_", '[["', "ab ", '{"a":'])
def test_the_time_to_read_extra_grows_with_it_and_no_faster(part):
    def work(size):
        extra = json.dumps({part * (size // len(part)): 1, "proxies": part * (size // len(part))})

        def parse():
            secrets_in(extra)
            refused(extra)

        return parse

    assert growth(work, 12_288) < 2.5


def test_lists_within_lists_are_no_reason_to_fail():
    deep = "[" * 900 + '"http://me:secret@proxy.test"' + "]" * 900
    assert "secret" in secrets_in(f'{{"proxies": {deep}}}')
    assert "Extra is not valid JSON" in refused(f'{{"proxies": {deep}}}')
    shown = refused({"timeout": json.loads("[" * 60 + "]" * 60)})
    assert "'timeout' must be a number" in shown
