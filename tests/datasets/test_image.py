"""A sample's row becomes RGB pixels, or an error that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from microtome.datasets.image import decode
from microtome.datasets.labelled import read_image
from microtome.errors import ImageUnreadable, SettingError
from support.labelled_sets import encoded, picture, tar_of
from support.object_store import ObjectStore

PIXELS = picture(1)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_a_lossless_file_keeps_its_pixels(tmp_path: Path, name: str) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name)

    assert np.array_equal(read_image({"uri": str(tmp_path / name)}), PIXELS)


def test_a_jpeg_is_read_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    (tmp_path / "a.png").write_bytes(encoded(flat, "JPEG"))

    assert np.abs(read_image({"uri": str(tmp_path / "a.png")}).astype(int) - flat).max() <= 3


# what the file holds; what it is read as: RGB, 8 bits, white where it is transparent
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (np.full((4, 4), 90, np.uint8), (90, 90, 90)),
        (np.full((4, 4), 65535, np.uint16), (255, 255, 255)),
        (np.full((4, 4), 257, np.uint16), (1, 1, 1)),
        (np.full((4, 4, 4), (10, 20, 30, 0), np.uint8), (255, 255, 255)),
        (np.full((4, 4, 4), (10, 20, 30, 255), np.uint8), (10, 20, 30)),
    ],
)
def test_every_kind_of_sample_becomes_eight_bit_rgb(
    tmp_path: Path, stored: np.ndarray, expected: tuple[int, int, int]
) -> None:
    Image.fromarray(stored).save(tmp_path / "a.png")

    pixels = read_image({"uri": str(tmp_path / "a.png")})

    assert (pixels.shape, pixels.dtype) == ((4, 4, 3), np.uint8)
    assert pixels[0, 0].tolist() == list(expected)


def test_swapped_red_and_blue_are_swapped_back(tmp_path: Path) -> None:
    Image.fromarray(np.ascontiguousarray(PIXELS[..., ::-1])).save(tmp_path / "a.png")

    assert np.array_equal(read_image({"uri": str(tmp_path / "a.png"), "bgr": True}), PIXELS)


def test_bytes_within_an_archive_are_read_where_they_lie(tmp_path: Path) -> None:
    one, two = encoded(picture(1)), encoded(picture(2))
    (tmp_path / "a.tar").write_bytes(tar_of({"1.png": one, "2.png": two}))
    offset = 512 + -(-len(one) // 512) * 512 + 512

    sample = {"uri": str(tmp_path / "a.tar"), "offset": offset, "size": len(two)}

    assert np.array_equal(read_image(sample), picture(2))


@pytest.mark.parametrize("kind", [np.uint8, np.float64, np.int16])
def test_a_row_of_an_array_is_a_picture(tmp_path: Path, kind: type) -> None:
    np.save(tmp_path / "a.npy", np.stack([picture(1), picture(2), picture(3)]).astype(kind))

    for index in range(3):
        sample = {"uri": str(tmp_path / "a.npy"), "index": index}
        assert np.array_equal(read_image(sample), picture(index + 1))


@pytest.mark.parametrize(
    ("array", "index"),
    [
        (np.full((2, 4, 4, 3), 256.0), 0),  # beyond 8 bits
        (np.full((2, 4, 4, 3), np.nan), 0),
        (np.zeros((2, 4, 4, 6)), 0),  # six channels
        (np.zeros((2, 4, 4, 3)), 2),  # no such row
        (np.asfortranarray(np.zeros((2, 4, 4, 3))), 0),
        (np.full((2, 4, 4, 3), "a"), 0),
        (np.zeros((2, 4, 4, 3), complex), 0),
        (np.zeros((2, 4, 4, 3), "M8[s]"), 0),
        (np.zeros((2, 4, 4, 3), [("a", "f4")]), 0),
    ],
)
def test_an_array_of_no_pictures_is_refused(tmp_path: Path, array: np.ndarray, index: int) -> None:
    np.save(tmp_path / "a.npy", array)

    with pytest.raises(ImageUnreadable, match=rf"a\.npy#{index}"):
        read_image({"uri": str(tmp_path / "a.npy"), "index": index})


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(ImageUnreadable, match="objects"):
        read_image({"uri": str(tmp_path / "a.npy"), "index": 0})


def test_an_array_of_hdf5_and_a_square_of_it(tmp_path: Path) -> None:
    scan = np.arange(100, dtype=np.uint8).reshape(10, 10)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan/data"] = scan
        file["test/patches"] = scan[None]
    sample: dict[str, Any] = {"uri": str(tmp_path / "a.h5")}

    whole = read_image(sample | {"part": "test/patches", "index": 0})
    square = read_image(
        sample | {"part": "scan/data", "region": {"x": 2, "y": 5, "tile_px": 3}, "index": None}
    )

    assert np.array_equal(whole[..., 1], scan)
    assert np.array_equal(square[..., 2], scan[5:8, 2:5])


def _damaged(folder: Path) -> dict[str, bytes | None]:
    good = encoded(picture(1, 64))
    return {
        "gone.png": None,
        "empty.png": b"",
        "text.png": b"no picture at all",
        "short.png": good[: len(good) // 2],
        "short.jpg": encoded(picture(1, 64), "JPEG")[:900],
        "short.npy": b"\x93NUMPY\x01\x00",
    }


@pytest.mark.parametrize(
    "name", ["gone.png", "empty.png", "text.png", "short.png", "short.jpg", "short.npy"]
)
def test_a_corrupt_image_is_named_by_file_and_folder_only(tmp_path: Path, name: str) -> None:
    content = _damaged(tmp_path)[name]
    (tmp_path / "class").mkdir()
    if content is not None:
        (tmp_path / "class" / name).write_bytes(content)
    sample = {"uri": str(tmp_path / "class" / name), "index": 0 if name.endswith("npy") else None}

    with pytest.raises(ImageUnreadable, match=f"class/{name}") as caught:
        read_image(sample)

    assert str(tmp_path) not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of the damage
@given(
    st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_whatever_is_damaged_the_answer_is_a_picture_or_a_typed_error(
    kind: str, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(encoded(PIXELS, kind))
    for place, value in changes:
        data[place % len(data)] = value

    try:
        pixels = decode(bytes(data), "a")
    except ImageUnreadable:
        return
    assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)


def test_a_picture_that_unfolds_beyond_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")

    with pytest.raises(ImageUnreadable):
        read_image({"uri": str(tmp_path / "a.png")})


def test_images_are_read_from_a_store(s3: ObjectStore, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([picture(1), picture(2)]).astype(np.float64))
    inside = b"x" * 700 + encoded(PIXELS)
    bucket = s3.bucket({"a.png": encoded(PIXELS), "a.tar": inside, "a.npy": tmp_path / "a.npy"})

    assert np.array_equal(read_image({"uri": f"{bucket}/a.png"}), PIXELS)
    sample = {"uri": f"{bucket}/a.tar", "offset": 700, "size": len(inside) - 700}
    assert np.array_equal(read_image(sample), PIXELS)
    assert np.array_equal(read_image({"uri": f"{bucket}/a.npy", "index": 1}), picture(2))
    with pytest.raises(ImageUnreadable, match="gone"):
        read_image({"uri": f"{bucket}/gone.png"})


def test_a_uri_with_a_secret_is_refused() -> None:
    with pytest.raises(SettingError) as caught:
        read_image({"uri": "s3://key:secret@bucket/a.png"})

    assert "secret@" not in str(caught.value)
