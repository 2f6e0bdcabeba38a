"""The table `[about]`: what a reader of reports and model cards wants to know."""

from __future__ import annotations

from sightx.registry.components import Settings


class About(Settings):
    """What the model is for: text for reports and model cards, not part of the experiment id."""

    purpose: str = ""
    """What the model is meant to decide, and for whom."""
    data_source: str = ""
    """Where the images come from."""
    limitations: str = ""
    """What the model must not be used for."""
    licence: str = ""
    """Licence of the data and of the weights."""
    contact: str = ""
    """Whom to ask."""
