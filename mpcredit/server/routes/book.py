"""The loan book: which one is in use, how old it is, and a new one from a file or from the bank's own database.

Uploads are streamed: a page's form by its own reader of multipart bodies, a system's as the body itself. Nothing of them
is in memory but the piece that has just arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, BinaryIO, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from mpcredit.errors import InvalidMessage, MpcreditError
from mpcredit.server.bookdesk import STAGES, BookDesk, Upload
from mpcredit.server.bookimport import Snapshot
from mpcredit.server.people import Principal, Role, User
from mpcredit.server.routes.api import PROBLEMS
from mpcredit.server.security import allow, require
from mpcredit.server.web import go, page

router = APIRouter()
Steward = Annotated[User, Depends(require(Role.ADMINISTRATOR))]
Reader = Annotated[User, Depends(require(Role.ADMINISTRATOR, Role.AUDITOR))]
System = Annotated[Principal, Depends(allow(Role.ADMINISTRATOR, scope="book:write"))]
_FIELD_BYTES: Final = 1_000
"""Of a field; the parser itself limits a part's header."""
_PARTS: Final = 20
"""Of a form; the page sends three. A body as large as a loan book could hold millions, all of them in memory."""


def _desk(request: Request) -> BookDesk:
    found: BookDesk = request.app.state.book
    return found


# --------------------------------------------------------------------- reading a form that may be large


class _Form:
    """Reads a multipart body piece by piece: its one file goes to the disk, its fields are short."""

    def __init__(self, boundary: bytes, desk: BookDesk, by: str) -> None:
        self.fields: dict[str, str] = {}
        self.upload: Upload | None = None
        self._desk, self._by = desk, by
        self._file: BinaryIO | None = None
        self._header, self._value = b"", b""
        self._disposition = b""
        self._name, self._data = "", b""
        self._parts = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        self._parser.write(piece)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _PARTS:
            raise _too_long()
        self._header = self._value = self._disposition = self._data = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        _kind, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" in options:
            if self.upload is not None:
                raise InvalidMessage("there is more than one file", remedy="send one loan book at a time")
            self.upload = self._desk.receive(options[b"filename"].decode(errors="replace"), self._by)
            self._file = self.upload.path.open("wb")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > _FIELD_BYTES:
            raise _too_long()

    def _end(self) -> None:
        if self._file is not None:
            self.close()
        else:
            self.fields[self._name] = self._data.decode(errors="replace")


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


def _too_long() -> InvalidMessage:
    return InvalidMessage("the form has too many fields, or one is too long", remedy="send it from the page")


def _broken_off() -> InvalidMessage:
    return InvalidMessage("the upload was broken off", remedy="send the file again")


def _expected(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


async def _read_form(request: Request, by: str) -> tuple[Upload, dict[str, str]]:
    """Take an upload from a page to the disk.

    Raises:
        InvalidMessage: it is no form with a file.
        Refused: another import runs.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise InvalidMessage("there is no file", remedy="choose a CSV file on the page")
    form = _Form(options[b"boundary"], _desk(request), by)
    received = 0
    try:
        async for piece in _pieces(request):
            received += len(piece)
            await asyncio.to_thread(form.write, piece)
            if form.upload is not None:
                form.upload.tell(received, _expected(request))
    except BaseException as error:
        form.close()
        if form.upload is not None:
            form.upload.drop()
        if isinstance(error, ClientDisconnect):
            raise _broken_off() from error
        if isinstance(error, MultipartParseError):
            raise InvalidMessage("the form is damaged", remedy="send it again from the page") from error
        raise
    form.close()
    if form.upload is None:
        raise InvalidMessage("there is no file", remedy="choose a CSV file on the page")
    return form.upload, form.fields


async def _read_body(request: Request, name: str, by: str) -> Upload:
    """Take the body itself to the disk."""
    upload = await asyncio.to_thread(_desk(request).receive, name, by)
    received = 0
    try:
        with upload.path.open("wb") as file:
            async for piece in _pieces(request):
                received += len(piece)
                await asyncio.to_thread(file.write, piece)
                upload.tell(received, _expected(request))
    except BaseException as error:
        upload.drop()
        if isinstance(error, ClientDisconnect):
            raise _broken_off() from error
        raise
    return upload


# --------------------------------------------------------------------- pages


@router.get("/book", include_in_schema=False)
def show(request: Request, user: Reader) -> Response:
    """The book in use, the last import, and the forms for a new one."""
    return _show(request)


def _show(request: Request, problem: MpcreditError | None = None) -> Response:
    desk = _desk(request)
    limit, _version, hindrance = desk.terms()
    books = desk.snapshots()
    return page(
        request,
        "book.html",
        status_code=200 if problem is None else 422,
        books=books,
        oldest=min((one.as_of for one in books), default=0),
        limit=limit,
        hindrance=hindrance,
        last=desk.status(),
        stages=STAGES,
        query=desk.query,
        why_not=desk.why_not,
        rejects=not desk.status().running and desk.some_rejected,
        problem=problem,
    )


@router.post("/book/upload", include_in_schema=False)
async def upload(request: Request, user: Steward) -> Response:
    """Import an uploaded file."""
    found, fields = await _read_form(request, user.actor)
    found.start(strict=fields.get("lenient") != "yes", older=fields.get("older") == "yes")
    return go("/book", "importing")


@router.post("/book/query", include_in_schema=False)
async def query(request: Request, user: Steward) -> Response:
    """Import what the configured query gives."""
    async with request.form(max_files=0, max_fields=10) as form:
        lenient, older = form.get("lenient") == "yes", form.get("older") == "yes"
    await asyncio.to_thread(_desk(request).start_query, user.actor, strict=not lenient, older=older)
    return go("/book", "importing")


@router.get("/book/rejects.csv", include_in_schema=False)
def rejects(request: Request, user: Reader) -> Response:
    """Row, field and reason of each rejected row of the last import."""
    return _rejects(request)


def _rejects(request: Request) -> Response:
    desk = _desk(request)
    if desk.status().running or not desk.rejects.exists():
        raise InvalidMessage("there is no list of rejected rows", remedy="it is of the last import only")
    return FileResponse(desk.rejects, media_type="text/csv", filename="rejects.csv")


# --------------------------------------------------------------------- for the bank's systems


class ImportFacts(BaseModel):
    """The import that runs, or the last one of this process."""

    state: str
    stage: str
    rows: int
    rejected: int
    share: float | None
    source: str
    by: str
    started_at: float
    ended_at: float
    seconds: float | None
    error: str
    remedy: str


class BookFacts(BaseModel):
    """A loan book in use, one for each schema."""

    number: int
    schema_id: int
    as_of: int
    age_seconds: int
    currency: str
    customers: int
    added: int
    changed: int
    removed: int
    rejected: int
    source: str
    tag_key_version: int
    finished_at: int


class BookDocument(BaseModel):
    """How it is about the loan book."""

    books: list[BookFacts]
    limit_seconds: int
    """How old a book may be by the consortium's terms; 0 before the ledger was read."""
    usable: bool
    """Whether inquiries are answered from it: there is one, not too old, under the newest tag key."""
    last_import: ImportFacts


def _facts(one: Snapshot, now: float) -> BookFacts:
    return BookFacts(
        schema_id=one.schema.id,
        age_seconds=max(0, int(now) - one.as_of),
        **{name: getattr(one, name) for name in BookFacts.model_fields if name not in ("schema_id", "age_seconds")},
    )


def _document(request: Request) -> dict[str, Any]:
    desk, now = _desk(request), time.time()
    limit, tag_key, _hindrance = desk.terms()
    books = desk.snapshots()
    return BookDocument(
        books=[_facts(one, now) for one in books],
        limit_seconds=limit,
        usable=bool(books) and all(one.tag_key_version == tag_key and one.as_of + limit >= now for one in books),
        last_import=ImportFacts(**desk.status().document()),
    ).model_dump()


@router.get("/api/book", response_model=BookDocument, responses=PROBLEMS, tags=["book"])
def read(request: Request, who: System) -> dict[str, Any]:
    """The book in use, its age against the consortium's maximum, and the import that runs or ran last."""
    return _document(request)


@router.post(
    "/api/book",
    status_code=202,
    response_model=BookDocument,
    responses=PROBLEMS,
    tags=["book"],
    openapi_extra={
        "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def create(
    request: Request,
    who: System,
    name: Annotated[str, Query(min_length=1, max_length=100, description="of the file, for people")] = "book.csv",
    lenient: Annotated[
        bool, Query(description="leave wrong rows out; by default one, and nothing is imported")
    ] = False,
    older: Annotated[bool, Query(description="accept figures that are older than those in use")] = False,
) -> Response:
    """Import the CSV file that is the body. Answers when it is here; GET says how the import goes."""
    kind, _options = parse_options_header(request.headers.get("content-type", ""))
    if kind not in (b"text/csv", b"application/octet-stream"):
        return JSONResponse({"error": "the body is no CSV file", "remedy": "send it as Content-Type: text/csv"}, 415)
    upload = await _read_body(request, name, who.actor)
    upload.start(strict=not lenient, older=older)
    return JSONResponse(await asyncio.to_thread(_document, request), 202)


@router.post("/api/book/query", status_code=202, response_model=BookDocument, responses=PROBLEMS, tags=["book"])
def start_query(
    request: Request,
    who: System,
    lenient: Annotated[bool, Query(description="leave wrong rows out")] = False,
    older: Annotated[bool, Query(description="accept older figures")] = False,
) -> dict[str, Any]:
    """Import what the configured query of the bank's own database gives. GET says how the import goes."""
    _desk(request).start_query(who.actor, strict=not lenient, older=older)
    return _document(request)


@router.get(
    "/api/book/rejects",
    response_class=Response,
    responses={**PROBLEMS, 200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    tags=["book"],
)
def read_rejects(request: Request, who: System) -> Response:
    """Row, field and reason of each rejected row of the last import, as CSV."""
    return _rejects(request)
