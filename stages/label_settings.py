"""What the labels of a run depend on: settings, weights, sentences; masks are not among it.

Settings of what is switched off are left out, so that labels made before a switch existed stay
what they are.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.setup import Stage, find_stage1, load_judge, with_own_clip
from tris.config import ExperimentConfig, to_json
from tris.data.index import Index, open_index
from tris.pseudo.label import LabelConfig
from tris.pseudo.manifest import LabelSettings, digest_of_weights
from tris.pseudo.prms import PrmsConfig

WHO_AND_HOW = ("referent_id", "file_name", "expression_ids", "sentences", "raw_sentences")
WHO_IS_A_RIVAL = ("uses_annotation_ids", "shared_sentences")
"""Fields of a competition that merging by margin reads, whether there is a competition or not."""


def wanted_labels(stage: Stage) -> LabelSettings:
    """Return what the labels in ``RUN/labels`` must have been made with.

    Raises:
        InputError: If stage 1 has not been run.
    """
    config = with_own_clip(stage)
    response = find_stage1(stage) / "model.safetensors"
    return LabelSettings(
        config={
            "selection": active_selection(config.labels.selection),
            "label": active_label(config.labels.label, config.labels.selection),
            "text": config.data.text,
        },
        weights={"response": digest_of_weights(response), "judge": digest_of_judge(stage, config)},
        data=training_data(stage, config.labels.label, config.labels.selection),
    )


def relabelling_settings(stage: Stage, *, number: int, segmenter: Path) -> LabelSettings:
    """Return what the labels of a later round must have been made with.

    Args:
        stage: Has the experiment.
        number: Of the round that learns from them.
        segmenter: Model directory of the round before.

    Raises:
        InputError: If there are no weights.
    """
    config = stage.config
    return LabelSettings(
        config={
            "round": number,
            "maps": "mean probability of the segmenter",
            "label": active_label(config.self_training.label),
            "text": config.data.text,
        },
        weights={"segmenter": digest_of_weights(segmenter)},
        data=training_data(stage, config.self_training.label),
    )


def active_selection(selection: PrmsConfig) -> dict[str, Any]:
    """Return the settings that count."""
    settings = to_json(selection)
    if selection.method == "prms":
        del settings["method"], settings["temperature"], settings["rival_weight"]
    return settings


def active_label(label: LabelConfig, selection: PrmsConfig | None = None) -> dict[str, Any]:
    """Return the settings that count.

    Args:
        label: The label rule.
        selection: How the maps are made, where that depends on who describes the same object.
    """
    settings = to_json(label)
    if label.components == "all":
        del settings["components"]
    if label.competition == "none":
        competing = settings.pop("competing")
        del settings["competition"]
        if _asks_rivals(selection):
            settings["competing"] = {name: competing[name] for name in WHO_IS_A_RIVAL}
    return settings


def digest_of_index(index: Index, columns: Sequence[str] = WHO_AND_HOW) -> str:
    """Return the SHA-256 of who is referred to where and how."""
    digest = hashlib.sha256()
    for name in columns:
        digest.update(json.dumps(index.column(name).to_pylist()).encode())
    return digest.hexdigest()


def _asks_rivals(selection: PrmsConfig | None) -> bool:
    """Say whether maps are merged by how well they fit the sentences of other objects."""
    return selection is not None and selection.method == "margin" and selection.rival_weight > 0


def training_data(
    stage: Stage, label: LabelConfig, selection: PrmsConfig | None = None
) -> dict[str, str]:
    """Return the digests of what is read of the training split."""
    index = open_index(stage.folders.index, stage.config.data.train_split)
    name = f"{index.manifest.dataset}/{index.split}"
    digests = {name: digest_of_index(index)}
    compares = label.competition == "image" or _asks_rivals(selection)
    if compares and label.competing.uses_annotation_ids:
        digests[f"{name}, annotation ids"] = digest_of_index(index, ("annotation_ids",))
    return digests


def digest_of_judge(stage: Stage, config: ExperimentConfig[Any]) -> str:
    """Return the SHA-256 of the weights of the CLIP that judges."""
    if config.pretrain is not None:
        return digest_of_weights(stage.folders.clip / "model.safetensors")
    return digest_of_weights(load_judge(config).state_dict())
