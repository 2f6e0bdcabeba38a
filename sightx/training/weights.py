"""Load initial weights from a file, or from a source that the model knows by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightx.errors import Problem, RunError
from sightx.registry.components import WEIGHTS_SUFFIXES
from sightx.registry.kinds import Model
from sightx.training.weights_file import Tables, read_tables

if TYPE_CHECKING:
    from torch import Tensor

_PLACE = "model.weights"
_SETTINGS_HINT = "[model] needs the settings of the saved network"
_REMOVE_HINT = (
    "save the weights of the network alone, or give [model] the settings of the saved one"
)
_HEAD_HINT = 'write head = "new" below [model], or --set model.head=new: a new head is trained'
_COUNTER = "num_batches_tracked"  # of batch normalisation; files of old versions of torch lack it
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MAX_NAMES = 4  # names that a line lists
# Tables that training programs save, the usual ones first: of equally good ones the first counts.
_TABLES = ("state_dict", "model", "model_state_dict", "net", "ema", "model_ema")


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded into a network.

    Attributes:
        source: The file, or the name that the model knows.
        table: The dotted key of the table in the file; "" for the whole file.
        removed: The prefix that the names in the file have in addition to the network's.
        loaded: The network's tensors that were loaded.
        fresh: The network's tensors that keep their random initial values.
        unused: Names in the file that the network has no place for.
    """

    source: str
    table: str = ""
    removed: str = ""
    loaded: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return one line."""
        path = Path(self.source)
        is_checkpoint = path.parent.name.startswith("step-")  # the names of all are the same
        source = "/".join(path.parts[-4:]) if is_checkpoint else path.name
        details = [f"table {self.table}"] * bool(self.table)
        details += [f"names without {self.removed!r}"] * bool(self.removed)
        parts = [
            f"weights {source}" + (f" ({', '.join(details)})" if details else ""),
            f"{len(self.loaded)} of {len(self.loaded) + len(self.fresh)} tensors loaded",
        ]
        if self.fresh:
            parts.append(f"new: {_shorten(self.fresh)}")
        if self.unused:
            parts.append(f"not used: {_shorten(self.unused)}")
        return f"{parts[0]}: {'; '.join(parts[1:])}"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def is_file(source: str) -> bool:
    """Return whether a source of weights is a file and not a name that the model knows."""
    return source.endswith(WEIGHTS_SUFFIXES)


def initialise(
    model: Model,
    module: nn.Module,
    source: str,
    *,
    tables: Tables | None = None,
    head: Callable[[], Collection[str]] = frozenset,
) -> LoadedWeights | None:
    """Load the weights that `source` names into a fresh network, and return what was loaded.

    Args:
        model: The component that built the network; it loads all sources but files.
        module: The network.
        source: The path of a file of weights, "none", or a name of the model.
        tables: The tables of tensors in the file, if it was read already.
        head: Returns the names of the tensors of the head (`setup.head_tensors`).

    Raises ResourceError if they cannot be fetched, RunError if they do not fit.
    """
    if source == "none":
        return None
    if not is_file(source):
        return _load_by_name(model, module, source, head)
    if tables is None:
        tables = read_tables(Path(source))
    fit = fit_weights(model, module, source, tables, head)
    module.load_state_dict(fit.tensors, strict=False)
    return fit.report


def _load_by_name(
    model: Model, module: nn.Module, source: str, head: Callable[[], Collection[str]]
) -> LoadedWeights:
    """Let the model load weights that it knows; what is unchanged afterwards is new."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model.initialise(module)
    after = module.state_dict()
    if model.head == "new":
        module.load_state_dict({name: before[name] for name in head()}, strict=False)
    weights = dict(module.named_parameters())
    fresh = [name for name in weights if after[name].equal(before[name])]
    if model.head == "load" and (left := [name for name in head() if name in fresh]):
        message = f"{source}: its head is not loaded ({_shorten(left)})"
        raise RunError(Problem("weights-shape", message, _HEAD_HINT, _PLACE))
    loaded = tuple(name for name in weights if name not in fresh)
    return LoadedWeights(source, loaded=loaded, fresh=tuple(fresh))


@dataclass(frozen=True)
class Fit:
    """The tensors of a file under the names of a network, and the report about them."""

    tensors: Mapping[str, Tensor]
    report: LoadedWeights


def fit_weights(
    model: Model,
    module: nn.Module,
    source: str,
    tables: Tables,
    head: Callable[[], Collection[str]],
) -> Fit:
    """Return the tensors of a file that a network takes; the network may be on the meta device.

    The table and the prefix of its names are those that fit best. Raises RunError if tensors of the
    network are missing, other than those of a new head, or if any tensor does not fit.
    """
    expected = module.state_dict()
    key, removed, tensors = _best_table(tables, expected)
    differences = _compare(expected, tensors)
    needed = (name for name in differences.missing if not name.endswith(_COUNTER))
    differences = replace(differences, missing=tuple(needed))
    fresh: Collection[str] = ()
    if model.head == "new":
        fresh = head()
        differences = _without_head(differences, expected, tensors, fresh)
    if differences:
        raise RunError(_misfit(model, expected, tensors, differences, head, source))
    taken = {n: t for n, t in tensors.items() if n in expected and n not in fresh}
    _check_types(expected, taken, source)
    report = LoadedWeights(
        source,
        table=key,
        removed=removed,
        loaded=tuple(name for name in expected if name in taken),
        fresh=tuple(name for name in expected if name not in taken),
        unused=tuple(name for name in tensors if name not in taken and name not in expected),
    )
    return Fit(taken, report)


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], *, file: str) -> None:
    """Load the tensors of a checkpoint into a network, all or none.

    Args:
        module: The network that they were saved from.
        tensors: Its parameters and buffers, by name.
        file: The file of the tensors, for the error.

    Raises RunError, which counts the tensors that do not fit.
    """
    expected = module.state_dict()
    if differences := _compare(expected, tensors):
        reason = differences.describe(expected, tensors)
        hint = "they were saved from another network, or for other classes"
        raise RunError(Problem("weights-shape", reason, hint, "", file))
    _check_types(expected, tensors, file)
    module.load_state_dict(tensors)


@dataclass(frozen=True)
class _Differences:
    """Names of tensors that the file lacks, that the network lacks, and of other shapes."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def describe(self, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
        """Return the counts and the first name of each kind, as a part of a sentence."""
        if not set(expected) & set(got):
            return (
                f"no tensor has a name of the network: the file has {len(got)} such as "
                f"{next(iter(got), '')}, the network {len(expected)} such as {next(iter(expected))}"
            )
        parts = []
        if self.missing:
            parts.append(f"{len(self.missing)} missing (first {self.missing[0]})")
        if self.unexpected:
            parts.append(f"{len(self.unexpected)} unexpected (first {self.unexpected[0]})")
        if self.shapes:
            name = self.shapes[0]
            shapes = f"{_shape(got[name])}, not {_shape(expected[name])}"
            parts.append(f"{len(self.shapes)} differ in shape ({name}: {shapes})")
        return f"of {len(expected)} tensors {', '.join(parts)}"


def _compare(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> _Differences:
    return _Differences(
        missing=tuple(name for name in expected if name not in got),
        unexpected=tuple(name for name in got if name not in expected),
        shapes=tuple(n for n, t in expected.items() if n in got and got[n].shape != t.shape),
    )


def _without_head(
    differences: _Differences,
    expected: Mapping[str, Tensor],
    got: Mapping[str, Tensor],
    head: Collection[str],
) -> _Differences:
    """Return the differences outside the head of the network and that of the file.

    The file's head lies within the parts of the network's head. If the file has none of them, its
    head has another name: a part that the network does not have, with nothing but linear layers.
    """
    parts = tuple(f"{part}." for part in _head_parts(expected, head))
    own = [name for name in differences.unexpected if name.startswith(parts)]
    if not own and not any(name in got for name in head):
        own = list(_foreign_head(differences.unexpected, expected, got))
    return _Differences(
        missing=tuple(name for name in differences.missing if name not in head),
        unexpected=tuple(name for name in differences.unexpected if name not in own),
        shapes=tuple(name for name in differences.shapes if name not in head),
    )


def _head_parts(expected: Mapping[str, Tensor], head: Collection[str]) -> set[str]:
    """Return the largest parts of a network that consist of the head alone."""
    parts = set()
    for name in head:
        pieces = name.split(".")[:-1]
        for count in range(1, len(pieces) + 1):
            part = ".".join(pieces[:count])
            if all(other in head for other in expected if other.startswith(f"{part}.")):
                parts.add(part)
                break
    return parts


def _foreign_head(
    unexpected: Collection[str], expected: Mapping[str, Tensor], got: Mapping[str, Tensor]
) -> Iterator[str]:
    known = {name.partition(".")[0] for name in expected}
    for name in unexpected:
        part = name.partition(".")[0]
        siblings = [t for other, t in got.items() if other.partition(".")[0] == part]
        if part not in known and all(tensor.ndim <= 2 for tensor in siblings):
            yield name


def _misfit(
    model: Model,
    expected: Mapping[str, Tensor],
    got: Mapping[str, Tensor],
    differences: _Differences,
    head: Callable[[], Collection[str]],
    source: str,
) -> Problem:
    """Return the problem for a file that does not fit; its hint solves it if the head is all."""
    names = () if model.head == "new" else head()
    if names and not _without_head(differences, expected, got, names):
        return _head_problem(expected, got, names, source)
    is_too_much = not differences.missing and not differences.shapes
    hint = _REMOVE_HINT if is_too_much else _SETTINGS_HINT
    return Problem("weights-shape", differences.describe(expected, got), hint, _PLACE, source)


def _head_problem(
    expected: Mapping[str, Tensor], got: Mapping[str, Tensor], head: Collection[str], source: str
) -> Problem:
    """Return the problem for a file that fits except for the head."""
    differing = [name for name in expected if name in head and name in got]
    differing = [name for name in differing if got[name].shape != expected[name].shape]
    if differing:
        name = differing[0]
        reason = (
            f"its head is for another number of classes: {name} is {_shape(got[name])}, "
            f"the network needs {_shape(expected[name])}"
        )
    else:
        absent = [name for name in expected if name in head and name not in got]
        reason = f"it has no head for this network: {_shorten(absent)} missing"
    return Problem("weights-shape", reason, _HEAD_HINT, _PLACE, source)


def _best_table(
    tables: Tables, expected: Mapping[str, Tensor]
) -> tuple[str, str, Mapping[str, Tensor]]:
    """Return the key, the removed prefix and the renamed tensors of the table that fits best."""

    def rank(key: str) -> int:
        last = key.rpartition(".")[2]
        return _TABLES.index(last) if last in _TABLES else len(_TABLES)

    candidates = []
    for key in sorted(tables, key=rank):
        removed, tensors = _best_names(tables[key], expected)
        score = _score(tensors, expected)
        candidates.append((score, len(tensors) * (score == (0, 0)), key, removed, tensors))
    _, _, key, removed, tensors = max(candidates, key=lambda item: item[:2])
    return key, removed, tensors


def _score(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return how many tensors have a name of the network, with its shape and in all."""
    names = [name for name in tensors if name in expected]
    return sum(tensors[name].shape == expected[name].shape for name in names), len(names)


def _best_names(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[str, Mapping[str, Tensor]]:
    """Return a prefix to remove from the names, and the tensors under the network's names.

    Wrappers such as DataParallel, torch.compile or a LightningModule give all names a prefix; the
    network itself may also be in a wrapper that the file does not have.
    """
    compiled = "_orig_mod."  # torch.compile gives it to any part of a network
    if not any(compiled in name for name in expected):
        tensors = {name.replace(compiled, ""): tensor for name, tensor in tensors.items()}
    best: tuple[str, Mapping[str, Tensor]] = ("", tensors)
    for removed in _prefixes(tensors, shared=False):
        for added in _prefixes(expected, shared=True):
            renamed = {_rename(name, removed, added): tensor for name, tensor in tensors.items()}
            if len(renamed) == len(tensors) and _score(renamed, expected) > _score(
                best[1], expected
            ):
                best = removed, renamed
    return best


def _rename(name: str, removed: str, added: str) -> str:
    return added + name.removeprefix(removed) if name.startswith(removed) else name


def _prefixes(names: Collection[str], *, shared: bool) -> list[str]:
    """Return the prefixes that all names have, from the shortest, which is "".

    If `shared` is False, prefixes of most names follow: a head may lie next to a wrapped trunk.
    """
    prefixes, least = [""], len(names) if shared else len(names) // 2 + 1
    while True:
        tails = [name.removeprefix(prefixes[-1]) for name in names if name.startswith(prefixes[-1])]
        firsts = [tail.partition(".")[0] for tail in tails if "." in tail]
        first = max(set(firsts), key=firsts.count, default="")
        if not first or firsts.count(first) < least:
            return prefixes
        prefixes.append(f"{prefixes[-1]}{first}.")


def _check_types(expected: Mapping[str, Tensor], got: Mapping[str, Tensor], source: str) -> None:
    """Raise RunError for a tensor whose values would lose their meaning in the network's type."""
    for name, tensor in got.items():
        wanted = expected[name].dtype
        if wanted.is_floating_point:
            is_same_kind = tensor.dtype in _FLOATS
        elif wanted.is_complex or wanted == torch.bool:
            is_same_kind = tensor.dtype == wanted
        else:
            is_whole = not tensor.is_floating_point() or tensor.equal(tensor.round())
            is_same_kind = is_whole and tensor.dtype != torch.bool and not tensor.is_complex()
        if not is_same_kind or tensor.is_quantized or tensor.layout != torch.strided:
            message = f"{name}: expected {wanted}, got {tensor.dtype}"
            hint = "save the weights as floating point numbers, before they are quantised"
            raise RunError(Problem("bad-weights", message, hint, _PLACE, source))


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _shorten(names: Collection[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(list(names)[:_MAX_NAMES]) + more
