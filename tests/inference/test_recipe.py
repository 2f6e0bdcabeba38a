from __future__ import annotations

import json
from pathlib import Path

import sightx
from sightx.inference.recipe import Recipe
from sightx.registry import plugins, project


def test_a_recipe_comes_back_from_its_checkpoint(spec: Path, tmp_path: Path) -> None:
    sets = ["decide=[{use='temperature'}]", "normalize.use=dataset"]
    run = sightx.run(sightx.load(spec, sets), runs=tmp_path / "runs")
    content = (run.checkpoint() / "recipe.json").read_bytes()
    recipe = Recipe.read(content, plugins.load(project.find(tmp_path)), "recipe.json")
    assert recipe.tables() == json.loads(content)
    assert recipe.classes == ("dark", "light")
    assert recipe.shape == (3, 8, 8)
    assert recipe.decisions[0]["temperature"] > 0
    assert len(recipe.mean) == 3
