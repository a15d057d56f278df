"""Templates, links, and the few words and marks that every page shares."""

from __future__ import annotations

import json
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from method_cards.calibration import PROMISED_DETECTION, PROMISED_FALSE_ALARMS
from method_cards.judge import number, roughly
from method_cards.render import history, interval, markdown, rate_drawings, words
from method_cards.render.charts import spoken
from method_cards.render.results import GRAVITY, STATES
from method_cards.verdict import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from method_cards.verdict import CriterionResult, IntervalData

LEAST_P = 1e-9

TEMPLATES = Path(__file__).parent / "templates"

MEANING = {
    Outcome.PASSED: "The interval lies inside the bound.",
    Outcome.FAILED: "The interval lies outside the bound.",
    Outcome.INCONCLUSIVE: "The interval straddles the bound: more samples would decide.",
    Outcome.INVALID: "A condition of the run does not hold, so its numbers mean nothing; more samples would not help.",
    Outcome.NOT_APPLICABLE: "The prescription says nothing about this subject.",
    Outcome.ERRORED: "The check could not measure.",
    Outcome.UNANSWERED: "A question that nobody has answered yet.",
    Outcome.ANSWERED: "A question that a person has answered, with evidence.",
}


@cache
def chip(outcome: Outcome, text: str = "") -> Markup:
    """A verdict as a word with an icon; the style sheet adds the icon and the colour."""
    return Markup('<span class="mc-chip mc-{}">{}</span>').format(outcome.value, text or spoken(outcome.value))


def measured(result: CriterionResult) -> Markup:
    """What was measured against which bound, in a line; the number first, since that is what is looked for."""
    assert result.interval is not None
    found, _, rest = words.measured(result.interval, result.unit).partition(",")
    return Markup("{} is <strong>{}</strong>,{}. Allowed: {}.").format(
        words.capital(interval.label(result)), found, rest, unbroken(result.bound)
    )


def unbroken(bound: str) -> str:
    """A bound whose sign is never parted from its number."""
    return bound.replace(" ", "\N{NO-BREAK SPACE}")


def bare(outcome: Outcome) -> Markup:
    """The same without its meaning, for a long list of them."""
    return Markup('<span class="mc-chip mc-{}">{}</span>').format(outcome.value, spoken(outcome.value))


def counts(outcomes: Iterable[Outcome]) -> Markup:
    """How many verdicts of each kind, as a row of chips, the gravest first."""
    listed = list(outcomes)
    chips = [
        chip(outcome, f"{listed.count(outcome)} {spoken(outcome.value)}") for outcome in GRAVITY if outcome in listed
    ]
    return Markup(" ").join(chips)


def tally(outcomes: Iterable[Outcome]) -> str:
    """How many verdicts of each kind in words, the gravest first, for places with no room for chips."""
    listed = list(outcomes)
    return ", ".join(f"{listed.count(outcome)} {spoken(outcome.value)}" for outcome in GRAVITY if outcome in listed)


@cache
def level(text: str) -> Markup:
    """The level of a prescription as a badge."""
    return Markup('<span class="mc-level mc-level-{}">{}</span>').format(text.partition(" ")[0].lower(), text)


def probability(value: float) -> str:
    """A p-value for people: what is smaller than anybody would act on is not spelt out."""
    return number(value) if value >= LEAST_P else f"< {LEAST_P:g}"


def anchor(name: str, label: str = "") -> Markup:
    """The mark that gives a heading its place, and its words in the table of contents: an attribute list, which most generators know.

    It begins with a space: what begins as Jinja's comments do would be lost where a template plugin reads the page.
    """
    place = re.sub(r"[^A-Za-z0-9_-]", "", name)
    said = Markup(' data-toc-label="{}"').format(markdown.title(label)) if label else ""
    return Markup("{{ #{}{} }}").format(place, said)


def share(data: IntervalData) -> str:
    """A rate with its interval, as short as it goes."""
    return f"{data.estimate:.0%} ({data.low:.0%} to {data.high:.0%})"


def percent(data: IntervalData) -> str:
    """A rate with its interval, in percent."""
    return f"{data.estimate:.0%} ({data.confidence:.0%} interval {data.low:.0%} to {data.high:.0%})"


def percent_in_short(data: IntervalData) -> str:
    """The same where it is clear that the range is an interval."""
    return f"{data.estimate:.0%} ({100 * data.low:.0f} to {data.high:.0%})"


_HEADINGS = {
    "responsible_ai": "Responsible AI",
    "inputs_outputs": "In and out",
    "explanation": "What kind of explanation",
    "if": "If",
}
"""Names of fields that would not make a heading as they are."""


def heading(slug: str) -> str:
    """The words of a slug as a heading."""
    return words.capital(_HEADINGS.get(slug) or spoken(slug))


def html(text: str) -> Markup:
    """A piece of a page as one block of HTML that Markdown leaves alone.

    No line is blank, indented, or begins with anything but a tag: extensions of site generators look for fences and the like
    at the start of every line, even within an attribute, and text from a record may hold line breaks.
    """
    lines: list[str] = []
    for line in str(markdown.no_templates(Markup(text))).splitlines():  # noqa: S704  (as below)
        piece = line.strip()
        if piece and (not lines or _TAG.match(piece)):
            lines.append(piece)
        elif piece:
            lines[-1] += f" {piece}"
    return Markup("\n\n" + "\n".join(lines) + "\n\n")  # noqa: S704  (made by an escaping template)


_TAG = re.compile(r"</?[a-z]")


class Links:
    """Addresses relative to one page.

    Args:
        page: The path of the page among the Markdown files, such as ``cards/x.md``.
        directory_urls: Whether ``cards/x.md`` is served as ``cards/x/``.
    """

    def __init__(self, page: str, *, directory_urls: bool) -> None:
        self._page = page
        self._directory_urls = directory_urls

    def source(self, page: str, anchor: str = "") -> str:
        """To a page, in Markdown, for the site generator to turn into an address."""
        return posixpath.relpath(page, posixpath.dirname(self._page) or ".") + (f"#{anchor}" if anchor else "")

    def page(self, page: str, anchor: str = "") -> str:
        """To a page, in HTML."""
        return (
            posixpath.relpath(self._served(page), self._folder)
            + ("/" if self._directory_urls else "")
            + (f"#{anchor}" if anchor else "")
        )

    def asset(self, name: str) -> str:
        """To a file that is served as it is."""
        return posixpath.relpath(name, self._folder)

    @property
    def _folder(self) -> str:
        served = self._served(self._page)
        return (served if self._directory_urls else posixpath.dirname(served)) or "."

    def _served(self, page: str) -> str:
        if not self._directory_urls:
            return re.sub(r"\.md$", ".html", page)
        return (
            re.sub(r"(^|/)index\.md$", r"\1", page).rstrip("/") or "."
            if page.endswith("index.md")
            else page.removesuffix(".md")
        )


@cache
def environment() -> jinja2.Environment:
    """The templates, escaping whatever is not marked as safe."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "md": markdown.block,
        "inline": markdown.inline,
        "cell": markdown.cell,
        "plain": markdown.plain,
        "title": markdown.title,
        "code": markdown.code,
        "html": html,
        "words": spoken,
        "procedure": words.procedure,
        "heading": heading,
        "compact": words.value,
        "number": number,
        "roughly": roughly,
        "percent": percent,
        "in_short": percent_in_short,
        "share": share,
        "probability": probability,
        "unbroken": unbroken,
        "duration": words.duration,
        "quoted": lambda text: Markup(json.dumps(markdown.metadata(text), ensure_ascii=False)),  # noqa: S704
    }
    found.globals |= {
        "chip": chip,
        "bare": bare,
        "counts": counts,
        "level": level,
        "anchor": anchor,
        "draw_interval": interval.draw,
        "measured": measured,
        "state": STATES.__getitem__,
        "draw_course": history.draw,
        "tally": tally,
        "quantity": interval.label,
        "quantity_of": words.quantity,
        "draw_rate": rate_drawings.rate,
        "shortcoming": words.shortcoming,
        "promised": {"detection": PROMISED_DETECTION, "false_alarm": PROMISED_FALSE_ALARMS},
        "Outcome": Outcome,
    }
    return found


def render(template: str, **context: Any) -> str:
    """A page as Markdown."""
    text = markdown.visible(environment().get_template(template).render(**context))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
