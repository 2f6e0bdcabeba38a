"""`sightx new-plugin`: write a plugin that works, to be changed into one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from sightx.cli.options import a_kind

if TYPE_CHECKING:
    from sightx.registry.project import Project

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@click.command("new-plugin", short_help="Write a plugin of your own that works.")
@click.argument("name")
@click.option("--kind", required=True, callback=a_kind, help="What it brings: model, loss, ...")
@click.option("--file", "single", is_flag=True, help="One module for the project's plugin folder.")
@click.option(
    "--output", type=click.Path(path_type=Path, readable=False), help="The folder to write into."
)
def command(name: str, kind: str, single: bool, output: Path | None) -> None:
    """Write the plugin NAME with one component of a kind, its test and a spec that uses it.

    A package to install; or with --file one module and a spec.
    """
    from sightx.registry import project

    home = project.find_project(output or Path.cwd())
    module = _module(name, kind, home)
    texts = _texts(name, module, kind)
    files = _one_file(texts, home, output) if single else _package(texts, output or Path())
    for path in files:
        if path.exists() or path.is_symlink():
            _refuse(f"{path} is there already", "nothing is overwritten; choose another name")
    if not single and (folder := (output or Path()) / texts["name"]).exists():
        _refuse(f"{folder} is there already", "nothing is overwritten; choose another name")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(path)
    click.echo(_next(texts, files, home, output, single=single))


def _module(name: str, kind: str, home: Project) -> str:
    """Return the module's name. Raises SpecError for one that cannot be, or is taken."""
    import importlib.util
    import keyword
    import sys

    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(module):
        _refuse(f"{name!r} is no name for a plugin", "write lower-case words with dashes: my-loss")
    if module in sys.stdlib_module_names:
        _refuse(f"{module!r} is a module of Python's standard library", "call it otherwise")
    if importlib.util.find_spec(module):
        _refuse(f"a module {module!r} is installed already", "call it otherwise")
    _refuse_component(name.replace("_", "-"), kind, home)
    return module


def _refuse_component(name: str, kind: str, home: Project) -> None:
    """Raise SpecError where a component of the kind has the name, whoever brings it."""
    from sightx.registry import loading

    same = [e for e in loading.load_registry(home).entries(kind) if e.component.name == name]
    if same:
        _refuse(f"the {kind} {name!r} is brought by {same[0]} already", "call it otherwise")


def _texts(name: str, module: str, kind: str) -> Mapping[str, str]:
    """Return every text of the plugin, by what it is."""
    from importlib import resources
    from string import Template
    from typing import get_origin

    from sightx.spec.experiment import Experiment

    folder = resources.files("sightx.cli") / "templates"

    def template(part: str) -> Template:
        return Template((folder / f"{part}.tmpl").read_text(encoding="utf-8"))

    component = template(f"{kind}.component")
    many = get_origin(Experiment.model_fields[kind].annotation) is tuple
    values = {
        "name": name.replace("_", "-"),
        "module": module,
        "kind": kind,
        "title": _title(module, kind, component.template),
        "summary": _summary(component.template),
        "used": f"map(type, experiment.{kind})" if many else f"[type(experiment.{kind})]",
    }
    values["common"] = template("common").substitute(values).rstrip("\n")
    spec = f'name = "{values["name"]}"\n\n' + template(f"{kind}.spec").substitute(values)
    return {
        **values,
        "component": component.substitute(values),
        "spec": f"# {values['summary']}\n{spec}",
        "test": template(f"{kind}.test").substitute(values),
        "pyproject": template("pyproject").substitute(values),
        "readme": template("readme").substitute(values),
    }


def _title(module: str, kind: str, text: str) -> str:
    """Return the name of the class: one that the template does not use for something else."""
    title = "".join(part.capitalize() for part in module.split("_"))
    return title + kind.capitalize() if title in re.findall(r"\w+", text) else title


def _summary(text: str) -> str:
    """Return the first line of the component's docstring."""
    docstring = text.partition("class $title")[2].partition('"""')[2]
    return docstring.partition("\n")[0].removesuffix('"""')


def _package(texts: Mapping[str, str], output: Path) -> dict[Path, str]:
    """Return what a package consists of: each file and its text."""
    root, module, name = output / texts["name"], texts["module"], texts["name"]
    return {
        root / "pyproject.toml": texts["pyproject"],
        root / "README.md": texts["readme"],
        root / "src" / module / "__init__.py": texts["component"],
        root / "src" / module / "py.typed": "",
        root / "tests" / f"test_{module}.py": texts["test"],
        root / "specs" / f"{name}.toml": texts["spec"],
    }


def _one_file(texts: Mapping[str, str], home: Project, output: Path | None) -> dict[Path, str]:
    """Return a module for the project's first plugin folder, and a spec beside its others.

    Raises SpecError where the project has no such folder.
    """
    if not output and not home.plugins:
        hint = 'write plugins = ["plugins"] below [tool.sightx] in pyproject.toml, or use --output'
        _refuse("this project has no folder of plugins", hint)
    folder = output or home.plugins[0]
    return {
        folder / f"{texts['module']}.py": texts["component"],
        home.root / "specs" / f"{texts['name']}.toml": texts["spec"],
    }


def _next(
    texts: Mapping[str, str],
    files: Mapping[Path, str],
    home: Project,
    output: Path | None,
    *,
    single: bool,
) -> str:
    """Return what to do next."""
    module, *_, spec = files
    if not single:
        root = module.parent
        return f"next: pip install -e {root}; pytest {root}; sightx run {spec}"
    if output and output.absolute() not in [path.absolute() for path in home.plugins]:
        return f'next: add "{output}" to plugins below [tool.sightx] in pyproject.toml'
    return f"next: sightx test-plugin {texts['module']}; sightx run {spec}"


def _refuse(message: str, hint: str) -> NoReturn:
    from sightx.errors import Problem, SpecError

    raise SpecError(Problem("usage", message, hint))
