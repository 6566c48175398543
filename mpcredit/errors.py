"""The exception tree. Every class answers "whose move is it?" and carries its facts and one sentence of advice.

    MpcreditError
    +-- InvalidMessage        somebody sent bytes that break the specification: its sender must mend them
    |   +-- InvalidEncoding       not the one canonical form
    |   +-- InvalidKey            a Paillier or X25519 key that is not well formed
    |   +-- InvalidCiphertext     not a ciphertext of this key
    |   +-- InvalidProof          a proof, an opening or a signature that does not verify
    |   +-- InvalidSubject        an identity that is not one, or a sealed subject that does not open
    |   +-- InvalidConsent        a consent receipt that does not permit this
    |   +-- ValueOutOfRange       a figure that its slot cannot hold
    +-- ProtocolViolation     a participant broke a rule: `culprits` names whom
    +-- Refused               the ledger or an institution's policy said no: `code` and what would help
    +-- LedgerError           the node or the network: look, perhaps try again
    |   +-- WrongLedger           another chain, no consortium contract there, or one that was founded otherwise
    |   +-- HistoryMissing        the endpoint does not keep an old block: use one that does
    |   +-- EndpointsDisagree     two endpoints show different ledgers: the operator
    |   +-- FeeTooLow             the ledger asks for a higher fee than is offered, or permitted
    |   +-- NodeRefused           the node answered, and refused this one call: others may pass
    |   |   +-- TooLarge              in bytes or gas, for good: send less at once
    |   +-- TransactionFailed     the contract reverted
    +-- KeyStoreError         a key file or passphrase: the operator
    |   +-- WrongPassphrase       or a wrong PIN
    |   +-- KeyUnavailable        the token that has the key does not answer now: look, perhaps try again
    +-- StoreError            the institution's own store: the operator
    +-- InvalidFile           a file given by the user: place, problem and remedy
    +-- NotYet                the result is not there yet: wait, or see `mpcredit explain`

Adapters translate foreign failures into this tree with `from`; the edges catch `MpcreditError` and map it to an exit
code or an HTTP status. A programming mistake stays a plain Python error.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "EndpointsDisagree",
    "FeeTooLow",
    "HistoryMissing",
    "InvalidCiphertext",
    "InvalidConsent",
    "InvalidEncoding",
    "InvalidFile",
    "InvalidKey",
    "InvalidMessage",
    "InvalidProof",
    "InvalidSubject",
    "KeyStoreError",
    "KeyUnavailable",
    "LedgerError",
    "MpcreditError",
    "NodeRefused",
    "NotYet",
    "ProtocolViolation",
    "Refused",
    "StoreError",
    "TooLarge",
    "TransactionFailed",
    "ValueOutOfRange",
    "WrongLedger",
    "WrongPassphrase",
]


class MpcreditError(Exception):
    """Root of all errors that this package means to raise.

    Args:
        message: what is wrong, in one sentence, without secrets.
        remedy: who must do what; shown after the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class InvalidMessage(MpcreditError):
    """Bytes that break the specification; whoever made them must mend them."""

    exit_code = 3


class InvalidEncoding(InvalidMessage):
    """Not the one canonical encoding (R1)."""


class InvalidKey(InvalidMessage):
    """A key that is not well formed (R6, R9)."""


class InvalidCiphertext(InvalidMessage):
    """Not a ciphertext of this key (R21)."""


class InvalidProof(InvalidMessage):
    """A proof, an opening or a signature that does not verify."""


class InvalidSubject(InvalidMessage):
    """An identity that is not one (R3), or a sealed subject that does not open (R16)."""


class InvalidConsent(InvalidMessage):
    """A consent receipt that does not permit what is asked (R17)."""


class ConsentNotInForce(InvalidConsent):
    """The consent does not hold at the time of the inquiry; the clocks of two parties may differ."""


class ValueOutOfRange(InvalidMessage):
    """A figure that its slot cannot hold (R5)."""


class ProtocolViolation(MpcreditError):
    """A participant broke a rule.

    Args:
        culprits: indices of the members who did.
    """

    exit_code = 4

    def __init__(self, message: str, *, culprits: Sequence[int] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.culprits = tuple(culprits)


class Refused(MpcreditError):
    """An institution's policy or the ledger said no.

    Args:
        code: the code of R26, or the name of the contract's error.
    """

    exit_code = 5

    def __init__(self, message: str, *, code: int | str = 0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


class LedgerError(MpcreditError):
    """The node or the network failed; nothing is known to be wrong with what was sent."""

    exit_code = 6


class WrongLedger(LedgerError):
    """Another chain than configured, no consortium contract at the address, or one that was not founded as agreed."""


class HistoryMissing(LedgerError):
    """The endpoint does not show an old block with its transactions; nothing is known to be wrong with the ledger."""


class EndpointsDisagree(LedgerError):
    """Two endpoints of one ledger show different ones: one of them is wrong, and nothing tells which."""


class FeeTooLow(LedgerError):
    """The ledger asks for a higher fee than the transaction offers, or than the operator's ceiling permits."""


class NodeRefused(LedgerError):
    """The node answered with an error: this one call is to blame, and not the connection."""


class TooLarge(NodeRefused):
    """The node never takes this transaction: it is above a limit of bytes or of gas, its own, a block's or the chain's."""


class TransactionFailed(LedgerError):
    """The contract reverted.

    Args:
        error: the name of the contract's error, for example "WrongStage".
        arguments: its arguments by name.
    """

    def __init__(
        self, message: str, *, error: str = "", arguments: dict[str, object] | None = None, remedy: str = ""
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.error = error
        self.arguments = dict(arguments or {})


class KeyStoreError(MpcreditError):
    """A key file is missing, damaged, readable by others or of another version."""

    exit_code = 7


class WrongPassphrase(KeyStoreError):
    """The passphrase does not open the key file, or the PIN not the token."""


class KeyUnavailable(KeyStoreError):
    """The token that has the key does not answer now; nothing is known to be wrong with the key, or with what it is for.

    Unlike a key that is gone, this may pass by itself: whoever works by rounds stops the round and tries again.
    """

    exit_code = 10


class StoreError(MpcreditError):
    """The institution's own store is missing, locked by another process, or older than the ledger."""

    exit_code = 8


class InvalidFile(MpcreditError):
    """A file that the user gave is wrong.

    Args:
        place: file, row and field, for example "bank_a.csv, row 7, outstanding".
        problem: what is wrong there.
        remedy: what to write instead.
    """

    exit_code = 2

    def __init__(self, place: str, problem: str, remedy: str) -> None:
        super().__init__(f"{place}: {problem}", remedy=remedy)
        self.place = place
        self.problem = problem


class NotYet(MpcreditError):
    """What was asked for is not there yet."""

    exit_code = 9
