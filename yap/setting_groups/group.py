"""What all groups of settings have in common."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Some settings that belong together; ``title`` heads their table in the documentation."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )
    title: ClassVar[str]
