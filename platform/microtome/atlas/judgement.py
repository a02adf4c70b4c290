"""What may become of a wave's slides, before anything of it is written.

A slide is known by its bytes. Where the atlas holds a wanted slide's bytes under another name, the
worker embeds nothing (`SlideOutcome.status` is `known`), and here is decided what that means:

- nothing lies any more where the other slide was read from, or it is the very same file: the slide
  was renamed, or moved to a place that gives it another name. It goes by its new name;
- the other one is still there: this is a copy, and a failure that names both.

What a wave may not do is push a slide out of the atlas because another one has its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from microtome.atlas.outcome import SlideOutcome
from microtome.errors import AtlasWriteFailed, DuplicateContent, DuplicateSlideId
from microtome.slides.storage import lies_at

SETTLED = frozenset({"done", "empty"})
"""Outcomes that write to `slides` and, where there are tiles, to `tiles`."""


@dataclass(slots=True)
class Known:
    """The slides of an atlas, as far as a wave may collide with them.

    Attributes:
        contents: content id by slide id.
        places: URI by slide id.
    """

    contents: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def learn(self, slide_id: str, content_id: str, uri: str) -> None:
        """A slide is in the atlas, or its place has changed."""
        self.contents[slide_id] = content_id
        self.places[slide_id] = uri

    def forget(self, slide_id: str) -> None:
        """A slide has left the atlas, or goes by another name."""
        del self.contents[slide_id]
        del self.places[slide_id]


def judged(
    outcomes: Iterable[SlideOutcome],
    known: Known,
    lies_there: Callable[[str], bool] = lies_at,
) -> tuple[tuple[SlideOutcome, ...], dict[str, str]]:
    """Decide on each slide, in order; one that is named twice counts once, by its first outcome.

    Args:
        outcomes: as workers gave them.
        known: the atlas before the wave.
        lies_there: whether anything lies at a URI.

    Returns:
        The outcomes, some of them failed; and the renamed slides: new name → name in the atlas.
    """
    first: dict[str, SlideOutcome] = {}
    for outcome in outcomes:
        first.setdefault(outcome.ref.slide_id, outcome)
    owner = {content_id: slide_id for slide_id, content_id in known.contents.items()}
    decided, renamed = [], {}
    for slide_id, outcome in first.items():
        verdict = _refuse_namesake(checked(outcome), known)
        other = owner.get(verdict.content_id, "")
        if verdict.status == "known":
            place = known.places.get(other, "")
            if other and (place == outcome.ref.uri or not lies_there(place)):
                owner.pop(known.contents.get(slide_id, ""), None)
                renamed[slide_id] = other
                owner[verdict.content_id] = slide_id
            else:
                verdict = verdict.failed(_twin(slide_id, other))
        elif verdict.status in SETTLED:
            if other not in {"", slide_id}:
                verdict = verdict.failed(_twin(slide_id, other))
            else:
                # A slide that changes lets go of its former bytes for the slides after it.
                owner.pop(known.contents.get(slide_id, ""), None)
                owner[verdict.content_id] = slide_id
        decided.append(verdict)
    return tuple(decided), renamed


def checked(outcome: SlideOutcome) -> SlideOutcome:
    """The outcome, failed if its fragments don't hold exactly the tiles that were planned."""
    if outcome.status not in SETTLED:
        return outcome
    # A retried fragment writer was seen to commit less than it was given (lance-ray#5290).
    durable = sum(json.loads(fragment)["physical_rows"] for fragment in outcome.fragments)
    if durable == outcome.stored_tiles == outcome.planned_tiles:
        return outcome
    return outcome.failed(
        AtlasWriteFailed(
            f"{outcome.ref.slide_id}: of {outcome.planned_tiles} planned tiles "
            f"{outcome.stored_tiles} were embedded and {durable} stored",
            remedy="Nothing of it is visible; run again to embed it anew.",
        )
    )


def _refuse_namesake(outcome: SlideOutcome, known: Known) -> SlideOutcome:
    """The outcome, failed if it would push another slide of the same name out of the atlas.

    A slide may change where it lies, and may move as it is; both at once is another slide.
    """
    slide_id = outcome.ref.slide_id
    place = known.places.get(slide_id, outcome.ref.uri)
    same = place == outcome.ref.uri or known.contents[slide_id] == outcome.content_id
    if same or outcome.status not in SETTLED | {"known"}:
        return outcome
    return outcome.failed(
        DuplicateSlideId(
            f"{slide_id} is the name of another slide in the atlas, from {place}",
            remedy="Give it a slide_id of its own in a manifest with the columns uri and slide_id.",
        )
    )


def _twin(slide_id: str, other: str) -> DuplicateContent:
    if not other:
        return DuplicateContent(
            f"{slide_id} had the same bytes as a slide that changed while it was read",
            remedy="Run again to index it.",
        )
    return DuplicateContent(
        f"{slide_id} has the same bytes as the slide {other} of the atlas",
        remedy="Leave out one of the two; if it was renamed, remove or move the old file and run "
        "again.",
    )
