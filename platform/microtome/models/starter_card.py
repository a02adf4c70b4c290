"""The card of `starter`, apart from its module so that it can be read without importing torch."""

from __future__ import annotations

from microtome.models.card import ModelCard, Preprocessing

VERSION = 1  # part of the model's id: raise it when anything that `starter` computes changes

STARTER_CARD = ModelCard(
    name="starter",
    architecture={"kind": "starter", "version": VERSION},
    preprocessing=Preprocessing(224, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
    dim=396,
    weights_sha256="91bfd60610c57c5542ee737975cd090ad3bece5569e434e72b4e7b4386d7e6ec",
    licence="Apache-2.0",
    training_data="none",
    notes=(
        "A start that needs no download: colour and texture statistics of stained tissue, beside "
        "an untrained LGFFEM of fixed random weights. It has learnt nothing. It finds tissue of "
        "like stain, nuclear density and texture; it knows no diagnoses. For H&E. Use a trained "
        "model for anything that matters."
    ),
)
