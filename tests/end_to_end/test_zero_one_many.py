"""DMMI on Ref-ZOM: sentences about no object, one or many, on real photographs."""

import json

import pytest
import torch

from tris.data.collate import collate
from tris.data.index import open_index
from tris.data.phrases import PhraseEraser
from tris.data.samples import ExpressionDataset
from tris.data.tokens import build_tokenizer
from tris.pseudo.store import open_label_store
from tris.segmenters.contract import Segmenter

pytestmark = pytest.mark.slow

JOBS = ("pretrain", "response", "segmenter")
STEPS = (
    "prepare_data", "pretrain_clip", "train_response", "make_pseudo_labels", "train_segmenter",
    "evaluate",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(shared_data, tmp_path_factory, zygote, run_settings, repository):
    """A few steps of each stage on the Ref-ZOM files of refcoco_mini."""
    run = tmp_path_factory.mktemp("zero_one_many") / "run"
    few = (f"--{job}.training.{name}=2" for job in JOBS for name in ("steps", "evaluate-every"))
    settings = run_settings(
        run, "--data", str(shared_data / "refcoco_mini"), "--data.dataset=ref-zom",
        "--data.split-by=final", "--data.evaluation-splits", "val", "--tracking.tracking=none",
        "--labels.label.refiner=threshold", *few,
        config=repository / "configs" / "refcoco_mini.py",
        segmenter=repository / "configs" / "segmenter" / "dmmi_refcoco_mini.py",
    )  # fmt: skip
    for stage in STEPS:
        zygote.run(stage, settings)
    return run


def kind_of(referent):
    if referent.is_no_target:
        return "zero"
    return "one" if len(referent.annotation_ids) == 1 else "many"


@pytest.fixture(scope="module")
def network(run):
    return Segmenter.from_pretrained(run / "segmenter_dmmi" / "model").train()


@pytest.fixture(scope="module")
def batch(run, network):
    """A sentence of each kind, as training reads it."""
    index = open_index(run / "index", "train")
    first, number = {}, 0
    for referent in index:
        first.setdefault(kind_of(referent), number)
        number += len(referent.sentences)
    spec = network.input_spec
    tokenizer = build_tokenizer(spec.tokenizer, assets=network.assets)
    dataset = ExpressionDataset(
        index, spec, tokenizer, targets=open_label_store(run / "labels"),
        phrases=PhraseEraser(spec.erases_phrases, tokenizer, seed=0),
    )  # fmt: skip
    return collate(dataset.__getitems__([first[kind] for kind in ("zero", "one", "many")]))


def test_a_batch_of_zero_one_and_many_has_finite_losses(network, batch):
    assert batch.is_no_target.tolist() == [True, False, False]
    losses = network.loss(network(batch), batch)
    assert set(losses) == {"mask_loss", "similarity_loss", "contrastive_loss"}
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_sentence_about_nothing_is_taught_an_empty_mask(batch):
    assert not batch.targets[0].any()


def test_the_share_of_empty_masks_among_zero_samples_is_reported(run):
    figures = json.loads((run / "metrics.json").read_text())["segmenter"]["gres_val"]
    assert 0 <= figures["zero_sample_accuracy"] <= 1
    assert {"mean_iou", "overall_iou", "target_accuracy"} <= set(figures)
