"""The model card of an exported model: Markdown that a hub can read, from the files of the run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sightx.export.parity import Parity
from sightx.inference.prediction import ModelId
from sightx.runs.directory import Run

_TEMPLATE = """\
# {name}

{kind}: {classes}. Trained with SightX as run `{run}`, checkpoint `{checkpoint}`.

**Not a diagnosis, and not a medical device.** The authors of the run have stated no intended use.

## Data

{data}

## Figures

{figures}

{parity}
{use}## Identity

- model: `{model}`
- weights: SHA-256 `{weights}`
- experiment: `{experiment}`
- data: `{data_id}`
"""

_USE = """\
## Use

```console
$ sightx export --check .         # are the files intact, and the answers the same here?
$ sightx predict . image.jpeg
```

```python
import sightx

print(sightx.Predictor.load(".").predict("image.jpeg"))
```

`preprocess.json` says how an image becomes the input, `labels.json` what the outputs mean, and
`golden/golden.json` has the answers for eight images, to test a program of your own.

"""


def model_card(run: Run, model: ModelId, parity: Sequence[Parity] | None) -> str:
    """Return the card of a run's checkpoint: every figure is one that the run has written.

    `parity` compares exported networks with PyTorch; None means that the run is not exported.
    """
    data, name = run.data, str(run.tables.get("name", run.id))
    classes = ", ".join(f"`{cls}`" for cls in data["classes"])
    figures = list(_figures(run, model.checkpoint))
    comparisons = "".join(f"{comparison}\n\n" for comparison in parity or ())
    text = _TEMPLATE.format(
        name=name,
        kind="Ordered classes" if data["ordered"] else "Classes",
        classes=classes,
        run=run.id,
        checkpoint=model.checkpoint,
        data=_data(data),
        figures=_table(figures) if figures else "The run has not scored this checkpoint.",
        use="" if parity is None else _USE,
        parity=f"The exported network and PyTorch: {comparisons}" if parity else "",
        model=model.id,
        weights=model.weights_sha256,
        experiment=run.environment.get("id", ""),
        data_id=data.get("id", ""),
    )
    return f"{_front_matter(name, figures)}\n{text}"


def _figures(run: Run, checkpoint: str) -> Iterator[tuple[str, str, float]]:
    """Yield split, name and value of each final metric of the run, if they are the checkpoint's."""
    result = run.result
    if run.checkpoints.get(str(result.get("checkpoint"))) != checkpoint:
        return
    for split in ("validation", "test"):
        for name, value in result.get(split, {}).items():
            if isinstance(value, float) and math.isfinite(value):
                yield split, name.partition("/")[2], value


def _table(figures: Sequence[tuple[str, str, float]]) -> str:
    """Return one row per metric and one column per split."""
    splits = list(dict.fromkeys(split for split, _, _ in figures))
    values = {(split, name): f"{value:.4f}" for split, name, value in figures}
    lines = ["| metric | " + " | ".join(splits) + " |", "|---|" + "---|" * len(splits)]
    for name in dict.fromkeys(name for _, name, _ in figures):
        cells = [values.get((split, name), "") for split in splits]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _data(data: Mapping[str, Any]) -> str:
    """Return how many samples of each class the splits have."""
    lines = ["| class | train | validation | test |", "|---|---|---|---|"]
    counts = [data["counts"][split] for split in ("train", "validation", "test")]
    for name, *cells in zip(data["classes"], *counts, strict=True):
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _front_matter(name: str, figures: Sequence[tuple[str, str, float]]) -> str:
    """Return YAML that model hubs read. Texts are JSON strings, which YAML can read too."""
    lines = ["---", "library_name: sightx", "pipeline_tag: image-classification"]
    test = [(metric, value) for split, metric, value in figures if split == "test"]
    if test:
        lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
        lines += ["  - task:", "      type: image-classification", "    dataset:"]
        lines += [
            "      name: the run's own test split",
            "      type: image-folder",
            "    metrics:",
        ]
        for metric, value in test:
            lines += [f"    - type: {json.dumps(metric)}", f"      value: {value!r}"]
    return "\n".join([*lines, "---"])
