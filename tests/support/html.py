"""A parser of the pages that SightX writes."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Parser(HTMLParser):
    """Collect attributes and text, and fail for tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.text, self.links = list[str](), "", list[str]()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href") and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
