"""The model card of an exported model: Markdown that a hub can read, from the files of the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sightx.export.int8 import Int8Cost
from sightx.export.parity import Parity
from sightx.inference.model_folder import Figure
from sightx.inference.prediction import ModelId
from sightx.records.metric_rows import interval_text, number_text
from sightx.runs.directory import Run
from sightx.spec.about import About

_TEMPLATE = """\
# {name}

{kind}: {classes}. Trained with SightX as run `{run}`, checkpoint `{checkpoint}`.

**Not a diagnosis, and not a medical device.**

{about}
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


def model_card(run: Run, model: ModelId, comparisons: Sequence[Parity | Int8Cost] | None) -> str:
    """Return the card of a run's checkpoint: every figure is one that the run has written.

    `comparisons` are those of exported networks with PyTorch; None: the run is not exported.
    """
    data, name = run.data, str(run.tables.get("name", run.id))
    classes = ", ".join(f"`{cls}`" for cls in data["classes"])
    figures = read_figures(run, model.checkpoint)
    lines = "".join(f"- {comparison}\n" for comparison in comparisons or ())
    text = _TEMPLATE.format(
        name=name,
        kind="Ordered classes" if data["ordered"] else "Classes",
        classes=classes,
        run=run.id,
        about=_about(run),
        checkpoint=model.checkpoint,
        data=_data(data),
        figures=_table(figures) if figures else "The run has not scored this checkpoint.",
        use="" if comparisons is None else _USE,
        parity=f"The exported network and PyTorch:\n\n{lines}\n" if comparisons else "",
        model=model.id,
        weights=model.weights_sha256,
        experiment=run.environment.get("id", ""),
        data_id=data.get("id", ""),
    )
    return f"{_front_matter(name, run.tables['dataset']['use'], figures)}\n{text}"


def read_figures(run: Run, checkpoint: str) -> tuple[Figure, ...]:
    """Return the final metrics of a run; none if they are those of another checkpoint."""
    result = run.result
    if run.checkpoints.get(str(result.get("checkpoint"))) != checkpoint:
        return ()
    return tuple(
        Figure(
            split=split, metric=key.partition("/")[2], value=value, low=low, high=high,
            majority=result.get("baselines", {}).get(key),
        )
        for split in ("validation", "test")
        for key, value in result.get(split, {}).items()
        if isinstance(value, float) and math.isfinite(value)
        for low, high in [result.get("intervals", {}).get(key, (None, None))]
    )  # fmt: skip


def _about(run: Run) -> str:
    """Return what the authors state in `[about]`, and what they do not."""
    stated = run.tables.get("about", {})
    lines = [
        f"- {name.replace('_', ' ')}: {' '.join(text.split())}\n"
        for name, text in stated.items()
        if text
    ]
    missing = [name.replace("_", " ") for name in About.model_fields if not stated.get(name)]
    gaps = f"The authors of the run have not stated: {', '.join(missing)}.\n" if missing else ""
    return "".join([*lines, "\n" if lines and gaps else "", gaps])


def _table(figures: Sequence[Figure]) -> str:
    """Return one row per metric, one column per split, and the majority's metrics on the last."""
    splits = list(dict.fromkeys(one.split for one in figures))
    values = {(one.split, one.metric): one for one in figures}
    lines = [f"| metric | {' | '.join(splits)} | majority |", "|---|" + "---|" * (len(splits) + 1)]
    for name in dict.fromkeys(one.metric for one in figures):
        row = [values.get((split, name)) for split in splits]
        majority = row[-1].majority if row[-1] else None
        cells = [*map(_cell, row), "" if majority is None else f"{majority:.4f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    note = "In brackets are 95 % intervals over groups. The majority is always predicting the most"
    return "\n".join([*lines, "", f"{note} frequent class, on {splits[-1]}."])


def _cell(figure: Figure | None) -> str:
    """Return a value with its interval."""
    if figure is None:
        return ""
    if figure.low is None or figure.high is None:
        return number_text(figure.value)
    return f"{number_text(figure.value)} ({interval_text(figure.low, figure.high)})"


def _data(data: Mapping[str, Any]) -> str:
    """Return how many samples of each class the splits have."""
    lines = ["| class | train | validation | test |", "|---|---|---|---|"]
    counts = [data["counts"][split] for split in ("train", "validation", "test")]
    for name, *cells in zip(data["classes"], *counts, strict=True):
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _front_matter(name: str, dataset: str, figures: Sequence[Figure]) -> str:
    """Return YAML that model hubs read; `dataset` is the name of the component.

    Texts are JSON strings, which YAML can read too.
    """
    lines = ["---", "library_name: sightx", "pipeline_tag: image-classification"]
    test = [figure for figure in figures if figure.split == "test"]
    if test:
        lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
        lines += ["  - task:", "      type: image-classification", "    dataset:"]
        lines += [
            "      name: the run's own test split",
            f"      type: {json.dumps(dataset)}",
            "    metrics:",
        ]
        for one in test:
            lines += [f"    - type: {json.dumps(one.metric)}", f"      value: {one.value!r}"]
    return "\n".join([*lines, "---"])
