"""The classes of labels, and their order: neither depends on how a label happens to be written."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from sightx.errors import DataError, Problem, SpecError

# Scales that data are often labelled with, from the lowest step to the highest. "|" separates the
# names of one step, in the form of `_words`. A scale also fits names with a common first or last
# word, such as "mild demented", and names that are only some of its steps.
SCALES = tuple(
    tuple(step.split("|") for step in scale.split(", "))
    for scale in (
        "no dr|no npdr|no|none|non|normal|healthy|absent, very mild|minimal, "
        "mild|mild npdr|mild dr|early, moderate|moderate npdr|moderate dr, "
        "severe|severe npdr|severe dr|advanced, very severe, "
        "proliferative|proliferate dr|proliferative dr|pdr",
        "none|normal|healthy, doubtful|questionable, minimal|mild, moderate, severe",
        "very low, low, medium|moderate|mid|middle, high, very high",
        "very small, small, medium, large|big, very large",
        "very bad|very poor, bad|poor, fair|average|acceptable, good, very good, excellent",
        "never|none, rarely|rare, sometimes|occasional, often|frequent, always",
        "unripe, half ripe|semi ripe, ripe, overripe, rotten",
        "first, second, third, fourth, fifth",
        "i, ii, iii, iv, v, vi",
        "xs, s, m, l, xl, xxl",
    )
)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
_RADIX_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|0[bB][01]+|0[oO][0-7]+")
_ANY_DIGITS = re.compile(r"[+-]?\d+(\.\d+)?")  # of all scripts
_SEPARATORS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_MARKS = "\ufeff\u200b\u2060"  # invisible characters that files begin or cells end with
_WIDTHS = ("<wide", "<narr")  # how the decomposition of a wide or a narrow character begins
_HINT_LENGTH = 160  # characters of a list that a hint, which must not be cut, can hold


def class_name(label: str) -> str:
    """Return a label without surrounding blanks, in Unicode form NFC, wide characters narrowed."""
    text = unicodedata.normalize("NFC", label)
    narrow = "".join(
        unicodedata.normalize("NFKC", c) if unicodedata.decomposition(c)[:5] in _WIDTHS else c
        for c in text
    )
    return unicodedata.normalize("NFC", narrow).strip().strip(_MARKS).strip()


def class_key(label: str) -> str:
    """Return what all spellings of a label have in common: the name, or the value of a number."""
    name = class_name(label)
    if not _NUMBER.fullmatch(name):
        return name
    whole, _, fraction = name.lstrip("+-").partition(".")  # not Decimal, which rounds to 28 digits
    value = f"{whole.lstrip('0') or '0'}.{fraction}".rstrip("0").rstrip(".")
    value = value if "." in value else whole.lstrip("0") or "0"
    return f"-{value}" if name.startswith("-") and value != "0" else value


def class_positions(labels: Iterable[str], classes: Sequence[str]) -> dict[str, int]:
    """Return the position of each label's class; labels of no class are left out."""
    positions = {class_key(name): position for position, name in enumerate(classes)}
    keys = {label: class_key(label) for label in labels}
    return {label: positions[key] for label, key in keys.items() if key in positions}


def find_classes(
    counts: Mapping[str, int], source: str = "", places: Mapping[str, tuple[str, int]] | None = None
) -> tuple[str, ...]:
    """Return the classes of all labels, sorted: numbers by their value, other names by spelling.

    Spellings of one class (see `class_key`) are merged.

    `counts` has the number of samples of each label, `source` is their file or folder, and `places`
    the file and the line where each is first, if that is known. Raises DataError if two names
    differ only in case, separators or compatibility forms.
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for label in counts:
        spellings[class_key(label)].add(class_name(label))
    names = [key if len(same) > 1 else min(same) for key, same in spellings.items()]
    _check_spelling(counts, source, places or {})
    return _sort_numbers(names) or tuple(sorted(names))


def _check_spelling(
    counts: Mapping[str, int], source: str, places: Mapping[str, tuple[str, int]]
) -> None:
    """Raise DataError if labels differ only in case or form; the place is that of the rarer one."""
    totals, first = Counter[str](), dict[str, tuple[str, int]]()
    for label, count in counts.items():
        totals[class_key(label)] += count
        first.setdefault(class_key(label), places.get(label, (source, 0)))
    similar: dict[str, str] = {}
    problems = []
    for key in sorted(totals, key=lambda key: (-totals[key], key)):
        other = similar.setdefault(_folded(key), key)
        if other != key:
            message = (
                f"the classes {other!r} ({totals[other]:,}) and {key!r} ({totals[key]:,}) "
                "differ only in case or form"
            )
            hint = "write them alike, or list both in dataset.classes if they are two classes"
            problems.append(Problem("class-spelling", message, hint).at(*first[key]))
    if problems:
        raise DataError(*problems)


def require_order(classes: Sequence[str]) -> None:
    """Raise SpecError if the order of classes that `find_classes` has found is that of spelling.

    The order of numbers is certain. For other names the error proposes the most likely order.
    """
    if _sort_numbers(classes):
        return
    likely = likely_order(classes)
    listed = json.dumps(list(likely or classes), ensure_ascii=False)
    message = f"the order is not known, only the alphabetical one: {', '.join(classes)}"
    if len(listed) > _HINT_LENGTH:
        hint = "list them in their order in dataset.classes, the lowest first"
    elif likely:
        hint = f"write classes = {listed} if that is their order"
    else:
        hint = f"write classes = {listed}, but from the lowest to the highest"
    raise SpecError(Problem("order-unknown", message, hint, "dataset.ordered"))


def likely_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the order that classes most likely have, () if nothing suggests one."""
    return _sort_numbers(names) or known_scale(names) or _sort_numbered(names)


def known_scale(names: Sequence[str]) -> tuple[str, ...]:
    """Return classes in the order of a known scale, () if they are not steps of one."""
    split = [_words(name).split() for name in names]
    if len(split) < 2:
        return ()
    for trimmed in _without_common_words(split):
        for scale in SCALES:
            steps = {word: number for number, step in enumerate(scale) for word in step}
            numbers = [steps.get(" ".join(words), -1) for words in trimmed]
            if min(numbers) >= 0 and len(set(numbers)) == len(names):
                return tuple(name for _, name in sorted(zip(numbers, names, strict=True)))
    return ()


def _without_common_words(split: list[list[str]]) -> list[list[list[str]]]:
    """Return names as they are, and without the word that most of them begin or end with."""
    first, last = (Counter(words[end] for words in split if words) for end in (0, -1))
    variants = [split]
    for end, counts in ((0, first), (-1, last)):
        word, count = counts.most_common(1)[0] if counts else ("", 0)
        if count > 1 and count >= len(split) - 1:  # "normal", "mild disease", "severe disease"
            kept = slice(1, None) if end == 0 else slice(None, -1)
            variants.append([w[kept] if len(w) > 1 and w[end] == word else w for w in split])
    return variants


def _sort_numbers(names: Sequence[str]) -> tuple[str, ...]:
    """Return names sorted by value if all are numbers, else ()."""
    if not names or not all(_NUMBER.fullmatch(class_name(name)) for name in names):
        return ()
    return tuple(sorted(names, key=lambda name: Decimal(class_name(name))))


def _sort_numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Return names such as grade2 and grade10 by their numbers if they differ in nothing else."""
    shapes = {re.sub(r"[0-9]+", "0", _words(name)) for name in names}
    if len(shapes) != 1 or "0" not in shapes.pop():
        return ()
    return tuple(sorted(names, key=lambda name: [int(n) for n in re.findall(r"[0-9]+", name)]))


def _words(name: str) -> str:
    """Return the words of a name in lower case: "no dr" for No_DR and noDR."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name(name))
    return " ".join(re.findall(r"[^\W_]+", apart.casefold()))


def _other_number(key: str) -> str:
    """Return the value of a number in another form than digits and a point, "" for other names.

    Such forms are 0x1F, 1_000, 1,000 and digits of other scripts; a comma that does not separate
    thousands is a decimal one. 1e3 is a name.
    """
    if _RADIX_NUMBER.fullmatch(key):
        return str(int(key, 0))
    text = re.sub(r"(?<=\d)(,(?=\d{3}(?!\d))|_(?=\d))", "", key).replace(",", ".")
    return class_key(format(Decimal(text), "f")) if _ANY_DIGITS.fullmatch(text) else ""


def _folded(key: str) -> str:
    """Return a key without case, compatibility forms, kinds of separators and forms of numbers."""
    if _NUMBER.fullmatch(key):
        return key
    if number := _other_number(key):
        return number
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", key).casefold())
