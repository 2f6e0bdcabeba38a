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
    ],
)  # fmt: skip
def test_an_error_has_its_column(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_filter(text, ["model.use", "validation/qwk", "optimizer.lr"])
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
