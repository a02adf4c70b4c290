from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microtome.atlas import mosaic as mosaic_module
from microtome.atlas.atlas import Atlas
from microtome.atlas.compaction import compact
from microtome.atlas.derived import IndexUnusable
from microtome.atlas.forgetting import Subject, forget, purge
from microtome.atlas.maintain import MaintainSettings, maintain
from microtome.atlas.mosaic import MOST, Mosaic, cluster, unit
from microtome.atlas.mosaic_building import refresh_all_mosaics, refresh_mosaics, rows_by_slide
from microtome.atlas.mosaic_files import FOLDER, drop_mosaics, newest_card
from microtome.atlas.mosaics import MadeMosaics, mosaic_of, places
from microtome.atlas.repair import repair
from microtome.atlas.stored_mosaics import open_mosaics
from microtome.atlas.vector_index import vector_files
from microtome.atlas.verify import verify
from microtome.atlas.words import Words
from microtome.atlas.writer import open_writer
from microtome.errors import AtlasWriteFailed
from support.made_atlas import CARD, MadeAtlas, vectors_of
from support.many_slides import Kinds, append_slides, make_slides, slide_name

DIM = 16
KINDS = Kinds(dim=DIM, kinds=5, tissues=30, mixed=4)
SLIDES, TILES = 40, 30


@pytest.fixture
def atlas(tmp_path):
    return make_slides(str(tmp_path / "atlas"), KINDS, SLIDES, TILES)


@pytest.fixture
def model_id(atlas):
    (model_id,) = atlas.models
    return model_id


def refreshed(atlas, **options):
    (model_id,) = atlas.models
    return refresh_mosaics(atlas, model_id, least_tiles=1, **options)


def stored(atlas):
    (model_id,) = atlas.models
    return open_mosaics(atlas.uri, model_id)


def delete(atlas, condition):
    with open_writer(atlas.uri, "test") as writer:
        writer.delete("tiles", condition)


def add(atlas, count, seed=3, first=SLIDES):
    with open_writer(atlas.uri, "test") as writer:
        (vectors,) = KINDS.slides(count, TILES, seed=seed)
        append_slides(writer, atlas, vectors, TILES, first)


def half_precision(rows: int, seed: int = 0) -> np.ndarray:
    (vectors,) = Kinds(dim=DIM, kinds=1, mixed=6).slides(1, rows, seed=seed)
    return vectors.astype(np.float16)


# -- one slide


def test_a_small_slide_is_its_own_mosaic():
    vectors = half_precision(MOST)
    made = Mosaic.of(vectors, np.arange(MOST) * 3)
    assert np.array_equal(made.vectors, vectors)
    assert made.row_ids.tolist() == list(range(0, 3 * MOST, 3))
    assert (made.weights == 1).all()


def test_a_large_slide_is_stood_for_by_some_of_its_tiles():
    vectors = half_precision(1000)
    made = Mosaic.of(vectors, np.arange(1000) + 7)
    assert 90 <= len(made) <= MOST
    assert made.tiles == 1000
    assert (np.diff(made.row_ids) > 0).all()
    assert np.array_equal(vectors[made.row_ids - 7], made.vectors)
    again = Mosaic.of(vectors, np.arange(1000) + 7)
    assert np.array_equal(again.row_ids, made.row_ids)
    assert np.array_equal(again.weights, made.weights)


def test_tissues_weigh_what_they_cover(monkeypatch):
    monkeypatch.setattr(mosaic_module, "MOST", 2)
    pair = np.eye(2, DIM, dtype=np.float16)
    vectors = np.repeat(pair, [70, 30], axis=0) + half_precision(100) * np.float16(0.05)
    made = Mosaic.of(vectors, np.arange(100))
    assert made.weights.tolist() == [70, 30]
    assert np.allclose(unit(made.vectors), pair, atol=0.1)
    assert np.allclose(made.mean, unit(vectors).mean(axis=0), atol=1e-3)


def test_tiles_that_are_all_alike_make_one_representative():
    vectors = np.ones((500, DIM), np.float16)
    made = Mosaic.of(vectors, np.arange(500))
    assert made.weights.tolist() == [500]


def test_joined_mosaics_weigh_their_slides_by_their_tiles():
    parts = [Mosaic.of(half_precision(n, seed=n), np.arange(n)) for n in (10, 300)]
    joined = Mosaic.joined(parts)
    assert joined.tiles == 310
    assert len(joined) == sum(map(len, parts))
    mean = (10 * parts[0].mean.astype(float) + 300 * parts[1].mean.astype(float)) / 310
    assert np.allclose(joined.mean, mean, atol=1e-3)


def test_very_many_joined_mosaics_are_thinned_and_stand_for_all_tiles(monkeypatch):
    parts = [Mosaic.of(half_precision(50, seed=n), np.arange(50) + 50 * n) for n in range(6)]
    whole = Mosaic.joined(parts)
    monkeypatch.setattr(mosaic_module, "MOST_JOINED", 40)
    thin = Mosaic.joined(parts)
    assert (len(whole), len(thin)) == (300, 40)
    assert thin.tiles == whole.tiles == 300
    assert len(set(thin.row_ids // 50)) == 6, "of all slides"
    assert np.array_equal(thin.vectors, whole.vectors[thin.row_ids])
    assert np.array_equal(thin.mean, whole.mean)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_clustering_gives_unit_centres_no_more_than_asked_for(rows, count, seed):
    vectors = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    centres = cluster(unit(vectors), count)
    assert 1 <= len(centres) <= min(rows, count)
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)


# -- the mosaics of all slides


def test_every_slide_has_its_mosaic(atlas, model_id):
    became = refreshed(atlas)
    assert (became.made, became.removed) == (SLIDES, 0)
    assert became.card == newest_card(atlas.uri, model_id)
    held = stored(atlas)
    rows = rows_by_slide(atlas.tiles, model_id)
    assert held.slide_ids.tolist() == list(rows)
    for number in (0, 7, SLIDES - 1):
        mosaic = mosaic_of(held, number)
        assert mosaic.row_ids.tolist() == rows[held.slide_ids[number]].tolist()
        found = atlas.tiles.to_table(filter=f"slide_id = '{slide_name(number)}'")
        vectors = found[f"vector_{model_id}"].combine_chunks().flatten().to_numpy()
        assert np.array_equal(mosaic.vectors.ravel(), vectors)


def test_a_store_of_mosaics_answers_as_those_in_memory(atlas):
    refreshed(atlas)
    held = stored(atlas)
    made = MadeMosaics({s: mosaic_of(held, n) for n, s in enumerate(held.slide_ids)}, DIM)
    for name in ("slide_ids", "firsts", "tiles", "row_ids", "weights", "means"):
        assert np.array_equal(getattr(made, name), getattr(held, name)), name
    some = np.array([31, 2, 3])
    assert np.array_equal(made.vectors(some), held.vectors(some))
    assert np.array_equal(held.row_ids[places(held, some)], made.row_ids[places(made, some)])


def test_there_are_none_of_few_tiles(atlas, model_id):
    refreshed(atlas)
    became = refresh_mosaics(atlas, model_id, least_tiles=SLIDES * TILES + 1)
    assert (became.card, became.removed) == (None, 1)
    assert open_mosaics(atlas.uri, model_id) is None


def test_what_is_up_to_date_is_left_alone(atlas):
    first = refreshed(atlas).card
    again = refreshed(atlas)
    assert (again.card, again.made, again.removed) == (first, 0, 0)


def test_new_and_changed_slides_are_made_and_gone_ones_leave(atlas):
    refreshed(atlas)
    add(atlas, 3)
    delete(atlas, "slide_id = 'slide-000004' OR (slide_id = 'slide-000006' AND x < 10)")
    became = refreshed(atlas)
    assert (became.made, became.removed, became.card.slides) == (4, 1, SLIDES + 2)
    held = stored(atlas)
    assert "slide-000004" not in held.slide_ids
    assert held.tiles[held.slide_ids.tolist().index("slide-000006")] == TILES - 10
    folder = Path(atlas.uri) / FOLDER / next(iter(atlas.models))
    assert [path.name for path in folder.iterdir()] == [str(became.card.number)]


@pytest.mark.parametrize("damaged", ["vectors.npy", "weights.npy", "slides.arrow", "mosaics.json"])
def test_damaged_ones_are_refused_and_made_anew(atlas, damaged):
    card = refreshed(atlas, least_slides=10).card
    path = Path(atlas.uri) / FOLDER / card.model_id / str(card.number) / damaged
    data = bytearray(path.read_bytes())
    data[-2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(IndexUnusable, match=f"its {damaged} is damaged"):
        stored(atlas).vectors(np.arange(SLIDES))
    if damaged == "vectors.npy":  # noticed as soon as something changes
        add(atlas, 1)
    assert refreshed(atlas).made >= 1
    assert len(stored(atlas).vectors(np.arange(SLIDES))) == SLIDES * TILES


def test_those_of_another_table_are_refused_and_made_anew(atlas, tmp_path):
    refreshed(atlas)
    other = make_slides(str(tmp_path / "other"), KINDS, SLIDES, TILES // 2)
    (Path(atlas.uri) / FOLDER).rename(Path(other.uri) / FOLDER)
    assert refreshed(other).made == SLIDES


def test_one_that_lost_the_lease_publishes_nothing(atlas, model_id):
    def lost() -> None:
        raise AtlasWriteFailed("another job took over")

    with pytest.raises(AtlasWriteFailed):
        refreshed(atlas, may_publish=lost)
    assert newest_card(atlas.uri, model_id) is None
    assert refreshed(atlas).made == SLIDES


def test_a_vocabulary_puts_every_vector_down_once_under_a_near_word(atlas):
    refreshed(atlas, least_slides=10)
    held = stored(atlas)
    words = held.words["vector"]
    assert sorted(words.members.tolist()) == list(range(SLIDES * TILES))
    vectors = unit(held.vectors(np.arange(SLIDES)))
    found, cosines = words.nearest(vectors, 3, topics=len(words.topics))
    best = (vectors @ words.words.T).max(axis=1)
    assert np.allclose(cosines[:, 0], best, atol=1e-6)
    members, ranks = words.members_near(found[100])
    assert 100 in members[ranks == 0]
    assert held.owners[members].tolist() == (members // TILES).tolist()
    assert (np.diff(ranks) >= 0).all()
    assert ranks.max() < 3


def test_a_vocabulary_of_few_vectors_has_one_word():
    vectors = unit(half_precision(5))
    words = Words.of(lambda at: vectors[at], 5)
    assert len(words.words) == 1
    assert words.nearest(vectors, 4, topics=3)[0][:, 0].tolist() == [0] * 5
    assert (words.nearest(vectors, 4, topics=3)[0][:, 1:] == -1).all()


# -- in the life of an atlas


@pytest.fixture
def made(tmp_path):
    made = MadeAtlas(str(tmp_path / "atlas"))
    made.committer.commit([made.done(name, tiles=8) for name in ("a", "b", "c")])
    return made


def test_what_is_forgotten_leaves_no_byte_in_the_mosaics(made):
    refresh_all_mosaics(made.writer, least_tiles=1)
    hidden = vectors_of("b", 1)[0].astype(np.float16).tobytes(), b'"b"'
    assert _traces(made.uri, hidden[0])
    forget(made.writer, Subject("b"))
    purge(made.writer)
    assert not _traces(made.uri, hidden[0])
    assert not (Path(made.uri) / FOLDER).exists()
    refresh_all_mosaics(made.writer, least_tiles=1)
    held = open_mosaics(made.uri, CARD.model_id)
    assert held.slide_ids.tolist() == ["a", "c"]
    assert not _traces(made.uri, hidden[0])


def _traces(uri: str, needle: bytes) -> list[Path]:
    files = (path for path in (Path(uri) / FOLDER).rglob("*") if path.is_file())
    return [path for path in files if needle in path.read_bytes()]


def test_compaction_changes_no_mosaic(made):
    refresh_all_mosaics(made.writer, least_tiles=1)
    before = newest_card(made.uri, CARD.model_id)
    assert compact(made.writer, "tiles") == 3
    assert refresh_all_mosaics(made.writer, least_tiles=1) == []
    after = newest_card(made.uri, CARD.model_id)
    assert (after.number, after.files) == (before.number, before.files)
    known = vector_files(Atlas.open(made.uri).tiles, CARD.model_id)
    assert after.sources == list(known.values()) != before.sources


def test_maintenance_makes_them_and_says_so(made, monkeypatch):
    monkeypatch.setattr("microtome.atlas.maintain.refresh_all_mosaics", _of_few)
    uri = made.uri
    made.release()
    steps = {step.name: step.did for step in maintain(uri, MaintainSettings()).steps}
    assert steps["mosaics"] == f"made 3 by made ({CARD.model_id})"
    steps = {step.name: step.did for step in maintain(uri, MaintainSettings()).steps}
    assert steps["mosaics"] == ""
    none = maintain(uri, MaintainSettings(index="none"))
    assert "mosaics" not in {step.name for step in none.steps}
    assert verify(uri, vectors=True).findings == ()


def _of_few(writer, tell):
    return refresh_all_mosaics(writer, tell, least_tiles=1)


def test_verify_tells_of_damaged_ones_and_repair_drops_them(made):
    refresh_all_mosaics(made.writer, least_tiles=1)
    (path,) = (Path(made.uri) / FOLDER).rglob("vectors.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    report = verify(made.uri, vectors=True, ours=True)
    assert report.holds
    (finding,) = (one for one in report.findings if one.check == "indices")
    assert finding.subject == f"mosaics.{CARD.model_id}"
    assert "vectors.npy is damaged" in finding.message
    repair(made.writer, vectors=True)
    assert open_mosaics(made.uri, CARD.model_id) is None


def test_they_go_with_their_model(made):
    refresh_all_mosaics(made.writer, least_tiles=1)
    assert drop_mosaics(made.uri, CARD.model_id) == 1
    assert open_mosaics(made.uri, CARD.model_id) is None


def test_they_work_in_a_bucket(s3):
    made = MadeAtlas(f"{s3.bucket()}/atlas")
    made.committer.commit([made.done(name, tiles=8) for name in ("a", "b")])
    assert refresh_all_mosaics(made.writer, least_tiles=1) == [f"made 2 by made ({CARD.model_id})"]
    held = open_mosaics(made.uri, CARD.model_id)
    assert held.vectors(np.arange(2)).shape == (16, 8)
    made.committer.commit([made.done("c", tiles=8)])
    refresh_all_mosaics(made.writer, least_tiles=1)
    assert open_mosaics(made.uri, CARD.model_id).slide_ids.tolist() == ["a", "b", "c"]
