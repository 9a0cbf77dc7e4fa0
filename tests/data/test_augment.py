"""The batched operations against torchvision's, applied image by image with the same draws."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as one

from cnn_compare.data import augment
from cnn_compare.errors import InvalidValueError

MEMORY = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@pytest.fixture(params=MEMORY)
def arranged(request):
    """Images in either order of memory, and as a part of a larger batch: the operations must look at the strides."""

    def arrange(images):
        twice = torch.cat([images, images]).contiguous(memory_format=MEMORY[request.param])
        return twice[len(images) :]

    return arrange


def pixels(n=12, channels=3, height=32, width=32, dtype=torch.uint8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (n, channels, height, width), generator=generator).to(dtype)


def draws(n, below):
    return torch.randint(below, (12, 2), generator=torch.Generator().manual_seed(1))[:n]


def same(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def is_channels_last(images):
    return images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.int64])
@pytest.mark.parametrize(("height", "width", "max_shift"), [(32, 32, 4), (6, 9, 5), (8, 5, 1), (32, 32, 0), (1, 1, 0)])
def test_translate_is_padding_and_cropping_each_image(arranged, dtype, height, width, max_shift):
    images = pixels(height=height, width=width, dtype=dtype)
    offsets = draws(len(images), 2 * max_shift + 1)
    offsets[:2] = torch.tensor([[0, 2 * max_shift], [2 * max_shift, 0]])
    expected = [
        one.crop(one.pad(image, [max_shift]), top, left, height, width)
        for image, (top, left) in zip(images, offsets.tolist(), strict=True)
    ]
    actual = augment.translate(arranged(images), offsets, max_shift)
    same(actual, torch.stack(expected))
    assert is_channels_last(actual)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_translate_takes_any_number_of_channels(arranged, channels):
    images = pixels(channels=channels, height=5, width=5)
    shifted = augment.translate(arranged(images), torch.tensor([[4, 0]]).expand(len(images), 2), 2)
    same(shifted[:, :, :3, 2:], images[:, :, 2:, :3])
    assert shifted[:, :, 3:].sum() == shifted[:, :, :, :2].sum() == 0


@pytest.mark.parametrize("max_shift", [-1, 5, 100])
def test_translate_refuses_shifts_that_move_the_whole_image_away(max_shift):
    with pytest.raises(InvalidValueError, match=f"max_shift must be from 0 to 4, and is {max_shift}") as caught:
        augment.translate(pixels(height=5, width=9), draws(12, 1), max_shift)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("flag", [torch.bool, torch.int64, torch.uint8])
@pytest.mark.parametrize("width", [1, 8, 9])
def test_flip_mirrors_the_chosen_images_alone(arranged, flag, width):
    images, flipped = pixels(width=width), draws(12, 2)[:, 0]
    assert 0 < flipped.sum() < 12
    expected = [one.horizontal_flip(image) if do else image for image, do in zip(images, flipped, strict=True)]
    same(augment.flip(arranged(images), flipped.to(flag)), torch.stack(expected))


@pytest.mark.parametrize("size", [16, 7, 1, 0, 100])
def test_cutout_blanks_a_square_cut_off_at_the_border(arranged, size):
    images = pixels(height=20, width=24, dtype=torch.float32)
    centers = draws(len(images), 20)
    centers[:2] = torch.tensor([[0, 0], [19, 23]])
    expected = []
    for image, (row, column) in zip(images, centers.tolist(), strict=True):
        top, left = row - size // 2, column - size // 2
        expected.append(image.clone())
        expected[-1][:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    same(augment.cutout(arranged(images), centers, size), torch.stack(expected))


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), (0.4914, 0.4822, 0.4465), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("std", [(0.2470, 0.2435, 0.2616), (1.0, 1.0, 1.0)])
def test_normalize_is_that_of_torchvision(arranged, mean, std):
    images = pixels(height=6, width=10)
    images[0], images[1] = 0, 255
    expected = [one.normalize(one.to_dtype(image, torch.float32, scale=True), mean, std) for image in images]
    actual = augment.normalize(arranged(images), mean, std)
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-6, atol=1e-6)
    assert is_channels_last(actual)


@pytest.mark.parametrize("values", [1, 2, 4])
def test_normalize_refuses_another_number_of_values_than_channels(values):
    with pytest.raises((RuntimeError, ValueError)):
        augment.normalize(pixels(), (0.5,) * 3, (0.5,) * values)


@pytest.mark.parametrize(("old", "new"), [(8, 32), (32, 224), (32, 33), (32, 31), (64, 28), (32, 1)])
def test_resize_is_that_of_torchvision_smoothed_where_it_shrinks(arranged, old, new):
    images = pixels(3, height=old, width=old, dtype=torch.float32) / 255
    expected = torch.stack([one.resize(image, [new, new], antialias=True) for image in images])
    actual = augment.resize(arranged(images), new)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert actual.dtype == torch.float32


def test_resize_to_the_same_size_gives_the_very_images():
    images = pixels(dtype=torch.float32)
    assert augment.resize(images, 32) is images
    assert augment.resize(images[..., :20], 32).shape == (12, 3, 32, 32)


@pytest.mark.parametrize(
    "operation",
    [
        lambda images: augment.translate(images, draws(len(images), 9), 4),
        lambda images: augment.translate(images, torch.full((len(images), 2), 4), 4),
        lambda images: augment.translate(images, draws(len(images), 1), 0),
        lambda images: augment.resized_crop(images, torch.tensor([[3, 5, 20, 24]]).expand(len(images), 4), 16),
        lambda images: augment.flip(images, draws(len(images), 2)[:, 0]),
        lambda images: augment.color_jitter(images, torch.full((len(images), 3), 1.2)),
        lambda images: augment.cutout(images, draws(len(images), 32), 16),
        lambda images: augment.normalize(images, (0.5,) * 3, (0.5,) * 3),
        lambda images: augment.resize(images.float(), 48),
    ],
    ids=[
        *("translate", "translate by nothing", "translate without room", "resized_crop", "flip", "color_jitter"),
        *("cutout", "normalize", "resize"),
    ],
)
class TestEveryOperation:
    def test_leaves_its_input_alone_and_shares_no_memory_with_it(self, operation, arranged):
        images = arranged(pixels())
        before = images.clone()
        result = operation(images)
        result.fill_(0)
        same(images, before)

    def test_keeps_the_channels_last_order(self, operation):
        assert is_channels_last(operation(pixels().contiguous(memory_format=torch.channels_last)))

    def test_gives_each_image_the_same_alone_as_in_a_batch(self, operation):
        """The draws of the first image do not depend on how many follow."""
        images = pixels()
        same(operation(images[:1]), operation(images)[:1])

    def test_takes_an_empty_batch(self, operation):
        assert operation(pixels()[:0]).shape[0] == 0


@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 16), (32, 32, 40), (20, 48, 24), (9, 5, 5)])
def test_resized_crop_is_torchvisions_with_each_images_own_box(arranged, height, width, size):
    images = pixels(height=height, width=width)
    boxes = torch.from_numpy(augment.random_boxes(np.random.default_rng(0), len(images), height, width))
    boxes[:2] = torch.tensor([[0, 0, height, width], [height - 1, width - 1, 1, 1]])
    crops = [
        (image.float(), one.resized_crop(image, *box, [size, size], antialias=True), box)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    actual = augment.resized_crop(arranged(images), boxes, size)
    same(actual, torch.stack([bytes_of for _, bytes_of, _ in crops]))
    assert is_channels_last(actual)
    # As a GPU computes it. Of floats: torchvision's bytes are rounded after each axis.
    exact = [one.resized_crop(image, *box, [size, size], antialias=True) for image, _, box in crops]
    at_once = augment._resized_crop_at_once(arranged(images), boxes, size)
    torch.testing.assert_close(at_once.float(), torch.stack(exact), rtol=0, atol=0.501)
    assert is_channels_last(at_once)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 100), (100, 40)])
def test_random_boxes_are_distributed_as_torchvisions(height, width):
    ours = augment.random_boxes(np.random.default_rng(0), 4000, height, width)
    torch.manual_seed(0)
    crop = RandomResizedCrop(8)
    image = torch.empty(3, height, width)
    theirs = np.array([list(crop.make_params([image]).values()) for _ in range(4000)])
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001


def test_color_jitter_is_torchvisions_brightness_contrast_and_saturation(arranged):
    images = pixels()
    factors = torch.empty(len(images), 3).uniform_(0.6, 1.4, generator=torch.Generator().manual_seed(0))
    factors[0] = 1
    expected = []
    for image, (brightness, contrast, saturation) in zip(images / 255, factors.tolist(), strict=True):
        image = one.adjust_contrast(one.adjust_brightness(image, brightness), contrast)
        expected.append(one.adjust_saturation(image, saturation) * 255)
    actual = augment.color_jitter(arranged(images), factors)
    torch.testing.assert_close(actual.float(), torch.stack(expected), rtol=0, atol=0.501)
    same(actual[0], images[0])
    assert is_channels_last(actual)
    in_bytes = [
        one.adjust_saturation(one.adjust_contrast(one.adjust_brightness(image, b), c), s)
        for image, (b, c, s) in zip(images, factors.tolist(), strict=True)
    ]
    darker = (actual.float() - torch.stack(in_bytes).float())[1:]
    assert 1 < darker.mean() < 1.5  # What torchvision cuts off of bytes, three times.


@pytest.mark.parametrize(("height", "width"), [(20, 48), (48, 20), (40, 40), (24, 24)])
def test_resize_antialiases_each_axis_that_shrinks(height, width):
    images = pixels(height=height, width=width).float()
    torch.testing.assert_close(augment.resize(images, 24), one.resize(images, [24, 24], antialias=True))
