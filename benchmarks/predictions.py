"""What a model directory says of every sentence of a split."""

from collections.abc import Iterator
from pathlib import Path

from stages.loading import load_split
from tris.data.index import Index
from tris.data.samples import ExpressionDataset
from tris.data.tokens import build_tokenizer
from tris.metrics.evaluator import Prediction, predict_split
from tris.model_directory import FASTEST_LAYOUT
from tris.segmenters.contract import Segmenter


def predict(model: Path, index: Index) -> Iterator[Prediction]:
    """Yield one map per sentence, in original pixels."""
    yield from ask(Segmenter.from_pretrained(model), index)


def ask(network: Segmenter, index: Index) -> Iterator[Prediction]:
    """Yield what a network that was loaded says."""
    network.requires_grad_(False).to(memory_format=FASTEST_LAYOUT)
    spec = network.input_spec
    dataset = ExpressionDataset(index, spec, build_tokenizer(spec.tokenizer, assets=network.assets))
    yield from predict_split(network, load_split(dataset, images_per_batch=16), index)
