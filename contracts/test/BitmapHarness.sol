// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bitmap} from "../libraries/Bitmap.sol";

/// @title Opens the inside of `Bitmap` to the tests
contract BitmapHarness {
    using Bitmap for uint256;

    function count(uint256 set) external pure returns (uint256) {
        return set.count();
    }
}
