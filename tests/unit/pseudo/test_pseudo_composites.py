"""Competition among gRefCOCO's own sentences: about one object, several, or nothing."""

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest

from tris.data.index import open_index
from tris.data.masks import decode_mask
from tris.data.prepare.assemble import assemble
from tris.data.prepare.grefcoco import read_grefcoco
from tris.pseudo.contest import CompetitionConfig
from tris.pseudo.label import LabelConfig
from tris.pseudo.label_image import label_image
from tris.pseudo.rivals import find_kinship, overlaps, plan_contests

LABELS = LabelConfig(
    normalisation="sigmoid", refiner="threshold", degenerate="keep", competition="image"
)


@pytest.fixture(scope="module")
def images(shared_data, tmp_path_factory):
    """The referents of each photograph that has several, masks kept."""
    source, out = shared_data / "refcoco_mini", tmp_path_factory.mktemp("grefcoco") / "index"
    assemble(read_grefcoco(source=source), images=source / "images" / "train2014", out=out)
    by_image = defaultdict(list)
    for referent in open_index(out, "train"):
        by_image[referent.image_id].append(referent)
    return [each for each in by_image.values() if len(each) > 1]


def truth(referent):
    return decode_mask(referent.mask)[::4, ::4] == 1


def leaking_maps(referents, seed):
    """Maps of 60 % on any other object, with noise: what a weak network would see."""
    masks = np.stack([truth(each) for each in referents])[:, ::4, ::4].astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, 0.3, masks.shape)
    return (6 * (np.maximum(masks, 0.6 * masks.max(axis=0)) - 0.5) + noise).astype(np.float32)


def label_all(referents, maps, contests):
    photograph = np.zeros((*truth(referents[0]).shape, 3), np.uint8)
    labels = label_image(maps, photograph, contests, LABELS)
    return [labels[place].label == 1 for place in range(len(referents))]


def test_labels_of_sentences_that_share_no_object_never_overlap(images):
    pairs = 0
    for seed, referents in enumerate(images):
        kinship = find_kinship(referents, CompetitionConfig())
        claims = label_all(referents, leaking_maps(referents, seed), plan_contests(kinship))
        for one, other in combinations(range(len(referents)), 2):
            if kinship.rivals[one, other]:
                pairs += claims[one].any() and claims[other].any()
                assert not (claims[one] & claims[other]).any()
    assert pairs > 50


def test_objects_that_only_sentences_about_several_speak_of_are_won_by_these(images):
    with_rest, without = [], []
    for seed, referents in enumerate(images):
        kinship = find_kinship(referents, CompetitionConfig())
        if not kinship.has_rest.any():
            continue
        maps, contests = leaking_maps(referents, seed), plan_contests(kinship)
        undefended = [contest._replace(rests=()) for contest in contests]
        for found, planned in ((with_rest, contests), (without, undefended)):
            claims = label_all(referents, maps, planned)
            found += [
                overlaps(np.stack([claims[place], truth(referents[place])]))[0, 1]
                for place in np.flatnonzero(kinship.has_rest)
            ]
    assert len(with_rest) > 2
    assert np.mean(with_rest) > np.mean(without)
