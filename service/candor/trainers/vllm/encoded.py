"""The formats in which vLLM writes numbers: JSON, base64, or the bytes alone."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field

from candor.trainers.contract import AnswerBytes
from candor.trainers.fields import Body, Dimensions

FLOATS: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
"""vLLM's names of the formats in which base64 encodes a number."""


class Encoded(Body):
    """How the numbers of an answer are written."""

    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = Field(
        "float",
        description="bytes: the answer's body is the numbers and nothing else, and the header "
        "metadata says what they are. bytes_only: the same without that header.",
    )
    embed_dtype: Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"] = Field(
        "float32", description="The number that base64 or the bytes hold."
    )
    endianness: Literal["native", "little", "big"] = Field(
        "native", description="The order of its bytes; native is the server's."
    )
    dimensions: Dimensions = None

    def vector(self, value: float) -> list[float] | str:
        """One number as a vector of length 1.

        Raises:
            ValueError: as `packed`.
        """
        return (
            [value]
            if self.encoding_format == "float"
            else base64.b64encode(self.packed(value)).decode()
        )

    def packed(self, value: float) -> bytes:
        """One number in the format and byte order that the body asks for.

        Raises:
            ValueError: `embed_dtype` cannot hold the number.
        """
        dtype = FLOATS[self.embed_dtype]
        if abs(value) > torch.finfo(dtype).max:
            raise ValueError(
                f"'embed_dtype': {self.embed_dtype} cannot hold a number as large as this reward; "
                "send encoding_format float"
            )
        # By way of float32, as vLLM's own pooled numbers are.
        number = torch.tensor([value], dtype=torch.float32).to(dtype)
        native = number.view(torch.uint8).numpy().tobytes()
        swap = self.endianness not in ("native", sys.byteorder)
        return native[::-1] if swap else native

    def raw(self, head: Mapping[str, Any], values: Sequence[float]) -> AnswerBytes:
        """The numbers one after the other, as vLLM answers them.

        Args:
            head: what JSON would say beside the numbers.

        Raises:
            ValueError: as `packed`.
        """
        packed = [self.packed(value) for value in values]
        size = FLOATS[self.embed_dtype].itemsize
        items = [
            {
                "index": index,
                "embed_dtype": self.embed_dtype,
                "endianness": self.endianness,
                "start": index * size,
                "end": (index + 1) * size,
                "shape": [1],
            }
            for index in range(len(packed))
        ]
        # ASCII, because it is a header.
        headers = {"metadata": json.dumps({**head, "data": items})}
        return AnswerBytes(
            b"".join(packed),
            "application/octet-stream",
            {} if self.encoding_format == "bytes_only" else headers,
        )
