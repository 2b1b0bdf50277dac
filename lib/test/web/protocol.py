"""Messages of a page. Anything else is refused before it reaches the page's thread."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from lib.test.web.desk import MOST_OBJECTS
from lib.test.web.exports import Download
from lib.utils.errors import UserError

_NUMBER = Annotated[float, Field(allow_inf_nan=False, ge=-1e7, le=1e7)]
_FRAME = Annotated[int, Field(ge=0, le=10**7)]
_OBJECT = Annotated[int, Field(ge=1, le=MOST_OBJECTS)]
_NAME = Annotated[str, Field(max_length=200)]

_FIELDS: dict[str, dict[str, Any]] = {
    "open_sample": {"name": _NAME},
    "open_media": {"path": Annotated[str, Field(max_length=4096)]},
    "open_upload": {},
    "draw": {"number": _OBJECT, "frame": _FRAME, "box": Annotated[list[_NUMBER], Field(min_length=4, max_length=4)]},
    "remove": {"number": _OBJECT},
    "track": {"key": _NAME, "engine": _NAME},
    "pause": {},
    "show": {"frame": _FRAME},
    "export": {"what": Download},
    "ack": {},
}


def _model(kind: str, fields: dict[str, Any]) -> type[BaseModel]:
    required = {name: (field, ...) for name, field in fields.items()}
    return create_model(kind, __config__=ConfigDict(extra="forbid", strict=True), type=(Literal[kind], ...), **required)


_MODELS = {kind: _model(kind, fields) for kind, fields in _FIELDS.items()}


def parse_message(text: str) -> tuple[str, dict[str, Any]]:
    """Kind and arguments of a message.

    Raises:
        UserError: it is not one of the messages above.
    """
    try:
        data = json.loads(text)
        message = _MODELS[data["type"]].model_validate(data)
    except (ValueError, TypeError, LookupError, RecursionError, ValidationError):
        raise UserError("the server does not understand the page: reload it") from None
    return data["type"], message.model_dump(exclude={"type"})
