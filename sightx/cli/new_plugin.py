"""`sightx new-plugin`: write a small plugin that works, to start from."""

from __future__ import annotations

import re
from functools import partial
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NoReturn, get_origin

import click

from sightx.cli.options import UserPath, check_kind
from sightx.io.files import shell_path

if TYPE_CHECKING:
    from sightx.registry.project import Project

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")

# Kinds whose code needs torch at import, and the module that such code is written to.
_HEAVY_MODULES = {"model": "network", "loss": "modules"}

# Plugins without a component, and what one line says of them.
_OTHERS = {
    "checks": "A rule for the batch size",
    "commands": "A command that prints the components of a spec",
}

# Settings of the new component in its example spec.
_SETTINGS = {
    "augment": "share = 0.25", "average": "eta = 3.0", "checkpoint": "count = 2",
    "dataset": "size = 32",
    "loss": "gamma = 2.0", "metric": "k = 2", "model": "width = 8", "optimizer": "lr = 2e-3",
    "postprocess": "strength = 0.5", "preprocess": "gamma = 0.8", "quality": "poor = 0.01",
    "sampler": "share = 0.5",
    "scheduler": "power = 0.9", "split": "validation = 0.2\ntest = 0.2",
    "stopping": "target = 0.95",
}  # fmt: skip


@click.command("new-plugin", short_help="Write a small plugin that works, to start from.")
@click.argument("name")
@click.option(
    "--kind", required=True, callback=partial(check_kind, others=list(_OTHERS)),
    help="Kind of component: model, loss, ...; or checks, or commands.",
)  # fmt: skip
@click.option("--file", "local", is_flag=True, help="Write into the project's plugin folder.")
@click.option("--output", type=UserPath(), help="Folder to write into.")
def command(name: str, kind: str, local: bool, output: Path | None) -> None:
    """Write the plugin NAME with one component, check or command, its tests and a spec.

    The plugin is a package to install. With --file it is a module in the project's plugin folder,
    or for a model or loss a folder with two modules.
    """
    from sightx.registry.project import find_project

    project = find_project(output or Path.cwd())
    module = _module_name(name, kind, project)
    skeleton = _Skeleton(name.replace("_", "-"), module, kind)
    root = (output or Path()) / skeleton.name
    if local:
        files = skeleton.local_files(_plugin_folder(project, output), project.root / "specs")
    else:
        files = skeleton.package_files(root)
    for path in (*files, *(() if local else (root,))):
        if path.exists() or path.is_symlink():
            _refuse(f"{path} exists already", "nothing is overwritten; choose another name")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(path)
    spec = list(files)[-1]
    if not local:
        folder = shell_path(root)
        click.echo(f"next: pip install -e {folder}; pytest {folder}; sightx run {shell_path(spec)}")
    elif output and output.absolute() not in [path.absolute() for path in project.plugins]:
        click.echo(f'next: add "{output}" to plugins below [tool.sightx] in pyproject.toml')
    else:
        click.echo(f"next: sightx test-plugin {module}; sightx run {shell_path(spec)}")


def _module_name(name: str, kind: str, project: Project) -> str:
    """Return the module's name. Raise SpecError if it is not valid, or taken."""
    import importlib.util
    import keyword
    import sys

    from sightx.registry import loading

    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(module):
        _refuse(f"{name!r} is not a plugin name", "use lower-case words with dashes: my-loss")
    if module in sys.stdlib_module_names:
        _refuse(f"{module!r} is a module of Python's standard library", "choose another name")
    if importlib.util.find_spec(module):
        _refuse(f"a module {module!r} is installed already", "choose another name")
    for entry in loading.load_registry(project).entries(kind):
        if entry.component.name == name.replace("_", "-"):
            message = f"the {kind} {entry.component.name!r} is provided by {entry} already"
            _refuse(message, "choose another name")
    return module


class _Skeleton:
    """The files of a new plugin."""

    def __init__(self, name: str, module: str, kind: str) -> None:
        from sightx.spec.experiment import Experiment

        self.name, self._module, self._kind = name, module, kind
        self._file = kind if kind in _OTHERS else "components"
        field = Experiment.model_fields.get(kind)
        self._is_array = field is not None and get_origin(field.annotation) is tuple
        self._heavy = _HEAVY_MODULES.get(kind)
        component = _template(f"{kind}.component")
        docstring = component.partition("class $title")[2].partition('"""')[2]
        self._values = {
            "name": name,
            "module": module,
            "kind": kind,
            "file": self._file,
            "hook_name": f"sightx_{self._file}",
            "title": _class_name(module, kind, component),
            "summary": _OTHERS.get(kind) or docstring.partition("\n")[0].removesuffix('"""'),
            "heavy": f", or in\n  `{self._heavy}.py`, which `build` imports" if self._heavy else "",
            "used": ("map(type, {})" if self._is_array else "[type({})]").format(
                f"experiment.{kind}"
            ),
        }
        for part in ("hook", "contract_test"):
            self._values[part] = self._render(part).rstrip("\n")

    def package_files(self, root: Path) -> dict[Path, str]:
        """Return the files of a distribution and their texts; the last is the spec."""
        return {
            root / "pyproject.toml": self._render("pyproject"),
            root / "README.md": self._render(
                "readme" if self._file == "components" else f"{self._kind}.readme"
            ),
            **self._modules(root / "src" / self._module),
            root / "src" / self._module / "py.typed": "",
            root / "tests" / f"test_{self._module}.py": self._render(f"{self._kind}.test"),
            root / "specs" / f"{self.name}.toml": self._spec(),
        }

    def local_files(self, folder: Path, specs: Path) -> dict[Path, str]:
        """Return the modules for a plugin folder and their texts; the last is the spec."""
        if self._heavy:
            modules = self._modules(folder / self._module)
        else:
            modules = {folder / f"{self._module}.py": self._render(f"{self._kind}.component")}
        return {**modules, specs / f"{self.name}.toml": self._spec()}

    def _modules(self, folder: Path) -> dict[Path, str]:
        files = {
            folder / "__init__.py": self._render("package"),
            folder / f"{self._file}.py": self._render(f"{self._kind}.component"),
        }
        if self._heavy:
            files[folder / f"{self._heavy}.py"] = self._render(f"{self._kind}.{self._heavy}")
        return files

    def _spec(self) -> str:
        """Return an example spec: the component's table replaces one, or comes before the last."""
        header = f"[[{self._kind}]]" if self._is_array else f"[{self._kind}]"
        lines = [header, f'use = "{self.name}"', _SETTINGS.get(self._kind)]
        table = "\n".join(filter(None, lines))
        if self._kind in _OTHERS:
            return self._render("spec")
        tables = self._render("spec").split("\n\n")
        replaced = [table if text.startswith(f"[{self._kind}]") else text for text in tables]
        return "\n\n".join(replaced if table in replaced else [*tables[:-1], table, tables[-1]])

    def _render(self, part: str) -> str:
        return Template(_template(part)).substitute(self._values)


def _template(part: str) -> str:
    file = resources.files("sightx.cli") / "templates" / f"{part}.tmpl"
    return file.read_text(encoding="utf-8")


def _class_name(module: str, kind: str, template: str) -> str:
    """Return the name of the class, which the template must not use for something else."""
    title = "".join(part.capitalize() for part in module.split("_"))
    return title + kind.capitalize() if title in re.findall(r"\w+", template) else title


def _plugin_folder(project: Project, output: Path | None) -> Path:
    """Return the project's first plugin folder. Raise SpecError without one."""
    if not output and not project.plugins:
        hint = 'write plugins = ["plugins"] below [tool.sightx] in pyproject.toml, or use --output'
        _refuse("this project has no plugin folder", hint)
    return output or project.plugins[0]


def _refuse(message: str, hint: str) -> NoReturn:
    from sightx.errors import Problem, SpecError

    raise SpecError(Problem("usage", message, hint))
