"""The classification loss on image-wise batches: an image stands with all its sentences."""

import dataclasses

import numpy as np
import pytest
import torch

from tris.batch import PairResponses
from tris.response.classification import ClassificationConfig, classification_loss, score_images

APART = ClassificationConfig(sentences_of_one_referent_compete=False)
REFERENTS = torch.tensor([7, 7, 8, 9, 9])
IMAGE_OF_TEXT = torch.tensor([0, 0, 0, 1, 1])


def make_pairs() -> PairResponses:
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    return PairResponses(
        logits=logits,
        image_id=torch.tensor([10, 11]),
        text_image_id=IMAGE_OF_TEXT + 10,
        referent_id=REFERENTS,
        text_id=torch.arange(5),
        is_own=IMAGE_OF_TEXT[None] == torch.arange(2)[:, None],
    )


def test_all_sentences_of_an_image_are_its_positives_those_of_others_negatives():
    pairs, config = make_pairs(), ClassificationConfig()
    scores = score_images(pairs.logits, config)
    expected = torch.where(pairs.is_own, -scores, scores)
    loss = torch.nn.functional.softplus(expected).mean()
    torch.testing.assert_close(classification_loss(pairs, config), loss)


@pytest.mark.parametrize("same_image", ["ignore", "negative", "positive"])
def test_no_text_about_the_image_stands_elsewhere(same_image):
    config = ClassificationConfig(same_image=same_image)
    expected = classification_loss(make_pairs(), ClassificationConfig())
    assert classification_loss(make_pairs(), config) == expected


def test_sentences_of_one_referent_need_not_compete():
    logits = make_pairs().logits
    flat = logits.flatten(2).numpy().astype(np.float64)
    scores = np.empty((2, 5))
    for text in range(5):
        rivals = [t for t in range(5) if t == text or REFERENTS[t] != REFERENTS[text]]
        share = np.exp(flat[:, text]) / (np.e + np.exp(flat[:, rivals]).sum(1))
        size = share.mean(-1)
        scores[:, text] = flat[:, text].mean(-1) + flat[:, text].max(-1)
        scores[:, text] += (1 - size) ** 3 * np.log(0.01 + size)
    found = score_images(logits, APART, referent_id=REFERENTS)
    np.testing.assert_allclose(found.numpy(), scores, rtol=1e-5)


def test_with_one_sentence_per_referent_it_is_the_published_score():
    logits = make_pairs().logits
    torch.testing.assert_close(
        score_images(logits, APART, referent_id=torch.arange(5)),
        score_images(logits, dataclasses.replace(APART, sentences_of_one_referent_compete=True)),
    )
