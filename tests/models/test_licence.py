"""Which weights may be used, and what a model made of several carries."""

from __future__ import annotations

import pytest

from microtome.errors import LicenceRefused
from microtome.models.licence import check_licence, joint_licence, spdx_name


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", "unknown", "dinov3-license"])
def test_a_licence_that_is_not_permissive_must_be_allowed_by_name(licence):
    with pytest.raises(LicenceRefused, match=f"allow it by name: {licence}"):
        check_licence("some-model", licence, allowed=("other",))
    check_licence("some-model", licence, allowed=(licence.upper(),))


# parts, the licence of the whole
@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (("MIT",), "MIT"),
        (("MIT", "MIT"), "MIT"),
        (("MIT", "Apache-2.0"), "Apache-2.0 AND MIT"),
        (("CC0-1.0", "cc-by-nc-4.0"), "cc-by-nc-4.0"),  # untrained weights add no claim
        (("CC0-1.0", "CC0-1.0"), "CC0-1.0"),
        (("MIT AND unknown", "Apache-2.0"), "Apache-2.0 AND MIT AND unknown"),
    ],
)
def test_a_whole_carries_the_licences_of_its_parts(parts, whole):
    assert joint_licence(*parts) == whole


def test_every_part_must_be_allowed():
    licence = joint_licence("Apache-2.0", "cc-by-nc-4.0", "unknown")
    with pytest.raises(LicenceRefused, match="by name: unknown"):
        check_licence("mixed", licence, allowed=("cc-by-nc-4.0",))
    check_licence("mixed", licence, allowed=("cc-by-nc-4.0", "unknown"))


@pytest.mark.parametrize(
    ("written", "spdx"), [("apache-2.0", "Apache-2.0"), (None, "unknown"), ("Odd", "odd")]
)
def test_spelling(written, spdx):
    assert spdx_name(written) == spdx
