"""The cards of models without a file, so that they can be read without importing torch."""

from __future__ import annotations

import hashlib

from microtome.models.card import ModelCard, Preprocessing

VERSION = 1  # part of their ids: raise it when anything that they compute changes

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

STATISTICS_CARD = ModelCard(
    name="statistics",
    architecture={"kind": "statistics", "version": VERSION},
    preprocessing=STARTER_CARD.preprocessing,
    dim=268,
    weights_sha256=hashlib.sha256().hexdigest(),  # of no weights
    licence="Apache-2.0",
    training_data="none",
    notes="The colour and texture statistics of `starter` alone; nothing is learnt in them.",
)
