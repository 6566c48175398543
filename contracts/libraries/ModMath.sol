// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJointCredit} from "../interfaces/IJointCredit.sol";

/// A pointer to the memory in which `ModMath` works on numbers of one width; its first word is that width.
type Workspace is uint256;

/// @title Products of big integers through the MODEXP precompile
/// @notice Numbers are big-endian, all of one width w (a multiple of 64 bytes, 1,024 at most), modulo one odd m of that width.
/// @dev MODEXP squares but does not multiply. With h = a / 2 (mod m), which is a or a + m, whichever is even, halved:
///
///     a * b = 2hb = h^2 + b^2 - (h - b)^2 (mod m)
///
/// The square of b is needed anyway (`Paillier` tells multiples of n by it), so a product costs two more squares. No
/// operand is ever longer than w, and the sum of the three, each in [0, m), lies in (-m, 2m): m is added or taken off at
/// most once. Nothing here depends on a fork's prices, and 1,024 bytes is what MODEXP takes at most since Osaka (EIP-7823).
/// Whatever goes wrong with the precompile reverts: too little gas, a chain that lacks it, an answer of another length.
/// Loops go from the lowest word to the highest; `carry` and `borrow` are what goes from one word to the next.
///
/// Memory of a workspace of width w:
///
///     0x00        w, length of the base       \
///     0x20        1, length of the exponent    |
///     0x40        w, length of the modulus     | the input of MODEXP, whole at all times
///     0x60        base (w)                     |
///     0x60 +  w   2, the exponent (1 byte)     |
///     0x61 +  w   modulus (w)                 /
///     0x80 + 2w   factor: b (w)
///     0x80 + 3w   b^2 mod m (w)
///     0x80 + 4w   h^2 mod m (w)
///     0x80 + 5w   (h - b)^2 mod m (w)
///     0x80 + 6w   end
library ModMath {
    /// The address of MODEXP (EIP-198).
    uint256 private constant MODEXP = 0x05;
    uint256 private constant LENGTH_OF_EXPONENT = 0x20;
    uint256 private constant LENGTH_OF_MODULUS = 0x40;
    uint256 private constant BASE = 0x60;
    /// The modulus begins at MODULUS + w, the factor at FACTOR + 2w.
    uint256 private constant MODULUS = 0x61;
    uint256 private constant FACTOR = 0x80;

    // ---------------------------------------------------------------- places

    /// @notice Memory for numbers of `width` bytes; the modulus is still to be put there.
    function workspace(uint256 width) internal pure returns (Workspace space) {
        // Memory-safe: takes the memory that it writes to from behind the free memory pointer, and moves that pointer.
        assembly ("memory-safe") {
            space := mload(0x40)
            mstore(0x40, add(space, add(FACTOR, mul(6, width))))
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

    /// @notice Where the modulus is. Not aligned to words.
    function modulusOf(Workspace space) internal pure returns (uint256 pointer) {
        // Memory-safe: reads the first word of the workspace.
        assembly ("memory-safe") {
            pointer := add(add(space, MODULUS), mload(space))
        }
    }

    /// @notice Where the factor is.
    function factorOf(Workspace space) internal pure returns (uint256 pointer) {
        // Memory-safe: reads the first word of the workspace.
        assembly ("memory-safe") {
            pointer := add(add(space, FACTOR), mul(2, mload(space)))
        }
    }

    // ---------------------------------------------------------------- modulus and factor

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

    /// @notice Take the factor, b, of the width of the workspace, from calldata.
    /// @return below whether it is below the modulus
    function setFactor(Workspace space, bytes calldata b) internal pure returns (bool below) {
        uint256 factor = factorOf(space);

        // Memory-safe: writes to the factor, inside the workspace.
        assembly ("memory-safe") {
            calldatacopy(factor, b.offset, mload(space))
        }
        return _isLess(factor, modulusOf(space), widthOf(space));
    }

    function isFactorZero(Workspace space) internal pure returns (bool) {
        return _isZero(factorOf(space), widthOf(space));
    }

    /// @notice Square the factor, for `multiplyStored`, and tell whether m divides the square.
    function squareFactor(Workspace space) internal view returns (bool isZero) {
        uint256 width = widthOf(space);
        uint256 factor = factorOf(space);

        // Memory-safe: writes to the base, inside the workspace.
        assembly ("memory-safe") {
            let base := add(space, BASE)
            for { let i := 0 } lt(i, width) { i := add(i, 0x20) } { mstore(add(base, i), mload(add(factor, i))) }
        }
        _square(space, factor + width);

        return _isZero(factor + width, width);
    }

    // ---------------------------------------------------------------- product

    /// @notice Multiply a, in the storage from `slot` on, by the factor, modulo m, in place. Both are below m, and
    /// `squareFactor` was called.
    function multiplyStored(Workspace space, uint256 slot) internal {
        uint256 width = widthOf(space);
        uint256 halfSquare = factorOf(space) + 2 * width;

        _loadHalf(space, slot);
        _square(space, halfSquare);
        _subtractFactor(space);
        _square(space, halfSquare + width);
        _storeSum(space, slot, halfSquare);
    }

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

    /// base := h, which is a / 2 if a is even, else (a + m) / 2, and below m as a is.
    function _loadHalf(Workspace space, uint256 slot) private view {
        uint256 base = Workspace.unwrap(space) + BASE;
        uint256 place;
        uint256 mask;
        uint256 toModulus;
        uint256 word;
        uint256 carry;

        // Memory-safe, as the blocks below: reads the modulus, writes to the base, both inside the workspace.
        // The mask has all bits set if a is odd, so that m is added, else none.
        assembly ("memory-safe") {
            let width := mload(space)
            toModulus := add(width, 1)
            place := add(base, sub(width, 0x20))
            slot := add(slot, sub(shr(5, width), 1))
            let a := sload(slot)
            mask := sub(0, and(a, 1))
            word := add(a, and(mload(add(place, toModulus)), mask))
            carry := lt(word, a)
        }
        do {
            // Each word is stored when the next is known, whose lowest bit comes down into it.
            assembly ("memory-safe") {
                slot := sub(slot, 1)
                let next := sub(place, 0x20)
                let a := sload(slot)
                let partly := add(a, and(mload(add(next, toModulus)), mask))
                let sum := add(partly, carry)
                carry := or(lt(partly, a), lt(sum, partly))
                mstore(place, or(shr(1, word), shl(255, sum)))
                word := sum
                place := next
            }
        } while (place != base);
        assembly ("memory-safe") {
            mstore(base, or(shr(1, word), shl(255, carry)))
        }
    }

    /// base := the difference of base and factor, whichever is greater first.
    function _subtractFactor(Workspace space) private pure {
        uint256 base = Workspace.unwrap(space) + BASE;
        uint256 factor = factorOf(space);
        bool swapped = _isLess(base, factor, widthOf(space));
        uint256 toGreater;
        uint256 toLess;
        uint256 place;
        uint256 borrow = 0;

        // Memory-safe, as the block below: reads base and factor, writes to the base, all inside the workspace.
        assembly ("memory-safe") {
            place := add(base, mload(space))
            toGreater := mul(swapped, sub(factor, base))
            toLess := sub(sub(factor, base), toGreater)
        }
        do {
            assembly ("memory-safe") {
                place := sub(place, 0x20)
                let greater := mload(add(place, toGreater))
                let less := mload(add(place, toLess))
                let partly := sub(greater, less)
                mstore(place, sub(partly, borrow))
                borrow := or(lt(greater, less), lt(partly, borrow))
            }
        } while (place != base);
    }

    /// stored := h^2 + b^2 - (h - b)^2 mod m.
    function _storeSum(Workspace space, uint256 slot, uint256 halfSquare) private {
        uint256 width = widthOf(space);
        uint256 modulus = modulusOf(space);
        uint256 toModulus;
        uint256 place;
        uint256 mask;
        uint256 flip;
        uint256 carry;

        // The top words tell, but for their last bits, whether m is to be added (the sum is negative), taken off (it is
        // above m) or neither. They are taken without their lowest two bits, so that their sum does not overflow.
        // What is added to each word is (word of m AND mask) XOR flip: m, 0, or all bits of m turned with a carry of 1,
        // which is -m and leaves one carry too many at the end.
        // Memory-safe, as the block below: reads modulus and squares, all inside the workspace.
        assembly ("memory-safe") {
            let top := shr(2, mload(modulus))
            let sum := sub(
                add(shr(2, mload(halfSquare)), shr(2, mload(sub(halfSquare, width)))),
                shr(2, mload(add(halfSquare, width)))
            )
            flip := sub(0, sgt(sum, top))
            mask := or(flip, sar(255, sum))
            carry := and(flip, 1)
            place := add(halfSquare, width)
            toModulus := sub(modulus, halfSquare)
            slot := add(slot, shr(5, width))
        }
        uint256 word;
        do {
            // `carry` is from -1 to 2 in two's complement: the sum of (0, partly) and carry with its sign takes two words.
            assembly ("memory-safe") {
                slot := sub(slot, 1)
                place := sub(place, 0x20)

                let first := mload(place)
                let partly := add(first, xor(and(mload(add(place, toModulus)), mask), flip))
                let next := lt(partly, first)

                first := mload(sub(place, width))
                let difference := sub(first, mload(add(place, width)))
                next := sub(next, gt(difference, first))

                partly := add(partly, difference)
                next := add(next, lt(partly, difference))

                word := add(partly, carry)
                carry := add(next, add(sar(255, carry), lt(word, partly)))
                sstore(slot, word)
            }
        } while (place != halfSquare);

        // Unchecked: modulo 2^256, as `carry` is counted.
        unchecked {
            carry -= flip & 1;
        }
        // Where the last bits of the top words mattered, the sum can still be out of [0, m).
        if (carry != 0 || word >= _wordAt(modulus)) _reduceStored(space, slot, carry);
    }

    /// Bring carry * 2^(8w) + stored, which is in [-m, 2m), into [0, m). Hardly ever needed, so written for the reader.
    function _reduceStored(Workspace space, uint256 slot, uint256 carry) private {
        uint256 width = widthOf(space);
        uint256 modulus = modulusOf(space);
        uint256 base = Workspace.unwrap(space) + BASE;

        // Memory-safe: writes to the base, inside the workspace.
        assembly ("memory-safe") {
            for { let i := 0 } lt(i, width) { i := add(i, 0x20) } { mstore(add(base, i), sload(add(slot, shr(5, i)))) }
        }
        bool negative = int256(carry) < 0;
        if (carry == 0 && _isLess(base, modulus, width)) return;

        // base + m or base - m, modulo 2^(8w): then `carry` is made up for.
        // Memory-safe: reads base and modulus, both inside the workspace. `over` is the carry or the borrow.
        assembly ("memory-safe") {
            let over := 0
            for { let i := width } i {} {
                i := sub(i, 0x20)
                let word := mload(add(base, i))
                let m := mload(add(modulus, i))
                switch negative
                case 0 {
                    let partly := sub(word, m)
                    sstore(add(slot, shr(5, i)), sub(partly, over))
                    over := or(lt(word, m), lt(partly, over))
                }
                default {
                    let partly := add(word, m)
                    let sum := add(partly, over)
                    sstore(add(slot, shr(5, i)), sum)
                    over := or(lt(partly, m), lt(sum, partly))
                }
            }
        }
    }

    // ---------------------------------------------------------------- comparisons

    function _wordAt(uint256 pointer) private pure returns (uint256 word) {
        // Memory-safe: reads one word.
        assembly ("memory-safe") {
            word := mload(pointer)
        }
    }

    /// Whether the number at `first` is less than the one at `second`: the highest words that differ decide.
    function _isLess(uint256 first, uint256 second, uint256 width) private pure returns (bool less) {
        // Memory-safe: reads at most `width` bytes from each.
        assembly ("memory-safe") {
            for { let end := add(first, width) } lt(first, end) { first := add(first, 0x20) } {
                let x := mload(first)
                let y := mload(second)
                if xor(x, y) {
                    less := lt(x, y)
                    break
                }
                second := add(second, 0x20)
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
