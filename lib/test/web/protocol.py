"""What a page may say: anything else is refused before it reaches the process that tracks."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lib.test.web.downloads import Download
from lib.test.web.limits import MOST_OBJECTS

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e7, le=1e7)]
Frame = Annotated[int, Field(ge=0, le=10**7)]
Object = Annotated[int, Field(ge=1, le=MOST_OBJECTS)]
Name = Annotated[str, Field(max_length=200)]


class Message(BaseModel):
    """A message; `type` says which, the other fields are the command's arguments."""

    model_config = ConfigDict(extra="forbid", strict=True)


class OpenSample(Message):
    """Open a sample clip."""

    type: Literal["open_sample"]
    name: Name


class OpenMedia(Message):
    """Open a video or a folder under the server's directories."""

    type: Literal["open_media"]
    path: Annotated[str, Field(max_length=4096)]


class OpenUpload(Message):
    """Open what was uploaded last."""

    type: Literal["open_upload"]


class Draw(Message):
    """An object's box xywh in a frame."""

    type: Literal["draw"]
    number: Object
    frame: Frame
    box: Annotated[list[Number], Field(min_length=4, max_length=4)]


class Remove(Message):
    """Forget an object."""

    type: Literal["remove"]
    number: Object


class Track(Message):
    """Track what is not tracked yet."""

    type: Literal["track"]
    key: Name
    engine: Name


class Pause(Message):
    """Stop tracking."""

    type: Literal["pause"]


class Show(Message):
    """Send a frame's picture."""

    type: Literal["show"]
    frame: Frame


class Export(Message):
    """Write a file to download."""

    type: Literal["export"]
    what: Download


class Ack(Message):
    """A picture was shown."""

    type: Literal["ack"]


AnyMessage = OpenSample | OpenMedia | OpenUpload | Draw | Remove | Track | Pause | Show | Export | Ack
MESSAGES: TypeAdapter[AnyMessage] = TypeAdapter(Annotated[AnyMessage, Field(discriminator="type")])
