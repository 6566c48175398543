// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJointCredit} from "../interfaces/IJointCredit.sol";
import {ModMath, Workspace} from "./ModMath.sol";

/// @title Paillier ciphertexts under one modulus n
/// @notice Tell whether bytes are a ciphertext, and add two: the product modulo n^2 encrypts the sum.
/// @dev A ciphertext c has one form: exactly the width of n^2, big-endian, 0 < c < n^2, and not a multiple of n.
/// That it is coprime to n is left to those who can compute a gcd: n divides c only if n^2 divides c^2, and the other way
/// round when n is square-free (if n is not, more is turned away, none of it coprime to n).
library Paillier {
    using ModMath for Workspace;

    // Widths of n that are accepted, in bytes: 2,048 to 4,096 bits, whole words.
    uint256 internal constant LEAST_WIDTH_OF_N = 256;
    uint256 internal constant GREATEST_WIDTH_OF_N = 512;
    uint256 private constant WORD = 32;

    /// @notice Whether n has a width that is accepted, at least `minimumBits`.
    function isWidthOfModulus(uint256 length, uint256 minimumBits) internal pure returns (bool) {
        return
            length >= LEAST_WIDTH_OF_N && length <= GREATEST_WIDTH_OF_N && length % WORD == 0 && length * 8 >= minimumBits;
    }

    /// @notice Whether n has no leading zero bit and is odd. More of its form is proven off the ledger.
    function isFormOfModulus(bytes calldata n) internal pure returns (bool) {
        return uint8(n[0]) >= 0x80 && uint8(n[n.length - 1]) & 1 == 1;
    }

    /// @notice A workspace with n^2 as its modulus.
    function workspaceFor(bytes calldata n) internal view returns (Workspace space) {
        space = ModMath.workspace(2 * n.length);
        space.setModulusToSquareOf(n);
    }

    /// @notice Take a ciphertext from a payload as the factor, if it is one.
    /// @param ciphertext of the width of the workspace
    /// @param block_ its number, for the error
    function takeCiphertext(Workspace space, bytes calldata ciphertext, uint256 block_) internal view {
        require(space.setFactor(ciphertext), IJointCredit.CiphertextRange(block_));
        if (space.squareFactor()) {
            require(!space.isFactorZero(), IJointCredit.CiphertextRange(block_));
            revert IJointCredit.CiphertextMultipleOfModulus(block_);
        }
    }
}
