"""Codecs: how the value of each type becomes bytes in the hash, and back.

`codec_of` gives the one codec of a type; its Arrow form, which loads by the column, is
`featurekit.codec.arrow`.
"""

from __future__ import annotations

from featurekit.codec.contract import DECODE_ERRORS, Codec
from featurekit.codec.table import codec_of

__all__ = ["DECODE_ERRORS", "Codec", "codec_of"]
