import math

import pytest
import torch

from superlora_diffusion.data.augmentation import augment
from superlora_diffusion.data.config import AugmentConfig

ALL = AugmentConfig(shift=2, rotate=20, scale=0.2, flip=True)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count=16, height=12, width=9):
    return torch.rand(count, 3, height, width, generator=seeded(99)) * 2 - 1


def spot(count, height, width, row, column):
    """Black with one soft white blob around a place, so that its centre of mass can be followed."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    blob = torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4.0)
    return (2 * blob - 1).expand(count, 1, height, width).contiguous()


def centre_of_mass(images):  # (B, 1, H, W) -> (B, 2), row and column from the middle
    mass = (images[:, 0] + 1) / 2
    height, width = mass.shape[-2:]
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    total = mass.sum(dim=(1, 2))
    return torch.stack([(mass.sum(2) @ rows) / total, (mass.sum(1) @ columns) / total], dim=-1)


def test_nothing_to_do_returns_the_input_and_draws_nothing():
    images, generator = noise(), seeded()
    before = generator.get_state()
    assert augment(images, AugmentConfig(), generator) is images
    assert torch.equal(generator.get_state(), before)


def test_shift_moves_a_known_pixel_by_whole_pixels():
    images = torch.full((400, 3, 12, 9), -1.0)
    images[:, :, 6, 4] = torch.tensor([1.0, 0.5, 0.0])
    moved = augment(images, AugmentConfig(shift=2), seeded())
    places = (moved[:, 0] > 0).nonzero()  # (B, 3): image, row, column
    assert places[:, 0].tolist() == list(range(400))  # one pixel an image
    at = moved[places[:, 0], :, places[:, 1], places[:, 2]]
    torch.testing.assert_close(at, torch.tensor([1.0, 0.5, 0.0]).expand(400, 3), atol=1e-4, rtol=0)
    offsets = {(row - 6, column - 4) for _, row, column in places.tolist()}
    assert offsets == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}


def test_a_shift_repeats_the_border():
    columns = torch.linspace(-1, 1, 9).expand(40, 1, 12, 9)
    moved = augment(columns.contiguous(), AugmentConfig(shift=3), seeded())
    steps = moved[:, 0, 0].diff(dim=-1)
    assert moved.min() >= -1.0001 and moved.max() <= 1.0001
    assert steps.min() > -1e-5 and steps.max() < 0.2501 and (steps.abs() < 1e-5).any()


def test_rotation_turns_about_the_middle_also_when_not_square():
    images = spot(300, 41, 61, row=20, column=40)  # 10 right of the middle
    places = centre_of_mass(augment(images, AugmentConfig(rotate=90), seeded()))
    torch.testing.assert_close(places.norm(dim=-1), torch.full((300,), 10.0), atol=0.05, rtol=0)
    angles = torch.rad2deg(torch.atan2(places[:, 0], places[:, 1]))
    assert -90.5 < angles.min() < -80 and 80 < angles.max() < 90.5 and angles.mean().abs() < 10


def test_scale_multiplies_distances_from_the_middle():
    images = spot(300, 41, 61, row=20, column=40)
    places = centre_of_mass(augment(images, AugmentConfig(scale=0.3), seeded()))
    factors = places[:, 1] / 10
    assert 0.69 < factors.min() < 0.75 and 1.25 < factors.max() < 1.31
    assert places[:, 0].abs().max() < 0.01


def test_flip_mirrors_some_exactly_and_leaves_the_rest():
    images = noise(200)
    result = augment(images, AugmentConfig(flip=True), seeded())
    same = ((result - images).abs().amax(dim=(1, 2, 3)) < 1e-4).sum().item()
    mirrored = ((result - images.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-4).sum().item()
    assert same + mirrored == 200 and 60 < same < 140


def test_never_flipped_unless_asked():
    """A blob left of the middle stays there under everything else."""
    images = spot(300, 41, 61, row=20, column=15)
    places = centre_of_mass(augment(images, AugmentConfig(shift=3, rotate=30, scale=0.2), seeded()))
    assert places[:, 1].max() < -4


def test_the_generator_decides_alone():
    images = noise()
    torch.manual_seed(1)
    first = augment(images, ALL, seeded(5))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(augment(images, ALL, seeded(5)), first)
    assert not torch.allclose(augment(images, ALL, seeded(6)), first, atol=0.1)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the global one was not touched


def test_each_image_has_a_transformation_of_its_own():
    result = augment(noise(1).expand(16, -1, -1, -1).contiguous(), ALL, seeded())
    assert len({tuple(image.flatten().tolist()) for image in result}) == 16


def test_switching_one_thing_on_leaves_the_draws_of_the_others():
    images = spot(50, 41, 61, row=20, column=40)
    shifted = centre_of_mass(augment(images, AugmentConfig(shift=4), seeded()))
    both = centre_of_mass(augment(images, AugmentConfig(shift=4, rotate=1e-3), seeded()))
    torch.testing.assert_close(shifted, both, atol=0.01, rtol=0)
    assert shifted.std() > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_dtype_and_range_are_kept(dtype):
    images = noise().to(dtype)
    result = augment(images, ALL, seeded())
    assert result.shape == images.shape and result.dtype == dtype
    assert result.abs().max() <= 1.01 and result.float().std() > 0.2 and math.isfinite(result.sum().item())
