"""What is true of the embedded scenes: for benchmarks and tests alone, never for training.

A scene is drawn again from its random stream, so nothing but the config is needed.
"""

from collections.abc import Sequence

from tris.data.synthetic import SPLITS, SyntheticConfig, streams
from tris.data.synthetic_scenes import SceneObject, sample_scene
from tris.data.synthetic_sentences import DIRECTIONS, find_referents, is_towards, parse


def list_scenes(config: SyntheticConfig, split: str) -> dict[int, tuple[SceneObject, ...]]:
    """Return the objects of every image of a split by image id, named or not."""
    counts = (config.num_train_images, config.num_val_images, config.num_test_images)
    first = 1 + sum(counts[: SPLITS.index(split)])
    scenes = (sample_scene(config, rng)[0] for rng in streams(split, config))
    return dict(enumerate(scenes, start=first))


def find_true(sentence: str, objects: Sequence[SceneObject]) -> set[int]:
    """Return the numbers of the objects that a sentence fits in its most generous reading.

    With several objects that fit the landmark, each may be the one that is meant.

    Raises:
        InputError: If the sentence is not of the embedded grammar.
    """
    expression = parse(sentence)
    if expression.landmark is None:
        return find_referents(expression, objects, is_strict=False)
    direction = DIRECTIONS[expression.direction]
    return {
        number
        for number, thing in enumerate(objects)
        if expression.subject.fits(thing)
        and any(
            start is not thing
            and expression.landmark.fits(start)
            and is_towards(direction, start, thing, is_strict=False)
            for start in objects
        )
    }
