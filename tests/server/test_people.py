"""Accounts, on both databases: the five rules of mpcredit/server/people.py, each with what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from argon2 import PasswordHasher
from clock import Clock
from sqlalchemy import text

from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database, metadata
from mpcredit.server.people import Forbidden, People, PeopleError, Role, User, WeakPassword

PASSWORD = "horse battery staple"


@pytest.fixture
def staff(people: People) -> dict[str, User]:
    """One person for each role, and a second reviewer."""
    made = people.install(
        [
            ("anna", "Anna Officer", ["officer"]),
            ("rita", "Rita Reviewer", ["reviewer"]),
            ("ron", "Ron Reviewer", [Role.REVIEWER]),
            ("adam", "Adam Administrator", ["administrator"]),
            ("audrey", "Audrey Auditor", ["auditor"]),
        ]
    )
    return {user.name: user for user in made}


def _actions(audit: AuditLog) -> list[str]:
    return [entry.action for entry in audit.stream()]


# --- accounts and roles


def test_install__twice__is_refused(people: People, staff: dict[str, User], audit: AuditLog) -> None:
    assert staff["anna"].roles == {Role.OFFICER}
    with pytest.raises(PeopleError, match="accounts already"):
        people.install([("eve", "Eve", ["administrator"])])
    assert people.get("eve") is None
    assert [user.name for user in people.users()] == ["adam", "anna", "audrey", "rita", "ron"]
    assert audit.verify() == 15


def test_install__one_of_them_impossible__makes_none(people: People) -> None:
    with pytest.raises(PeopleError):
        people.install([("anna", "Anna", ["officer"]), ("eve", "Eve", ["officer", "administrator"])])

    assert people.users() == []


@pytest.mark.parametrize("name", ["", "Anna", "anna smith", "-anna", "a" * 65, "anna\n", "../x"])
def test_create__no_login_name__is_refused(people: People, name: str) -> None:
    with pytest.raises(PeopleError, match="login name"):
        people.create(name, "Anna", by=None, why="test")


def test_create__by_an_administrator__has_no_roles_until_a_reviewer_confirms(
    people: People, staff: dict[str, User]
) -> None:
    olga = people.create("olga", "Olga", ["officer"], by=staff["adam"], why="new")
    assert olga.roles == frozenset()

    [change] = people.changes()
    assert (change.kind, change.user, change.asked_by) == ("roles", "olga", "user:adam")
    assert change.roles == frozenset({Role.OFFICER})
    done = people.confirm(change.id, by=staff["rita"])

    assert (done.state, done.decided_by) == ("confirmed", "user:rita")
    assert people.get("olga") is not None
    assert people.get("olga").roles == {Role.OFFICER}  # type: ignore[union-attr]
    assert people.changes() == []
    with pytest.raises(PeopleError, match="no change"):
        people.confirm(change.id, by=staff["rita"])


@pytest.mark.parametrize("who", ["anna", "rita", "audrey"])
def test_create__by_another_role__is_refused(people: People, staff: dict[str, User], who: str) -> None:
    with pytest.raises(Forbidden):
        people.create("olga", "Olga", by=staff[who], why="new")
    with pytest.raises(Forbidden):
        people.ask_roles("anna", ["officer", "reviewer"], by=staff[who], why="new")
    with pytest.raises(Forbidden):
        people.issue_sign_in("anna", by=staff[who])
    with pytest.raises(Forbidden):
        people.create_token("loans", ["applications:write"], by=staff[who], why="new")


def test_roles__administrator_and_officer__never_together(people: People, staff: dict[str, User]) -> None:
    for name, roles in (("anna", ["officer", "administrator"]), ("adam", ["administrator", "officer"])):
        for by in (staff["adam"], None):
            with pytest.raises(PeopleError, match="at once"):
                people.ask_roles(name, roles, by=by, why="convenient")
    with pytest.raises(PeopleError, match="no such role"):
        people.ask_roles("anna", ["king"], by=staff["adam"], why="x")
    assert staff["anna"].roles == people.get("anna").roles  # type: ignore[union-attr]


def test_confirm__own_change__is_refused(people: People, staff: dict[str, User]) -> None:
    both = people.ask_roles("adam", ["administrator", "reviewer"], by=None, why="small bank")
    assert both.state == "confirmed"  # the console's changes hold at once
    adam = people.get("adam")
    assert adam is not None

    asked = people.ask_roles("audrey", ["auditor", "reviewer"], by=adam, why="x")
    with pytest.raises(Forbidden, match="asked for himself"):
        people.confirm(asked.id, by=adam)

    about = people.ask_roles("rita", ["reviewer", "auditor"], by=adam, why="x")
    with pytest.raises(Forbidden, match="own roles"):
        people.confirm(about.id, by=staff["rita"])
    for who in ("anna", "audrey"):
        with pytest.raises(Forbidden):
            people.confirm(about.id, by=staff[who])
    people.refuse(about.id, by=staff["ron"], why="not needed")

    assert people.get("rita").roles == {Role.REVIEWER}  # type: ignore[union-attr]
    assert [change.state for change in people.changes(None)][-2:] == ["pending", "refused"]


def test_confirm__by_who_lost_the_role__is_refused(people: People, staff: dict[str, User]) -> None:
    change = people.ask_roles("anna", ["officer", "reviewer"], by=staff["adam"], why="x")
    people.ask_roles("rita", [], by=None, why="left")

    with pytest.raises(Forbidden):
        people.confirm(change.id, by=staff["rita"])  # her page still has the old account


def test_ask_roles__taken_away_at_once__given_later(people: People, staff: dict[str, User]) -> None:
    first = people.ask_roles("anna", ["auditor"], by=staff["adam"], why="moves")
    assert people.get("anna").roles == frozenset()  # type: ignore[union-attr]

    second = people.ask_roles("anna", ["reviewer"], by=staff["adam"], why="moves elsewhere")
    with pytest.raises(PeopleError):
        people.confirm(first.id, by=staff["rita"])
    people.confirm(second.id, by=staff["rita"])

    assert people.get("anna").roles == {Role.REVIEWER}  # type: ignore[union-attr]
    assert people.ask_roles("anna", [], by=staff["adam"], why="leaves").state == "confirmed"
    assert people.get("anna").roles == frozenset()  # type: ignore[union-attr]


# --- passwords


def test_password__right_wrong_unknown_disabled(people: People, staff: dict[str, User], audit: AuditLog) -> None:
    people.set_password("anna", PASSWORD, by=staff["anna"])

    assert people.check_password("anna", PASSWORD) == people.get("anna")
    assert people.check_password("anna", PASSWORD + " ") is None
    assert people.check_password("nobody", PASSWORD) is None
    assert people.check_password("rita", PASSWORD) is None  # has none
    people.disable("anna", by=staff["adam"], why="left")
    assert people.check_password("anna", PASSWORD) is None
    failed = [entry.about for entry in audit.search(action="sign-in.failed")]
    assert sorted(failed) == ["account", "account/anna", "account/anna", "account/rita"]


def test_password__is_stored_as_argon2id(people: People, staff: dict[str, User], database: Database) -> None:
    people.set_password("anna", PASSWORD, by=staff["anna"])

    with database.read() as connection:
        stored = connection.scalar(text("SELECT password FROM person WHERE name = 'anna'"))
    assert stored.startswith("$argon2id$")


def test_password__costs_were_raised__is_hashed_anew(
    people: People, staff: dict[str, User], database: Database, audit: AuditLog
) -> None:
    people.set_password("anna", PASSWORD, by=staff["anna"])
    stronger = People(database, audit, hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))

    assert stronger.check_password("anna", PASSWORD) is not None

    with database.read() as connection:
        assert "m=16,t=2" in connection.scalar(text("SELECT password FROM person WHERE name = 'anna'"))
    assert stronger.check_password("anna", PASSWORD) is not None


@pytest.mark.parametrize("password", ["short", "x" * 257, "aaaaaaaaaaaaaaaa", "I am Anna, hello", "mpcredit-mpcredit"])
def test_set_password__weak__is_refused(people: People, staff: dict[str, User], password: str) -> None:
    with pytest.raises(WeakPassword):
        people.set_password("anna", password, by=staff["anna"])


def test_set_password__of_somebody_else__is_refused(people: People, staff: dict[str, User]) -> None:
    with pytest.raises(Forbidden):
        people.set_password("anna", PASSWORD, by=staff["adam"])


def test_set_password__ends_sessions(people: People, staff: dict[str, User]) -> None:
    cookie = people.start_session(staff["anna"], method="link")
    people.set_password("anna", PASSWORD, by=staff["anna"])

    assert people.session(cookie) is None


# --- links


def test_sign_in_link__once_and_in_time(people: People, staff: dict[str, User], clock: Clock) -> None:
    token = people.issue_sign_in("anna", by=None)

    assert people.peek_sign_in(token) == people.get("anna")
    assert people.redeem_sign_in(token) == people.get("anna")
    assert people.redeem_sign_in(token) is None
    assert people.peek_sign_in(token) is None
    assert people.redeem_sign_in("made up") is None

    late = people.issue_sign_in("anna", by=None)
    clock.now += 60 * 60
    assert people.redeem_sign_in(late) is None


def test_sign_in_link__newer_one__ends_the_older(people: People, staff: dict[str, User]) -> None:
    older = people.issue_sign_in("anna", by=None)
    newer = people.issue_sign_in("anna", by=None)

    assert people.peek_sign_in(older) is None
    assert people.peek_sign_in(newer) is not None


def test_sign_in_link__issued_by_an_administrator__suspends_roles(people: People, staff: dict[str, User]) -> None:
    cookie = people.start_session(staff["anna"], method="link")

    token = people.issue_sign_in("anna", by=staff["adam"], why="forgot her password")

    assert people.session(cookie) is None
    stolen = people.redeem_sign_in(token)
    assert stolen is not None
    assert stolen.roles == frozenset()
    [change] = people.changes()
    people.confirm(change.id, by=staff["rita"])
    assert people.get("anna").roles == {Role.OFFICER}  # type: ignore[union-attr]


def test_sign_in_link__disabled__is_refused(people: People, staff: dict[str, User]) -> None:
    token = people.issue_sign_in("anna", by=None)
    people.disable("anna", by=None, why="rule")

    assert people.redeem_sign_in(token) is None
    with pytest.raises(PeopleError, match="disabled"):
        people.issue_sign_in("anna", by=None)


# --- sessions


def test_session__until_idle_or_over(people: People, staff: dict[str, User], clock: Clock) -> None:
    cookie = people.start_session(staff["anna"], method="password")
    for _ in range(16):  # 29 minutes each: never idle, until 8 hours are over
        clock.now += 29 * 60
        assert people.session(cookie) == staff["anna"]
    clock.now += 29 * 60
    assert people.session(cookie) is None

    idle = people.start_session(staff["anna"], method="password")
    clock.now += 30 * 60
    assert people.session(idle) is None
    assert people.prune() == 2


def test_session__sign_out(people: People, staff: dict[str, User], audit: AuditLog) -> None:
    first = people.start_session(staff["anna"], method="password")
    second = people.start_session(staff["anna"], method="link")
    people.end_session(first)
    people.end_session("made up")
    assert people.session(first) is None
    assert people.session(second) is not None
    with pytest.raises(Forbidden):
        people.end_sessions("anna", by=staff["rita"])
    assert people.end_sessions("anna", by=staff["adam"]) == 1
    assert people.session(second) is None
    assert _actions(audit)[-4:] == ["session.started", "session.started", "session.ended", "session.ended"]


def test_disable__out_at_once__also_for_other_processes(
    people: People, staff: dict[str, User], url: str, opened: Callable[[str], Database], clock: Clock
) -> None:
    cookie = people.start_session(staff["anna"], method="password")
    other = opened(url)
    elsewhere = People(other, AuditLog(other), clock=clock, hasher=PasswordHasher(1, 8, 1))
    assert elsewhere.session(cookie) is not None

    people.disable("anna", by=staff["rita"], why="misuse")

    assert elsewhere.session(cookie) is None
    with pytest.raises(Forbidden):
        elsewhere.start_session(staff["anna"], method="password")
    people.enable("anna", by=staff["adam"], why="cleared")
    assert elsewhere.session(cookie) is None  # a session does not come back
    # Nor does a role by one person alone: officer and administrator together could undo what a reviewer did.
    assert _held(people, "anna") == set()
    (change,) = people.changes()
    with pytest.raises(Forbidden, match="role reviewer"):
        people.confirm(change.id, by=staff["adam"])
    people.confirm(change.id, by=staff["rita"])
    assert people.get("anna") == staff["anna"]


def test_disable__oneself_or_without_the_role__is_refused(people: People, staff: dict[str, User]) -> None:
    with pytest.raises(Forbidden, match="himself"):
        people.disable("adam", by=staff["adam"], why="x")
    for who in ("anna", "audrey"):
        with pytest.raises(Forbidden):
            people.disable("rita", by=staff[who], why="x")
        with pytest.raises(Forbidden):
            people.enable("rita", by=staff[who], why="x")


def test_disabled__can_do_nothing_with_an_old_page(people: People, staff: dict[str, User]) -> None:
    people.disable("adam", by=None, why="left")

    with pytest.raises(Forbidden):
        people.create("olga", "Olga", by=staff["adam"], why="x")


# --- the bank's own sign-in


ISSUER = "https://id.bank.example"


def _external(
    people: People, *roles: str, subject: str = "s-1", name: str = "olga", confirm: bool = True
) -> User | None:
    return people.external(ISSUER, subject, name=name, display="Olga", roles=roles, confirm=confirm)


def _held(people: People, name: str = "olga") -> set[Role]:
    found = people.get(name)
    assert found is not None
    return set(found.roles)


def test_external__new_roles_wait__former_ones_go_at_once(
    people: People, staff: dict[str, User], audit: AuditLog
) -> None:
    first = _external(people, "officer")
    assert first is not None
    assert (first.roles, first.provided) == (frozenset(), True)
    for _ in range(3):
        _external(people, "officer")  # signs in again and again: one question
    [change] = people.changes()
    assert (change.asked_by, change.roles) == (f"provider:{ISSUER}", {Role.OFFICER})
    people.confirm(change.id, by=staff["rita"])
    assert _held(people) == {Role.OFFICER}

    again = _external(people, "reviewer", "auditor", name="renamed")
    assert again is not None
    assert (again.name, again.roles) == ("olga", frozenset())
    _external(people, "officer")  # taken back there, before anybody confirmed
    [change] = people.changes()
    assert change.roles == {Role.OFFICER}  # what was gone is new again
    people.refuse(change.id, by=staff["rita"], why="no")
    assert _held(people) == set()
    assert _actions(audit)[-2:] == ["roles.asked", "roles.refused"]


def test_external__stated_less__what_waited_is_withdrawn(people: People, staff: dict[str, User]) -> None:
    _external(people, "officer")
    [change] = people.changes()
    people.confirm(change.id, by=staff["rita"])
    _external(people, "officer", "auditor")
    [change] = people.changes()

    _external(people, "officer")

    assert people.changes() == []
    with pytest.raises(PeopleError, match="waits"):
        people.confirm(change.id, by=staff["rita"])
    assert _held(people) == {Role.OFFICER}


def test_external__nobody_confirms_his_own_roles(people: People, staff: dict[str, User]) -> None:
    _external(people, "reviewer")
    people.confirm(people.changes()[0].id, by=staff["rita"])
    olga = _external(people, "reviewer", "officer")

    with pytest.raises(Forbidden, match="own"):
        people.confirm(people.changes()[0].id, by=olga)


def test_external__two_persons_at_the_provider__roles_hold_at_once(people: People, audit: AuditLog) -> None:
    first = _external(people, "officer", confirm=False)
    assert first is not None
    assert first.roles == {Role.OFFICER}
    again = _external(people, "reviewer", "auditor", confirm=False)
    assert again is not None
    assert again.roles == {Role.REVIEWER, Role.AUDITOR}
    assert _actions(audit) == ["account.created", "roles.provided", "roles.provided"]


def test_external__excluded_none_or_disabled__is_refused(people: People, staff: dict[str, User]) -> None:
    with pytest.raises(PeopleError, match="nothing"):
        _external(people)
    assert people.get("olga") is None
    with pytest.raises(PeopleError, match="at once"):
        _external(people, "officer", "administrator")
    with pytest.raises(PeopleError, match="login name"):
        _external(people, "officer", name="Olga Ω")
    _external(people, "officer", confirm=False)
    gone = _external(people)
    assert gone is not None
    assert gone.roles == frozenset()
    people.disable("olga", by=None, why="left")
    assert _external(people, "officer", confirm=False) is None
    assert _held(people) == set()


def test_external__name_of_another_account__is_not_taken_over(people: People, staff: dict[str, User]) -> None:
    with pytest.raises(PeopleError, match="another account"):
        _external(people, "officer", name="adam")
    _external(people, "officer")
    with pytest.raises(PeopleError, match="another account"):
        _external(people, "officer", subject="s-2")  # somebody new at the provider, with the name of one who has left
    assert _external(people, "officer", subject="s-2", name="olga2") is not None


def test_bind__account_made_here__belongs_to_the_provider(people: People, staff: dict[str, User]) -> None:
    people.set_password("anna", PASSWORD, by=staff["anna"])
    cookie = people.start_session(staff["anna"], method="password")

    bound = people.bind("anna", ISSUER, "s-9", why="moves to Bank ID")

    assert (bound.provided, bound.has_password, bound.roles) == (True, False, {Role.OFFICER})
    assert people.session(cookie) is None
    assert people.check_password("anna", PASSWORD) is None
    again = _external(people, "officer", subject="s-9", name="whatever")
    assert again is not None
    assert (again.name, again.roles) == ("anna", {Role.OFFICER})
    for refused, error in (
        (lambda: people.set_password("anna", PASSWORD, by=again), Forbidden),
        (lambda: people.set_password("anna", PASSWORD, by=None), Forbidden),
        (lambda: people.issue_sign_in("anna", by=staff["adam"]), Forbidden),
        (lambda: people.ask_roles("anna", ["auditor"], by=staff["adam"], why="x"), PeopleError),
        (lambda: people.bind("anna", ISSUER, "s-10", why="x"), PeopleError),
        (lambda: people.bind("rita", ISSUER, "s-9", why="x"), PeopleError),
    ):
        with pytest.raises(error):
            refused()
    assert people.redeem_sign_in(people.issue_sign_in("anna", by=None)) is not None  # the console, in an emergency


def test_session__of_the_provider__ends_sooner_and_never_later(
    people: People, staff: dict[str, User], clock: Clock
) -> None:
    short = people.start_session(staff["anna"], method="oidc", minutes=20)
    long = people.start_session(staff["rita"], method="oidc", minutes=1440)
    clock.now += 20 * 60
    assert people.session(short) is None
    assert people.session(long) is not None
    for _ in range(18):
        clock.now += 25 * 60
        assert people.session(long) is not None
    clock.now += 10 * 60  # 8 hours
    assert people.session(long) is None


# --- systems


def test_token__holds_after_a_reviewer_confirmed_until_revoked(
    people: People, staff: dict[str, User], clock: Clock
) -> None:
    made, secret = people.create_token("loan system", ["applications:write"], by=staff["adam"], why="go", days=10)
    assert secret.startswith("mpc_")
    assert people.token(secret) is None

    [change] = people.changes()
    assert (change.kind, change.token) == ("token", made.id)
    people.confirm(change.id, by=staff["rita"])
    found = people.token(secret)
    assert found is not None
    assert found.actor == f"token:{made.id}"
    assert found.scopes == {"applications:write"}
    assert found.roles == frozenset()

    clock.now += 10 * 86_400
    assert people.token(secret) is None
    clock.now -= 86_400
    assert people.token(secret) is not None
    people.revoke_token(made.id, by=staff["rita"], why="over")
    assert people.token(secret) is None
    assert [token.state for token in people.tokens()] == ["revoked"]


def test_token__revoked_or_refused_before__cannot_be_confirmed(people: People, staff: dict[str, User]) -> None:
    for end in ("revoke", "refuse"):
        made, secret = people.create_token("x", ["audit:read"], by=staff["adam"], why="go")
        [change] = people.changes()
        if end == "revoke":
            people.revoke_token(made.id, by=staff["adam"], why="mistake")
        else:
            people.refuse(change.id, by=staff["rita"], why="no")
        with pytest.raises(PeopleError):
            people.confirm(change.id, by=staff["rita"])
        assert people.token(secret) is None


@pytest.mark.parametrize(("scopes", "days"), [([], 1), (["everything"], 1), (["audit:read"], 0)])
def test_token__no_such_scope_or_time__is_refused(people: People, scopes: list[str], days: int) -> None:
    with pytest.raises(PeopleError):
        people.create_token("x", scopes, by=None, why="x", days=days)


# --- what is stored


def test_secrets__are_nowhere_in_the_database_or_the_audit_log(
    people: People, staff: dict[str, User], database: Database
) -> None:
    people.set_password("anna", PASSWORD, by=staff["anna"])
    secrets = [
        PASSWORD,
        people.issue_sign_in("rita", by=None),
        people.start_session(staff["anna"], method="link"),
        people.create_token("x", ["audit:read"], by=None, why="x")[1],
    ]
    with database.read() as connection:
        everything = repr([connection.execute(table.select()).all() for table in metadata.sorted_tables])

    assert "anna" in everything
    assert not [secret for secret in secrets if secret in everything]


def test_every_change__is_in_the_audit_log(people: People, staff: dict[str, User], audit: AuditLog) -> None:
    before = audit.head()[0]
    people.create("olga", "Olga", ["officer"], by=staff["adam"], why="new colleague")
    people.disable("olga", by=staff["rita"], why="mistake")

    entries = list(audit.stream(before))
    assert [(entry.actor, entry.action, entry.about, entry.why) for entry in entries] == [
        ("user:adam", "account.created", "account/olga", "new colleague"),
        ("user:adam", "roles.asked", "account/olga", "new colleague"),
        ("user:rita", "account.disabled", "account/olga", "mistake"),
    ]
    assert entries[1].facts["after"] == ["officer"]
    assert audit.verify() == entries[-1].seq
