"""Metrics, settings and plots of a run as TensorBoard shows them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sightx.plugin import Observer, Problem, ResourceError, flatten_settings, hookimpl

if TYPE_CHECKING:
    from sightx.plugin import Epoch, RunInfo


class TensorBoard(Observer):
    """Write the metrics, settings and plots of a run into files for TensorBoard.

    The files are in the run directory: `tensorboard --logdir runs` shows all runs, by their ids.
    """

    name = "tensorboard"
    reads_files = True

    def build(self, run: RunInfo) -> object:
        """Return an object that writes. Raises ResourceError if TensorBoard is not installed."""
        if find_spec("tensorboard") is None:
            hint = "pip install 'sightx[tensorboard]'"
            raise ResourceError(Problem("missing-package", "tensorboard is not installed", hint))
        return _Writer()


class _Writer:
    """Write a file of events per session; TensorBoard drops what a resumed run repeats."""

    def __init__(self) -> None:
        self._file: Any = None  # torch's FileWriter, whose functions have no types
        self._step = 0

    @hookimpl
    def sightx_run_started(self, run: RunInfo) -> None:
        """Open a file, and write the settings."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard.writer import FileWriter

        self._file = FileWriter(str(run.directory))
        if resumes := run.environment.get("resumes"):
            self._step = resumes[-1]["step"]
            start = SessionLog(status=SessionLog.START)
            self._file.add_event(Event(step=self._step + 1, session_log=start))
        self._write_settings(flatten_settings(run.environment["experiment"]))

    @hookimpl
    def sightx_epoch_finished(self, epoch: Epoch) -> None:
        """Write the metrics of an epoch."""
        self._step = epoch.step
        self._write_scalars({"epoch": epoch.number, "lr": epoch.lr, **epoch.metrics})
        self._file.flush()

    @hookimpl
    def sightx_run_finished(self, run: RunInfo, result: dict[str, Any]) -> None:
        """Write the final metrics, the plots and the status, and close the file."""
        if self._file is None:  # the run has failed before its first step
            return
        for split in ("validation", "test"):
            values = result.get(split, {})
            self._write_scalars({f"final/{k}": v for k, v in values.items() if v is not None})
        self._write_plots(run)
        self._write_status(str(result["status"]))
        self._file.close()

    def _write_scalars(self, values: dict[str, float]) -> None:
        from torch.utils.tensorboard import summary

        for key, value in values.items():
            scalar = summary.scalar(key, value)  # type: ignore[no-untyped-call]
            self._file.add_summary(scalar, self._step)

    def _write_settings(self, settings: dict[str, Any]) -> None:
        """Write settings as hyperparameters of this run.

        torch also writes a tag that declares the hyperparameters of all runs, of which TensorBoard
        reads only one run's: keys that this run lacks are then not shown. Without the tag
        TensorBoard collects the keys of all runs.
        """
        from torch.utils.tensorboard.summary import hparams

        _, start, _ = hparams(settings, {})  # type: ignore[no-untyped-call]
        self._file.add_summary(start)

    def _write_status(self, status: str) -> None:
        """Write how the session has ended."""
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        is_success = status in {"finished", "stopped"}
        end = Status.Value("STATUS_SUCCESS" if is_success else "STATUS_FAILURE")
        content = HParamsPluginData(
            session_end_info=SessionEndInfo(status=end), version=metadata.PLUGIN_DATA_VERSION
        )
        data = SummaryMetadata.PluginData(
            plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
        )
        value = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG, metadata=SummaryMetadata(plugin_data=data)
        )
        self._file.add_summary(Summary(value=[value]))

    def _write_plots(self, run: RunInfo) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        for path in sorted(run.directory.glob("plots/*.png")):
            with Image.open(path) as picture:
                width, height = picture.size
            image = Summary.Image(
                encoded_image_string=path.read_bytes(), width=width, height=height, colorspace=3
            )
            value = Summary.Value(tag=f"plots/{path.stem}", image=image)
            self._file.add_summary(Summary(value=[value]), self._step)
