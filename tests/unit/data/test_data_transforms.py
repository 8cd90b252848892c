import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from tris.batch import IGNORE_INDEX, InputSpec
from tris.data.index import open_index
from tris.data.prepare.refer import prepare_refer
from tris.data.transforms import (
    PhotographReader,
    fit_size,
    resize_photograph,
    to_input,
    to_original,
    to_target,
)
from tris.errors import InputError

SQUASH = InputSpec(image_size=(20, 30))
PAD = InputSpec(image_size=(20, 30), resize="pad")
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def photograph(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (0.5 + 0.4 * np.sin(3 * y / height) * np.cos(4 * x / width)).astype(np.float32)


class TestSizes:
    def test_squash_fills_the_input(self):
        assert fit_size((50, 10), SQUASH) == (20, 30)

    def test_pad_keeps_the_aspect_ratio(self):
        assert fit_size((40, 30), PAD) == (20, 15)
        assert fit_size((10, 30), PAD) == (10, 30)
        assert fit_size((5, 6), PAD) == (20, 24)

    @given(sizes)
    def test_the_photograph_always_fits(self, size):
        height, width = fit_size(size, PAD)
        assert 1 <= height <= 20
        assert 1 <= width <= 30
        assert height == 20 or width == 30


class TestInputs:
    def test_squash_equals_torchvision_on_pil_images(self):
        image = photograph(37, 53)
        released = v2.Compose(
            [
                v2.Resize((20, 30), antialias=True),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(SQUASH.mean, SQUASH.std),
            ]
        )
        ours = to_input(resize_photograph(image, SQUASH), SQUASH)
        torch.testing.assert_close(ours, released(image), atol=2e-6, rtol=0)

    def test_padding_is_zero_at_the_right_and_bottom(self):
        result = to_input(resize_photograph(photograph(40, 30), PAD), PAD)
        assert result.shape == (3, 20, 30)
        assert (result[:, :, 15:] == 0).all()
        assert (result[:, :, :15] != 0).any(dim=0).all()

    def test_a_photograph_of_the_right_size_is_not_resampled(self):
        image = photograph(20, 30)
        assert (resize_photograph(image, SQUASH) == np.asarray(image)).all()

    def test_the_pixels_given_are_left_alone(self):
        pixels = resize_photograph(photograph(20, 30), SQUASH)
        before = pixels.copy()
        to_input(pixels, SQUASH)
        assert (pixels == before).all()


class TestTargets:
    def test_nearest_keeps_the_values(self):
        mask = np.kron(np.array([[0, 1], [255, 0]], np.uint8), np.ones((10, 15), np.uint8))
        assert (to_target(mask, SQUASH).numpy() == mask).all()

    def test_equals_pil_nearest(self):
        mask = np.random.default_rng(0).integers(0, 2, (37, 53), np.uint8)
        pil = Image.fromarray(mask).resize((30, 20), Image.Resampling.NEAREST)
        assert (to_target(mask, SQUASH).numpy() == np.asarray(pil)).all()

    def test_padding_is_ignored(self):
        target = to_target(np.ones((40, 30), np.uint8), PAD)
        assert (target[:, :15] == 1).all()
        assert (target[:, 15:] == IGNORE_INDEX).all()

    @pytest.mark.parametrize("value", [0, 1])
    def test_empty_and_full_masks_stay_so(self, value):
        assert (to_target(np.full((7, 9), value, np.uint8), SQUASH) == value).all()


class TestInverse:
    @given(sizes, st.sampled_from([SQUASH, PAD]))
    def test_gives_the_size_of_the_photograph(self, size, spec):
        maps = torch.rand(2, *spec.image_size)
        result = to_original(maps, size, fit_size(size, spec))
        assert result.shape == (2, *size)
        assert result.min() >= maps.min()
        assert result.max() <= maps.max()

    @given(st.tuples(st.integers(20, 90), st.integers(20, 90)), st.sampled_from([SQUASH, PAD]))
    def test_undoes_the_resizing_of_a_smooth_photograph(self, size, spec):
        truth = smooth(*size)
        image = Image.fromarray(np.rint(255 * np.repeat(truth[..., None], 3, 2)).astype(np.uint8))
        plain = dataclasses.replace(spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        network = to_input(resize_photograph(image, plain), plain)
        back = to_original(network, size, fit_size(size, plain))
        assert np.abs(back[0].numpy() - truth).mean() < 0.04  # half a pixel off at the border

    def test_a_peak_comes_back_where_it_was(self):
        mask = np.zeros((60, 90), np.uint8)
        mask[30:36, 60:66] = 1
        maps = to_target(mask, SQUASH)[None].float()
        back = to_original(maps, (60, 90), (20, 30))
        row, column = divmod(int(back[0].argmax()), 90)
        assert mask[row, column] == 1

    def test_corners_are_aligned_as_in_the_released_evaluation(self):
        maps = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
        assert to_original(maps, (2, 3), (2, 2)).tolist() == [[[0.0, 0.5, 1.0], [2.0, 2.5, 3.0]]]

    def test_same_size_changes_nothing(self):
        maps = torch.rand(1, 20, 30)
        assert torch.equal(to_original(maps, (20, 30), (20, 30)), maps)


class TestReader:
    def test_cached_and_fresh_inputs_are_equal(self, train_index, spec):
        cached = PhotographReader(train_index, spec, cache_images=True)
        first = cached.read(train_index[0])
        first.zero_()
        fresh = PhotographReader(train_index, spec).read(train_index[0])
        assert torch.equal(cached.read(train_index[0]), fresh)

    def test_the_cache_does_not_read_twice(self, train_index, spec, monkeypatch):
        reader = PhotographReader(train_index, spec, cache_images=True)
        first = reader.read(train_index[0])
        monkeypatch.setattr("tris.data.transforms.read_photograph", None)
        assert torch.equal(reader.read(train_index[0]), first)

    def test_a_damaged_photograph_is_named(self, broken_index, spec):
        path = broken_index.image_path(broken_index[0])
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(InputError, match=path.name):
            PhotographReader(broken_index, spec).read(broken_index[0])

    def test_a_photograph_of_another_size_is_refused(self, broken_index, spec):
        path = broken_index.image_path(broken_index[0])
        photograph(50, 60).save(path)
        with pytest.raises(InputError, match="50 x 60"):
            PhotographReader(broken_index, spec).read(broken_index[0])

    @pytest.fixture
    def broken_index(self, synthetic, tmp_path):
        """An index whose photographs the test may damage."""
        (tmp_path / "images").mkdir()
        for path in (synthetic / "images").iterdir():
            (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
        folder = prepare_refer(
            dataset="refcoco",
            source=synthetic / "refcoco",
            images=tmp_path / "images",
            out=tmp_path / "index",
        )
        return open_index(folder, "val")
