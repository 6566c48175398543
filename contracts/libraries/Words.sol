// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJointCredit} from "../interfaces/IJointCredit.sol";

/// Where an inquiry stands. From the lowest bit: awaited, the members that have not contributed (216), the number of the
/// data contract (32), the stage (8).
type Progress is uint256;

/// What `open` fixed. From the highest bit: the deadline (32), the lane (32), the inquirer (8), which of its due times is
/// this inquiry's (8), blocks (8), bytes of one ciphertext (16), the time of the opening (32), and the time from which silent
/// members can be switched off (32).
type Terms is uint256;

using {awaited, number, stage, has, isOpenFor, without, into} for Progress global;
using {deadline, lane, inquirer, due, blocks, width, opened, silentFrom} for Terms global;

uint256 constant AWAITED_BITS = 216;
uint256 constant STAGE_SHIFT = 248;

// ---------------------------------------------------------------- progress

function progressOf(uint256 members, uint32 number_, IJointCredit.Stage stage_) pure returns (Progress) {
    return Progress.wrap(members | (uint256(number_) << AWAITED_BITS) | (uint256(stage_) << STAGE_SHIFT));
}

function awaited(Progress progress) pure returns (uint256) {
    return uint216(Progress.unwrap(progress));
}

function number(Progress progress) pure returns (uint32) {
    return uint32(Progress.unwrap(progress) >> AWAITED_BITS);
}

function stage(Progress progress) pure returns (IJointCredit.Stage) {
    return IJointCredit.Stage(Progress.unwrap(progress) >> STAGE_SHIFT);
}

/// Whether the member is awaited. Members are below 216.
function has(Progress progress, uint8 member) pure returns (bool) {
    return (Progress.unwrap(progress) >> member) & 1 != 0;
}

/// Whether the inquiry is open and the member awaited.
function isOpenFor(Progress progress, uint8 member) pure returns (bool) {
    uint256 word = Progress.unwrap(progress);
    return word >> STAGE_SHIFT == uint256(IJointCredit.Stage.Open) && (word >> member) & 1 != 0;
}

/// With one member fewer awaited.
function without(Progress progress, uint8 member) pure returns (Progress) {
    return Progress.wrap(Progress.unwrap(progress) & ~(uint256(1) << member));
}

/// In another stage.
function into(Progress progress, IJointCredit.Stage stage_) pure returns (Progress) {
    return Progress.wrap((Progress.unwrap(progress) & ((1 << STAGE_SHIFT) - 1)) | (uint256(stage_) << STAGE_SHIFT));
}

// ---------------------------------------------------------------- terms

function termsOf(
    uint32 deadline_,
    uint32 lane_,
    uint8 inquirer_,
    uint8 due_,
    uint8 blocks_,
    uint16 width_,
    uint32 opened_,
    uint32 silentFrom_
) pure returns (Terms) {
    return Terms.wrap(
        uint256(
            bytes32(abi.encodePacked(deadline_, lane_, inquirer_, due_, blocks_, width_, opened_, silentFrom_))
        )
    );
}

function deadline(Terms terms) pure returns (uint32) {
    return uint32(Terms.unwrap(terms) >> 224);
}

function lane(Terms terms) pure returns (uint32) {
    return uint32(Terms.unwrap(terms) >> 192);
}

function inquirer(Terms terms) pure returns (uint8) {
    return uint8(Terms.unwrap(terms) >> 184);
}

function due(Terms terms) pure returns (uint8) {
    return uint8(Terms.unwrap(terms) >> 176);
}

function blocks(Terms terms) pure returns (uint256) {
    return uint8(Terms.unwrap(terms) >> 168);
}

function width(Terms terms) pure returns (uint256) {
    return uint16(Terms.unwrap(terms) >> 152);
}

function opened(Terms terms) pure returns (uint256) {
    return uint32(Terms.unwrap(terms) >> 120);
}

function silentFrom(Terms terms) pure returns (uint256) {
    return uint32(Terms.unwrap(terms) >> 88);
}
