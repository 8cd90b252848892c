"""What composing training samples needs of a run: CLIP's opinion of every sentence, and labels."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import send_to_device
from jaxtyping import Float
from torch.nn import functional

from stages.label_settings import digest_of_index, digest_of_judge
from stages.setup import Stage, load_judge, on_device, wanted_text, with_own_clip
from stages.validation import IMAGES_PER_BATCH
from tris.data.absence import ClipEvidence, ClipFeatures
from tris.data.compose import KINDS, Composer, CompositionConfig, LabelOverlaps, kind_of
from tris.data.index import Index
from tris.data.loader import build_loader
from tris.data.plan import Item, evaluation_batches
from tris.data.samples import ExpressionDataset, LabelSource
from tris.data.tokens import Tokenizer, build_tokenizer
from tris.encoders.clip import ClipEncoder


def make_composer(
    stage: Stage,
    index: Index,
    config: CompositionConfig,
    *,
    targets: LabelSource | Literal["truth"],
    tokenizer: Tokenizer,
    in_groups: bool = False,
) -> Composer:
    """Return what composes the training samples of this run.

    Args:
        stage: This stage.
        index: The training split.
        config: How.
        targets: What is trained on.
        tokenizer: The network's.
        in_groups: Whether it is trained on image groups: only sentences that stand alone are
            composed then.
    """
    clip = None
    if config.none_share and config.clip_missed_share < 1:
        features = load_features(stage, index)
        judge = on_device(load_judge(with_own_clip(stage)), stage)
        clip = ClipEvidence(
            features, missed_share=config.clip_missed_share, embed=SentenceEmbedder(judge)
        )
        stage.say(f"Composing: CLIP refuses sentences that score above {clip.threshold:.2f}.")
    composer = Composer(
        index,
        config,
        seed=stage.config.seed,
        overlaps=LabelOverlaps(index, targets),
        clip=clip,
        text=wanted_text(stage.config),
        reads_whole=tokenizer.reads_whole,
    )
    if stage.is_main:
        asked = "samples that stand alone" if in_groups else "samples"
        stage.say(f"Composing: of {_shares(composer, index, asked=asked)}.")
    return composer


def _shares(composer: Composer, index: Index, *, asked: str) -> str:
    """Say what becomes of some of the expressions in the first epoch."""
    count = min(index.num_expressions, _SAMPLE)
    numbers = np.linspace(0, index.num_expressions - 1, count).astype(int).tolist()
    kinds = Counter(kind_of(composer(Item(expression))) for expression in numbers)
    single, multi, none = (f"{kinds[kind] / count:.0%}" for kind in KINDS)
    return f"{count} {asked} {single} mean one object, {multi} several, {none} nothing"


def load_features(stage: Stage, index: Index) -> ClipFeatures:
    """Return the embeddings in ``RUN/composition.npz``, made anew where they are of other data.

    The main process makes them for all.
    """
    config = with_own_clip(stage)
    path = stage.folders.run / "composition.npz"
    text = wanted_text(stage.config)
    key = f"{digest_of_judge(stage, config)} {digest_of_index(index)} {text}"
    if stage.is_main and not _is_current(path, key):
        stage.say("Embedding all images and sentences: CLIP is to say what may be true ...")
        judge = on_device(load_judge(config), stage)
        arrays = embed_split(index, judge, text=text)
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, key=np.array(key), **arrays)
        scratch.replace(path)
    stage.accelerator.wait_for_everyone()
    with np.load(path) as stored:
        names = ("images", "sentences", "image_of_row", "row_of_expression", "true")
        return ClipFeatures(**{name: stored[name] for name in names})


class SentenceEmbedder:
    """A CLIP's unit embedding of any sentence, in half precision as `embed_split` gives them."""

    def __init__(self, judge: ClipEncoder) -> None:
        self._judge = judge
        self._tokenizer = build_tokenizer(judge.input_spec.tokenizer, assets=judge.assets)

    @torch.inference_mode()
    def __call__(self, sentence: str) -> Float[np.ndarray, "dim"]:
        """Return the embedding."""
        token_ids, _ = self._tokenizer([sentence])
        embedded = self._judge.embed_texts(token_ids.to(next(self._judge.parameters()).device))
        return np.asarray(_normalise(embedded)[0])


@torch.inference_mode()
def embed_split(
    index: Index, judge: ClipEncoder, *, text: Literal["clean", "raw"] = "clean"
) -> dict[str, Any]:
    """Return the fields of `ClipFeatures`; embeddings in half precision."""
    tokenizer = build_tokenizer(judge.input_spec.tokenizer, assets=judge.assets)
    dataset = ExpressionDataset(index, judge.input_spec, tokenizer, text=text)
    device = next(judge.parameters()).device
    batches = evaluation_batches(index, images_per_batch=IMAGES_PER_BATCH)
    images: dict[int, np.ndarray] = {}
    sentences = np.zeros((index.num_expressions, judge.embed_dim), np.float16)
    for numbers, batch in zip(batches, build_loader(dataset, batches), strict=True):
        moved = send_to_device(batch, device)
        embedded = _normalise(judge.embed_images(moved.images))
        images |= zip(batch.image_id.tolist(), embedded, strict=True)
        sentences[numbers] = _normalise(judge.embed_texts(moved.token_ids))
    places = {image_id: place for place, image_id in enumerate(images)}
    rows = np.array([index.expression_row(each)[0] for each in range(index.num_expressions)])
    has_target = ~np.array(index.column("is_no_target").to_pylist(), dtype=bool)
    return {
        "images": np.stack(list(images.values())),
        "sentences": sentences,
        "image_of_row": np.array([places[each] for each in _image_ids(index)]),
        "row_of_expression": rows,
        "true": np.flatnonzero(has_target[rows]),
    }


def _image_ids(index: Index) -> Iterator[int]:
    yield from index.column("image_id").to_pylist()


def _normalise(features: torch.Tensor) -> np.ndarray:
    unit = functional.normalize(features.float(), dim=-1)
    return np.asarray(unit.cpu().numpy(), np.float16)


def _is_current(path: Path, key: str) -> bool:
    if not path.is_file():
        return False
    with np.load(path) as stored:
        return str(stored["key"]) == key


_SAMPLE = 500
