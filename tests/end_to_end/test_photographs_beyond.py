"""configs/refcoco_beyond_unc.py on real photographs, with small networks and few steps."""

import itertools
import json

import pytest

from tris.batch import InputSpec
from tris.data.index import open_index
from tris.encoders.clip import ClipConfig
from tris.pseudo.store import open_label_store

pytestmark = pytest.mark.slow

CLIP = ClipConfig(
    architecture="tris-small", pretrained="", vocabulary_size=49408,
    input_spec=InputSpec(image_size=(96, 96)),
)  # fmt: skip
NETWORKS = ("response.network", "segmenter.network")
ENCODERS = (*NETWORKS, "response.calibration")
SMALL = (
    "--response.network.dim=16", "--segmenter.network.decoder-channels 16 16 16 16",
    *(f"--{each}.input-spec.image-size 96 96" for each in NETWORKS),
    *(f"--{each}.encoder.input-spec.image-size 96 96" for each in ENCODERS),
    *(f"--{each}.encoder.architecture=tris-small" for each in ENCODERS),
    *(f"--{each}.encoder.vocabulary-size=49408" for each in ENCODERS),
)  # fmt: skip
SHORT = (
    *(f"--{job}.training.{setting}" for job in ("response", "segmenter")
      for setting in ("steps=3", "evaluate-every=None", "select=last", "num-workers=0")),
    "--self-training.steps=3", "--data.evaluation-splits val", "--data.cache-images",
    "--tracking.tracking=none",
)  # fmt: skip
STAGES = (
    "prepare_data", "train_response", "make_pseudo_labels", "train_segmenter", "relabel",
    "self_train", "evaluate",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(shared_data, tmp_path_factory, run_settings, repository, zygote):
    folder = tmp_path_factory.mktemp("beyond")
    run, clip = folder / "run", folder / "clip"
    CLIP.build().save_pretrained(clip)
    pretrained = [f"--{each}.encoder.pretrained={clip}" for each in ENCODERS]
    words = " ".join((*SMALL, *SHORT, *pretrained)).split(" ")
    settings = run_settings(
        run, "--data", str(shared_data / "refcoco_mini"), *words,
        config=repository / "configs" / "refcoco_beyond_unc.py",
        segmenter=repository / "configs" / "segmenter" / "tris_refcoco_beyond_unc.py",
    )  # fmt: skip
    for stage in STAGES:
        zygote.run(stage, settings)
    return run


def test_every_step_is_scored_after_both_rounds(finished):
    scored = json.loads((finished / "metrics.json").read_text())
    steps = {"response", "merged", "labels", "segmenter_round1", "segmenter", "segmenter_crf"}
    assert steps <= set(scored)
    assert all("val" in scored[step] for step in steps)


@pytest.mark.parametrize("labels", ["labels", "rounds/2/labels"])
def test_two_labels_of_an_image_are_the_same_or_apart(finished, labels):
    store = open_label_store(finished / labels)
    by_image = {}
    for referent in open_index(finished / "index", "train"):
        label = store.get("refcoco", referent.referent_id)
        by_image.setdefault(referent.image_id, []).append(label == 1)
    pairs = [
        (one, other)
        for each in by_image.values()
        for one, other in itertools.combinations(each, 2)
        if one.any() and other.any()
    ]
    assert any((one != other).any() for one, other in pairs)
    for one, other in pairs:
        assert (one == other).all() or not (one & other).any()
