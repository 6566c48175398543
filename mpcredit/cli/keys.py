"""mpcredit keys: make, show, rotate, exchange and destroy this party's keys."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcredit.cli._access import view
from mpcredit.cli._owner import Owner, create_account_file, owner_path
from mpcredit.cli._parties import account_address, owned_member
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    OwnerOption,
    ask,
    fingerprint,
    load,
    moment,
    require_role,
)
from mpcredit.config import Config, open_keystore
from mpcredit.encoding import bytes_to_int, hex_bytes, to_hex
from mpcredit.errors import InvalidMessage, KeyStoreError, MpcreditError
from mpcredit.events import Stage
from mpcredit.inquirer import Request
from mpcredit.keystore import KeyStore
from mpcredit.local import sign_key
from mpcredit.paillier import PublicKey
from mpcredit.state import LedgerState
from mpcredit.tags import TagKey, require_versions

app = typer.Typer(help="Make, show, rotate, exchange and destroy this party's keys.", no_args_is_help=True)


def tag_commitments(config: Config, keys: KeyStore) -> dict[int, str]:
    """Commitments of the tag keys at hand, from their files' headers."""
    found = {}
    for version in keys.tag_versions():
        try:
            value = json.loads((config.keys / f"tag-{version}.json").read_text(encoding="utf-8"))
            found[version] = str(value["public"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeyStoreError(
                f"{config.keys / f'tag-{version}.json'}: cannot be read", remedy="restore it from a backup"
            ) from error
    return found


def tag_keys_at_hand(config: Config) -> dict[int, bytes]:
    """Commitments of the tag keys at hand by version; needs no passphrase."""
    return {version: hex_bytes(made, 32) for version, made in tag_commitments(config, open_keystore(config)).items()}


def x25519_keys(config: Config, keys: KeyStore) -> dict[int, bytes]:
    """The party's public X25519 keys by version."""
    return keys.institution_versions() if config.role == "institution" else keys.supervisor_versions()


def _described(config: Config, keys: KeyStore) -> dict[str, Any]:
    word = "institution_keys" if config.role == "institution" else "supervisor_keys"
    return {
        "role": config.role,
        "directory": str(config.keys),
        "token": str(config.token) if config.token else None,
        "ledger_account": account_address(config),
        word: [
            {
                "version": version,
                "public": to_hex(public),
                "fingerprint": fingerprint(public),
                "in": "token" if keys.in_token(public) else "file",
            }
            for version, public in x25519_keys(config, keys).items()
        ],
        "tag_keys": [
            {"version": version, "commitment": commitment}
            for version, commitment in tag_commitments(config, keys).items()
        ],
        "inquiry_keys": len(keys.inquiry_keys()),
    }


def _show(out: Output, title: str, value: dict[str, Any]) -> None:
    rows: list[tuple[str, object]] = [
        ("key files", value["directory"]),
        *([("token", value["token"])] if value["token"] else []),
        ("ledger account", value["ledger_account"] or "none yet"),
    ]
    kind = "institution" if value["role"] == "institution" else "supervisor"
    for key in value[f"{kind}_keys"]:
        rows.append((f"{kind} key {key['version']}", key["public"]))
        rows.append(("  fingerprint", key["fingerprint"]))
        if value["token"]:
            rows.append(("  kept in", "the token" if key["in"] == "token" else "a key file"))
    for key in value["tag_keys"]:
        rows.append((f"tag key {key['version']}", f"commitment {key['commitment']}"))
    if value["inquiry_keys"]:
        rows.append(("inquiry keys", value["inquiry_keys"]))
    out.facts(title, rows)


@app.command()
def new(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Make this party's ledger account and its first institution key (or supervisor key).

    What is there already is kept; what is missing is made. With [keys.pkcs11] in the configuration the institution or
    supervisor key is made in the token. Nothing is sent to the ledger.

    Example: mpcredit keys new --config bank-a/mpcredit.toml
    """
    settings, out = load(config), Output(json)
    keys = open_keystore(settings, ask)
    made = []
    if account_address(settings) is None:
        keys.create_account()
        made.append("ledger account")
    if not x25519_keys(settings, keys):
        create = keys.create_institution_key if settings.role == "institution" else keys.create_supervisor_key
        create(1)
        made.append(f"{settings.role} key 1")
    if not made:
        raise KeyStoreError(
            f"{settings.keys}: the keys are there already",
            remedy="see them with `mpcredit keys show`; a new institution key is made by `mpcredit keys rotate`",
        )
    value = _described(settings, keys)
    _show(out, f"Made: {', '.join(made)}", value)
    if settings.role == "institution":
        next_steps = [
            "make an owner account and keep it offline: mpcredit keys owner",
            "give your name and the owner account's address to the member that writes the founding file",
            "compare the founding file with what the others say, deploy, then: mpcredit member confirm, which names the "
            "ledger account as your service account",
        ]
    else:
        next_steps = [
            "make an owner account and keep it offline: mpcredit keys owner",
            "give the owner account's address to the member that writes the founding file",
            "after the deployment: mpcredit member appoint, which names the ledger account as your service account, then "
            "mpcredit member period-key",
        ]
    out.steps("Next", next_steps)
    out.document({**value, "made": made})


@app.command()
def show(
    check: Annotated[
        bool,
        typer.Option(
            "--check", metavar="", help="Open every key with passphrase and PIN, not only read what needs neither."
        ),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show addresses, public keys and fingerprints; no private key is ever printed.

    Example: mpcredit keys show --check
    """
    settings, out = load(config), Output(json)
    keys = open_keystore(settings, ask)
    value = _described(settings, keys)
    if value["ledger_account"] is None and not x25519_keys(settings, keys):
        raise KeyStoreError(f"{settings.keys}: there are no keys", remedy="make them with `mpcredit keys new`")
    if check:
        if settings.account is None:
            keys.account()
        for public in x25519_keys(settings, keys).values():
            keys.institution_key(public)
        for version in keys.tag_versions():
            keys.tag_key(version)
        for name in keys.inquiry_keys():
            keys.inquiry_key(name)
    _show(out, "Keys" + (", all of which open" if check else ""), value)
    out.document({**value, "checked": check})


@app.command()
def owner(
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="By default owner-account.json beside the configuration.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make an owner account: an Ethereum JSON keystore under a passphrase of its own (MPCREDIT_OWNER_PASSPHRASE).

    It governs for the institution or the supervisor: it names the service account, votes or approves, and signs keys. Keep
    the file offline when it is not needed.

    Example: mpcredit keys owner --out /media/safe/owner-account.json
    """
    settings, out = load(config), Output(json)
    path = owner_path(settings, out_file)
    address = create_account_file(path)
    out.facts("Made the owner account", [("address", address), ("file", path)])
    out.document({"owner": address, "file": str(path)})


def next_key(keys_at_hand: dict[int, bytes], registered: set[bytes], version: int) -> bytes | None:
    """A key at hand that may become the next version: made for it by an attempt that did not reach the ledger."""
    found = keys_at_hand.get(version)
    return found if found is not None and found not in registered else None


@app.command()
def rotate(
    compromised: Annotated[
        bool,
        typer.Option(
            "--compromised",
            metavar="",
            help="The old key may have been read: leave the cohorts at once, until the new key is audited.",
        ),
    ] = False,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make the next institution key and register it, signed by the owner account; once in 24 hours.

    Cohorts use the new key as soon as the supervisor has audited its mask keys, which needs your service to run, and the old
    key until then. The old key is kept until you destroy it.

    Example: mpcredit keys rotate --owner-account owner-account.json
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    keys = open_keystore(settings, ask)
    keys.unlock()
    acting = Owner(settings, owner_account)
    with view(settings) as read:
        state = read.follower.state
        member = owned_member(state, acting.address)
        if not member.keys:
            raise InvalidMessage(f"{member.name} has not confirmed its record", remedy="run `mpcredit member confirm`")
        version = member.key.version + 1
        registered = {key.public for m in state.members.values() for key in m.keys.values()}
        public = (
            next_key(keys.institution_versions(), registered, version) or keys.create_institution_key(version).public
        )
        keys.institution_key(public)
        signature = sign_key(acting.account, state.realm, member.index, version, public, member.key.public)
        block = acting.send(read.ledger, "rotateKey", member.index, public, compromised, signature)
    out.facts(
        f"Registered institution key {version} of {member.name} in block {block}",
        [("public key", to_hex(public)), ("fingerprint", fingerprint(public))],
    )
    until = "in no cohort, and refuses open inquiries under the old key" if compromised else "serving with the old key"
    out.say(f"Until the mask audit of the new key it is {until}: keep `mpcredit answer` running.")
    out.document(
        {
            "member": member.index,
            "version": version,
            "public": to_hex(public),
            "fingerprint": fingerprint(public),
            "compromised": compromised,
            "block": block,
        }
    )


@app.command()
def tag(
    make: Annotated[
        bool, typer.Option("--new", metavar="", help="Make the next tag key: one member does, for all.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help="Write the tag keys of all versions under a passphrase of their own (MPCREDIT_EXPORT_PASSPHRASE) for another "
            "member.",
            show_default=False,
        ),
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option(
            "--import", metavar="FILE", help="Keep the tag keys that another member exported.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make, export or import the keys under which all members compute the tags of customers.

    A tag under a later key is computed from the tag before, so every member keeps all versions, and a newcomer gets all in
    one file, together with the founding file. The founding file holds the commitment of the first, the ledger that of each.
    Exchange file and passphrase by two channels; everybody compares the commitments. A service that lacks the newest key is
    not ready, and opens nothing.

    Example: mpcredit keys tag --new; mpcredit keys tag --export for-bank-b.json; mpcredit keys tag --import from-bank-a.json
    """
    settings, out = load(config), Output(json)
    if import_ is None:  # the supervisor needs it too, to find a customer who wants to know which institutions asked
        require_role(settings, "institution")
    if sum((make, export is not None, import_ is not None)) != 1:
        raise InvalidMessage(
            "say what to do with the tag keys", remedy="give one of --new, --export FILE, --import FILE"
        )
    keys = open_keystore(settings, ask)
    if make:
        made = TagKey.generate(_next_tag_version(settings, keys))
        keys.save_tag_key(made)
        shown: tuple[TagKey, ...] = (made,)
        what = "Made the next tag key"
    elif import_ is not None:
        shown = keys.import_tag_keys(import_)
        what = f"These tag keys are here now, all from {import_}"
    else:
        assert export is not None
        if not keys.tag_versions():
            raise KeyStoreError("there is no tag key", remedy="make it with --new, or import it with --import FILE")
        shown = keys.export_tag_keys(export)
        what = f"Exported to {export}"
    newest = shown[-1]
    out.facts(what, [(f"tag key {key.version}", f"commitment {to_hex(key.commitment)}") for key in shown])
    if make:
        out.say(
            "Write the commitment into the founding file as tag_key_commitment (or propose it: `mpcredit propose tag-key`)."
        )
    if export and settings.founding is not None and settings.founding.exists():
        digest = hashlib.sha256(settings.founding.read_bytes()).hexdigest()
        out.say(f"A newcomer needs the founding file with it: {settings.founding}, SHA-256 {digest}")
    out.document(
        {"version": newest.version, "commitment": to_hex(newest.commitment), "file": str(export) if export else None}
    )


def _next_tag_version(config: Config, keys: KeyStore) -> int:
    """The version that the next tag key would be in force as.

    Raises:
        KeyStoreError: it is here already, and waits to be put in force; or an earlier version is not at hand.
    """
    newest = 0
    if config.consortium is not None:
        with view(config) as read:
            newest = max(read.follower.state.tag_keys, default=0)
    require_versions(keys.tag_versions(), newest)
    if newest + 1 in keys.tag_versions():
        raise KeyStoreError(
            f"{config.keys}: tag key {newest + 1} is here already, and not in force",
            remedy="export it for the others, and propose its commitment (`mpcredit keys show`); or destroy it first",
        )
    return newest + 1


@app.command()
def destroy(
    kind: Annotated[str, typer.Argument(help="inquiry, institution, supervisor or tag.")],
    name: Annotated[
        str | None, typer.Argument(help="Version of the key, or fingerprint of an inquiry key.", show_default=False)
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than", metavar="DAYS", help="All inquiry keys whose request ended so long ago.", show_default=False
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", metavar="", help="Do it; without this, only say what would be destroyed.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Destroy keys whose retention is over: what they sealed can then not be read any more, by anybody's order.

    Keys in use are refused, and a member's tag keys of every version. A key in a token is destroyed there. Copies in backups
    and snapshots are yours to destroy, those of the token too.

    Example: mpcredit keys destroy inquiry --older-than 90 --yes
    """
    settings, out = load(config), Output(json)
    keys = open_keystore(settings, ask)
    if kind not in ("inquiry", "institution", "supervisor", "tag"):
        raise InvalidMessage(
            f"there are no keys of kind {kind!r}", remedy="use inquiry, institution, supervisor or tag"
        )
    if (name is None) == (older_than is None) or (older_than is not None and kind != "inquiry"):
        raise InvalidMessage(
            "say which key", remedy="give its version or fingerprint, or for inquiry keys --older-than DAYS"
        )
    names = [name] if name is not None else []
    with view(settings) as read:
        stored = [Request(key, value) for key, value in read.store.items("request")]
        requests = {fingerprint: request for request in stored for fingerprint in request.keys}
        if older_than is not None:
            limit = min(read.follower.now, int(time.time())) - older_than * 86_400
            names = [
                print_
                for print_ in keys.inquiry_keys()
                if print_ in requests
                and requests[print_].state.final
                and int(requests[print_].value["requested_at"]) < limit
            ]
        for item in names:
            _refuse_in_use(kind, item, settings, keys, requests, read.follower.state)
    verb = "Destroyed" if yes else "Would destroy (add --yes)"
    if yes:
        for item in names:
            _destroy(kind, item, keys)
    out.say(f"{verb} {len(names)} {kind} key{'' if len(names) == 1 else 's'}: {', '.join(names) or 'none'}")
    out.document({"kind": kind, "names": names, "destroyed": yes, "at": moment(int(time.time()))})


def _unreported(state: LedgerState) -> set[str]:
    """Fingerprints of keys whose inquiries are open or complete, with or without a request."""
    under_way = (i for i in state.inquiries.values() if i.stage in (Stage.OPEN, Stage.COMPLETE))
    return {PublicKey(bytes_to_int(inquiry.opening.n)).fingerprint for inquiry in under_way}


def _refuse_in_use(
    kind: str, name: str, config: Config, keys: KeyStore, requests: dict[str, Request], state: LedgerState
) -> None:
    problem = ""
    if kind == "inquiry":
        if name not in keys.inquiry_keys():
            problem = "there is no such key"
        elif name in requests and not requests[name].state.final:
            problem = f"request {requests[name].id} still needs it"
        elif name in _unreported(state):
            problem = "an inquiry under it is not reported yet"
    elif not name.isdecimal():
        problem = "is not a version"
    elif kind == "tag":
        if int(name) not in keys.tag_versions():
            problem = "there is no such key"
        elif config.role == "institution" and _is_the_consortiums(config, keys, int(name), state):
            problem = "it is the consortium's; the newest tags are computed with the tag keys of all versions"
    else:
        public = (keys.institution_versions() if kind == "institution" else keys.supervisor_versions()).get(int(name))
        periods = [version for version in (state.in_force, state.announced_key) if version is not None]
        current = {state.period_keys[version].public for version in periods}
        for member in state.members.values():
            in_use = [member.key_under(version) for version in periods]
            current |= {key.public for key in (*in_use, member.key if member.keys else None) if key is not None}
        pending = [
            inquiry
            for inquiry in state.inquiries.values()
            if not inquiry.stage.ended
            or (kind == "supervisor" and inquiry.verdict is None and not inquiry.stage.failed)
            if public == inquiry.period_key.public or any(public == key.public for key in inquiry.keys.values())
        ]
        if public is None:
            problem = "there is no such key"
        elif public in current:
            problem = "it is a key in force"
        elif pending:
            problem = f"{len(pending)} open inquiries need it"
    if problem:
        raise KeyStoreError(
            f"{config.keys}: {kind} key {name} is not destroyed: {problem}", remedy="see `mpcredit keys show`"
        )


def _is_the_consortiums(config: Config, keys: KeyStore, version: int, state: Any) -> bool:
    """Whether the ledger holds the commitment of this tag key; one that somebody made in vain may go."""
    on_ledger = state.tag_keys.get(version)
    return on_ledger is not None and tag_commitments(config, keys).get(version) == to_hex(on_ledger)


def _destroy(kind: str, name: str, keys: KeyStore) -> None:
    if kind == "inquiry":
        keys.destroy_inquiry_key(name)
    elif kind == "tag":
        keys.destroy_tag_key(int(name))
    else:
        versions = keys.institution_versions() if kind == "institution" else keys.supervisor_versions()
        if int(name) not in versions:
            raise MpcreditError(f"there is no {kind} key {name}")
        keys.destroy_institution_key(versions[int(name)])
