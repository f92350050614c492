"""Words of the report, and of the dashboard, which has its colours, can be read in both schemes."""

from __future__ import annotations

import re

import pytest

from autosparse.artifacts.report import report_asset

TONES = ("good", "warn", "bad", "accent")
# what is written on what: WCAG 2.2 asks for 4.5 where letters are of the usual size
PAIRS = [
    *((ink, ground) for ink in ("text", "muted") for ground in ("page", "surface")),
    *((tone, "page") for tone in TONES), *((tone, f"{tone}-soft") for tone in TONES),
    ("text", "accent-soft"), ("text", "bad-soft"), ("page", "accent"),
]  # fmt: skip
LEAST = 4.5


def schemes() -> dict[str, dict[str, str]]:
    """Name of a colour -> its hexadecimal spelling, in the light and in the dark."""
    blocks = re.findall(r":root \{(.*?)\}", report_asset("report.css"), re.DOTALL)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    return dict(zip(("light", "dark"), filter(None, found), strict=True))


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(scheme: str) -> None:
    colours = schemes()[scheme]
    found = {(ink, ground): contrast(colours[ink], colours[ground]) for ink, ground in PAIRS}
    assert {pair: ratio for pair, ratio in found.items() if ratio < LEAST} == {}
