"""Which dense-CRF parameters suit the embedded data's response maps?

    python benchmarks/crf_embedded.py --run runs/synthetic

Takes the stage-1 network of a run and scenes that no stage of any run has seen (another seed), so
that the splits of the run stay untouched. The maps are those that PRMS chooses; figures are the
mean IoU of the labels, on scenes of even number, of odd number, and all.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from crf import Sample, intersection_over_union, print_row

from tris.data.images import read_photograph
from tris.data.index import open_index
from tris.data.loader import build_loader
from tris.data.masks import decode_mask
from tris.data.plan import evaluation_batches
from tris.data.prepare.refer import prepare_refer
from tris.data.samples import ExpressionDataset
from tris.data.synthetic import SyntheticConfig, write_synthetic
from tris.data.tokens import build_tokenizer
from tris.encoders.clip import ClipEncoder
from tris.pseudo.label import LabelConfig
from tris.pseudo.label_presets import EMBEDDED_LABELS
from tris.pseudo.pool import ImageTask, LabelPool
from tris.pseudo.prms import PrmsConfig
from tris.pseudo.rivals import separate_contests
from tris.pseudo.selection import select_in_batch
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNet

FRESH_SEED = 31_337


def with_crf(**changes: float | int) -> LabelConfig:
    """Return the default with another CRF."""
    crf = replace(EMBEDDED_LABELS.crf, **changes)  # type: ignore[arg-type]
    return replace(EMBEDDED_LABELS, crf=crf)


CANDIDATES = {
    **{
        f"threshold {value}": replace(
            EMBEDDED_LABELS, refiner="threshold", foreground_threshold=value
        )
        for value in (0.4, 0.5, 0.6, 0.7)
    },
    "default": EMBEDDED_LABELS,
    **{
        f"{name} {value:g}": with_crf(**{name: value})
        for name, values in {
            "num_iterations": (5,),
            "steepness": (0.7, 1.5),
            "gaussian_compat": (0.0, 3.0),
            "bilateral_sxy": (14.0, 30.0),
            "bilateral_srgb": (14.0, 17.0, 24.0, 30.0),
            "bilateral_compat": (8.0, 11.0, 20.0),
        }.items()
        for value in values
    },
}


def chosen_maps(run: Path, folder: Path, num_scenes: int) -> Iterator[Sample]:
    """Draw scenes and yield every referent's chosen map, as `Sample.coarse`, with its mask."""
    scenes = SyntheticConfig(
        num_train_images=8, num_val_images=num_scenes, num_test_images=8, seed=FRESH_SEED
    )
    write_synthetic(scenes, folder / "data")
    prepare_refer(
        dataset="refcoco", source=folder / "data", images=folder / "data" / "images",
        out=folder / "index", split_by="unc", keep_training_masks=False,
    )  # fmt: skip
    index = open_index(folder / "index", "val")
    network = ResponseNet.from_pretrained(run / "response" / "model")
    judge = ClipEncoder.from_pretrained(run / "clip")
    spec = network.input_spec
    dataset = ExpressionDataset(index, spec, build_tokenizer(spec.tokenizer, assets=network.assets))
    batches = evaluation_batches(index, images_per_batch=16)
    for numbers, batch in zip(batches, build_loader(dataset, batches), strict=True):
        with torch.inference_mode():
            logits = upsample(network(batch).response_logits.float(), spec.image_size)
            selections = select_in_batch(logits, batch, judge, PrmsConfig(activation="sigmoid"))
        for each in selections:
            referent = index[index.expression_row(numbers[each.row])[0]]
            assert referent.mask is not None
            image = np.array(read_photograph(index.image_path(referent)))
            mask = decode_mask(referent.mask)
            yield Sample(referent.image_id, image, mask, logits[each.row].numpy())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=120)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        samples = list(chosen_maps(arguments.run, Path(name), arguments.scenes))
    is_odd = np.array([sample.photograph % 2 == 1 for sample in samples])
    print(f"{len(samples)} referents, mean IoU in percent")
    print("| labels | even scenes | odd scenes | all | ms |\n|---|---|---|---|---|")
    for name, config in CANDIDATES.items():
        start = time.perf_counter()
        tasks = (
            ImageTask(sample.mask, sample.coarse[None], sample.image, separate_contests(1))
            for sample in samples
        )
        with LabelPool(replace(config, degenerate="keep"), arguments.workers) as pool:
            values = np.array(
                [
                    intersection_over_union(label, mask)
                    for mask, results in pool.refine_images(tasks)
                    if (label := results[0].label) is not None
                ]
            )
        print_row(name, values, is_odd, time.perf_counter() - start)


if __name__ == "__main__":
    main()
