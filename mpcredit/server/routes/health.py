"""Health, readiness and metrics, for whoever operates the server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mpcredit import __version__
from mpcredit.server.bookdesk import BookDesk
from mpcredit.server.people import Principal, Role, User
from mpcredit.server.security import allow, require
from mpcredit.server.web import Parts, page, parts

router = APIRouter(tags=["health"])

READERS = allow(Role.ADMINISTRATOR, Role.AUDITOR, scope="metrics:read")


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    """Whether the process answers."""
    return "ok\n"


@router.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """Whether it does its work: the ledger is read, and the institution serves and is ready; a stopped store says why."""
    status = parts(request).node.status()
    found = {"ready": status.ready, "state": status.state} | ({"stopped": status.stopped} if status.stopped else {})
    return JSONResponse(found, 200 if status.ready else 503)


class _Figures(Collector):
    def __init__(self, the: Parts, desk: BookDesk | None) -> None:
        self.the = the
        self._desk = desk

    @property
    def desk(self) -> BookDesk:
        """Of an institution."""
        assert self._desk is not None
        return self._desk

    def collect(self) -> Iterator[Metric]:
        """Read them at the moment of the question."""
        status = self.the.node.status()
        labels = ["party"]
        for name, text, value in (
            ("mpcredit_ready", "Whether the party does its work.", int(status.ready)),
            ("mpcredit_block", "Head of the ledger as of the last round.", status.block or 0),
            ("mpcredit_block_time_seconds", "Its time, unix seconds.", status.block_time or 0),
            ("mpcredit_pending_steps", "Ledger steps under way.", status.pending_steps),
            ("mpcredit_step_alarms", "Ledger steps that a person must look at.", len(status.alarms)),
            ("mpcredit_last_round_seconds", "Length of the last round of work.", status.last_round_seconds),
            ("mpcredit_ready_now", "Whether the ledger has it ready in this period.", int(status.ready_now)),
            ("mpcredit_ready_next", "Whether it is ready from the next period on.", int(status.ready_next)),
            ("mpcredit_book_as_of_seconds", "The loan book holds as of, unix seconds.", status.book_as_of or 0),
            ("mpcredit_audit_entries", "Entries of the audit log.", self.the.audit.head()[0]),
        ):
            gauge = GaugeMetricFamily(name, text, labels=labels)
            gauge.add_metric([status.name], value)
            yield gauge
        if self.the.applications is not None:
            yield from self._book(status.name, status.book_as_of or 0)
        rounds = CounterMetricFamily("mpcredit_rounds", "Rounds of work since the start.", labels=labels)
        rounds.add_metric([status.name], status.rounds)
        yield rounds
        endpoints = GaugeMetricFamily(
            "mpcredit_endpoint",
            "Endpoints of the ledger; 1: it is in this state.",
            labels=["party", "endpoint", "state"],
        )
        for place, one in enumerate(status.endpoints):
            endpoints.add_metric([status.name, f"{place + 1} {one['name']}", one["state"]], 1)
        yield endpoints
        if self.the.applications is not None:
            steps = GaugeMetricFamily("mpcredit_applications", "Applications by step.", labels=["party", "step"])
            for step, count in self.the.applications.counts().items():
                steps.add_metric([status.name, step], count)
            yield steps
            if self.the.applications.misuse is not None:
                stopped = GaugeMetricFamily(
                    "mpcredit_suspended",
                    "Officers and systems that a limit against misuse has stopped, now.",
                    labels=["party", "kind"],
                )
                ever = CounterMetricFamily(
                    "mpcredit_suspensions", "The same, since the first start.", labels=["party", "kind"]
                )
                counts = self.the.applications.misuse.counts()
                for kind in ("suspended", "held_back"):
                    stopped.add_metric([status.name, kind], counts.get((kind, "open"), 0))
                    ever.add_metric([status.name, kind], sum(n for (k, _), n in counts.items() if k == kind))
                yield stopped
                yield ever
            if self.the.applications.webhook is not None:
                answers = GaugeMetricFamily(
                    "mpcredit_answers",
                    "Answers to the bank's systems not taken yet, by state.",
                    labels=["party", "state"],
                )
                waiting, given_up, _problem = self.the.applications.webhook.status()
                answers.add_metric([status.name, "pending"], waiting)
                answers.add_metric([status.name, "given_up"], given_up)
                yield answers

    def _book(self, party: str, as_of: int) -> Iterator[Metric]:
        """The loan book and its last import."""
        last, books = self.desk.status(), self.desk.snapshots()
        newest = max(books, key=lambda one: one.number, default=None)
        for name, text, value in (
            ("mpcredit_book_age_seconds", "Age of the loan book in use.", time.time() - as_of if as_of else 0),
            ("mpcredit_book_age_limit_seconds", "How old it may be by the terms.", self.desk.terms()[0]),
            ("mpcredit_book_importing", "Whether an import runs.", int(last.running)),
            (
                "mpcredit_book_import_seconds",
                "Length of the last import that was used.",
                newest.finished_at - newest.started_at if newest else 0,
            ),
            ("mpcredit_book_import_rows", "Customers in it.", newest.customers if newest else 0),
            ("mpcredit_book_import_rejected", "Rows that it rejected.", newest.rejected if newest else 0),
            ("mpcredit_book_import_as_of_seconds", "It holds as of, unix seconds.", newest.as_of if newest else 0),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["party"])
            gauge.add_metric([party], value)
            yield gauge
        ended = CounterMetricFamily("mpcredit_book_imports", "Imports since the start.", labels=["party", "outcome"])
        for outcome, count in self.desk.ended.items():
            ended.add_metric([party, outcome], count)
        yield ended


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, who: Annotated[Principal, Depends(READERS)]) -> Response:
    """Prometheus text; with an API token of the scope metrics:read."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(parts(request), getattr(request.app.state, "book", None)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/health", include_in_schema=False)
def health(request: Request, user: Annotated[User, Depends(require(Role.ADMINISTRATOR))]) -> Response:
    """The administrator's page."""
    the = parts(request)
    webhook = the.applications.webhook if the.applications is not None else None
    notices = getattr(request.app.state, "notices", None)
    return page(
        request,
        "health.html",
        lines=list(reversed(the.node.lines()))[:50],
        version=__version__,
        provider=the.provider,
        answers=None if webhook is None else webhook.status(),
        notices=None if notices is None else notices.webhook.status(),
    )
