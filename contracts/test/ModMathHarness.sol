// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ModMath, Workspace} from "../libraries/ModMath.sol";
import {Paillier} from "../libraries/Paillier.sol";

/// @title Opens the big-integer arithmetic to tests
/// @notice Many products in one call, each in the steps that a contribution takes. Not for any ledger that matters.
contract ModMathHarness {
    using ModMath for Workspace;
    using Paillier for Workspace;

    uint256 private constant SLOT = 1000;

    /// Slots that were used before cost the same each time, whatever words come and go in a call.
    constructor() {
        for (uint256 i = 0; i < 1024; i += 32) {
            uint256 slot = SLOT + i;
            // Safe: this contract keeps nothing else in storage.
            assembly ("memory-safe") {
                sstore(slot, not(0))
            }
        }
    }

    /// @param modulus any odd number
    /// @param pairs a and b in turn, each of the modulus's width and below it
    /// @return products a * b mod modulus, one after the other
    function products(bytes calldata modulus, bytes calldata pairs) external returns (bytes memory) {
        uint256 width = modulus.length;
        Workspace space = ModMath.workspace(width);
        _copy(modulus, space.modulusOf());
        bytes memory answer = new bytes(pairs.length / 2);
        uint256 target = _start(answer);

        for (uint256 place = 0; place < pairs.length; place += 2 * width) {
            _store(pairs[place:place + width]);
            space.setFactor(pairs[place + width:place + 2 * width]);
            space.squareFactor();
            space.doubleProduct(SLOT);
            space.halve(SLOT, 1, target + place / 2);
        }
        return answer;
    }

    /// @return quotient number / 2^times mod modulus
    function halve(bytes calldata modulus, bytes calldata number, uint256 times) external returns (bytes memory) {
        Workspace space = ModMath.workspace(modulus.length);
        _copy(modulus, space.modulusOf());
        bytes memory answer = new bytes(modulus.length);
        _store(number);
        space.halve(SLOT, times, _start(answer));
        return answer;
    }

    /// @return square n^2, as a contribution finds it
    function square(bytes calldata n) external view returns (bytes memory) {
        Workspace space = Paillier.workspaceFor(n);
        bytes memory answer = new bytes(2 * n.length);
        _move(space.modulusOf(), _start(answer), answer.length);
        return answer;
    }

    /// @notice Reverts as a contribution does if these bytes are not a ciphertext under n.
    function takeCiphertext(bytes calldata n, bytes calldata ciphertext) external view {
        Paillier.workspaceFor(n).takeCiphertext(ciphertext, 7);
    }

    function _start(bytes memory text) private pure returns (uint256 pointer) {
        // Memory-safe: the address of the bytes behind the length.
        assembly ("memory-safe") {
            pointer := add(text, 0x20)
        }
    }

    function _copy(bytes calldata from, uint256 to) private pure {
        // Memory-safe: the caller owns what is at `to`.
        assembly ("memory-safe") {
            calldatacopy(to, from.offset, from.length)
        }
    }

    function _store(bytes calldata number) private {
        // Safe: this contract keeps nothing else in storage.
        assembly ("memory-safe") {
            for { let i := 0 } lt(i, number.length) { i := add(i, 0x20) } {
                sstore(add(SLOT, i), calldataload(add(number.offset, i)))
            }
        }
    }

    function _move(uint256 from, uint256 to, uint256 length) private pure {
        // Memory-safe: the caller owns what is at `to`; lengths are whole words.
        assembly ("memory-safe") {
            for { let i := 0 } lt(i, length) { i := add(i, 0x20) } { mstore(add(to, i), mload(add(from, i))) }
        }
    }
}
