import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from svhn_sweep.sweep.report.html_page import render_page
from svhn_sweep.sweep.report.leaderboard import Row
from svhn_sweep.trial_status import TrialStatus

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
MARKUP = "<script>alert('1 & 2')</script>"


def row(number: int, status: str, reason: str = "") -> Row:
    return Row(
        rank=number + 1 if status == "complete" else None,
        number=number,
        name=f"trial {number}" if number else "baseline",
        state=TrialStatus(status),
        value=0.9 if status == "complete" else None,
        delta=0.0 if status == "complete" else None,
        best_epoch=None,
        epochs=3,
        seconds=12.3,
        parameters=69_674,
        multiply_adds=4_213_000,
        seconds_per_1000_images=0.12,
        params={"training.learning_rate": 1e-3},
        reason=reason,
    )


class ParsedPage(HTMLParser):
    """Parses HTML.

    Attributes:
        open: Elements that are not closed.
        attributes: The attributes of each element, its name under `tag`.
        texts: The texts of each kind of element.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append({"tag": tag, **dict(attrs)})
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.fixture
def html(tmp_path: Path) -> str:
    images = [tmp_path / "history.png", tmp_path / "new_figure.png"]
    for path in images:
        path.write_bytes(PNG)
    rows = [row(0, "complete"), row(1, "complete"), row(2, "failed", MARKUP)]
    return render_page(
        f"Sweep {MARKUP}",
        ["One.", MARKUP],
        {"digits": MARKUP},
        rows,
        "val/accuracy",
        images,
        {"The recommended config again": "svhn-sweep", "The best trial": f"a='{MARKUP}'"},
    )


def test_the_page_is_well_formed_and_has_every_part(html: str) -> None:
    parsed = ParsedPage(html)
    assert parsed.open == []
    assert parsed.texts["h1"] == parsed.texts["title"] == [f"Sweep {MARKUP}"]
    assert parsed.texts["h2"] == [
        "The recommended config again",
        "The best trial",
        "Leaderboard",
        "Figures",
    ]
    assert parsed.texts["p"] == ["One.", MARKUP]
    assert parsed.texts["pre"] == ["svhn-sweep", f"a='{MARKUP}'"]
    assert parsed.texts["th"][:4] == ["rank", "trial", "state", "val/accuracy"]
    assert parsed.texts["td"][:4] == ["1", "baseline", "complete", "90.00%"]
    assert parsed.texts["td"][-1] == MARKUP
    assert html.count("<tr") == 4
    assert html.count('<tr class="baseline">') == 1


def test_the_page_loads_nothing_and_runs_nothing(html: str) -> None:
    for attributes in ParsedPage(html).attributes:
        assert attributes["tag"] not in ("script", "link", "iframe")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert not attributes.keys() & {"href", "onclick", "onload"}
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"base64,[^\"]*", "", html))


def test_images_are_embedded_with_alternative_texts(html: str) -> None:
    images = [
        attributes for attributes in ParsedPage(html).attributes if attributes["tag"] == "img"
    ]
    assert [base64.b64decode(str(image["src"]).partition("base64,")[2]) for image in images] == [
        PNG,
        PNG,
    ]
    assert [image["alt"] for image in images] == ["Figure: history", "Figure: new figure"]
    assert ParsedPage(html).texts["figcaption"][1] == "new figure"


def test_a_page_without_a_complete_trial_has_no_command() -> None:
    early = render_page("Sweep", [], {}, [row(0, "running")], "val/accuracy", [], {})
    assert ParsedPage(early).open == []
    assert "<pre>" not in early
