"""Answers with the bytes of a delivered file, or with a part of them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import StreamingResponse

from api.deliverables import Deliverable

_PIECE = 1 << 18
_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# A report is a page of somebody's making: it may not act on this origin, nor be sniffed for more.
INERT = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
# Shown, it has an origin of its own, where there is no key, and reaches no server; what of its own
# script and style runs, its own policy says.
_CAGED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; form-action 'none'",
}


def file_answer(
    file: Deliverable,
    name: str,
    asked: str | None,
    if_range: str | None,
    media_type: str,
    *,
    shown: bool = False,
) -> Response:
    """The file, the one range that is asked for, or 416 where there is no such part.

    Several ranges at once are answered with the whole, as RFC 9110 allows.

    Args:
        file: what was delivered.
        name: what to save it as.
        asked: the header `Range`.
        if_range: the header `If-Range`: a part only of what the client has the rest of.
        media_type: of the whole.
        shown: whether a browser may show it, in a cage; otherwise it is saved.
    """
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    tag = f'"{file.sha256}"'
    headers = {"ETag": tag, "Repr-Digest": f"sha-256=:{digest}:", "Accept-Ranges": "bytes"}
    headers |= _CAGED if shown else _saved_as(PurePosixPath(name).name)
    found = _ONE_RANGE.fullmatch(asked or "")
    start, end = 0, file.size_bytes
    partial = found is not None and any(found.groups()) and if_range in (None, tag)
    if found is not None and partial:
        start, end = _bounds(found[1], found[2], file.size_bytes)
        if start >= end:
            headers["Content-Range"] = f"bytes */{file.size_bytes}"
            return Response(status_code=416, headers=headers)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(
        _pieces(file, start, end), status_code=206 if partial else 200, headers=headers,
        media_type=media_type,
    )  # fmt: skip


def _saved_as(name: str) -> dict[str, str]:
    return {**INERT, "Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """The part from one byte up to another one; the last so many where no first is given."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


def _pieces(file: Deliverable, start: int, end: int) -> Iterator[bytes]:
    with file.open() as source:
        source.seek(start)
        left = end - start
        while left > 0 and (piece := source.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
