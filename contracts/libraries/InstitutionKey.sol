// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Institution keys: X25519 public keys and the accounts that sign for them
/// @notice What the ledger can tell of a key: that it is the one canonical encoding of a u-coordinate, and not one of the
/// points of low order with which every shared secret is zero. That its sender holds the private key, it cannot tell:
/// the mask audit does (R11).
library InstitutionKey {
    /// The two points of order 8; RFC 7748 writes a u-coordinate little-endian, and so do these constants.
    bytes32 private constant ORDER_8_FIRST = 0xe0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800;
    bytes32 private constant ORDER_8_SECOND = 0x5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157;
    /// 0 (order 2) and 1 (order 4 on the curve).
    bytes32 private constant ZERO = 0;
    bytes32 private constant ONE = 0x0100000000000000000000000000000000000000000000000000000000000000;
    /// p - 1, with p = 2^255 - 19 (order 4 on the twist).
    bytes32 private constant MINUS_ONE = 0xecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f;

    /// The highest bit, which RFC 7748 ignores: with it set, the same key would have a second form.
    uint256 private constant TOP_BIT = 0x80;
    /// Every byte but the first of the encodings of p .. 2^255 - 1, which are second forms of 0 .. 18.
    uint256 private constant ALL_BUT_FIRST = 0x00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f;
    uint8 private constant FIRST_BYTE_OF_P = 0xed;

    /// Half the order of secp256k1: of the two signatures (s, -s) only the lower one counts (EIP-2).
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice Whether `key` is the canonical encoding of a u-coordinate that is not of low order.
    function isAcceptable(bytes32 key) internal pure returns (bool) {
        uint256 bits = uint256(key);
        if (bits & TOP_BIT != 0) return false;
        if (bits << 8 == ALL_BUT_FIRST << 8 && uint8(key[0]) >= FIRST_BYTE_OF_P) return false;
        return
            key != ZERO && key != ONE && key != MINUS_ONE && key != ORDER_8_FIRST && key != ORDER_8_SECOND;
    }

    /// @notice The account that signed `statement` in the form of EIP-191 (personal_sign); zero if none did.
    function signerOf(bytes32 statement, bytes calldata signature) internal pure returns (address) {
        if (signature.length != 65) return address(0);
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        if (uint256(s) > HALF_ORDER) return address(0);
        bytes32 digest = keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", statement));
        return ecrecover(digest, uint8(signature[64]), r, s);
    }
}
