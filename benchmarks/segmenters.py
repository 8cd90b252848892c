"""Size and speed of every segmenter at its paper's size, with random weights.

    python -m benchmarks.segmenters                            every config of a paper
    python -m benchmarks.segmenters --configs haris_refcoco_unc --batch-size 4 --precision bf16
    python -m benchmarks.segmenters --scale 0.2 --rounds 1     smaller images
    python -m benchmarks.segmenters --tiny --rounds 1          tiny networks, to see that it runs
    python -m benchmarks.segmenters --counts-only              parameters and FLOPs, in seconds

A row per config: parameters, multiply-adds times two of one image with one expression
(`torch.utils.flop_counter`, forward), images per second and peak memory of the forward and of a
training step (forward, loss, backward, AdamW). An expression per image. A GPU is used where there
is one. Each config has a process of its own, so that peaks are its own; on a CPU the peak is that
of the whole process, library code included. Results: OUT.json and OUT.md.
"""

import contextlib
import dataclasses
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from tris.batch import Batch, InputSpec
from tris.segmenters.contract import Segmenter, SegmenterConfig
from tris.training.optim import build_optimizer
from tris.training.settings import TrainingConfig

CONFIG_FOLDER = Path(__file__).resolve().parents[1] / "configs" / "segmenter"
NOT_OF_A_PAPER = ("_synthetic", "_debug", "_refcoco_mini")
SMALLEST_VOCABULARY = 60
GRANULE = 32
"""Scaled sides are multiples of it, pixels."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes:
        configs: Names of files in configs/segmenter; none = those of the papers.
        batch_size: Images (group-wise segmenters: at least a whole group).
        scale: Factor on the side of the images; 1 = the paper's.
        tiny: Measure the networks of the tests instead.
        rounds: The fastest of so many counts.
        precision: Of forward and loss; weights are fp32.
        counts_only: Count on the meta device, at no cost; nothing is timed.
        trains: Whether training steps are measured, too.
        out: Where to write, without suffix; none = print only.
        one: Measure this config in this process and print its row as JSON.
    """

    configs: tuple[str, ...] = ()
    batch_size: int = 2
    scale: float = 1.0
    tiny: bool = False
    rounds: int = 3
    precision: Literal["fp32", "bf16"] = "fp32"
    counts_only: bool = False
    trains: bool = True
    out: Path | None = None
    one: str = ""


def main(settings: Settings) -> None:
    """Measure, print the table, write the files."""
    if settings.one:
        print(json.dumps(measure(settings.one, settings)))
        return
    found = sorted(path.stem for path in CONFIG_FOLDER.glob("[!_]*.py"))
    names = settings.configs or tuple(
        n for n in found if not any(part in n for part in NOT_OF_A_PAPER)
    )
    rows = []
    for name in names:
        print(name, file=sys.stderr, flush=True)
        rows.append(measure_apart(name))
    table = to_markdown(rows)
    print(table)
    if settings.out is not None:
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        settings.out.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
        settings.out.with_suffix(".md").write_text(table + "\n")


def measure_apart(name: str) -> dict[str, Any]:
    """Return the row of a config, measured in a process of its own with the same options."""
    command = [sys.executable, "-m", "benchmarks.segmenters", *sys.argv[1:], "--one", name]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}  # weights are random: nothing is fetched
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=offline)
    if done.returncode:
        return {"name": name, "error": f"left with code {done.returncode}"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(name: str, settings: Settings) -> dict[str, Any]:
    """Return one row: plain numbers, bytes, seconds."""
    module = importlib.import_module(f"configs.segmenter.{name}")
    training = module.get_config().training
    config = module.get_debug_config() if settings.tiny else module.get_config().network
    torch.manual_seed(0)
    with torch.device("meta") if settings.counts_only else contextlib.nullcontext():
        return measure_network(name, without_weights(config), training, settings)


def measure_network(
    name: str, config: SegmenterConfig, training: TrainingConfig, settings: Settings
) -> dict[str, Any]:
    """Build a network and return its row."""
    device = find_device(settings)
    network = config.build(pretrained=False).to(device)
    size = scaled_size(network.input_spec, settings.scale)
    batch = make_batch(network.input_spec, size, settings.batch_size, device=device)
    one_image = make_batch(network.input_spec, size, 1, device=device)
    parameters = list(network.parameters())
    row: dict[str, Any] = {
        "name": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type.upper(),
        "threads": torch.get_num_threads(),
        "precision": settings.precision,
        "image_size": list(size),
        "batch_size": len(batch.images),
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "flops": count_flops(network.eval(), one_image),
    }
    if settings.counts_only:
        return row
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")

    @torch.no_grad()
    def run_forward() -> None:
        with autocast:
            network(batch)

    row |= timed("forward", run_forward, len(batch.images), settings.rounds)
    if settings.trains:
        network.train()
        optimizer = build_optimizer(network.parameter_groups(), training)

        def run_step() -> None:
            with autocast:
                output = network(batch)
            losses = network.loss(output, batch)
            torch.stack([each.float() for each in losses.values()]).sum().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        row |= timed("step", run_step, len(batch.images), settings.rounds)
    return row


def find_device(settings: Settings) -> torch.device:
    """Return where the network is measured."""
    if settings.counts_only:
        return torch.device("meta")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(what: str, run: Callable[[], None], num_images: int, rounds: int) -> dict[str, float]:
    """Return images per second of the fastest round, after one to warm up, and the peak, bytes."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    run()
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = torch.cuda.max_memory_allocated() if on_gpu else kibibytes * 1024
    return {f"{what}_images_per_second": num_images / fastest, f"{what}_peak_bytes": peak}


def count_flops(network: Segmenter, batch: Batch) -> float:
    """Return multiply-adds times two of a forward, per image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(batch)
    return counter.get_total_flops() / len(batch.images)


def without_weights(config: Any) -> Any:  # noqa: ANN401 - any segmenter's config
    """Return a config that fetches nothing: every ``pretrained`` inside it is empty."""
    changes = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name == "pretrained" and isinstance(value, str):
            changes[item.name] = ""
        elif dataclasses.is_dataclass(value):
            changes[item.name] = without_weights(value)
    return dataclasses.replace(config, **changes)


def scaled_size(spec: InputSpec, scale: float) -> tuple[int, int]:
    """Return height and width."""
    if scale == 1.0:
        return spec.image_size
    height, width = (max(1, round(scale * side / GRANULE)) * GRANULE for side in spec.image_size)
    return height, width


def make_batch(
    spec: InputSpec, size: tuple[int, int], batch_size: int, *, device: torch.device
) -> Batch:
    """Return random images with a sentence each; groups of images share theirs."""
    count = max(batch_size, spec.group_size)
    tokens = spec.tokenizer.context_length
    index = torch.arange(count)
    token_ids = torch.randint(1, SMALLEST_VOCABULARY, (count, tokens))
    if spec.group_size:
        token_ids = token_ids[:: spec.group_size].repeat_interleave(spec.group_size, 0)[:count]
    sizes = torch.tensor([size] * count)
    batch = Batch(
        images=torch.randn(count, 3, *size),
        image_id=index,
        original_size=sizes,
        content_size=sizes,
        token_ids=token_ids,
        token_mask=torch.ones(count, tokens, dtype=torch.bool),
        image_index=index,
        referent_id=index,
        expression_id=index,
        text_id=index // max(spec.group_size, 1),
        is_no_target=torch.zeros(count, dtype=torch.bool),
        group_index=index // max(spec.group_size, 1),
        targets=(torch.rand(count, *size) > 0.8).to(torch.uint8),
    )
    if spec.erases_phrases is not None:
        batch = batch._replace(erased_token_ids=token_ids)
    return Batch(*(each.to(device) if isinstance(each, torch.Tensor) else each for each in batch))


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    sound = [row for row in rows if "error" not in row]
    lines = [
        "| config | input | parameters, M: trained / all | GFLOPs | forward, images/s | peak, GB | "
        "training, images/s | peak, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = _cells(row) if row in sound else [row["error"], *["-"] * 6]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    if sound:
        first = sound[0]
        lines.append(
            f"\n{first['device']}, {first['threads']} threads, {first['precision']}, batches of "
            f"{', '.join(str(row['batch_size']) for row in sound)} images, random weights."
        )
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    height, width = row["image_size"]
    cells = [
        f"{height} x {width}",
        f"{row['trained_parameters'] / 1e6:.1f} / {row['parameters'] / 1e6:.1f}",
        f"{row['flops'] / 1e9:.1f}",
    ]
    for what in ("forward", "step"):
        if f"{what}_peak_bytes" in row:
            cells += [
                f"{row[f'{what}_images_per_second']:.3g}", f"{row[f'{what}_peak_bytes'] / 1e9:.2f}"
            ]  # fmt: skip
        else:
            cells += ["-", "-"]
    return cells


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
