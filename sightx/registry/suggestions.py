"""What a wrong name means: a name of another library, of another kind, or a value of a setting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import ValidationError

from sightx.errors import did_you_mean
from sightx.io.files import natural_key
from sightx.registry.components import Component

_NONSENSE = "no-such-value"
_SHORTEST_PREFIX = 3  # characters of the beginning of a name that suggest the name
_LISTED = 3  # components that a hint lists

Components = Sequence[type[Component]]

# What PyTorch, timm, Lightning, Keras and others call a setting, by the key of SightX.
_OTHER_SETTINGS = {
    "arch": "architecture backbone model_name",
    "augment": "transform transforms",
    "batch_size": "batch bs train_batch_size",
    "betas": "beta1 beta2 beta_1 beta_2",
    "clip_grad_norm": "clip clip_grad clip_norm clipnorm grad_clip gradient_clip "
    "gradient_clip_val max_grad_norm",
    "deterministic": "benchmark cudnn_benchmark",
    "device": "accelerator gpu gpus cuda devices",
    "dropout": "drop drop_rate dropout_rate",
    "epochs": "max_epochs n_epochs nb_epochs num_epochs num_train_epochs",
    "eps": "epsilon",
    "group": "backbone_lr head_lr lr_backbone lr_head lr_mult param_groups",
    "label_smoothing": "smoothing",
    "loss": "criterion loss_fn",
    "layer_decay": "layerwise_lr_decay llrd",
    "lr": "learning_rate learningrate lr_rate base_lr init_lr initial_lr max_lr",
    "micro_batch_size": "accumulate_grad_batches accumulation accumulation_steps grad_accum "
    "gradient_accumulation_steps",
    "model": "net network",
    "monitor": "metric_for_best_model eval_metric",
    "observer": "callback callbacks logger loggers",
    "precision": "amp autocast bf16 fp16 half mixed_precision",
    "scheduler": "lr_scheduler",
    "seed": "random_seed random_state",
    "size": "image_size img_size input_shape input_size",
    "threads": "n_jobs num_threads num_workers workers",
    "trainable": "freeze freeze_backbone freeze_layers frozen frozen_layers requires_grad unfreeze",
    "tta": "test_time_augmentation",
    "validation": "val val_fraction val_size val_split valid valid_pct validation_size "
    "validation_split",
    "test": "test_fraction test_size test_split",
    "warmup": "warmup_epochs warmup_steps num_warmup_steps",
    "weight_decay": "wd l2",
    "weights": "checkpoint_path ckpt ckpt_path pretrained pretrained_weights weights_path",
    "widths": "channels filters",
}
_OTHER_SETTINGS_OF_DATASETS = {
    "classes": "class_names class_list",
    "group": "group_column groups patient patient_id",
    "image": "file filename file_name file_col filepath path_col path_column x_col",
    "images": "image_dir image_folder image_path img_dir img_folder",
    "label": "class_col class_column target target_column y_col",
    "labels": "annotations annotation_file csv csv_file csv_path label_file metadata table "
    "train_csv",
    "root": "data_dir data_path data_root dataset_dir dir directory folder image_root img_root "
    "path root_dir train_dir",
    "separator": "delimiter sep",
    "suffix": "ext extension extensions",
    "test_labels": "test_csv",
    "validation_labels": "val_csv valid_csv validation_csv",
}


def other_settings(name: str, *, of_datasets: bool = True) -> list[str]:
    """Return the keys of SightX that a name of another library means: none, one or two.

    With `of_datasets` that is also one of `[dataset]`, such as the column of the patient.
    """
    tables = [_OTHER_SETTINGS, *([_OTHER_SETTINGS_OF_DATASETS] if of_datasets else [])]
    wanted = name.lower().replace("-", "_")
    return [key for table in tables for key, names in table.items() if wanted in names.split()]


def components_called(components: Components, name: str) -> list[type[Component]]:
    """Return the components with a name or another name that has the same letters and digits."""
    wanted = _letters(name)
    return [one for one in components if wanted in map(_letters, (one.name, *one.other_names))]


def component_hint(components: Components, kind: str, name: str) -> str:
    """Return which component of a kind, or of another one, a wrong `use` means; "" if unclear."""
    own = [component for component in components if component.kind == kind]
    if same := components_called(own, name):
        return f"did you mean {_join([repr(component.name) for component in same])}?"
    if hint := _component_with_value(own, name):
        return hint
    others = components_called(components, name)
    if not any(map(str.isupper, name)):  # such as `none`, which is not the name of a class
        others = [one for one in others if _letters(one.name) == _letters(name)]
    return f'move it to {others[0].kind}, with use = "{others[0].name}"' if others else ""


def setting_hint(
    components: Components, section: str, name: str, header: Callable[[str], str]
) -> str:
    """Return which component, or which setting of one, a key means that a section does not have.

    `header` returns how a spec writes the table of a kind: `[optimizer]` or `[[augment]]`.
    """
    own = [one for one in components if one.kind == section]
    for key in (name, *(other_settings(name) if section != "dataset" else ())):
        if owners := [component for component in own if key in component.model_fields]:
            return _owned(name, key, owners, header)
    named = [one for one in components_called(components, name) if one.kind != section]
    for key in (name, *other_settings(name, of_datasets=False)):
        owners = [one for one in components if key in one.model_fields and one.kind != "dataset"]
        if len({component.kind for component in owners}) == 1 and (key == name or not named):
            return _owned(name, key, owners, header)
    return f"did you mean {header(named[0].kind)} with {_uses(named)}?" if named else ""


def _owned(name: str, key: str, owners: Components, header: Callable[[str], str]) -> str:
    """Return a hint that components have a key, which may be another one than was written."""
    place = f"a key of {header(owners[0].kind)} with {_uses(owners)}"
    return f"it is {place}" if key == name else f"did you mean {key!r}, {place}?"


def value_keys(component: type[Component]) -> Iterator[str]:
    """Yield the required string settings of a component: names in another library, as a rule."""
    for key, info in component.model_fields.items():
        if info.annotation is str and info.is_required():
            yield key


def _component_with_value(components: Components, name: str) -> str:
    """Return a hint with the component that accepts a name, or one like it, as a value."""
    names = [component.name for component in components]
    for component in components:
        for key in value_keys(component):
            if _accepts(component, key, name):
                return f'did you mean use = "{component.name}" and {key} = "{name}"?'
            known = _known_values(component, key)
            if value := _value_in(name, known):
                return f'did you mean use = "{component.name}" and {key} = "{value}"?'
            if value := _value_beginning_with(name, known):
                use = f'use = "{component.name}" and {key} = "{value}"?'
                close = did_you_mean(name, names).rstrip("?")
                return f"{close}, or {use}" if close else f"did you mean {use}"
    return ""


def _value_in(name: str, values: Iterable[str]) -> str:
    """Return the longest value whose letters and digits are those of a name, or a part of them."""
    parts = [_letters(part) for part in re.split("[./:]", name)]
    exact = [value for value in values if _letters(value) in parts]
    inside = [value for value in values if any(_letters(value) in part for part in parts)]
    return max(exact or inside, key=len, default="")


def _value_beginning_with(name: str, values: Iterable[str]) -> str:
    """Return the first value that begins with a name, or with the first word of it."""
    for prefix in (name.lower(), re.split("[^a-z]", name.lower())[0]):
        matches = [value for value in values if value.startswith(prefix)]
        if len(prefix) >= _SHORTEST_PREFIX and matches:
            return min(matches, key=natural_key)
    return ""


def _known_values(component: type[Component], key: str) -> list[str]:
    """Return the values of a string setting: `known` in the error that its validator raises."""
    try:
        component.model_validate_json(json.dumps({key: _NONSENSE}))
    except ValidationError as error:
        contexts = (detail.get("ctx", {}) for detail in error.errors() if detail["loc"] == (key,))
        return [str(value) for context in contexts for value in context.get("known", ())]
    except Exception:  # of a plugin
        return []
    return []


def _accepts(component: type[Component], key: str, value: str) -> bool:
    """Return whether a string setting takes a value, and not just any value."""
    return _is_valid(component, key, value) and not _is_valid(component, key, _NONSENSE)


def _is_valid(component: type[Component], key: str, value: str) -> bool:
    try:
        component.model_validate_json(json.dumps({key: value}))
    except ValidationError as error:
        return all(detail["loc"][:1] != (key,) for detail in error.errors())
    except Exception:  # of a plugin
        return False
    return True


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _uses(components: Components) -> str:
    names = [f'"{component.name}"' for component in components]
    return f"use = {_join(names)}" if len(names) <= _LISTED else f"use = {names[0]}, for example"


def _join(names: Sequence[str]) -> str:
    return " or ".join(names)
