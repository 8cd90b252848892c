"""What image groups are made of: the data set's own, or sentences that recur."""

import numpy as np

from stages.composition import load_features
from stages.setup import Stage, wanted_text
from tris.data.absence import ClipEvidence, ClipFeatures
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
        config: How sentences make groups; not asked where the index names them.
    """
    if any(index.column("group").unique().to_pylist()):
        named = IndexedGroups(index)
        stage.say(
            f"Grouping: {len(named.num_positives):,} groups as the index names them; "
            f"{named.num_left_out:,} expressions are in none with a target and are left out."
        )
        return named
    near, looks_true = None, None
    if config.least_similarity < 1 or config.clip_missed_share < 1:
        features = load_features(stage, index)
        if config.least_similarity < 1:
            near = _find_near(stage, index, features, config.least_similarity)
        if config.clip_missed_share < 1:
            clip = ClipEvidence(features, missed_share=config.clip_missed_share)
            looks_true = clip.may_be_true
    return RecurringSentences(
        index, text=wanted_text(stage.config), near=near, looks_true=looks_true
    )


def _find_near(
    stage: Stage, index: Index, features: ClipFeatures, least_similarity: float
) -> list[tuple[int, ...]]:
    listed = list_sentences(index, text=wanted_text(stage.config))
    sentences, expressions = zip(*listed, strict=True)
    own = features.sentences[np.array(expressions)].astype(np.float32)
    near = find_near_sentences(sentences, own, least_similarity=least_similarity)
    stage.say(f"Grouping: {sum(map(len, near)) // 2:,} pairs of sentences count as the same.")
    return near
