"""A deployer founds with a constructor of its own: hidden supervisors and operators (R37.1, I10).

Runtime code and events are those of the founding file, byte for byte; storage that no event shows gives the deployer a
supervisor's powers and the service account of a member. Who looks at runtime code and events alone, as version 1 did,
believes in the consortium, and the hidden supervisor suspends whom it likes. The creation transaction gives it away. So
do a factory, other arguments, and an endpoint that shows another transaction in its place.

The contract is the shipped one with three lines behind its constructor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onchain import variant
from parties import founding_text

from mpcredit.chain import ChainLedger, ChainSigner, ContractRefused, Wallet, artifacts, deploy, tester
from mpcredit.chain.creation import compare_creation
from mpcredit.cli.doctor import _code_of, same_code
from mpcredit.encoding import to_hex
from mpcredit.errors import WrongLedger
from mpcredit.events import Call
from mpcredit.follower import Follower
from mpcredit.founding import Founding, read_founding
from mpcredit.ledger.roster import Pins
from mpcredit.pairkeys import InstitutionKey
from mpcredit.server.founders import confirm_member

DEPLOYER, SUPERVISOR, HIDDEN, PUPPET = (tester.deterministic_account(number) for number in range(700, 704))
OWNERS = {f"Bank {name}": tester.deterministic_account(710 + number) for number, name in enumerate("ABC")}
SERVICE = tester.deterministic_account(720)
END = "        _approveJointCredit(founding.jointCreditInitCodeHash);\n    }\n"
EVIL = (
    END,
    END.removesuffix("    }\n")
    + f"        _supervisors[{HIDDEN.address}].since = uint64(block.timestamp);\n"
    + "        ++_supervisorCount;\n"
    + f"        _accounts[1].account = {PUPPET.address};\n"
    + "    }\n",
)
FACTORY = bytes.fromhex("600d380380600d5f395f5ff000")
"""Init code that creates the contract of the init code behind it, by CREATE."""
FACTORY_2 = bytes.fromhex("5f600e380380600e5f395f5ff500")
"""The same by CREATE2."""


@pytest.fixture(scope="module")
def web3() -> Any:
    return tester.embedded_chain([account.address for account in (DEPLOYER, SUPERVISOR, HIDDEN, *OWNERS.values())])


@pytest.fixture(scope="module")
def founding(tmp_path_factory: pytest.TempPathFactory) -> Founding:
    path = tmp_path_factory.mktemp("founding") / "founding.toml"
    owners = {name: owner.address for name, owner in OWNERS.items()}
    path.write_text(founding_text(owners, SUPERVISOR.address, "0x" + "07" * 32), encoding="utf-8")
    return read_founding(path)


@pytest.fixture(scope="module")
def evil_code() -> bytes:
    code = bytes.fromhex(variant("Consortium", EVIL)["bytecode"][2:])
    assert code != artifacts.consortium().bytecode
    return code


def arguments(founding: Founding) -> bytes:
    shipped = artifacts.consortium()
    return shipped.init_code(founding.constructor_argument())[len(shipped.bytecode) :]


def put(web3: Any, data: bytes) -> ChainLedger:
    """Send a creation, and find the Consortium that came of it by its events."""
    _, made = Wallet(web3, DEPLOYER).send(None, data)
    (address,) = {log["address"] for log in web3.eth.get_logs({"fromBlock": made.block, "toBlock": made.block})}
    return ChainLedger(web3, address)


@pytest.fixture(scope="module")
def forged(web3: Any, founding: Founding, evil_code: bytes) -> ChainLedger:
    return put(web3, evil_code + arguments(founding))


@pytest.fixture(scope="module")
def honest(web3: Any, founding: Founding) -> ChainLedger:
    return ChainLedger(web3, deploy(web3, DEPLOYER, founding.constructor_argument()).consortium)


def followed(ledger: ChainLedger, founding: Founding) -> Follower:
    """A reader with the accounts of the founding file."""
    owners = {index: frozenset({one.owner}) for index, one in enumerate(founding.founders)}
    supervisors = frozenset(founding.supervisors)
    follower = Follower(ledger, Pins(owners, supervisors, supervisors, frozenset()))
    follower.sync()
    return follower


def looks_right(ledger: ChainLedger, founding: Founding) -> bool:
    """The naive check: runtime code, and everything that events show."""
    state = followed(ledger, founding).state
    on_chain = bytes(ledger.web3.eth.get_code(ledger.realm.consortium))
    return (
        same_code(on_chain, _code_of("Consortium"), ledger.realm.consortium)
        and set(state.supervisors) == set(founding.supervisors)
        and [(member.owner, member.name) for member in state.members.values()]
        == [(one.owner, one.name) for one in founding.founders]
        and all(member.account is None for member in state.members.values())
        and state.parameters == founding.parameters
    )


def compare(ledger: ChainLedger, founding: Founding) -> str:
    first = followed(ledger, founding).state.roster_history[0].at
    return compare_creation(ledger, founding, first).release


def suspend_bank_a(ledger: ChainLedger, founding: Founding) -> bool:
    """The hidden supervisor suspends Bank A, once that has confirmed: whether the members see it suspended."""
    key = InstitutionKey.from_bytes(b"a" * 32).public
    confirm_member(ledger, OWNERS["Bank A"], 0, key, SERVICE.address, b"\x0a" * 32)
    signer = ChainSigner(ledger.web3, HIDDEN, ledger.realm.consortium)
    signer.transact(Call("consortium", "suspend", (HIDDEN.address, 0)))
    return followed(ledger, founding).state.members[0].suspended


def test_own_constructor__looks_right__and_its_hidden_supervisor_suspends_a_member(
    forged: ChainLedger, founding: Founding
) -> None:
    assert looks_right(forged, founding)
    assert HIDDEN.address not in followed(forged, founding).state.supervisors
    assert forged.call(Call("consortium", "accountOf", (1,)))[0] == PUPPET.address

    assert suspend_bank_a(forged, founding)


def test_own_constructor__compared_by_its_creation__is_refused(forged: ChainLedger, founding: Founding) -> None:
    with pytest.raises(WrongLedger, match="code that no release of mpcredit has") as caught:
        compare(forged, founding)

    assert "do not take part" in caught.value.remedy


def test_shipped_constructor__passes__and_there_is_no_hidden_supervisor(
    honest: ChainLedger, founding: Founding
) -> None:
    assert looks_right(honest, founding)
    assert compare(honest, founding) == artifacts.init_codes()[-1].release

    with pytest.raises(ContractRefused) as caught:
        suspend_bank_a(honest, founding)
    assert caught.value.code == "NotSupervisor"


@pytest.mark.parametrize("factory", [FACTORY, FACTORY_2], ids=["create", "create2"])
def test_factory__even_with_the_shipped_code__is_refused(web3: Any, founding: Founding, factory: bytes) -> None:
    ledger = put(web3, factory + artifacts.consortium().init_code(founding.constructor_argument()))

    assert looks_right(ledger, founding)
    with pytest.raises(WrongLedger, match="factory, or CREATE2"):
        compare(ledger, founding)


def test_shipped_code__with_other_arguments__is_refused_by_name(
    web3: Any, honest: ChainLedger, founding: Founding, tmp_path: Path
) -> None:
    owners = {name: owner.address for name, owner in OWNERS.items()}
    path = tmp_path / "founding.toml"
    path.write_text(founding_text(owners, HIDDEN.address, "0x" + "07" * 32, period_seconds=9), encoding="utf-8")

    with pytest.raises(WrongLedger, match="these differ: supervisors, periodSeconds"):
        compare(honest, read_founding(path))


@pytest.fixture
def lying(forged: ChainLedger, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """An endpoint that shows the deployer's transaction with other input."""
    eth, get_block = forged.web3.eth, forged.web3.eth.get_block

    def show(data: bytes) -> None:
        def changed(number: Any, full_transactions: bool = False) -> Any:
            block = get_block(number, full_transactions)
            if not full_transactions:
                return block
            return {**block, "transactions": [{**one, "input": data} for one in block["transactions"]]}

        monkeypatch.setattr(eth, "get_block", changed)

    return show


def test_endpoint_that_shows_the_shipped_code_instead__has_no_signature_for_it(
    forged: ChainLedger, founding: Founding, lying: Callable[[bytes], None]
) -> None:
    lying(artifacts.consortium().init_code(founding.constructor_argument()))

    with pytest.raises(WrongLedger, match="another transaction than was signed"):
        compare(forged, founding)
    assert to_hex(followed(forged, founding).state.roster)  # events are read as before
