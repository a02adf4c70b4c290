"""How images are shown to a model, and that vectors are kept and never mistaken."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microtome.datasets.labelled import load_dataset
from microtome.errors import ImageUnreadable, SettingError
from microtome.evaluation import embedding
from microtome.evaluation.collection import Collection
from microtome.evaluation.embedding import embed, mean_directions
from microtome.evaluation.peers import ColourHistogram, missing_peers, random_vectors
from microtome.evaluation.views import View
from microtome.models.registry import load_card
from support.coloured_atlas import MeanColour
from support.labelled_sets import write_pictures

CARD = replace(MeanColour().card, mpp=0.5)  # input of 64 px


# image, its µm per pixel, how many squares, what each covers in the image's pixels
@pytest.mark.parametrize(
    ("height", "width", "mpp", "squares", "side"),
    [
        (64, 64, 0.5, 1, 64),
        (128, 64, 0.5, 2, 64),
        (130, 64, 0.5, 3, 64),
        (64, 64, 0.25, 1, 64),  # smaller than the model's field: enlarged
        (256, 256, 0.25, 4, 128),  # the model sees 32 µm, 128 of these pixels
        (64, 64, 1.0, 4, 32),
        (640, 640, 0.5, 25, 64),  # no more than five a side
        (460, 700, None, 2, 460),  # nobody says: the shorter side
        (1, 300, None, 5, 1),
    ],
)
def test_squares_cover_an_image_at_the_model_s_resolution(
    height: int, width: int, mpp: float | None, squares: int, side: int
) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[-1, -1] = pixels[0, 0] = 255  # both corners are seen

    seen = View.of(CARD, mpp).squares(pixels)

    assert seen.shape == (squares, 64, 64, 3)
    assert seen[0, 0, 0].max() > 0
    assert seen[-1, -1, -1].max() > 0
    assert View.of(CARD, mpp).side_px == (None if mpp is None else round(64 * 0.5 / mpp))
    assert min(height, width, View.of(CARD, mpp).side_px or height) == side


def test_an_image_s_vector_is_the_mean_of_its_squares_directions() -> None:
    vectors = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    made = mean_directions(vectors, [2, 1])
    np.testing.assert_allclose(made, [[0.5**0.5, 0.5**0.5], [0, 1]], rtol=1e-6)


@pytest.fixture
def images(tmp_path: Path) -> Collection:
    write_pictures(tmp_path / "set", [f"{label}/{i}.png" for label in "ab" for i in range(3)])
    return Collection.of(load_dataset(f"folder:{tmp_path / 'set'}"))


def test_vectors_are_in_the_images_order(images: Collection, tmp_path: Path) -> None:
    encoder = MeanColour()
    made = embed(images, encoder, tmp_path / "cache")
    expected = [
        encoder.encode(np.asarray(Image.open(tmp_path / "set" / name))[None])[0]
        for name in images.names
    ]
    np.testing.assert_allclose(made.vectors, expected, atol=2e-3)  # resampled to 64 px
    assert len(set(made.hashes)) == len(images)


def test_a_second_run_asks_the_model_nothing(images: Collection, tmp_path: Path) -> None:
    first, second = MeanColour(), MeanColour()
    made = embed(images, first, tmp_path / "cache")
    again = embed(images, second, tmp_path / "cache")
    assert first.seen
    assert not second.seen
    np.testing.assert_array_equal(made.vectors, again.vectors)
    assert made.hashes == again.hashes


def test_a_run_goes_on_from_the_last_whole_chunk(
    images: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "CHUNK", 2)

    class Dying(MeanColour):
        def encode(self, pixels: np.ndarray) -> np.ndarray:
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().encode(pixels)

    with pytest.raises(KeyboardInterrupt):
        embed(images, Dying(), tmp_path / "cache")
    encoder, advanced = MeanColour(), []
    made = embed(images, encoder, tmp_path / "cache", advanced.append)
    assert len(encoder.seen) == 1
    assert advanced == [2, 2, 2]
    fresh = embed(images, MeanColour(), tmp_path / "other")
    np.testing.assert_array_equal(made.vectors, fresh.vectors)


def _exchange(images: Collection, cache: Path, set_: Path) -> Collection:
    Image.new("RGB", (16, 16), "red").save(set_ / images.names[0])
    os.utime(set_ / images.names[0], (1, 1))
    return images


def _damage(images: Collection, cache: Path, set_: Path) -> Collection:
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    return images


def _other_resolution(images: Collection, cache: Path, set_: Path) -> Collection:
    return replace(images, mpp=2.0)


@pytest.mark.parametrize("change", [_exchange, _damage, _other_resolution])
def test_what_changed_is_embedded_again(images: Collection, tmp_path: Path, change: object) -> None:
    embed(images, MeanColour(mpp=0.5), tmp_path / "cache")
    changed = change(images, tmp_path / "cache", tmp_path / "set")
    encoder = MeanColour(mpp=0.5)
    made = embed(changed, encoder, tmp_path / "cache")
    assert encoder.seen
    np.testing.assert_array_equal(
        made.vectors, embed(changed, MeanColour(mpp=0.5), tmp_path / "new").vectors
    )


def test_another_model_s_vectors_are_never_taken(images: Collection, tmp_path: Path) -> None:
    embed(images, MeanColour("one"), tmp_path / "cache")
    other = MeanColour("other")
    embed(images, other, tmp_path / "cache")
    assert other.seen


def test_an_image_that_can_t_be_read_ends_it(images: Collection, tmp_path: Path) -> None:
    (tmp_path / "set" / images.names[3]).write_text("no image")
    with pytest.raises(ImageUnreadable, match="no image that can be read"):
        embed(images, MeanColour(), tmp_path / "cache")


def test_a_cache_that_can_t_be_written_to_is_a_setting(images: Collection, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="can't be kept"):
        embed(images, MeanColour(), tmp_path / "file")


def test_what_can_t_be_kept_leaves_nothing_half_written(images: Collection, tmp_path: Path) -> None:
    embed(images, MeanColour(), tmp_path / "first")
    (name,) = (file.name for file in (tmp_path / "first").iterdir())
    (tmp_path / "cache" / name / "in the way").mkdir(parents=True)
    with pytest.raises(SettingError, match="can't be kept"):
        embed(images, MeanColour(), tmp_path / "cache")
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [name]


def test_the_histogram_tells_colours_apart_and_nothing_else() -> None:
    red, blue = np.zeros((2, 1, 4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    half = np.concatenate([red[:, :2], blue[:, :2]], axis=1)
    vectors = ColourHistogram().encode(np.concatenate([red, blue, half, half[:, ::-1]]))
    expected = [[1, 0, 0.5**0.5], [0, 1, 0.5**0.5], [0.5**0.5, 0.5**0.5, 1]]
    np.testing.assert_allclose(vectors[:3] @ vectors[:3].T, expected, atol=1e-6)
    np.testing.assert_array_equal(vectors[2], vectors[3])


def test_random_vectors_are_unit_and_of_the_seed() -> None:
    one, again, other = (random_vectors(50, seed) for seed in (0, 0, 1))
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, rtol=1e-6)
    assert (one == again).all()
    assert abs(float((one * other).sum(axis=1).mean())) < 0.05


def test_peers_that_only_a_user_can_bring_are_named() -> None:
    timm = replace(CARD, architecture={"kind": "timm"})
    untrained = replace(timm, training_data="none")
    assert [len(missing_peers(cards)) for cards in ([], [timm], [untrained])] == [3, 2, 3]
    assert "LGFFEM" in missing_peers([load_card("tissue"), timm])[0]
