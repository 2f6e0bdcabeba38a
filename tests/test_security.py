"""Loading runs no code: not in our own modules (X01), and not from untrusted files (X02)."""

from __future__ import annotations

import argparse
import ast
import io
import os
import pickle
import re
import shlex
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from sightx import RunError
from sightx.builtin.models.simplenet import SimpleNet
from sightx.training.weights import initialise

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "sightx").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
OURS = [path for path in FILES if "tests" not in path.relative_to(ROOT).parts]

# Modules that execute code while they deserialise bytes.
UNPICKLERS = {
    "cPickle", "cloudpickle", "copyreg", "dill", "hickle", "joblib", "jsonpickle", "klepto",
    "marshal", "pickle", "shelve", "torch.package",
}  # fmt: skip
# The one module that may import pickle, for a class whose find_class allows a few harmless names.
RESTRICTED = "sightx/builtin/datasets/cifar10.py"
# Calls that do the same, or that pass a text to a shell or to the interpreter.
FORBIDDEN = {  # torch.save pickles, and is slow (C19): benchmarks/save.py
    "torch.save",
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
    "subprocess.getstatusoutput", "torch.jit.load", "torch.export.load", "torch.hub.load",
    "torch.hub.load_state_dict_from_url", "torch.utils.model_zoo.load_url", "pandas.read_pickle",
    "yaml.load", "yaml.unsafe_load", "numpy.lib.format.read_array",
}  # fmt: skip
# Functions that unpickle what they receive. (Our own `broadcast_object` sends JSON.)
SENT = re.compile(
    r"(all_gather|gather)_object|(broadcast|scatter|send|recv)_object_list"
    r"|(read_pickle|to_pickle|load_state_dict_from_url|load_from_checkpoint)"
)


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return the full name of everything that a module imports, by its local name."""
    full_names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module = alias.name if alias.asname else alias.name.partition(".")[0]
                full_names[alias.asname or module] = module
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                full_names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return full_names


def dangers(text: str) -> Iterator[tuple[str, int]]:
    """Yield each import and call of a source that may run foreign code, and its line."""
    tree = ast.parse(text)
    known = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for name in (f"{module}.{alias.name}".strip(".") for alias in node.names):
                if any(f"{name}.".startswith(f"{bad}.") for bad in UNPICKLERS):
                    yield name, node.lineno
        elif isinstance(node, ast.Attribute) and SENT.fullmatch(node.attr):
            yield node.attr, node.lineno
        elif isinstance(node, ast.Name) and SENT.fullmatch(known.get(node.id, "").split(".")[-1]):
            yield node.id, node.lineno
        elif isinstance(node, ast.Call) and _unsafe(node, known):
            yield ast.unparse(node.func), node.lineno


def _unsafe(call: ast.Call, known: dict[str, str]) -> bool:
    first, _, attributes = ast.unparse(call.func).partition(".")
    name = ".".join(filter(None, (known.get(first, first), attributes)))
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def literal(key: str) -> object:
        value = given.get(key)
        return value.value if isinstance(value, ast.Constant) else value

    return (
        name in FORBIDDEN
        or (name == "torch.load" and literal("weights_only") is not True)
        or literal("shell") not in (None, False)
        or literal("allow_pickle") not in (None, False)
        or (
            None in given and name in ("torch.load", "numpy.load")
        )  # arguments that are not visible, as in **options
    )


def restricted_unpicklers(text: str) -> set[str]:
    """Return the names of `pickle` that a source uses, which must be those of a base class."""
    return {
        ast.unparse(node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }


def test_cifar10_uses_pickle_only_as_the_base_of_a_class_that_limits_find_class() -> None:
    text = (ROOT / RESTRICTED).read_text()
    assert restricted_unpicklers(text) == {"pickle._Unpickler"}
    classes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)]
    methods = {
        node.name: {method.name for method in node.body if isinstance(method, ast.FunctionDef)}
        for node in classes
        if "pickle._Unpickler" in map(ast.unparse, node.bases)
    }
    assert list(methods.values()) == [{"find_class"}]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_unpickles_evaluates_or_opens_a_shell(path: Path) -> None:
    allowed = ["pickle"] if path == ROOT / RESTRICTED else []
    assert [name for name, _ in dangers(path.read_text())] == allowed


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import marshal as m", "import shelve",
        "from torch import package", "import joblib", "from copyreg import constructor",
        "import torch\ntorch.load(f)", "import torch as t\nt.load(f, weights_only=False)",
        "import torch\ntorch.load(f, weights_only=flag)", "from torch import load\nload(f)",
        "import torch\ntorch.load(f, **options)", "import torch\ntorch.load(f, weights_only=1)",
        "import torch\ntorch.jit.load(f)", "from torch.export import load\nload(f)",
        "import torch\ntorch.hub.load('a', 'b')", "eval('1')", "exec(text)",
        "compile(t, f, 'exec')",
        "import os\nos.system('ls')", "from os import popen\npopen('ls')",
        "import subprocess as s\ns.run(c, shell=True)", "run(c, shell=flag)",
        "import numpy as np\nnp.load(f, allow_pickle=True)", "np.load(f, allow_pickle=flag)",
        "import torch.distributed as dist\ndist.all_gather_object(a, b)",
        "from torch.distributed import broadcast_object_list as send\nsend(a)",
        "gather = dist.gather_object", "pd.read_pickle(f)", "import yaml\nyaml.load(f)",
    ],
)  # fmt: skip
def test_each_danger_is_detected(text: str) -> None:
    assert [line for _, line in dangers(text)] == [text.count("\n") + 1]


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(f, map_location='cpu', weights_only=True)",
        "import numpy as np\nnp.load(f)", "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import json\njson.load(f)", "import subprocess\nsubprocess.run(['git'], check=True)",
        "module.eval()", "import re\nre.compile('a')", "import pickletools", "import tomllib",
        "from safetensors.torch import load\nload(f)", "torch.compile(module)",
    ],
)  # fmt: skip
def test_harmless_code_is_not_reported(text: str) -> None:
    assert list(dangers(text)) == []


MODEL = SimpleNet(hidden=(3,))
GOOD = MODEL.build(channels=1, outputs=2, size=(2, 2)).state_dict()


class Payload:
    """Run a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.marker}",)


def command(path: Path, marker: Path) -> None:
    torch.save({**GOOD, "more": Payload(marker)}, path)


def bare_pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(marker)))


def other_case(path: Path, marker: Path) -> None:
    """A good data.pkl, and a malicious DATA.PKL; readers differ in which one they read."""
    torch.save(GOOD, path)
    with zipfile.ZipFile(path, "a") as archive:
        (top,) = {name.partition("/")[0] for name in archive.namelist()}
        archive.writestr(f"{top}/DATA.PKL", pickle.dumps(Payload(marker)))


def other_case_first(path: Path, marker: Path) -> None:
    """Only the malicious DATA.PKL."""
    good = path.with_suffix(".good")
    torch.save(GOOD, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            is_malicious = name.endswith("data.pkl")
            content = pickle.dumps(Payload(marker)) if is_malicious else source.read(name)
            archive.writestr(name.replace("data.pkl", "DATA.PKL"), content)


def legacy_tar(path: Path, marker: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            content = pickle.dumps(Payload(marker))
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def legacy_stream(path: Path, marker: Path) -> None:
    torch.save({**GOOD, "more": Payload(marker)}, path, _use_new_zipfile_serialization=False)


def numpy_scalar(path: Path, marker: Path) -> None:
    torch.save({**GOOD, "accuracy": np.float64(0.9)}, path)


def namespace(path: Path, marker: Path) -> None:
    torch.save({**GOOD, "args": argparse.Namespace(lr=0.1)}, path)


def script(path: Path, marker: Path) -> None:
    """A TorchScript archive, which contains code."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/constants.pkl", pickle.dumps(Payload(marker)))
        archive.writestr("net/data.pkl", pickle.dumps(Payload(marker)))
        archive.writestr("net/code/__torch__.py", f"import os; os.system('touch {marker}')")
        archive.writestr("net/version", "3\n")


def nothing(path: Path, marker: Path) -> None:
    path.write_bytes(b"")


def page(path: Path, marker: Path) -> None:
    path.write_text("<html>404</html>")


MALICIOUS = (command, bare_pickle, other_case_first, legacy_tar, legacy_stream, numpy_scalar,
             namespace, script, nothing, page)  # fmt: skip


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("make", MALICIOUS)
def test_malicious_weights_run_no_code(
    tmp_path: Path, make: object, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "ran"
    make(path, marker)  # type: ignore[operator]
    module = MODEL.build(channels=1, outputs=2, size=(2, 2))
    with pytest.raises(RunError) as caught:
        initialise(MODEL, module, str(path))
    assert not marker.exists()
    text = str(caught.value)
    assert caught.value.exit_code == 5
    assert "\n" not in text
    assert len(text) <= 300
    assert str(path) in text
    assert not re.search("weights_only|pickle|trust", text, re.IGNORECASE)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_second_pickle_whose_name_differs_in_case_runs_no_code(
    tmp_path: Path, suffix: str
) -> None:
    path, marker = tmp_path / f"weights{suffix}", tmp_path / "ran"
    other_case(path, marker)
    module = MODEL.build(channels=1, outputs=2, size=(2, 2))
    with suppress(RunError):  # a reader may refuse it, or read the good one
        initialise(MODEL, module, str(path))
        assert all(torch.equal(GOOD[name], value) for name, value in module.state_dict().items())
    assert not marker.exists()


def test_a_lock_has_hashes_and_is_what_is_audited(tmp_path: Path) -> None:  # X08, X09
    make = shutil.which("make")
    if not make:
        pytest.skip("make is not installed")
    words = [make, "--dry-run", "vulnerabilities", "EXTRAS=serve onnx", f"VENV={tmp_path}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [shlex.split(line) for line in done.stdout.replace("\\\n", "").splitlines()]
    (lock,) = (words for words in commands if "compile" in words)
    assert {"--generate-hashes", "--no-emit-index-url", "--exclude-newer"} <= {*lock}
    assert lock[-1] == "pyproject.toml"
    assert [lock[at + 1] for at, word in enumerate(lock) if word == "--extra"] == ["serve", "onnx"]
    (audit,) = (words for words in commands if words[0].endswith("pip-audit"))
    assert {"--strict", "--require-hashes"} <= {*audit}
    assert audit[-1] == lock[lock.index("--output-file") + 1] == "requirements.lock"
    assert commands.index(lock) < commands.index(audit)


def test_security_floors() -> None:  # X07: the versions that the tests of minimum versions install
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    floors = dict(re.match(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", line).groups() for line in declared
                  if ">=" in line)  # fmt: skip
    safe = {"pillow": (13, 0), "torch": (2, 11), "starlette": (1, 3, 1), "filelock": (4, 2, 11),
            "python-multipart": (0, 0, 30)}  # fmt: skip
    for name, least in safe.items():
        if name in floors:
            assert tuple(map(int, floors[name].split("."))) >= least, name
    assert {"pillow", "torch", "safetensors"} <= set(floors)
