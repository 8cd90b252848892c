"""What the labels of a run depend on: settings, weights, sentences; masks are not among it."""

import hashlib
import json
from typing import Any

from stages.setup import Stage, find_stage1, load_judge, with_own_clip
from tris.config import ExperimentConfig, to_json
from tris.data.index import Index, open_index
from tris.pseudo.manifest import LabelSettings, digest_of_weights


def wanted_labels(stage: Stage) -> LabelSettings:
    """Return what the labels in ``RUN/labels`` must have been made with.

    Raises:
        InputError: If stage 1 has not been run.
    """
    config = with_own_clip(stage)
    index = open_index(stage.folders.index, config.data.train_split)
    response = find_stage1(stage) / "model.safetensors"
    return LabelSettings(
        config=to_json(
            {
                "selection": config.labels.selection,
                "label": config.labels.label,
                "text": config.data.text,
            }
        ),
        weights={"response": digest_of_weights(response), "judge": _digest_of_judge(stage, config)},
        data={f"{index.manifest.dataset}/{index.split}": digest_of_index(index)},
    )


def digest_of_index(index: Index) -> str:
    """Return the SHA-256 of who is referred to where and how."""
    digest = hashlib.sha256()
    for name in ("referent_id", "file_name", "expression_ids", "sentences", "raw_sentences"):
        digest.update(json.dumps(index.column(name).to_pylist()).encode())
    return digest.hexdigest()


def _digest_of_judge(stage: Stage, config: ExperimentConfig[Any]) -> str:
    if config.pretrain is not None:
        return digest_of_weights(stage.folders.clip / "model.safetensors")
    return digest_of_weights(load_judge(config).state_dict())
