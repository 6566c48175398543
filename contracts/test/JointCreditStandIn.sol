// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A stand-in for JointCredit
/// @notice Forwards whatever it is sent to the contract that created it and hands back the answer, so that tests can
/// speak to a Consortium as its JointCredit. Not for any ledger that matters.
contract JointCreditStandIn {
    address private immutable _creator = msg.sender;

    fallback() external {
        address creator = _creator;
        // Safe: the call frame ends here, so all memory is free to be overwritten from 0.
        assembly {
            calldatacopy(0, 0, calldatasize())
            let done := call(gas(), creator, 0, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(done) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }
}
