"""Errors of the HTTP interface: stable codes, and one form for all of them."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Meaning(NamedTuple):
    """The HTTP status of an error, what it says, and what the client should do."""

    status: int
    message: str
    hint: str = ""


_RETRY = "repeat the request after Retry-After seconds"
_PHOTO = "take or choose another photograph"

ERRORS = {
    "bad_request": Meaning(400, "the request is malformed", "send valid HTTP/1.1"),
    "bad_multipart": Meaning(
        400, "the form is malformed", "let the client write Content-Type, which has the boundary"
    ),
    "unauthorized": Meaning(401, "the token is missing or wrong", "send Authorization: Bearer"),
    "cross_site": Meaning(
        403, "the request comes from another site", "name the site with --allow-host"
    ),
    "not_found": Meaning(404, "there is no such address", "GET /openapi.json lists them"),
    "method_not_allowed": Meaning(405, "the address has another method"),
    "slow_body": Meaning(408, "the body arrived too slowly", "repeat the request"),
    "too_large": Meaning(413, "the body is too large", "send a smaller file"),
    "unsupported_media_type": Meaning(
        415,
        "the header Content-Type names another kind of body",
        "send Content-Type: image/jpeg or image/png, or a form",
    ),
    "not_jpeg_or_png": Meaning(422, "the file is neither JPEG nor PNG", _PHOTO),
    "truncated": Meaning(422, "the end of the image is missing", "send the file again"),
    "too_many_pixels": Meaning(422, "the image has too many pixels", "send a smaller image"),
    "unreadable": Meaning(422, "the image cannot be read", _PHOTO),
    "missing_part": Meaning(422, "the form lacks a file", "GET /openapi.json names the parts"),
    "two_images": Meaning(422, "the form has a part twice", "send one image per part"),
    "not_ordered": Meaning(
        422, "the classes of this model are not grades", "use /v1/predict for each image"
    ),
    "cannot_explain": Meaning(
        422, "this network cannot be explained", "Grad-CAM needs a convolutional network"
    ),
    "client_closed": Meaning(499, "the client has closed the connection"),
    "non_finite_output": Meaning(
        500, "the network's output for this image is not finite", "report the request_id"
    ),
    "internal": Meaning(500, "the server failed", "report the request_id"),
    "not_ready": Meaning(503, "the model is being loaded", _RETRY),
    "busy": Meaning(503, "the queue is full", _RETRY),
    "too_late": Meaning(503, "there is no answer within the time limit", _RETRY),
    "draining": Meaning(503, "the server is stopping", _RETRY),
}
"""Each code with its meaning; `client_closed` appears only in the log and in the metrics."""


class RequestError(Exception):
    """A request gets an error in place of an answer.

    Attributes:
        code: One of `ERRORS`.
        message: What is wrong; nothing in it comes from the request, except numbers.
        hint: What to do.
        retry_after: After how many seconds the client should try again; 0 if it should not.
    """

    def __init__(
        self, code: str, message: str = "", hint: str = "", *, retry_after: int = 0
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message or ERRORS[code].message
        self.hint = hint or ERRORS[code].hint
        self.retry_after = retry_after

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return ERRORS[self.code].status

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that belong to the error."""
        if self.code == "unauthorized":
            return {"www-authenticate": "Bearer"}
        return {"retry-after": str(self.retry_after)} if self.retry_after else {}

    def body(self, request_id: str) -> ErrorBody:
        """Return the body of the answer."""
        texts = {"code": self.code, "message": self.message, "hint": self.hint}
        return ErrorBody(error=ErrorDetail(**texts, request_id=request_id))


class ErrorDetail(BaseModel):
    """What is wrong with a request, or with the server."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    code: str = Field(json_schema_extra={"enum": [*ERRORS]})
    """Stable name of the kind of error."""
    message: str
    """What is wrong."""
    hint: str
    """What to do; may be empty."""
    request_id: str
    """The request, as the server's log names it."""


class ErrorBody(BaseModel):
    """The body of every answer whose status is 400 or higher."""

    model_config = ConfigDict(extra="forbid")

    error: ErrorDetail
