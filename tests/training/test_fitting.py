"""One worker's updates: exact when taken up again, clipped unscaled, never past a bad number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microtome.datasets.labelled import LabelledSet, load_dataset
from microtome.errors import TrainingDiverged
from microtome_training.augmentation import View
from microtome_training.averaging import trained_state
from microtome_training.feeding import Batch, Corruption, ImageReader, SampledFeed
from microtome_training.fitting import Fitter
from microtome_training.model import build_embedder
from microtome_training.objective import build_objective
from microtome_training.reading import load_recipe
from microtome_training.recipe import Recipe
from microtome_training.sampler import Batches, Share
from microtome_training.state import Place, load_state, save_state
from support.made_patches import TINY, TINY_CGD, write_patches

LGFFEM = load_recipe(["folder-lgffem"], TINY)
UNFROZEN = load_recipe(["folder-lgffem"], [*TINY, "model.frozen=false", "optimiser.kind=sgd"])
CGD = load_recipe(["folder-cgd"], TINY_CGD)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    return load_dataset(f"folder:{write_patches(tmp_path_factory.mktemp('set'))}")


def fitter_of(recipe: Recipe) -> Fitter:
    torch.manual_seed(recipe.fit.seed)
    objective = build_objective(build_embedder(recipe.model), recipe.objective, 3).train()
    return Fitter(objective, objective, recipe, Share())


def feed_of(recipe: Recipe, labelled: LabelledSet) -> SampledFeed:
    reader = ImageReader(labelled, Corruption(len(labelled), 0.0))
    view = View(recipe.augmentation, recipe.model.input_px)
    return SampledFeed(reader, Batches(labelled.labels, 8, 2, 0), Share(), view, 2)


def epoch(fitter: Fitter, feed: SampledFeed, first: int = 0, last: int = 6) -> None:
    for update, batch in enumerate(feed.epoch(0, first), start=first):
        if update == last:
            return
        fitter.update([batch], Place(0, update), feed.steps)


def weights(fitter: Fitter) -> dict[str, torch.Tensor]:
    average = {} if fitter.average is None else fitter.average.state
    return {
        **{name: x.detach().clone() for name, x in trained_state(fitter.objective).items()},
        **{f"average.{name}": x.clone() for name, x in average.items()},
    }


@pytest.mark.parametrize("recipe", [LGFFEM, UNFROZEN, CGD], ids=["lgffem", "unfrozen", "cgd"])
def test_a_run_taken_up_in_mid_epoch_ends_with_the_very_same_weights(
    recipe: Recipe, labelled, tmp_path: Path
) -> None:
    unbroken = fitter_of(recipe)
    epoch(unbroken, feed_of(recipe, labelled))

    killed = fitter_of(recipe)
    epoch(killed, feed_of(recipe, labelled), last=3)
    save_state(tmp_path, killed.state(Place(0, 3), {}))
    torch.rand(99)  # whatever happened in between
    resumed = fitter_of(replace(recipe, fit=replace(recipe.fit, seed=0)))
    state = load_state(tmp_path)
    resumed.restore(state)
    epoch(resumed, feed_of(recipe, labelled), first=state.place.update)

    expected = weights(unbroken)
    assert all(torch.equal(expected[name], x) for name, x in weights(resumed).items())


def test_training_changes_what_is_trained_and_nothing_frozen(labelled) -> None:
    fitter = fitter_of(LGFFEM)
    frozen = {k: x.clone() for k, x in fitter.objective.embedder.backbone.state_dict().items()}
    before = weights(fitter)
    epoch(fitter, feed_of(LGFFEM, labelled))
    after = fitter.objective.embedder.backbone.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in frozen.items())
    changed = {name for name, x in weights(fitter).items() if not torch.equal(x, before[name])}
    assert {name for name, p in fitter.objective.named_parameters() if p.requires_grad} <= changed


def test_the_loss_falls(labelled) -> None:
    fitter, feed = fitter_of(CGD), feed_of(CGD, labelled)
    losses = [
        float(fitter.update([batch], Place(number, update), feed.steps))
        for number in range(4)
        for update, batch in enumerate(feed.epoch(number, 0))
    ]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


def test_two_halves_of_a_batch_make_the_gradient_of_the_whole(labelled) -> None:
    plain = load_recipe(["folder-lgffem"], [*TINY, "optimiser.kind=sgd", "fit.ema_decay=null"])
    batch = next(feed_of(plain, labelled).epoch(0, 0))
    halves = [Batch(batch.inputs[i::2], batch.labels[i::2]) for i in (0, 1)]
    ends = []
    for batches in ([batch], halves):
        fitter = fitter_of(plain)
        fitter.objective.eval()  # batch norm and dropout would tell halves from a whole
        fitter.update(batches, Place(), 6)
        ends.append(weights(fitter))
    assert all(torch.allclose(x, ends[1][name], atol=1e-6) for name, x in ends[0].items())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_are_clipped_after_unscaling(precision: str, labelled) -> None:
    # Plain SGD with a rate of 1 moves the weights by the gradient: by 0.01 where it is clipped so.
    recipe = load_recipe(
        ["folder-lgffem"],
        [*TINY, f"fit.precision={precision}", "optimiser.clip_norm=0.01", "fit.ema_decay=null"],
    )
    fitter = fitter_of(recipe)
    fitter._optimiser = torch.optim.SGD(fitter._trained, lr=1.0)
    fitter._optimiser.param_groups[0]["highest"] = 1.0
    fitter._scaler = torch.amp.GradScaler("cpu", 128.0, enabled=precision == "fp16")
    fitter._recipe = replace(
        recipe, schedule=replace(recipe.schedule, kind="constant", warmup_epochs=0)
    )
    before = [p.detach().clone() for p in fitter._trained]
    fitter.update([next(feed_of(recipe, labelled).epoch(0, 0))], Place(), 6)
    moved = torch.stack(
        [(p - b).detach().norm() for p, b in zip(fitter._trained, before, strict=True)]
    )
    assert float(moved.norm()) == pytest.approx(0.01, rel=0.01)


def test_a_gradient_that_isn_t_finite_ends_it_and_says_where(labelled) -> None:
    fitter, feed = fitter_of(LGFFEM), feed_of(LGFFEM, labelled)
    batches = feed.epoch(4, 0)
    fitter.update([next(batches)], Place(4, 0), 6)
    with torch.no_grad():
        fitter.objective.losses[0].W[0, 0] = torch.nan
    fitter.update([next(batches)], Place(4, 1), 6)
    with pytest.raises(TrainingDiverged, match="step 2 of epoch 5"):
        fitter.state(Place(4, 2), {})  # nothing bad is ever kept


def test_the_average_follows_the_weights_and_gives_them_back(labelled) -> None:
    fitter = fitter_of(CGD)
    epoch(fitter, feed_of(CGD, labelled))
    assert fitter.average is not None
    own = {name: x.detach().clone() for name, x in trained_state(fitter.objective).items()}
    name = "embedder.projections.0.weight"
    with fitter.average.in_place():
        inside = fitter.objective.state_dict()[name].clone()
    assert torch.equal(inside, fitter.average.state[name])
    assert not torch.equal(inside, own[name])
    assert torch.equal(fitter.objective.state_dict()[name], own[name])
