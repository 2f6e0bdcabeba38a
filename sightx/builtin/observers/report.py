"""The report of a run, written when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightx.plugin import Observer, hookimpl

if TYPE_CHECKING:
    from sightx.plugin import RunInfo


class Report(Observer):
    """Write report.html into the run directory when the run has ended.

    It is what `sightx report` writes.
    """

    name = "report"

    images: bool = True
    """Whether to show mistakes as images, and image quality; images are then read again."""

    def build(self, run: RunInfo) -> object:
        """Return an object that writes the report."""
        return _Writer(images=self.images)


class _Writer:
    def __init__(self, *, images: bool) -> None:
        self._images = images

    @hookimpl
    def sightx_run_finished(self, run: RunInfo, result: dict[str, object]) -> None:
        from sightx.plugin import write_report

        is_scored = "test" in result or "validation" in result
        if is_scored and result["status"] in ("finished", "stopped"):
            write_report(run.directory, images=self._images)
