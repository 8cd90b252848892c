"""The embedded scenes once more: for benchmarks and tests alone, never for training.

A scene is drawn again from its random stream, so nothing but the config is needed.
"""

from collections.abc import Sequence

from tris.data.synthetic import SPLITS, SyntheticConfig, streams
from tris.data.synthetic_scenes import SceneObject, sample_scene
from tris.data.synthetic_sentences import find_true
from tris.data.words import NUMBERS, singular

__all__ = ["count_counted", "find_true", "list_scenes"]

_COUNTING = frozenset(["both", *NUMBERS.values()])


def list_scenes(config: SyntheticConfig, split: str) -> dict[int, tuple[SceneObject, ...]]:
    """Return the objects of every image of a split by image id, named or not."""
    counts = (config.num_train_images, config.num_val_images, config.num_test_images)
    first = 1 + sum(counts[: SPLITS.index(split)])
    scenes = (sample_scene(config, rng, config.palette)[0] for rng in streams(split, config))
    return dict(enumerate(scenes, start=first))


def count_counted(sentence: str, objects: Sequence[SceneObject]) -> int | None:
    """Return how many objects are of the kind that a sentence counts ("both red circles").

    None where it counts nothing, or names something else, too.
    """
    words = sentence.split()
    if "and" in words or not _COUNTING & set(words):
        return None
    *adjectives, noun = [word for word in words if word not in _COUNTING | {"the", "all"}]
    return len(find_true(" ".join([*adjectives, singular(noun)]), objects))
