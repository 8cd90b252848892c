"""What image groups are made of: the data set's own, or sentences that recur."""

import numpy as np

from stages.composition import load_features
from stages.setup import Stage, wanted_text
from tris.data.absence import ClipEvidence
from tris.data.group_sources import (
    GroupingConfig,
    GroupSource,
    IndexedGroups,
    RecurringSentences,
    find_near_sentences,
    list_sentences,
)
from tris.data.index import Index


def make_group_source(stage: Stage, index: Index, config: GroupingConfig) -> GroupSource:
    """Return the groups that the index names, or else those that its sentences make.

    Args:
        stage: This stage.
        index: The training split.
        config: How sentences make groups.
    """
    if any(index.column("group").unique().to_pylist()):
        return IndexedGroups(index)
    text, near, looks_true = wanted_text(stage.config), None, None
    features = load_features(stage, index) if config.asks_clip else None
    if features is not None and config.least_similarity < 1:
        sentences, expressions = zip(*list_sentences(index, text=text), strict=True)
        near = find_near_sentences(
            sentences,
            features.sentences[np.array(expressions)].astype(np.float32),
            least_similarity=config.least_similarity,
        )
        stage.say(f"Grouping: {sum(map(len, near)):,} pairs of sentences count as the same.")
    if features is not None and config.clip_missed_share < 1:
        clip = ClipEvidence(features, missed_share=config.clip_missed_share)
        looks_true = clip.may_be_true
    return RecurringSentences(index, text=text, near=near, looks_true=looks_true)
