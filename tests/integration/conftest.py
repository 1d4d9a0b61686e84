"""The container image, which is built once for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.image import Image, built, why_no_build


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Image]]:
    """Returns two builds of the image."""
    if reason := why_no_build():
        pytest.skip(reason)
    with built(tmp_path_factory.mktemp("debian")) as images:
        yield images


@pytest.fixture(scope="session")
def image(images: list[Image]) -> Image:
    return images[0]
