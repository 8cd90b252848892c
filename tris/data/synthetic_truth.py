"""The embedded scenes once more: for benchmarks and tests alone, never for training.

A scene is drawn again from its random stream, so nothing but the config is needed.
"""

from tris.data.synthetic import SPLITS, SyntheticConfig, streams
from tris.data.synthetic_scenes import SceneObject, sample_scene
from tris.data.synthetic_sentences import find_true

__all__ = ["find_true", "list_scenes"]


def list_scenes(config: SyntheticConfig, split: str) -> dict[int, tuple[SceneObject, ...]]:
    """Return the objects of every image of a split by image id, named or not."""
    counts = (config.num_train_images, config.num_val_images, config.num_test_images)
    first = 1 + sum(counts[: SPLITS.index(split)])
    scenes = (sample_scene(config, rng, config.palette)[0] for rng in streams(split, config))
    return dict(enumerate(scenes, start=first))
