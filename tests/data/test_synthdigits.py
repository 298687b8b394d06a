from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from superlora_diffusion.data import synthdigits
from superlora_diffusion.data.config import DataConfig, SynthDigitsConfig
from superlora_diffusion.data.glyphs import FONTS, GLYPH_HEIGHT, digit_glyph
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.data.synthdigits import digit_of, render_images, render_split, settings_key

PLAIN = SynthDigitsConfig(count_train=200, count_test=40, neighbours=0, blur=0, noise=0)
LUMA = np.array([0.299, 0.587, 0.114])
FIRST = np.arange(60)


@pytest.fixture(scope="module")
def plain():
    return render_images(PLAIN, "train", np.arange(400)) / 255.0  # (400, 32, 32, 3)


def test_record_is_balanced_and_of_the_size_asked():
    config = DataConfig(
        name="synthdigits", synthdigits=SynthDigitsConfig(count_train=50, count_test=20, size=16)
    )
    for split, count in (("train", 50), ("test", 20)):
        record = load_image_set(config, split)
        assert record.images.shape == (count, 16, 16, 3) and record.class_names == tuple("0123456789")
        assert np.bincount(record.labels).tolist() == [count // 10] * 10


def test_an_image_depends_on_its_number_alone():
    whole, labels = render_split(PLAIN, "train")
    some = np.array([117, 3, 0, 199])
    np.testing.assert_array_equal(render_images(PLAIN, "train", some), whole[some])
    np.testing.assert_array_equal(digit_of(some), labels[some])
    more = PLAIN.model_copy(update={"count_train": 230})
    np.testing.assert_array_equal(render_split(more, "train")[0][:200], whole)
    assert len(np.unique(whole.reshape(200, -1), axis=0)) == 200


def test_splits_and_seeds_are_streams_of_their_own():
    train = render_images(PLAIN, "train", FIRST)
    test = render_images(PLAIN, "test", FIRST)
    other = render_images(PLAIN.model_copy(update={"seed": 1}), "train", FIRST)
    together = np.concatenate([train, test, other]).reshape(180, -1)
    assert len(np.unique(together, axis=0)) == 180


@pytest.mark.parametrize(
    "change",
    [{"neighbours": 1.0}, {"rotation": 0.0}, {"blur": 0.05}, {"noise": 0.05}],
    ids=lambda change: next(iter(change)),
)
def test_each_setting_shows_in_the_picture_and_in_the_key(change):
    changed = PLAIN.model_copy(update=change)
    before, after = (render_images(config, "train", FIRST).astype(int) for config in (PLAIN, changed))
    assert np.mean(np.abs(before - after).max(axis=(1, 2, 3)) > 5) > 0.8
    assert settings_key(changed, "train") != settings_key(PLAIN, "train")


def test_key_of_a_split_ignores_the_count_of_the_other():
    more = PLAIN.model_copy(update={"count_test": 50})
    assert settings_key(more, "train") == settings_key(PLAIN, "train")
    assert settings_key(more, "test") != settings_key(PLAIN, "test")


def test_grounds_are_coloured_and_never_near_black(plain):
    corners = plain[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # (N, 4, 3)
    assert corners.max(axis=-1).min() > 0.28
    assert (corners.max(axis=-1) - corners.min(axis=-1)).min() > 0.15
    assert (corners @ LUMA).min() > 0.25 and (corners @ LUMA).max() < 0.7
    hues = np.median(corners, axis=1).argmax(axis=-1)
    assert np.bincount(hues, minlength=3).min() > 40  # red, green and blue ones


def test_ink_stands_out_from_its_ground(plain):
    ground = np.median(plain[:, [0, 0, -1, -1], [0, -1, 0, -1]] @ LUMA, axis=1)
    strongest = np.abs(plain @ LUMA - ground[:, None, None]).max(axis=(1, 2))
    assert strongest.min() > 0.3
    lighter = (plain @ LUMA).max(axis=(1, 2)) - ground > 0.3
    assert 0.2 < lighter.mean() < 0.8


def normalised(grey):  # (N, 16, 16) -> (N, 256): distance from the ground's luma, of length 1
    ground = np.median(grey[:, :, [0, -1]], axis=(1, 2))
    features = np.abs(grey - ground[:, None, None]).reshape(len(grey), -1)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def typed(digit):
    """The digit in plain DejaVu Sans, drawn here: what the labels are held against. (16, 16)"""
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 96)
    picture = Image.new("L", (100, 100))
    ImageDraw.Draw(picture).text((50, 50), str(digit), fill=255, font=font, anchor="mm")
    return np.asarray(picture.resize((16, 16), Image.Resampling.BOX), dtype=float)


def test_the_label_is_the_digit_in_the_middle():
    from sklearn.neighbors import KNeighborsClassifier

    images = render_images(SynthDigitsConfig(size=16), "train", np.arange(3000)) / 255.0 @ LUMA
    features, labels = normalised(images), digit_of(np.arange(3000))
    classifier = KNeighborsClassifier(3).fit(features[:2500], labels[:2500])
    assert classifier.score(features[2500:], labels[2500:]) > 0.85
    known = normalised(np.stack([typed(digit) for digit in range(10)]))
    assert classifier.predict(known).tolist() == list(range(10))


def test_neighbours_stand_at_the_edges_only():
    with_neighbours = render_images(PLAIN.model_copy(update={"neighbours": 1.0}), "train", np.arange(300))
    different = (with_neighbours != render_images(PLAIN, "train", np.arange(300))).any(axis=-1)  # (N, 32, 32)
    assert different.any(axis=(1, 2)).mean() > 0.9
    assert not different[:, :, 11:21].any()
    left, right = different[:, :, :11].any(axis=(1, 2)), different[:, :, 21:].any(axis=(1, 2))
    assert min((left & ~right).sum(), (right & ~left).sum(), (left & right).sum()) > 30


def test_narrow_digits_keep_their_neighbours_as_far_off():
    upright, ones = PLAIN.model_copy(update={"rotation": 0.0}), np.arange(300) * 10 + 1
    crowded = render_images(upright.model_copy(update={"neighbours": 1.0}), "train", ones)
    different = (crowded != render_images(upright, "train", ones)).any(axis=(1, 3))  # (N, 32) columns
    off_centre = np.where(different, np.abs(np.arange(32) - 15.5), np.inf).min(axis=1)
    assert np.percentile(off_centre, 5) >= 8 and np.median(off_centre) < 15


def test_share_of_neighbours():
    with_some = render_images(PLAIN.model_copy(update={"neighbours": 0.3}), "train", np.arange(400))
    changed = (with_some != render_images(PLAIN, "train", np.arange(400))).any(axis=(1, 2, 3)).mean()
    assert 0.2 < changed < 0.4


def test_every_size_shows_the_same_scenes():
    small = render_images(PLAIN.model_copy(update={"size": 16}), "train", FIRST).astype(float)
    large = render_images(PLAIN, "train", FIRST).astype(float)
    halved = large.reshape(60, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small).mean() < 3 < np.abs(halved - small[::-1]).mean()


def test_rendered_once_then_read_from_the_cache(monkeypatch, own_cache):
    config = DataConfig(name="synthdigits", synthdigits=PLAIN)
    first = load_image_set(config, "test")
    assert len(list((own_cache / "synthdigits").glob("test-*.npz"))) == 1
    monkeypatch.setattr(synthdigits, "render_split", lambda *_: pytest.fail("rendered again"))
    second = load_image_set(config, "test")
    assert second.content_hash == first.content_hash and second.images.std() > 30


def test_every_font_has_ten_distinct_digits():
    for font in range(len(FONTS)):
        glyphs = [digit_glyph(font, digit) for digit in range(10)]
        assert all(glyph.height == GLYPH_HEIGHT and 15 < glyph.width < 80 for glyph in glyphs), FONTS[font]
        assert len({glyph.tobytes() for glyph in glyphs}) == 10, FONTS[font]
        assert all(0.15 < np.asarray(glyph).mean() / 255 < 0.8 for glyph in glyphs), FONTS[font]
