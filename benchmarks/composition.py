"""How many composed sentences are false: embedded scenes, where the truth is known.

Draws scenes of which a share of the objects has no sentence, composes sentences about nothing and
such as count a kind, and asks the scenes. Without CLIP only the image's own sentences refuse what
may be true of something; an object that no sentence names they cannot know of, so it may be of a
counted kind, too. The CLIP is the one of a finished run.

    python -m benchmarks.composition --run runs/synthetic
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.composition import SentenceEmbedder, embed_split
from tris.data.absence import ClipEvidence, ClipFeatures
from tris.data.compose import Composer, CompositionConfig, LabelOverlaps, kind_of
from tris.data.index import Index, open_index
from tris.data.plan import Item
from tris.data.prepare.refer import prepare_refer
from tris.data.synthetic import SyntheticConfig, write_synthetic
from tris.data.synthetic_scenes import SceneObject
from tris.data.synthetic_truth import count_counted, find_true, list_scenes
from tris.encoders.clip import ClipEncoder

MISSED = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
"""Settings of `CompositionConfig.clip_missed_share`."""


def main() -> None:
    """Print one line per share of named objects, kind of sentence and setting of CLIP."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--run", type=Path, required=True, help="a run with a trained CLIP")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--unnamed", type=float, nargs="+", default=[0.0, 0.3, 0.5])
    parser.add_argument("--missed", type=float, nargs="+", default=MISSED, help="1 = without CLIP")
    options = parser.parse_args()
    clip = ClipEncoder.from_pretrained(options.run / "clip")
    print(f"{'unnamed':>8} {'missed':>7} {'kind':>8} {'tried':>6} {'composed':>9} {'false':>6}")
    for unnamed in options.unnamed:
        config = SyntheticConfig(
            num_train_images=options.images, num_val_images=1, num_test_images=1, seed=77,
            unnamed_share=unnamed,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            measure(config, clip, Path(scratch), options.missed)


def measure(
    config: SyntheticConfig, clip: ClipEncoder, folder: Path, settings: Sequence[float]
) -> None:
    """Draw the data set, embed it, and count under every setting of CLIP."""
    write_synthetic(config, folder / "data")
    prepare_refer(
        dataset="refcoco", source=folder / "data", images=folder / "data" / "images",
        out=folder / "index", keep_training_masks=True,
    )  # fmt: skip
    index = open_index(folder / "index", "train")
    scenes = list_scenes(config, "train")
    count_false_counts(config, index, scenes)
    features = ClipFeatures(**embed_split(index, clip))
    for missed in settings:
        evidence = None
        if missed < 1:
            embed = SentenceEmbedder(clip)
            evidence = ClipEvidence(features, missed_share=missed, embed=embed)
        for kind, swapped in (("foreign", 0.0), ("swapped", 1.0)):
            absent = CompositionConfig(
                single_share=0.0, multi_share=0.0, none_share=1.0, swapped_share=swapped
            )
            overlaps = LabelOverlaps(index, "truth")
            composer = Composer(index, absent, seed=0, overlaps=overlaps, clip=evidence)
            counts: Counter[str] = Counter()
            for number in range(index.num_expressions):
                item = composer(Item(number))
                if kind_of(item) != "none" or item.image_row is None or item.sentence is None:
                    continue
                own = index.expression_row(item.expression)[0] == item.image_row
                if own == (kind == "swapped"):
                    objects = scenes[index[item.image_row].image_id]
                    counts["composed"] += 1
                    counts["false"] += bool(find_true(item.sentence, objects))
            report(config, f"{missed:7.2f} {kind:>8}", index, counts)


def count_false_counts(
    config: SyntheticConfig, index: Index, scenes: Mapping[int, Sequence[SceneObject]]
) -> None:
    """Count sentences such as "both circles" of which there are more, or not all, in the image."""
    counting = CompositionConfig(
        single_share=0.0, multi_share=1.0, none_share=0.0, counted_share=1.0
    )
    composer = Composer(index, counting, seed=0, overlaps=LabelOverlaps(index, "truth"))
    counts: Counter[str] = Counter()
    for number in range(index.num_expressions):
        item = composer(Item(number))
        if kind_of(item) == "multi" and item.sentence and item.target_rows:
            objects = scenes[index[item.target_rows[0]].image_id]
            there_are = count_counted(item.sentence, objects)
            if there_are is not None:
                counts["composed"] += 1
                counts["false"] += there_are != len(item.target_rows)
    report(config, f"{'':7} {'counted':>8}", index, counts)


def report(config: SyntheticConfig, what: str, index: Index, counts: Counter[str]) -> None:
    """Print a line."""
    rate = counts["false"] / max(counts["composed"], 1)
    print(
        f"{config.unnamed_share:8.2f} {what} {index.num_expressions:6} {counts['composed']:9} "
        f"{100 * rate:5.1f}%",
        flush=True,
    )


if __name__ == "__main__":
    main()
