"""What caching a frozen image encoder's maps saves per epoch, with HARIS and a random SAM.

    python -m benchmarks.feature_cache                              SAM ViT-B at 320 pixels
    python -m benchmarks.feature_cache --encoder huge --size 1024   the paper's; wants a GPU
    python -m benchmarks.feature_cache --encoder tiny --size 64     small, to see that it runs

An epoch is every image once, in batches, with a training step of the paper's network: without a
cache, with one that is being filled, and with one that is full. Given are seconds on the clock and
of the processor, and the size of a cached image. Losses with and without cache are compared.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import tyro

from benchmarks.segmenters import make_batch, without_weights
from configs.segmenter import haris_refcoco_unc
from tris.batch import Batch
from tris.encoders.sam import SAM_BASE, SamArchitecture
from tris.segmenters.haris import HarisConfig, HarisNet

ARCHITECTURES = {
    "huge": SamArchitecture(),
    "base": SAM_BASE,
    "tiny": haris_refcoco_unc.DEBUG_SAM.architecture,
}


class Epoch(NamedTuple):
    """Seconds on the clock and of the processor, and the loss of every step."""

    clock: float
    processor: float
    losses: list[float]


def main(
    encoder: Literal["huge", "base", "tiny"] = "base",
    size: int = 320,
    num_images: int = 8,
    batch_size: int = 4,
) -> None:
    """Print a row per kind of epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = describe(encoder, size)
    everything = make_batch(config.input_spec, (size, size), num_images, device=device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        epochs = {
            "no cache": train(config, everything, batch_size, None),
            "cache, first epoch": train(config, everything, batch_size, folder),
            "cache, later epochs": train(config, everything, batch_size, folder),
        }
        sizes = [path.stat().st_size for path in folder.rglob("*.safetensors")]
    plain = epochs["no cache"]
    print(f"SAM {encoder}, {size} x {size} pixels, {num_images} images, batches of {batch_size}")
    print("| epoch | s | processor s | times as fast |\n|---|---|---|---|")
    for what, epoch in epochs.items():
        ratio = plain.clock / epoch.clock
        print(f"| {what} | {epoch.clock:.2f} | {epoch.processor:.2f} | {ratio:.1f} |")
    difference = max(
        abs(one - other)
        for epoch in epochs.values()
        for one, other in zip(epoch.losses, plain.losses, strict=True)
    )
    megabytes = sum(sizes) / len(sizes) / 1e6
    print(f"{megabytes:.2f} MB per image; losses differ by {difference:.1e} at most")


def describe(encoder: str, size: int) -> HarisConfig:
    """Return the paper's network on a SAM of another size, with random weights."""
    config = without_weights(haris_refcoco_unc.get_config().network)
    return dataclasses.replace(
        config,
        sam=dataclasses.replace(config.sam, architecture=ARCHITECTURES[encoder]),
        input_spec=dataclasses.replace(config.input_spec, image_size=(size, size)),
        dropout=0.0,
        cache_frozen_features=True,
    )


def train(config: HarisConfig, everything: Batch, batch_size: int, folder: Path | None) -> Epoch:
    """Go through all images once, from the same weights each time."""
    torch.manual_seed(0)
    network = HarisNet(config).to(everything.images.device).train()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-4)
    if folder is not None:
        network.keep_features_in(folder)
    with torch.no_grad():
        network(warm_up(everything))
    losses = []
    clock, processor = time.perf_counter(), time.process_time()
    for start in range(0, len(everything.images), batch_size):
        batch = Batch(
            *(None if each is None else each[start : start + batch_size] for each in everything)
        )
        batch = batch._replace(image_index=torch.arange(len(batch.images)).to(batch.image_index))
        loss = torch.stack(list(network.loss(network(batch), batch).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return Epoch(time.perf_counter() - clock, time.process_time() - processor, losses)


def warm_up(everything: Batch) -> Batch:
    """Return another image, so that what is done once (the encoder's digest) is not timed."""
    first = Batch(*(None if each is None else each[:1] for each in everything))
    return first._replace(images=first.images + 1, image_index=first.image_index * 0)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
