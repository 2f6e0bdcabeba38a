"""The filter language: SQLite answers as an evaluator in Python does, and errors have columns."""

from __future__ import annotations

import fnmatch
import operator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightx.errors import SpecError
from sightx.run_registry.filters import (
    Both,
    Compare,
    Filter,
    In,
    Like,
    Missing,
    Not,
    Tagged,
    parse_filter,
)
from sightx.run_registry.index import read_index
from sightx.run_registry.listing import Query, query_runs
from sightx.run_registry.summary import Values
from support.run_folders import read_summaries, write_run

OPERATORS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip


def matches(node: Filter, values: Values) -> bool | None:  # noqa: C901, PLR0911
    """Evaluate a filter with the three-valued logic of SQL; None is unknown."""
    match node:
        case Missing(key):
            return key not in values
        case Tagged(tag):
            return tag in str(values["tags"]).split()
        case Not(part):
            inner = matches(part, values)
            return None if inner is None else not inner
        case Both(left, right, is_or):
            both = (matches(left, values), matches(right, values))
            if is_or in both:
                return is_or
            return None if None in both else not is_or
    value = values.get(node.key)
    if value is None:
        return None
    match node:
        case In(_, wanted):
            return value in wanted
        case Like(_, pattern):
            return (
                fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))
                if isinstance(value, str)
                else None
            )
        case Compare(_, name, wanted):
            if name in ("=", "!=") or isinstance(value, str) == isinstance(wanted, str):
                return OPERATORS[name](value, wanted)
    return None


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for number in range(8):
        settings_ = {"optimizer.lr": 0.001 * number, "seed": number, "model.use": "ab"[number % 2]}
        if number % 3 == 0:
            settings_["optimizer.momentum"] = "high" if number == 3 else 0.9
        tags = ("candidate", "old")[: number % 3]
        write_run(root, f"{number}", settings_, {"validation/accuracy": number / 8}, tags=tags)
    write_run(root, "8", status="")
    return root


KEYS = st.sampled_from([
    "optimizer.lr", "seed", "model.use", "optimizer.momentum", "status", "nothing",
    "training.clip_grad_norm", "validation/accuracy", "execution.compile",
])  # fmt: skip
VALUES = st.one_of(
    st.integers(-1, 8).map(str), st.sampled_from(["0.002", "1e-3", "true", "false"]),
    st.sampled_from(["a", "b", "'a'", "high", "finished", "killed", "'1'"]),
)  # fmt: skip
CONDITIONS = st.one_of(
    st.tuples(KEYS, st.sampled_from([*OPERATORS, "=="]), VALUES).map(" ".join),
    st.tuples(KEYS, st.lists(VALUES, min_size=1, max_size=3)).map(
        lambda pair: f"{pair[0]} in ({', '.join(pair[1])})"
    ),
    st.tuples(KEYS, st.sampled_from(["*", "a", "f*d", "?", "[a]*"])).map(" ~ ".join),
    KEYS.map(lambda key: f"{key} is missing"), KEYS.map(lambda key: f"{key} is not missing"),
    st.sampled_from(["@candidate", "@old", "@none"]),
)  # fmt: skip
EXPRESSIONS = st.recursive(
    CONDITIONS,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.tuples(inner, st.sampled_from(["and", "or", "AND"]), inner).map(" ".join),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=6,
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=EXPRESSIONS)
def test_the_index_agrees_with_an_evaluator_in_python(root: Path, text: str) -> None:
    node = parse_filter(text, ())
    expected = {s.id for s in read_summaries(root) if matches(node, s.values)}
    selected = read_index(root, lambda index: index.select(node))
    assert {values["id"] for values in selected} == expected


def test_and_binds_more_than_or_and_words_are_keys_values_or_keywords() -> None:
    node = parse_filter("a = 1 or b = 2 and not c = x-1.5", ())
    assert node == Both(
        Compare("a", "=", 1),
        Both(Compare("b", "=", 2), Not(Compare("c", "=", "x-1.5"))),
        is_or=True,
    )
    assert parse_filter("\"test/a b\" == 'it''s'", ()) == Compare("test/a b", "=", "it's")


def test_the_end_of_a_key_stands_for_the_only_key_with_it() -> None:
    keys = ["optimizer.lr", "validation/qwk", "test/qwk", "split.seed", "loss.seed"]
    assert parse_filter("lr = 1", keys) == Compare("optimizer.lr", "=", 1)
    assert parse_filter("qwk > 0.5", keys) == Compare("validation/qwk", ">", 0.5)
    with pytest.raises(
        SpecError, match=r"'seed' is the end of several keys; one of split.seed, loss"
    ):
        parse_filter("seed = 1", keys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle.use = x", "--where:1:1: error[unknown-key] no run has 'modle.use';"),
        ("qwk > 1 and lrr = 2", "--where:1:13: error[unknown-key] no run has 'lrr';"),
        ("qwk", "--where:1:4: error[bad-filter] the end is not an operator"),
        ("qwk >", "--where:1:6: error[bad-filter] a value is missing before the end"),
        ("(qwk > 1", "--where:1:9: error[bad-filter] expected ')', not the end"),
        ("qwk > 1 lr = 2", "--where:1:9: error[bad-filter] 'lr' follows a complete condition"),
        ("qwk is 3", "--where:1:8: error[bad-filter] expected missing, not '3'"),
        ("qwk not 3", "--where:1:9: error[bad-filter] expected in, not '3'"),
        ("qwk in (1; 2)", "--where:1:12: error[bad-filter] expected ')', not '2'"),
        ("or qwk = 1", "--where:1:1: error[bad-filter] 'or' is not a key"),
        ("", "--where:1:1: error[bad-filter] the end is not a key"),
        ("started > yesterday", "--where:1:11: error[bad-filter] 'yesterday' cannot"),
        ("started > 2026-13-45", "--where:1:11: error[bad-filter] '2026-13-45' cannot"),
        ("started > -99999999d", "--where:1:11: error[bad-filter] '-99999999d' cannot"),
        ("qwk > 0 and seconds in (1h, 5q)", "--where:1:29: error[bad-filter] '5q' cannot"),
    ],
)  # fmt: skip
def test_an_error_has_its_column(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_filter(text, ["model.use", "validation/qwk", "optimizer.lr", "started", "seconds"])
    assert str(caught.value).startswith(message)


def test_times_and_durations_are_understood_for_their_keys() -> None:
    assert parse_filter("seconds > 2h", ()) == Compare("seconds", ">", 7200.0)
    assert parse_filter("name = 2h", ()) == Compare("name", "=", "2h")
    assert parse_filter("started > 2026-01-31T12:00:00+00:00", ()) == Compare(
        "started", ">", "2026-01-31T12:00:00Z"
    )
    today, week = parse_filter("started > today", ()), parse_filter("started > -7d", ())
    assert isinstance(today, Compare)
    assert isinstance(week, Compare)
    assert str(week.value) < str(today.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy > abc", "--where:1:12: error[bad-filter] 'abc' cannot"),
        ("optimizer.lr = 'a'", "--where:1:16: error[bad-filter] \"'a'\" cannot"),
        ("seed in (1, two)", "--where:1:13: error[bad-filter] 'two' cannot"),
        ("execution.compile = yes", "--where:1:21: error[bad-filter] 'yes' cannot"),
        ("status = finishd", "--where:1:10: error[bad-filter] 'finishd' is not a status; did"),
        ("not @candidat", "--where:1:5: error[bad-filter] no run has the tag 'candidat'; did"),
    ],
)  # fmt: skip
def test_a_value_that_no_run_can_have_is_an_error(root: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        query_runs(root, Query(where=text))
    assert str(caught.value).startswith(message)


def test_a_value_that_runs_may_have_one_day_matches_nothing(root: Path) -> None:
    for text in ("status = running", "@never-used", "model.use = 5", "optimizer.momentum = low"):
        assert query_runs(root, Query(where=text)).matching == 0
    write_run(root, "number", {"model.use": "5"})
    assert query_runs(root, Query(where="model.use = 5")).matching == 1
    assert query_runs(root, Query(where="started > '2026-01-30'")).matching >= 0


def test_an_error_of_a_plain_condition_names_what_is_wrong(root: Path) -> None:
    with pytest.raises(SpecError) as caught:
        query_runs(root, Query(("seeed=1",)))
    assert str(caught.value).startswith(
        "error[unknown-key] no run has 'seeed'; did you mean 'seed'?"
    )
