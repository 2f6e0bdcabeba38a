from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import sightx
from sightx.inference.recipe import Recipe
from sightx.registry import loading, project


def test_a_recipe_is_read_as_it_was_written(spec: Path, tmp_path: Path) -> None:
    sets = ["postprocess=[{use='temperature'}]", "normalize.use=dataset"]
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    content = (run.checkpoint() / "recipe.json").read_bytes()
    recipe = Recipe.read(
        content, loading.load_registry(project.find_project(tmp_path)), "recipe.json"
    )
    assert recipe.tables() == json.loads(content)
    assert recipe.classes == ("dark", "light")
    assert recipe.shape == (3, 8, 8)
    assert recipe.postprocess_states[0]["temperature"] > 0
    assert len(recipe.mean) == len(recipe.std) == 3
    assert (recipe.decode, recipe.min_decoded_size) == ("scaled", (14, 14))

    older = {key: value for key, value in json.loads(content).items() if key != "decode"}
    exact = Recipe.read(
        json.dumps(older).encode(), loading.load_registry(project.find_project(tmp_path)), ""
    )
    assert exact.min_decoded_size is None  # images were decoded at full size then


SPEC = """
name = "a"
[dataset]
use = "image-folder"
root = "data"
[[preprocess]]
use = "resize"
size = 8
[model]
use = "mine"
[training]
epochs = 1
batch_size = 8
"""
PLUGIN = """
from sightx.plugin import Model, hookimpl

class Mine(Model):
    \"\"\"A linear network.\"\"\"
    name = "mine"
    revision = {revision}
    def build(self, channels, outputs, size):
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], outputs))

@hookimpl
def sightx_components():
    return [Mine]
"""
CHILD = """
import sys
from sightx.cli.main import main
main(sys.argv[1:])
"""


def test_a_changed_plugin_is_a_warning_and_a_missing_one_an_error(
    folders: Path, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "pyproject.toml").write_text('[tool.sightx]\nplugins = ["plugins"]\n')
    (tmp_path / "a.toml").write_text(SPEC)
    plugin = tmp_path / "plugins" / "mine_plugin.py"
    plugin.write_text(PLUGIN.format(revision=1))

    def sightx_command(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CHILD, *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    image = str(folders / "test" / "dark" / "0.png")
    assert sightx_command("run", "a.toml", "--quiet").returncode == 0
    same = sightx_command("predict", "last", image)
    assert (same.returncode, same.stderr.count("\n")) == (0, 1)
    plugin.write_text(PLUGIN.format(revision=2))
    changed = sightx_command("predict", "last", image)
    assert changed.returncode == 0
    assert "warning[plugin-changed] the model 'mine' of mine_plugin has changed" in changed.stderr
    assert "revision 1 then, 2 now" in changed.stderr
    plugin.unlink()
    uninstalled = sightx_command("predict", "last", image)
    assert uninstalled.returncode == 4
    assert "the run had it from the plugin mine_plugin" in uninstalled.stderr
