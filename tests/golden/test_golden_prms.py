"""PRMS against the released score matrix, with CLIP ViT-B/32 under the fill rule."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from tris.encoders.clip import ClipConfig
from tris.pseudo.prms import PrmsConfig, batched_map_similarity, map_similarity, pick_positive_map

pytestmark = pytest.mark.golden
BLOBS = [(100, 120, 60, 1), (200, 150, 90, 2), (60, 250, 40, 0.5), (160, 160, 150, 3)]


@pytest.fixture(scope="module")
def numbers(golden: Path):
    with np.load(golden / "metrics" / "prms_golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def inputs(reference: Path, numbers):
    spec = importlib.util.spec_from_file_location("fill_rule", reference / "fill_rule.py")
    fill_rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill_rule)
    encoder = ClipConfig(architecture="ViT-B-32-quickgelu", pretrained="").build().eval()
    fill_rule.fill(encoder.clip, prefix="aux.")
    rows, columns = np.mgrid[:320, :320]
    maps = [
        np.exp(-(((columns - x) / s) ** 2 + ((rows - y) / s) ** 2)) * gain - 0.1
        for x, y, s, gain in BLOBS
    ]
    image = torch.from_numpy(fill_rule.image(int(numbers["img_seed"]), (1, 3, 320, 320)))[0]
    with torch.no_grad():
        texts = encoder.embed_texts(torch.from_numpy(numbers["word_ids"]))
    return encoder, image, torch.from_numpy(np.stack(maps).astype(np.float32)), texts


def test_score_matrix_and_choice_equal_the_released_ones(inputs, numbers):
    encoder, image, logits, texts = inputs
    expected = numbers["response_stride8"][:, 0]
    np.testing.assert_allclose(logits.relu().numpy()[:, ::8, ::8], expected, atol=1e-5)
    with torch.no_grad():
        similarity = map_similarity(
            logits,
            image,
            texts,
            embed_images=encoder.embed_images,
            image_size=(224, 224),
            config=PrmsConfig(),
        )
    chosen = pick_positive_map(similarity)
    np.testing.assert_allclose(similarity, numbers["score_matrix_resp_by_text"], atol=1e-4)
    np.testing.assert_allclose(similarity.sum(1), numbers["cumulative"], atol=1e-4)
    assert chosen.position == int(numbers["selected"])
    assert chosen.score == pytest.approx(float(numbers["cumulative"].max()), abs=1e-4)


def test_the_batched_path_gives_the_released_scores_for_every_referent(inputs, numbers):
    encoder, image, logits, texts = inputs
    with torch.no_grad():
        first, second = batched_map_similarity(
            torch.cat([logits, logits[2:]]),
            torch.stack([image, image.flip(-1), image]),
            torch.cat([texts, texts[2:]]),
            image_index=torch.tensor([0, 0, 0, 0, 2, 2]),
            maps_per_referent=[4, 2],
            embed_images=encoder.embed_images,
            image_size=(224, 224),
            config=PrmsConfig(maps_per_pass=5),
        )
    expected = numbers["score_matrix_resp_by_text"]
    np.testing.assert_allclose(first, expected, atol=1e-4)
    np.testing.assert_allclose(second, expected[2:, 2:], atol=1e-4)
