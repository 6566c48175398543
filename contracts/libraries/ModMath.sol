// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJointCredit} from "../interfaces/IJointCredit.sol";

/// A pointer to the memory in which `ModMath` works on numbers of one width; its first word is that width.
type Workspace is uint256;

/// @title Products of big integers through the MODEXP precompile
/// @notice Numbers are big-endian, all of one width w (a multiple of 32 bytes, 1,024 at most), modulo one odd m of that width.
/// @dev MODEXP squares but does not multiply; the product comes from three squares and one halving:
///
///     t = (a + b)^2 - a^2 - b^2 = 2ab (mod m), each square in [0, m), so -2m < t < m
///     if t is odd, add m, which is odd too; then halve: u = ab (mod m), -m < u < m; if u < 0, add m.
///
/// The square of b is needed anyway (`Paillier` tells multiples of n by it), so a product costs two more squares. No
/// operand is ever longer than w: where a + b needs one bit more, m is taken off. Nothing here depends on a fork's prices,
/// and 1,024 bytes is what MODEXP takes at most since Osaka (EIP-7823).
/// Whatever goes wrong with the precompile reverts: too little gas, a chain that lacks it, an answer of another length.
///
/// Memory of a workspace of width w:
///
///     0x00        w, length of the base       \
///     0x20        1, length of the exponent    |
///     0x40        w, length of the modulus     | the input of MODEXP, whole at all times
///     0x60        base (w)                     |
///     0x60 +  w   2, the exponent (1 byte)     |
///     0x61 +  w   modulus (w)                 /
///     0x80 + 2w   factor (w)
///     0x80 + 3w   factor^2 mod m (w)
///     0x80 + 4w   (base + factor)^2 mod m (w)
///     0x80 + 5w   base^2 mod m, then the product (w)
///     0x80 + 6w   spare word
///     0xa0 + 6w   end
library ModMath {
    /// The address of MODEXP (EIP-198).
    uint256 private constant MODEXP = 0x05;
    uint256 private constant LENGTH_OF_EXPONENT = 0x20;
    uint256 private constant LENGTH_OF_MODULUS = 0x40;
    uint256 private constant BASE = 0x60;
    /// The modulus begins at MODULUS + w, the factor at FACTOR + 2w, and so on.
    uint256 private constant MODULUS = 0x61;
    uint256 private constant FACTOR = 0x80;
    uint256 private constant SPARE = 0x80;

    // ---------------------------------------------------------------- places

    /// @notice Memory for numbers of `width` bytes; the modulus is still to be put there.
    function workspace(uint256 width) internal pure returns (Workspace space) {
        // Memory-safe: takes the memory that it writes to from behind the free memory pointer, and moves that pointer.
        assembly ("memory-safe") {
            space := mload(0x40)
            mstore(0x40, add(space, add(SPARE, add(mul(6, width), 0x20))))
            mstore(space, width)
            mstore(add(space, LENGTH_OF_EXPONENT), 1)
            mstore(add(space, LENGTH_OF_MODULUS), width)
            mstore8(add(space, add(BASE, width)), 2)
        }
    }

    function widthOf(Workspace space) internal pure returns (uint256 width) {
        // Memory-safe: reads the first word of the workspace.
        assembly ("memory-safe") {
            width := mload(space)
        }
    }

    /// @notice Where the base is: the one factor of `multiply`.
    function baseOf(Workspace space) internal pure returns (uint256) {
        return Workspace.unwrap(space) + BASE;
    }

    /// @notice Where the modulus is. Not aligned to words.
    function modulusOf(Workspace space) internal pure returns (uint256) {
        return Workspace.unwrap(space) + MODULUS + widthOf(space);
    }

    /// @notice Where the other factor of `multiply` is.
    function factorOf(Workspace space) internal pure returns (uint256) {
        return Workspace.unwrap(space) + FACTOR + 2 * widthOf(space);
    }

    // ---------------------------------------------------------------- modulus

    /// @notice Make n^2 the modulus; n has half the width of the workspace.
    /// @dev n^2 is below 2^(8w) - 1, so its remainder by that (all bits set) is n^2 itself.
    function setModulusToSquareOf(Workspace space, bytes calldata n) internal view {
        uint256 modulus = modulusOf(space);

        // Memory-safe: writes to base and modulus, both inside the workspace. Beyond the end of calldata are zeros.
        assembly ("memory-safe") {
            let base := add(space, BASE)
            calldatacopy(base, calldatasize(), n.length)
            calldatacopy(add(base, n.length), n.offset, n.length)
            for { let i := 0 } lt(i, mload(space)) { i := add(i, 0x20) } { mstore(add(modulus, i), not(0)) }
        }
        _square(space, modulus);
    }

    // ---------------------------------------------------------------- arithmetic

    /// @notice Whether the factor is below the modulus.
    function isFactorReduced(Workspace space) internal pure returns (bool reduced) {
        uint256 factor = factorOf(space);
        uint256 modulus = modulusOf(space);

        // Memory-safe: reads factor and modulus, word by word from the top, until they differ.
        assembly ("memory-safe") {
            for { let i := 0 } lt(i, mload(space)) { i := add(i, 0x20) } {
                let f := mload(add(factor, i))
                let m := mload(add(modulus, i))
                if xor(f, m) {
                    reduced := lt(f, m)
                    break
                }
            }
        }
    }

    function isFactorZero(Workspace space) internal pure returns (bool) {
        return _isZero(factorOf(space), widthOf(space));
    }

    /// @notice Square the factor, which `multiply` counts on, and tell whether m divides the square. Overwrites the base.
    function squareFactor(Workspace space) internal view returns (bool isZero) {
        uint256 width = widthOf(space);
        uint256 factor = factorOf(space);

        // Memory-safe: copies the factor to the base, both inside the workspace.
        assembly ("memory-safe") {
            let base := add(space, BASE)
            for { let i := 0 } lt(i, width) { i := add(i, 0x20) } { mstore(add(base, i), mload(add(factor, i))) }
        }
        _square(space, factor + width);

        isZero = _isZero(factor + width, width);
    }

    /// @notice Multiply base and factor, both below the modulus, after `squareFactor`. Overwrites the base.
    /// @return product where the product is, fully reduced
    function multiply(Workspace space) internal view returns (uint256 product) {
        uint256 width = widthOf(space);
        uint256 sumSquare = factorOf(space) + 2 * width;
        product = sumSquare + width;

        _square(space, product);
        _addFactorToBase(space);
        _square(space, sumSquare);
        _halveDifference(space, product);
    }

    // ---------------------------------------------------------------- steps

    /// Put base^2 mod m at `target`, by MODEXP or not at all.
    function _square(Workspace space, uint256 target) private view {
        bool answered;

        // Memory-safe: `target` is a place of the workspace (the modulus too: MODEXP has read its input when it writes).
        assembly ("memory-safe") {
            let width := mload(space)
            answered := staticcall(gas(), MODEXP, space, add(MODULUS, mul(2, width)), target, width)
            answered := and(answered, eq(returndatasize(), width))
        }
        require(answered, IJointCredit.PrecompileFailed());
    }

    /// base := base + factor, less m if that has a bit more than w bytes: then it is below m, as both terms were.
    function _addFactorToBase(Workspace space) private pure {
        uint256 factor = factorOf(space);
        uint256 modulus = modulusOf(space);

        // Memory-safe: writes to the base, inside the workspace. Words from the lowest up; `carry`, `borrow` are 0 or 1.
        assembly ("memory-safe") {
            let base := add(space, BASE)
            let carry := 0
            for { let i := mload(space) } i {} {
                i := sub(i, 0x20)
                let place := add(base, i)
                let a := mload(place)
                let partly := add(a, mload(add(factor, i)))
                let sum := add(partly, carry)
                carry := or(lt(partly, a), lt(sum, partly))
                mstore(place, sum)
            }
            if carry {
                let borrow := 0
                for { let i := mload(space) } i {} {
                    i := sub(i, 0x20)
                    let place := add(base, i)
                    let a := mload(place)
                    let partly := sub(a, mload(add(modulus, i)))
                    mstore(place, sub(partly, borrow))
                    borrow := or(gt(partly, a), lt(partly, borrow))
                }
            }
        }
    }

    /// product := (sumSquare - product - factorSquare) / 2 mod m, `product` holding base^2 before.
    function _halveDifference(Workspace space, uint256 product) private pure {
        uint256 modulus = modulusOf(space);

        // Memory-safe: writes to the product, inside the workspace, and to the spare word. Words from the lowest up.
        // From one word to the next goes `carry`, from -2 to 1 in two's complement: two words are added, two taken off.
        // Each word is stored when the next is known, whose lowest bit comes down into it; the spare word behind the
        // product takes what is stored the first time, when there is no previous word.
        assembly ("memory-safe") {
            let width := mload(space)

            // All bits set if t is odd, so that m is added; else zero.
            let mask := sub(add(product, width), 0x20)
            mask := xor(mload(mask), xor(mload(sub(mask, width)), mload(sub(sub(mask, width), width))))
            mask := sub(0, and(mask, 1))

            let carry := 0
            let previous := 0
            for { let i := width } i {} {
                i := sub(i, 0x20)
                let place := add(product, i)

                // (base + factor)^2, and m if t is odd
                let word := mload(sub(place, width))
                let plus := add(word, and(mload(add(modulus, i)), mask))
                let next := lt(plus, word)

                // base^2 and factor^2
                word := mload(place)
                let minus := add(word, mload(sub(sub(place, width), width)))
                next := sub(next, lt(minus, word))

                // Their difference, and the carry: the two-word sum of (0, difference) and the carry with its sign.
                next := sub(next, lt(plus, minus))
                plus := sub(plus, minus)
                word := add(plus, carry)
                carry := add(next, add(sar(255, carry), lt(word, plus)))

                mstore(add(place, 0x20), or(shr(1, previous), shl(255, word)))
                previous := word
            }
            mstore(product, or(shr(1, previous), shl(255, carry)))

            if slt(carry, 0) {
                carry := 0
                for { let i := width } i {} {
                    i := sub(i, 0x20)
                    let place := add(product, i)
                    let a := mload(place)
                    let partly := add(a, mload(add(modulus, i)))
                    let sum := add(partly, carry)
                    carry := or(lt(partly, a), lt(sum, partly))
                    mstore(place, sum)
                }
            }
        }
    }

    function _isZero(uint256 pointer, uint256 width) private pure returns (bool isZero) {
        // Memory-safe: reads `width` bytes from `pointer`, as far as they are zero.
        assembly ("memory-safe") {
            let end := add(pointer, width)
            for {} and(lt(pointer, end), iszero(mload(pointer))) {} { pointer := add(pointer, 0x20) }
            isZero := eq(pointer, end)
        }
    }
}
