"""Rules as JSON, and as a person types them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotda_provider.guards import (
    Combined,
    EnoughSuccess,
    MaxFailureRate,
    MaxFailures,
    Overdue,
    Rule,
    SequentialFailureTest,
    Stalled,
    rules_from_json,
    rules_to_json,
)
from iotda_provider.guards.lab.notation import notation, parse_rules
from iotda_provider.guards.serialization import RULES

shares = st.floats(1e-6, 0.999)
alarms = st.floats(1e-6, 0.4)
classes = st.none() | st.sets(
    st.sampled_from(["environment", "firmware", "unknown"]), min_size=1
).map(tuple)
levels = st.none() | st.floats(1.01, 2.4)
tests = st.builds(SequentialFailureTest, shares, alarms, levels, classes, st.booleans())
overdue = st.builds(Overdue, st.floats(1, 1e6), shares, alarms, levels, classes)
combined = st.lists(tests | overdue, min_size=1, max_size=3).flatmap(
    lambda rules: st.builds(Combined, st.just(rules), st.none(), alarms, levels)
)
DRAWN = {
    MaxFailures: st.builds(MaxFailures, st.integers(1, 10**9), classes),
    MaxFailureRate: st.builds(
        MaxFailureRate,
        shares,
        st.integers(1, 10**6),
        st.sampled_from(["started", "finished", "total"]),
        classes,
    ),
    Stalled: st.builds(Stalled, st.floats(1, 1e6)),
    EnoughSuccess: st.builds(EnoughSuccess, shares, alarms),
    SequentialFailureTest: tests,
    Overdue: overdue,
    Combined: combined,
}
rules = st.one_of(*DRAWN.values())


def test_every_rule_is_drawn() -> None:
    assert set(DRAWN) == set(RULES.values())


@settings(deadline=None)
@given(st.lists(rules, max_size=4))
def test_rules_round_trip_as_json_and_as_text(given_rules: list[Rule]) -> None:
    data = rules_to_json(given_rules)
    text = json.dumps(data, allow_nan=False)
    assert rules_from_json(json.loads(text)) == given_rules
    assert rules_from_json(text) == given_rules
    assert rules_to_json(rules_from_json(text)) == data
    if given_rules:
        assert parse_rules(text) == given_rules
        assert parse_rules(", ".join(map(notation, given_rules))) == given_rules
        assert len({*given_rules, *given_rules}) == len(set(given_rules))


def test_json_is_a_plain_list_with_every_parameter() -> None:
    assert rules_to_json(MaxFailureRate(0.05)) == [
        {
            "rule": "MaxFailureRate",
            "rate": 0.05,
            "min_sample": 100,
            "denominator": "started",
            "failure_class": None,
        }
    ]


def test_parameters_with_a_usual_value_may_be_left_out() -> None:
    assert rules_from_json([{"rule": "MaxFailureRate", "rate": 0.05}]) == [MaxFailureRate(0.05)]
    assert rules_from_json({"rule": "MaxFailures", "count": 5}) == [MaxFailures(5)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "list of objects"),
        (5, "list of objects"),
        ([5], "must be an object"),
        ([[]], "must be an object"),
        ([{}], "unknown rule None"),
        ([{"rule": "MaxFailure"}], "unknown rule 'MaxFailure'"),
        ([{"rule": ["MaxFailures"]}], "unknown rule"),
        ([{"rule": "__class__"}], "unknown rule"),
        ([{"rule": "MaxFailures"}], "needs the parameter count"),
        ([{"rule": "MaxFailures", "count": 5, "cuont": 6}], "no parameter 'cuont'"),
        ([{"rule": "MaxFailures", "count": 5, "__class__": 6}], "no parameter '__class__'"),
        ([{"rule": "MaxFailures", "count": "5"}], "MaxFailures: count"),
        ([{"rule": "MaxFailures", "count": True}], "MaxFailures: count"),
        ([{"rule": "MaxFailures", "count": [[]]}], "MaxFailures: count"),
        ([{"rule": "SequentialFailureTest", "tolerated_rate": None}], "tolerated_rate"),
        ([{"rule": "Combined", "rules": []}], "Combined: rules"),
        ([{"rule": "Combined", "rules": "x"}], "Combined: rules"),
        ([{"rule": "Combined", "rules": [{"rule": "MaxFailures", "count": 1}]}], "rules"),
        ([{"rule": "Combined", "rules": [{"rule": "Combined", "rules": []}]}], "another one"),
        ([{"rule": "MaxFailures", "count": 1}] * 101, "at most 100"),
        ("", "not JSON"),
        ("[", "not JSON"),
        ('[{"rule": "MaxFailureRate", "rate": NaN}]', "NaN is not a number"),
        ("[" * 100_000, "nested|JSON|recursion|characters"),
        (" " * 200_000, "too many"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_other_json_is_refused_with_the_name_of_what_is_wrong(data: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rules_from_json(data)


def test_a_person_types_rules_like_calls() -> None:
    text = """
        SequentialFailureTest(0.02, hold_at=10, failure_class=["firmware", "unknown"]),
        MaxFailures(count=5),
        Combined([Overdue(3600, .05), SequentialFailureTest(.02)], weights=(0.5, 0.5)),
    """
    assert parse_rules(text) == [
        SequentialFailureTest(0.02, hold_at=10, failure_class=("firmware", "unknown")),
        MaxFailures(5),
        Combined([Overdue(3600, 0.05), SequentialFailureTest(0.02)], weights=(0.5, 0.5)),
    ]
    assert parse_rules("[MaxFailures(5)]") == [MaxFailures(5)]


def test_a_file_may_have_one_rule_a_line_and_comments() -> None:
    text = "# for the field\nMaxFailures(5)  # devices\n\nStalled(3600)\n"
    assert parse_rules(text) == [MaxFailures(5), Stalled(3600)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rules"),
        ("MaxFailures", "not a rule"),
        ("MaxFailures(5", "cannot read"),
        ("5", "not a rule"),
        ("x.MaxFailures(5)", "not a rule"),
        ("MaxFailure(5)", "unknown rule MaxFailure"),
        ("__import__('os').system('true')", "not a rule"),
        ("MaxFailures(__import__('os'))", "not a value"),
        ("MaxFailures(open)", "not a plain value"),
        ("MaxFailures(**{'count': 5})", r"\*\*"),
        ("MaxFailures(*[5])", "not a plain value"),
        ("MaxFailures(5, count=6)", "given twice"),
        ("MaxFailures(count=5, count=6)", "cannot read|given twice"),
        ("MaxFailures(5, 6, 7, 8)", "at most 2"),
        ("MaxFailures(0)", "count"),
        ("MaxFailures(lambda: 5)", "not a plain value"),
        ("Combined([MaxFailures(5)])", "rules"),
        ("Combined([Combined([SequentialFailureTest(.02)])])", "rules"),
        ("MaxFailures(2**99)", "not a plain value"),
        ("(" * 5000 + ")" * 5000, "cannot read|not a rule"),
        ("x" * 50_000, "too many"),
        ("MaxFailures(5)\x00", "cannot read"),
        ("[{]", "not JSON"),
    ],
)
def test_what_is_not_a_rule_is_never_executed(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_rules(text)
