"""How often a group's negative photograph shows what the sentence names, on the embedded data.

    python -m benchmarks.group_negatives --run runs/synthetic

Groups are made of the training sentences alone; only this count looks at the scenes' truth.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from configs import synthetic
from tris.data.draws import draw
from tris.data.group_sources import GroupSource, RecurringSentences
from tris.data.index import open_index
from tris.data.plan import Item
from tris.data.synthetic_truth import find_true, list_scenes
from tris.errors import InputError


class AnyOtherImage(RecurringSentences):
    """Refuses nothing: every photograph without the sentence is a negative."""

    def _may_be_true(self, sentence: int, row: int) -> bool:
        return False


def main() -> None:
    """Print how far sentences recur, and both rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="a run on the embedded data")
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    index = open_index(options.run / "index", "train")
    config = synthetic.get_config().data.synthetic
    assert config is not None
    scenes = list_scenes(config, "train")

    def is_true(item: Item) -> bool:
        assert item.image_row is not None
        row, position = index.expression_row(item.expression)
        sentence = index[row].sentences[position]
        return bool(find_true(sentence, scenes[index[item.image_row].image_id]))

    source = RecurringSentences(index)
    shared = Counter(min(count, 4) for count in source.num_positives)
    pairs = sum(source.num_positives)
    single = shared[1] / pairs
    print(f"{len(source.num_positives)} sentences, {pairs} pairs; {single:.1%} recur nowhere")
    for name, each in (("another image", AnyOtherImage(index)), ("nothing makes it true", source)):
        rate = measure_false_negatives(each, is_true, num_sentences=options.draws)
        print(f"negatives by '{name}': {rate:.2%} false")


def measure_false_negatives(
    source: GroupSource,
    is_true: Callable[[Item], bool],
    *,
    num_sentences: int = 500,
    per_sentence: int = 4,
    seed: int = 0,
) -> float:
    """Return the share of drawn negatives that the sentence does fit, where the truth is known.

    Args:
        source: What draws them.
        is_true: Says of an item whether its sentence fits its photograph.
        num_sentences: Positives whose sentences are drawn for: frequent sentences come more often,
            as in training.
        per_sentence: Negatives for each.
        seed: Of the draws.

    Raises:
        InputError: If no negative could be drawn.
    """
    rng = draw("negatives", seed)
    shares = np.asarray(source.num_positives) / np.sum(source.num_positives)
    drawn = [
        item
        for sentence in rng.choice(len(shares), num_sentences, p=shares).tolist()
        for item in source.negatives(sentence, per_sentence, rng)
    ]
    if not drawn:
        raise InputError("Not one photograph could be drawn that a sentence surely does not fit.")
    return sum(is_true(item) for item in drawn) / len(drawn)


if __name__ == "__main__":
    main()
