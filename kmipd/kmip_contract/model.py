"""The base of every contract model, and how models meet a file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError


class ContractError(ValueError):
    """A contract file or message that cannot be read: says which file, which field and what was wrong."""


class Model(BaseModel):
    """A frozen model that ignores fields it does not know, so that a neighbour release can still read it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the JSON file at ``path``.

        Raises:
            ContractError: the file is missing, unreadable, or does not fit; the message holds no values of the file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ContractError(f"{path}: {error.strerror}") from error
        except ValidationError as error:
            raise ContractError(f"{path}: {explain(error)}") from None

    def to_json(self) -> bytes:
        """The model as indented UTF-8 JSON with a final newline; fields that are ``None`` are left out."""
        return self.model_dump_json(indent=2, exclude_none=True).encode() + b"\n"


def explain(error: ValidationError) -> str:
    """Field path and complaint of each error, without any input value (it may be a secret)."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or '(root)'}: {item['msg']}"
        for item in error.errors(include_input=False, include_url=False)
    )
