"""A recipe becomes a model folder on Ray, whatever dies meanwhile and wherever it is kept."""

from __future__ import annotations

import csv
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from microtome.config import GridSettings, MppSettings
from microtome.datasets.labelled import load_dataset
from microtome.engine.slide_work import SlideWork
from microtome.errors import SettingError, TrainingDiverged
from microtome.models.registry import load_card, load_encoder
from microtome.slides.slide import SlideRef
from microtome_training.reading import load_recipe
from microtome_training.recipe import Recipe
from microtome_training.run import (
    FitSummary,
    RunSettings,
    check_batch,
    run_training,
)
from microtome_training.sets import checked_classes
from support.glass import write_glass_with_tissue
from support.made_atlas import MadeAtlas
from support.made_patches import TINY, TINY_CGD, write_patches

pytestmark = [pytest.mark.ray]


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"))


def recipe_of(patches: Path, *changes: str, base: str = "folder-cgd") -> Recipe:
    tiny = TINY_CGD if base == "folder-cgd" else TINY
    return load_recipe([base], [*tiny, f"data.dataset=folder:{patches}", *changes])


def settings_of(out: object, workers: int = 1, **others: bool) -> RunSettings:
    return RunSettings(str(out), workers, cpus_per_worker=1, **others)


def run_quickly(recipe: Recipe, settings: RunSettings) -> FitSummary:
    """`run_training`, where Ray takes up a report when it comes, not one in two seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        return run_training(recipe, settings)


EXACT = ["fit.epochs=2", "fit.checkpoint_steps=2"]


@pytest.fixture(scope="module")
def unbroken(patches: Path, tmp_path_factory: pytest.TempPathFactory, ray_cluster) -> FitSummary:
    """A run of two workers that nothing happened to."""
    out = tmp_path_factory.mktemp("unbroken")
    return run_quickly(recipe_of(patches, *EXACT), settings_of(out, workers=2))


def test_the_result_is_a_model_that_encodes(unbroken: FitSummary) -> None:
    encoder = load_encoder(unbroken.out)
    assert encoder.card.model_id == unbroken.card.model_id
    assert encoder.card.dim == 16
    assert "c0" not in encoder.card.training_data
    assert encoder.card.metrics["R@1"] > 0.9  # the classes are colours
    assert encoder.card.licence == "CC0-1.0"  # nobody claims its random beginning


def test_the_result_indexes_a_slide(unbroken: FitSummary, tmp_path: Path) -> None:
    slide = write_glass_with_tissue(tmp_path / "made.svs")
    encoder, grid = load_encoder(unbroken.out), GridSettings(mpp=0.5, tile_px=256)
    atlas = MadeAtlas(str(tmp_path / "atlas"), grid=grid, card=encoder.card)
    work = SlideWork(atlas.target, grid, MppSettings(), "auto", 0.5, batch_size=16, threads=1)
    outcome = work.run(SlideRef("made", str(slide)), encoder, lambda planned, done: None)
    assert outcome.status == "done"
    assert outcome.stored_tiles > 0


def test_the_log_tells_every_epoch(unbroken: FitSummary) -> None:
    folder = Path(unbroken.out) / "training"
    with (folder / "log.csv").open() as file:
        judged = [row for row in csv.DictReader(file) if row["R@1"]]
    assert [row["epoch"] for row in judged] == ["1", "2"]
    assert all(float(row["images_per_s"]) > 0 for row in judged)
    assert list(folder.glob("events.out.tfevents.*"))
    assert load_recipe([str(folder / "recipe.yaml")]).fit.epochs == 2


def kill_a_worker_after(kept: int, out: Path, killed: list[int], over: threading.Event) -> None:
    """SIGKILL one training worker of this process's Ray once `kept` checkpoints lie in `out`."""
    while not killed and not over.wait(0.05):
        if len(list(out.glob("training/checkpoint_*/state.json"))) < kept:
            continue
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # Ray's come and go
                if not killed and process.name().startswith("ray::RayTrainWo"):
                    process.kill()
                    killed.append(process.pid)


def test_a_worker_killed_in_mid_epoch_changes_nothing(
    unbroken: FitSummary, patches: Path, tmp_path: Path
) -> None:
    killed: list[int] = []
    over = threading.Event()
    threading.Thread(target=kill_a_worker_after, args=(1, tmp_path, killed, over)).start()
    try:
        broken = run_training(recipe_of(patches, *EXACT), settings_of(tmp_path, workers=2))
    finally:
        over.set()
    assert killed
    assert broken.card.weights_sha256 == unbroken.card.weights_sha256


def test_a_new_run_doesn_t_mix_with_an_old_one(unbroken: FitSummary, patches: Path) -> None:
    with pytest.raises(SettingError, match="holds a run already"):
        run_training(recipe_of(patches), settings_of(unbroken.out))


def test_ray_data_feeds_from_a_bucket_and_the_run_is_kept_in_it(
    s3, patches: Path, ray_cluster
) -> None:
    files = {f"patches/{file.relative_to(patches)}": file for file in patches.rglob("*.*")}
    bucket = s3.bucket(files)
    out = f"{bucket}/model"
    here = ["fit.epochs=1", f"data.dataset=folder:{bucket}/patches"]
    streamed = ["data.feeding=ray-data", "fit.per_class=null"]
    first = run_quickly(
        recipe_of(patches, *here, *streamed, base="folder-lgffem"), settings_of(out)
    )
    assert first.card.dim == 32
    stored = {key.partition("/model/")[2] for key in s3.listed(out)}
    assert {"card.json", "weights.safetensors", "training/log.csv"} <= stored
    assert load_card(out) == first.card  # as `index --model` takes it
    kept = {key for key in stored if key.endswith("state.json")}
    assert len(kept) == 1

    # The second epoch's rate explodes: the first epoch's checkpoint stays as it was.
    wild = [*here, "fit.epochs=2", "optimiser.lr=1e30"]
    with pytest.raises(TrainingDiverged, match="of epoch 2"):
        run_quickly(recipe_of(patches, *wild, base="folder-lgffem"), settings_of(out, resume=True))
    assert {key.partition("/model/")[2] for key in s3.listed(out)} >= kept


def test_a_class_of_one_image_is_told_or_refused(patches: Path, tmp_path: Path) -> None:
    labelled = load_dataset(f"folder:{patches}")
    one = labelled.take([0, 16, 17, 32, 33])
    told = checked_classes(one, recipe_of(patches, base="folder-lgffem"))
    assert told.notes[-1].startswith("c0: one image to fit to")
    with pytest.raises(SettingError, match="c0: one image to fit to, but triplets need two"):
        checked_classes(one, recipe_of(patches))
    with pytest.raises(SettingError, match="fewer than two classes"):
        checked_classes(labelled.take([0, 1]), recipe_of(patches))


@pytest.mark.parametrize(("batch_size", "workers"), [(8, 3), (8, 8), (64, 128)])
def test_a_batch_that_workers_can_t_share_is_refused(batch_size: int, workers: int) -> None:
    with pytest.raises(SettingError, match=f"multiple of the {workers} workers"):
        check_batch(batch_size, range(workers, workers + 1))


def test_more_workers_than_this_machine_holds_are_refused(
    patches: Path, tmp_path: Path, ray_cluster
) -> None:
    with pytest.raises(SettingError, match="workers is 99, but this machine has cores for"):
        run_training(recipe_of(patches, "fit.batch_size=198"), settings_of(tmp_path, workers=99))
