// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJointCredit} from "../interfaces/IJointCredit.sol";

/// A pointer to the memory in which `ModMath` works on numbers of one width; its first word is that width.
type Workspace is uint256;

/// @title Products of big integers through the MODEXP precompile
/// @notice Numbers are big-endian, all of one width w (a multiple of 64 bytes, 1,024 at most), modulo one odd m of that width.
/// @dev MODEXP squares but does not multiply:
///
///     2ab = a^2 + b^2 - (a - b)^2 (mod m)
///
/// The square of b is needed anyway (`Paillier` tells multiples of n by it), so twice a product costs two more squares.
/// Halving it each time would cost half as much again as all this; so a number in storage collects a factor of 2 with each
/// multiplication, and `halve` takes all of them off in one go when it is read.
/// No operand is ever longer than w, and the sum of the three squares, each in [0, m), lies in (-m, 2m): m is added or
/// taken off at most once. Nothing here depends on a fork's prices, and 1,024 bytes is what MODEXP takes at most since Osaka
/// (EIP-7823). Whatever goes wrong with the precompile reverts: too little gas, a chain that lacks it, an answer of another
/// length.
/// The loops that every contribution runs take two words in each round, from the lowest to the highest; `carry` and `borrow`
/// are what goes from one word to the next. A number in storage has the word that begins at its byte i in slot `slot` + i.
///
/// Memory of a workspace of width w:
///
///     0x00        w, length of the base       \
///     0x20        1, length of the exponent    |
///     0x40        w, length of the modulus     | the input of MODEXP, whole at all times
///     0x60        base (w)                     |
///     0x60 +  w   2, the exponent (1 byte)     |
///     0x61 +  w   modulus (w)                 /
///     0x80 + 2w   factor: b, then (a - b)^2 mod m (w)
///     0x80 + 3w   b^2 mod m (w)
///     0x80 + 4w   a^2 mod m (w)
///     0x80 + 5w   end
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
            mstore(0x40, add(space, add(FACTOR, mul(5, width))))
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

    /// @notice Give the memory back: what follows in the transaction may be written there.
    function release(Workspace space) internal pure {
        // Memory-safe: the workspace is not used any more, nor anything that was made after it.
        assembly ("memory-safe") {
            mstore(0x40, space)
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
        uint256 width;
        uint256 modulus;

        // Memory-safe: writes to factor and base, inside the workspace.
        assembly ("memory-safe") {
            width := mload(space)
            modulus := add(add(space, MODULUS), width)
            calldatacopy(factor, b.offset, width)
            calldatacopy(add(space, BASE), b.offset, width)
            below := lt(mload(factor), mload(modulus))
        }
        // The highest words tell nearly always.
        if (!below) below = _isLess(factor, modulus, width);
    }

    function isFactorZero(Workspace space) internal pure returns (bool) {
        return _isZero(factorOf(space), widthOf(space));
    }

    /// @notice Square the factor, just set, for `doubleProduct`, and tell whether m divides the square.
    function squareFactor(Workspace space) internal view returns (bool isZero) {
        uint256 width = widthOf(space);
        uint256 square;

        // Unchecked: a pointer into the workspace.
        unchecked {
            square = factorOf(space) + width;
        }
        _square(space, square);

        return _isZero(square, width);
    }

    // ---------------------------------------------------------------- product

    /// @notice a := 2ab mod m, for a in the storage from `slot` on and the factor b, both below m, after `squareFactor`.
    function doubleProduct(Workspace space, uint256 slot) internal {
        // Unchecked: pointers into the workspace, and slots counted modulo 2^256.
        unchecked {
            uint256 factor = factorOf(space);
            uint256 base;
            uint256 width;
            uint256 place;

            // (1) base := a. Memory-safe, as all blocks here: the base is inside the workspace.
            assembly ("memory-safe") {
                base := add(space, BASE)
                width := mload(space)
                place := add(base, width)
                slot := sub(slot, base)
            }
            do {
                assembly ("memory-safe") {
                    place := sub(place, 0x20)
                    mstore(place, sload(add(slot, place)))
                }
                assembly ("memory-safe") {
                    place := sub(place, 0x20)
                    mstore(place, sload(add(slot, place)))
                }
            } while (place != base);

            // (2) a^2
            _square(space, factor + 2 * width);

            // (3) base := |a - b|; the highest words nearly always tell which is greater
            uint256 toGreater = 0;
            uint256 toLess = factor - base;
            uint256 borrow = 0;
            bool swapped = _wordAt(base) < _wordAt(factor);
            if (_wordAt(base) == _wordAt(factor)) swapped = _isLess(base, factor, width);
            if (swapped) (toGreater, toLess) = (toLess, 0);
            place = base + width;
            do {
                assembly ("memory-safe") {
                    place := sub(place, 0x20)
                    let greater := mload(add(place, toGreater))
                    let partly := sub(greater, mload(add(place, toLess)))
                    mstore(place, sub(partly, borrow))
                    borrow := or(gt(partly, greater), lt(partly, borrow))
                }
                assembly ("memory-safe") {
                    place := sub(place, 0x20)
                    let greater := mload(add(place, toGreater))
                    let partly := sub(greater, mload(add(place, toLess)))
                    mstore(place, sub(partly, borrow))
                    borrow := or(gt(partly, greater), lt(partly, borrow))
                }
            } while (place != base);

            // (4) (a - b)^2, in the place of b
            _square(space, factor);

            // (5) a^2 + b^2 - (a - b)^2
            _storeSum(space, slot + base, factor);
        }
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

    /// stored := a^2 + b^2 - (a - b)^2 mod m.
    /// @param square where (a - b)^2 is, with b^2 and a^2 behind it; the loop goes over b^2
    function _storeSum(Workspace space, uint256 slot, uint256 square) private {
        uint256 place;
        uint256 width;
        uint256 toSlot;
        uint256 toModulus;
        uint256 mask;
        uint256 flip;
        uint256 carry;
        uint256 word;

        // The top words tell, but for their last bits, whether m is to be added (the sum is negative), taken off (it is
        // above m) or neither. They are taken without their lowest two bits, so that their sum does not overflow. What
        // they tell saves a second pass; that the result is right is seen to in the end.
        // Added to each word is, for m, (word of m AND mask) XOR flip: m, 0, or m with all bits turned; for (a - b)^2, the
        // word with all bits turned. Two numbers whose bits are turned lack 1 to be their negatives modulo 2^(8w), and are
        // 2^(8w) too much in the end: the carry begins with that 1 for each, and loses it in the end.
        // Memory-safe, as the blocks below: reads modulus and squares, all inside the workspace.
        assembly ("memory-safe") {
            width := mload(space)
            let modulus := add(add(space, MODULUS), width)
            let top := shr(2, mload(modulus))
            let sum := sub(0, shr(2, mload(square)))
            square := add(square, width)
            sum := add(sum, add(shr(2, mload(square)), shr(2, mload(add(square, width)))))
            flip := sub(0, sgt(sum, top))
            mask := or(flip, sar(255, sum))
            carry := sub(1, flip)
            toModulus := sub(modulus, square)
            toSlot := sub(slot, square)
            place := add(square, width)
        }
        do {
            assembly ("memory-safe") {
                place := sub(place, 0x20)
                let first := mload(place)
                let sum2 := add(first, mload(add(place, width)))
                let sum3 := add(sum2, not(mload(sub(place, width))))
                let sum4 := add(sum3, xor(and(mload(add(place, toModulus)), mask), flip))
                word := add(sum4, carry)
                carry := add(add(lt(sum2, first), lt(sum3, sum2)), add(lt(sum4, sum3), lt(word, sum4)))
                sstore(add(place, toSlot), word)
            }
            assembly ("memory-safe") {
                place := sub(place, 0x20)
                let first := mload(place)
                let sum2 := add(first, mload(add(place, width)))
                let sum3 := add(sum2, not(mload(sub(place, width))))
                let sum4 := add(sum3, xor(and(mload(add(place, toModulus)), mask), flip))
                word := add(sum4, carry)
                carry := add(add(lt(sum2, first), lt(sum3, sum2)), add(lt(sum4, sum3), lt(word, sum4)))
                sstore(add(place, toSlot), word)
            }
        } while (place != square);

        // Unchecked: modulo 2^256, as the flips were counted.
        unchecked {
            carry = carry + flip - 1;
        }
        // Where the last bits of the top words mattered, the sum can still be out of [0, m).
        if (carry != 0 || word >= _wordAt(modulusOf(space))) _reduceStored(space, slot, carry);
    }

    /// Bring carry * 2^(8w) + stored, which is in [-m, 2m), into [0, m). Hardly ever needed, so written for the reader.
    function _reduceStored(Workspace space, uint256 slot, uint256 carry) private {
        uint256 width = widthOf(space);
        uint256 modulus = modulusOf(space);
        uint256 base = Workspace.unwrap(space) + BASE;

        // Memory-safe: writes to the base, inside the workspace.
        assembly ("memory-safe") {
            for { let i := 0 } lt(i, width) { i := add(i, 0x20) } { mstore(add(base, i), sload(add(slot, i))) }
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
                    sstore(add(slot, i), sub(partly, over))
                    over := or(lt(word, m), lt(partly, over))
                }
                default {
                    let partly := add(word, m)
                    let sum := add(partly, over)
                    sstore(add(slot, i), sum)
                    over := or(lt(partly, m), lt(sum, partly))
                }
            }
        }
    }

    // ---------------------------------------------------------------- reading

    /// @notice Read a number from storage and halve it `times` times modulo m.
    /// @dev (x + qm) / 2^times, with q such that the sum's last `times` bits are zero: below m as x is.
    /// @param target where the w bytes go; not in the workspace
    /// @param times at most 255
    function halve(Workspace space, uint256 slot, uint256 times, uint256 target) internal view {
        uint256 modulus = modulusOf(space);

        // Memory-safe: reads the modulus, inside the workspace; writes `target`, which the caller owns.
        assembly ("memory-safe") {
            let last := sub(mload(space), 0x20)

            // The inverse of m modulo 2^256 by Newton's iteration: right in 5 bits, then in 10, 20, 40, 80, 160, 320.
            // The exclusive or is one: 3m XOR 2 is right in its lowest 5 bits.
            let q := mload(add(modulus, last))
            // slither-disable-next-line incorrect-exp
            let inverse := xor(mul(3, q), 2)
            for { let i := 0 } lt(i, 6) { i := add(i, 1) } { inverse := mul(inverse, sub(2, mul(q, inverse))) }
            // The mask is 2^times - 1: one, shifted by `times`.
            // slither-disable-next-line incorrect-shift
            q := and(mul(sub(0, sload(add(slot, last))), inverse), sub(shl(times, 1), 1))

            let carry := 0
            let word := 0
            for { let i := mload(space) } i {} {
                i := sub(i, 0x20)
                // q times a word of m takes two words: `low` and, by the remainder modulo 2^256 - 1, `high`.
                let m := mload(add(modulus, i))
                let low := mul(q, m)
                let high := mulmod(q, m, not(0))
                high := sub(sub(high, low), lt(high, low))

                let x := sload(add(slot, i))
                low := add(low, x)
                high := add(high, lt(low, x))
                let sum := add(low, carry)
                carry := add(high, lt(sum, low))

                // Each word is stored when the next is known, whose lowest bits come down into it.
                if lt(i, last) { mstore(add(add(target, i), 0x20), or(shr(times, word), shl(sub(256, times), sum))) }
                word := sum
            }
            mstore(target, or(shr(times, word), shl(sub(256, times), carry)))
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
        if (_wordAt(pointer) != 0) return false;

        // Memory-safe: reads `width` bytes from `pointer`, as far as they are zero.
        assembly ("memory-safe") {
            let end := add(pointer, width)
            for {} and(lt(pointer, end), iszero(mload(pointer))) {} { pointer := add(pointer, 0x20) }
            isZero := eq(pointer, end)
        }
    }
}
