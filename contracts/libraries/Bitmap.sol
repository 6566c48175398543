// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Sets of members as bitmaps
/// @notice Bit i stands for member i.
library Bitmap {
    /// @notice The set of this one member.
    function only(uint8 index) internal pure returns (uint256) {
        return uint256(1) << index;
    }

    function has(uint256 set, uint8 index) internal pure returns (bool) {
        return set & only(index) != 0;
    }

    function with(uint256 set, uint8 index) internal pure returns (uint256) {
        return set | only(index);
    }

    function without(uint256 set, uint8 index) internal pure returns (uint256) {
        return set & ~only(index);
    }

    /// @notice How many members the set holds.
    /// @dev Sums of bits in fields of 2, 4 and 8 bits, then of all 32 bytes by one multiplication into the highest byte.
    /// A full set of 256 would need nine bits there; members stop at 216, so none is lost.
    function count(uint256 set) internal pure returns (uint256 members) {
        // Unchecked: no field overflows into its neighbour, and the multiplication is meant modulo 2^256.
        unchecked {
            set -= (set >> 1) & 0x5555555555555555555555555555555555555555555555555555555555555555;
            set =
                (set & 0x3333333333333333333333333333333333333333333333333333333333333333) +
                ((set >> 2) & 0x3333333333333333333333333333333333333333333333333333333333333333);
            set = (set + (set >> 4)) & 0x0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f;
            members = (set * 0x0101010101010101010101010101010101010101010101010101010101010101) >> 248;
        }
    }
}
