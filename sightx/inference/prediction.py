"""The answer for one image: the same record in Python, on the command line and over HTTP.

An answer is graded or ungradable, and its `outcome` says which. An ungradable one has no grade, no
class and no probabilities, so none can be read from it by mistake. Probabilities are a list,
because JavaScript reorders the keys of an object that look like integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr


class _Record(BaseModel):
    """A frozen part of an answer."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True
    )


class ClassProbability(_Record):
    """A class, and its probability."""

    class_name: str = Field(alias="class")
    """Name of the class."""
    probability: float
    """Probability, 0 to 1."""


class ImageQuality(_Record):
    """What the quality component of the run says of an image."""

    verdict: Literal["good", "poor", "ungradable"]
    """A poor image is graded; an ungradable one is not."""
    reasons: tuple[str, ...] = ()
    """What is poor, such as `low-sharpness`; the worst first."""
    measures: Mapping[str, float] = Field(default_factory=dict)
    """The figures behind the verdict."""


class OperatingPointAnswer(_Record):
    """Whether a score reaches a threshold, which was chosen on the validation split."""

    name: str
    """high-sensitivity or high-specificity."""
    threshold: float
    """The least score that is positive."""
    is_positive: bool
    """Whether the score is at least the threshold."""


class BinaryAnswer(_Record):
    """The binary decision that the run declares, such as whether to refer a patient."""

    positive: tuple[str, ...]
    """Names of the positive classes."""
    score: float
    """The sum of their probabilities, 0 to 1."""
    operating_points: tuple[OperatingPointAnswer, ...]
    """The decision at each threshold that could be chosen."""


class ModelId(_Record):
    """The model that gave an answer."""

    id: str
    """RUN@CHECKPOINT."""
    weights_sha256: str
    """SHA-256 of the file of weights, in hexadecimal."""
    experiment_sha256: str = ""
    """SHA-256 of the settings that define the experiment; "" if it is unknown."""
    engine: str = "torch"
    """What computed the network: torch, onnx or int8."""

    @property
    def checkpoint(self) -> str:
        """Return the name of the checkpoint's directory."""
        return self.id.partition("@")[2]


class _Answer(_Record):
    """An answer that JSON can hold."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values; keys without a value are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Graded(_Answer):
    """The predicted class of an image."""

    format: Literal[1] = 1
    """Version of this record."""
    outcome: Literal["graded"] = "graded"
    grade: int | None = None
    """Position of the class, counted from 0; None if the classes are not ordered."""
    class_name: str = Field(alias="class")
    """Name of the predicted class, which fitted cut points may let differ from the likeliest."""
    probabilities: tuple[ClassProbability, ...]
    """Each class with its calibrated probability, in the order of the run."""
    decision: BinaryAnswer | None = None
    """None unless the run declares a binary decision."""
    quality: ImageQuality | None = None
    """None unless the run judges the quality of images."""
    model: ModelId

    _outputs: tuple[float, ...] = PrivateAttr(())

    @property
    def outputs(self) -> tuple[float, ...]:
        """Return the network's outputs, which are not part of the record; () if unknown."""
        return self._outputs

    def with_outputs(self, outputs: Sequence[float]) -> Graded:
        """Return the same answer with the network's outputs."""
        copy = self.model_copy()
        copy._outputs = tuple(outputs)
        return copy


class Ungradable(_Answer):
    """The answer for an image whose quality does not allow a grade."""

    format: Literal[1] = 1
    """Version of this record."""
    outcome: Literal["ungradable"] = "ungradable"
    quality: ImageQuality
    """Why there is no grade."""
    model: ModelId


Prediction = Annotated[Graded | Ungradable, Field(discriminator="outcome")]


class GradedPatient(_Answer):
    """What the predictions for both eyes say of a patient: the worse grade of the two."""

    format: Literal[1] = 1
    """Version of this record."""
    patient: str | None = None
    """The patient, as the list of pairs names it; None over HTTP."""
    outcome: Literal["graded"] = "graded"
    grade: int
    """The higher grade, counted from 0."""
    class_name: str = Field(alias="class")
    """Its class."""
    eyes: Literal["both", "left", "right"] = Field(alias="from")
    """The eyes that have a grade."""
    decision: BinaryAnswer | None = None
    """That of the eye with the higher score; None unless the run declares one."""
    left: Prediction | None = None
    """The prediction for the left eye; None without a readable image."""
    right: Prediction | None = None
    """The same for the right eye."""


class UngradablePatient(_Answer):
    """The answer for a patient of whom neither eye has a grade: it has no grade and no class."""

    format: Literal[1] = 1
    """Version of this record."""
    patient: str | None = None
    """The patient, as the list of pairs names it; None over HTTP."""
    outcome: Literal["ungradable"] = "ungradable"
    left: Prediction | None = None
    """The prediction for the left eye; None without a readable image."""
    right: Prediction | None = None
    """The same for the right eye."""


PatientGrade = Annotated[GradedPatient | UngradablePatient, Field(discriminator="outcome")]
