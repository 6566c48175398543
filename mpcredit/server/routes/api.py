"""The bank's own systems: POST an application, read where it stands. With an API token, or as a signed-in officer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mpcredit.consent import Purpose
from mpcredit.server.casefile import Application, Step
from mpcredit.server.drafts import Draft
from mpcredit.server.people import ApiToken, Principal, Role, User
from mpcredit.server.refusals import InvalidForm, NotAllowed
from mpcredit.server.routes.listing import export_of
from mpcredit.server.security import allow
from mpcredit.server.web import Parts, parts

router = APIRouter(prefix="/api", tags=["applications"])

Writer = Annotated[Principal, Depends(allow(Role.OFFICER, scope="applications:write"))]
Reader = Annotated[Principal, Depends(allow(Role.OFFICER, Role.REVIEWER, Role.AUDITOR, scope="applications:read"))]
Id = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
_TEXT = r"^[^\x00-\x1f\x7f]*$"
_AMOUNT = r"^[0-9]{1,15}(\.[0-9]{1,4})?$"


class Customer(BaseModel):
    """Whom it is about; the number is not kept."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["national_id", "passport", "company"]
    country: str = Field(pattern=r"^[A-Za-z]{2}$", examples=["TW"], description="ISO 3166-1 alpha-2")
    number: str = Field(min_length=4, max_length=64, pattern=_TEXT, examples=["A123456789"])


class NewApplication(BaseModel):
    """An application as the loan system posts it. Amounts are decimal text in major units; a float never enters."""

    model_config = ConfigDict(extra="forbid")
    customer: Customer
    amount: str = Field(pattern=_AMOUNT, examples=["200000.00"], description="0 in a review of existing credit")
    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["TWD"])
    months: int | None = Field(default=None, ge=1, le=600)
    income: str | None = Field(default=None, pattern=_AMOUNT, description="monthly, net")
    purpose: Purpose
    consent_evidence: str = Field(pattern=r"^(0x)?[0-9a-fA-F]{64}$", description="SHA-256 of the customer's consent")
    reference: str = Field(default="", max_length=100, pattern=_TEXT, description="the bank's own name of the case")

    def draft(self, currency: str) -> Draft:
        """Check it like a form."""
        return Draft.parse(
            {
                "kind": self.customer.kind,
                "country": self.customer.country,
                "number": self.customer.number,
                "amount": self.amount,
                "currency": self.currency,
                "months": "" if self.months is None else str(self.months),
                "income": self.income or "",
                "purpose": self.purpose.value,
                "evidence": self.consent_evidence,
                "reference": self.reference,
            },
            currency=currency,
        )


class Problem(BaseModel):
    """What is wrong, and who must do what."""

    error: str
    remedy: str = ""
    problems: dict[str, str] | None = None


PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem} for code in (400, 401, 403, 404, 409, 413, 415, 421, 422, 429, 503)
}


def _currency(the: Parts) -> str:
    return the.desk.terms()[0]


@router.post("/applications", status_code=201, responses=PROBLEMS)
def create(
    request: Request,
    response: Response,
    who: Writer,
    body: NewApplication,
    idempotency_key: Annotated[
        str | None, Header(min_length=8, max_length=128, pattern=r"^[A-Za-z0-9_\-.:]+$", alias="Idempotency-Key")
    ] = None,
) -> dict[str, Any]:
    """Enter an application; the inquiry opens by itself. The same key with the same content gives the first one again."""
    if isinstance(who, ApiToken) and idempotency_key is None:
        raise InvalidForm({"Idempotency-Key": "name each application, so that a repeated request asks once"})
    the = parts(request)
    draft = body.draft(_currency(the))
    key = None if idempotency_key is None else f"{who.actor}/{idempotency_key}"
    application = the.desk.create(draft, officer=who.actor, idempotency_key=key)
    response.headers["Location"] = f"/api/applications/{application.id}"
    return application.to_json_object()


@router.get("/applications.csv", responses={**PROBLEMS, 200: {"content": {"text/csv": {}}}}, response_class=Response)
def export(
    request: Request,
    who: Reader,
    step: Annotated[Step | None, Query()] = None,
    officer: Annotated[str, Query(max_length=200)] = "",
    first: Annotated[str, Query(max_length=10, description="entered from this day on, 2027-01-31")] = "",
    last: Annotated[str, Query(max_length=10, description="and up to this day")] = "",
) -> Response:
    """The applications as CSV, without totals: a system's or an officer's own, all for reviewers and auditors."""
    return export_of(request, who, step, officer, first, last)


@router.get("/applications", responses=PROBLEMS)
def listing(
    request: Request,
    who: Reader,
    step: Annotated[Step | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """The newest first: a system reads its own, an officer his, reviewers and auditors all."""
    desk = parts(request).desk
    officer = None if isinstance(who, User) and {Role.REVIEWER, Role.AUDITOR} & who.roles else who.actor
    found = desk.newest(officer=officer, steps=None if step is None else [step], limit=limit)
    looked = sum(application.totals is not None for application in found)
    if looked:
        parts(request).audit.append(who.actor, "subject.looked", "applications", "the list", subjects=looked)
    return [application.to_json_object() for application in found]


@router.get("/applications/{application_id}", responses=PROBLEMS)
def read(request: Request, who: Reader, application_id: Id) -> dict[str, Any]:
    """One application: where it stands, totals in minor units, the policy's answer, the decision."""
    the = parts(request)
    application: Application = the.desk.get(application_id)
    if isinstance(who, ApiToken):
        visible = application.officer == who.actor
    else:
        visible = bool({Role.REVIEWER, Role.AUDITOR} & who.roles) or the.desk.may_decide(application, who.actor)
    if not visible:
        raise NotAllowed("this application is another's")
    if application.totals is not None:
        the.audit.append(who.actor, "subject.looked", f"application/{application.id}", application.purpose)
    return application.to_json_object()
