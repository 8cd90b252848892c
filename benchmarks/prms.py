"""How many referents per second go through stage 1 and PRMS, beside the released procedure?

    python benchmarks/prms.py                      the embedded sizes, on this processor
    python benchmarks/prms.py --config refcoco_unc --images 2     the paper's sizes

Both sides use the same networks with the same random weights, fp32, the same number of threads, and
take turns, so a busy machine slows both. The procedures:

released
    Sentence by sentence, as TRIS's validation with PRMS does: the response network sees image and
    one sentence; for every pair of a map and a sentence of the referent, CLIP embeds the masked
    image and the sentence.
released, each masked image embedded once
    The same without the repetition that a reader would find first; for comparison only.
tris
    `tris.pseudo.selection.select_in_batch`: an image is encoded once for all its sentences, all
    maps and sentences of a batch go through CLIP together, each once.

The choices of all three must agree, or the benchmark stops.
"""

import argparse
import dataclasses
import importlib
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tris.batch import Batch
from tris.encoders.clip import ClipEncoder
from tris.pseudo.prms import PrmsConfig
from tris.pseudo.selection import select_in_batch
from tris.response.calibration import upsample
from tris.response.response_net import ResponseNet

REFERENTS_PER_IMAGE, SENTENCES_PER_REFERENT = 3, 3
Choices = list[tuple[int, float]]


def build_networks(name: str) -> tuple[ResponseNet, ClipEncoder]:
    """Return stage 1 and the judge of an experiment, with random weights."""
    response = importlib.import_module(f"configs.{name}").get_config().response
    encoder = dataclasses.replace(response.network.encoder, pretrained="")
    judge = dataclasses.replace(response.calibration.encoder, pretrained="")
    network = dataclasses.replace(response.network, encoder=encoder).build()
    return network.eval().requires_grad_(False), judge.build().eval().requires_grad_(False)


def make_batch(network: ResponseNet, num_images: int) -> Batch:
    """Return random photographs and sentences of 3 to 10 words."""
    spec, vocabulary = network.input_spec, network.encoder.clip.token_embedding.num_embeddings
    num_rows = num_images * REFERENTS_PER_IMAGE * SENTENCES_PER_REFERENT
    token_ids = torch.zeros(num_rows, spec.tokenizer.context_length, dtype=torch.long)
    for row in token_ids:
        length = int(torch.randint(5, 13, ()))
        row[:length] = torch.randint(1, vocabulary - 1, (length,))
        row[length - 1] = vocabulary - 1
    images = torch.randn(num_images, 3, *spec.image_size)
    referent_id = torch.arange(num_rows) // SENTENCES_PER_REFERENT
    sizes = torch.tensor([spec.image_size] * num_images)
    return Batch(
        images=images,
        image_id=torch.arange(num_images),
        original_size=sizes,
        content_size=sizes,
        token_ids=token_ids,
        token_mask=token_ids > 0,
        image_index=referent_id // REFERENTS_PER_IMAGE,
        referent_id=referent_id,
        expression_id=torch.arange(num_rows),
        text_id=torch.arange(num_rows),
        is_no_target=torch.zeros(num_rows, dtype=torch.bool),
        group_index=torch.zeros(num_rows, dtype=torch.long),
    )


def pick_row(batch: Batch, row: int) -> Batch:
    """Return the batch of one sentence and its image."""
    image, rows = int(batch.image_index[row]), slice(row, row + 1)
    return batch._replace(
        images=batch.images[image : image + 1],
        image_id=batch.image_id[image : image + 1],
        original_size=batch.original_size[image : image + 1],
        content_size=batch.content_size[image : image + 1],
        token_ids=batch.token_ids[rows],
        token_mask=batch.token_mask[rows],
        image_index=torch.zeros(1, dtype=torch.long),
        referent_id=batch.referent_id[rows],
        expression_id=batch.expression_id[rows],
        text_id=batch.text_id[rows],
        is_no_target=batch.is_no_target[rows],
        group_index=batch.group_index[rows],
    )


def choose_together(network: ResponseNet, judge: ClipEncoder, batch: Batch) -> Choices:
    """Choose as this project does."""
    logits = upsample(network(batch).response_logits, batch.images.shape[-2:])
    selections = select_in_batch(logits, batch, judge, PrmsConfig())
    return [(each.row, each.score) for each in selections]


def choose_one_by_one(
    network: ResponseNet, judge: ClipEncoder, batch: Batch, *, embeds_once: bool = False
) -> Choices:
    """Choose as the released code does."""
    choices = []
    for referent_id in batch.referent_id.unique().tolist():
        rows = torch.nonzero(batch.referent_id == referent_id).flatten().tolist()
        best, best_score = -1, -1.0
        for row in rows:
            alone = pick_row(batch, row)
            response = upsample(network(alone).response_logits, batch.images.shape[-2:]).relu()
            masked = mask_image(alone.images, response, judge.input_spec.image_size)
            embedding = judge.embed_images(masked) if embeds_once else None
            score = 0.0
            for other in rows:
                visual = judge.embed_images(masked) if embedding is None else embedding
                text = judge.embed_texts(batch.token_ids[other : other + 1])
                score += float(functional.cosine_similarity(visual, text))
            if score > best_score:
                best, best_score = row, score
        choices.append((best, best_score))
    return choices


def mask_image(image: Tensor, response: Tensor, size: tuple[int, int]) -> Tensor:
    """Return image times map at CLIP's size; both are resized with aligned corners first."""
    small, weight = (
        functional.interpolate(each, size=size, mode="bilinear", align_corners=True)
        for each in (image, response[:, None])
    )
    return small * weight


def main() -> None:
    """Print one row per procedure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default="synthetic", help="a file in configs/")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network, judge = build_networks(arguments.config)
    batch = make_batch(network, arguments.images)
    procedures: dict[str, Callable[[], Choices]] = {
        "released": lambda: choose_one_by_one(network, judge, batch),
        "released, each masked image embedded once": lambda: choose_one_by_one(
            network, judge, batch, embeds_once=True
        ),
        "tris": lambda: choose_together(network, judge, batch),
    }
    seconds = {name: float("inf") for name in procedures}
    with torch.inference_mode():
        choose_together(network, judge, batch)
        for _ in range(arguments.rounds):
            found = {}
            for name, procedure in procedures.items():
                start = time.perf_counter()
                found[name] = procedure()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
            compare(found)
    num_referents = arguments.images * REFERENTS_PER_IMAGE
    print(f"{arguments.config}: {num_referents} referents of {SENTENCES_PER_REFERENT} sentences, "
          f"{torch.get_num_threads()} threads, best of {arguments.rounds}")  # fmt: skip
    print("| procedure | referents/s | times the released |\n|---|---|---|")
    for name, best in seconds.items():
        print(f"| {name} | {num_referents / best:.1f} | {seconds['released'] / best:.2f} |")


def compare(found: dict[str, Choices]) -> None:
    """Stop if the procedures disagree on a choice or, beyond rounding, on a score."""
    for name, choices in found.items():
        for (row, score), (wanted, wanted_score) in zip(choices, found["released"], strict=True):
            if abs(score - wanted_score) > 1e-4 or row != wanted:
                raise SystemExit(f"{name} chose {row} ({score}), not {wanted} ({wanted_score}).")


if __name__ == "__main__":
    main()
