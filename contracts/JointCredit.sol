// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IConsortium} from "./interfaces/IConsortium.sol";
import {IJointCredit} from "./interfaces/IJointCredit.sol";
import {Bitmap} from "./libraries/Bitmap.sol";
import {ModMath, Workspace} from "./libraries/ModMath.sol";
import {Paillier} from "./libraries/Paillier.sol";

/// @title Joint credit inquiries
/// @notice See `IJointCredit` for what each function does and for whom.
/// @dev What an inquiry keeps, and where:
/// - who is awaited, the deadline and the stage in one slot (`Progress`), so that "once" and "complete" cost one write;
/// - n^2 and the cohort, which never change, as the code of a small data contract, the cheapest thing to read much of;
/// - the running product in a lane: slots in a row, used again by later inquiries, so that they are written over and the
///   state of the chain grows with the inquiries that are open at one time, not with all that ever were.
/// An inquiry that ends leaves its product in an event and its hash in storage, and gives lane and due time back.
/// Invariants: `awaited` is a subset of the cohort and only ever loses members, each in the transaction that multiplied its
/// ciphertexts in; each lane made is free or held by exactly one inquiry that is Open or Complete.
contract JointCredit is IJointCredit {
    using Bitmap for uint256;
    using ModMath for Workspace;
    using Paillier for Workspace;

    // ---------------------------------------------------------------- constants

    /// Bytes of the sealed seed that leads each payload (R19).
    uint256 private constant DISCLOSURE = 80;
    /// With 16 blocks of 4,096-bit keys a transaction stays below the cap of EIP-7825.
    uint256 private constant MAXIMUM_BLOCKS = 16;
    uint256 private constant WORD = 32;
    /// 32 due times: so many inquiries of one member may be unfinished.
    uint256 private constant DUE_WORDS = 4;
    uint256 private constant DUES_PER_WORD = 8;
    uint256 private constant DUES = DUE_WORDS * DUES_PER_WORD;
    uint256 private constant DUE_BITS = 32;
    uint256 private constant DUE_MASK = type(uint32).max;
    bytes32 private constant ID_LABEL = "mpcredit/q0/1";
    bytes32 private constant LANE_LABEL = "mpcredit/lane/1";

    /// The Consortium that created this contract.
    IConsortium public immutable consortium;

    // ---------------------------------------------------------------- storage

    /// One slot: every contribution writes it.
    struct Progress {
        /// members of the cohort that have not contributed
        uint216 awaited;
        /// unix time from which `expire` is permitted
        uint32 deadline;
        Stage stage;
    }

    /// One slot: written by `open`, read by the rest.
    struct Place {
        /// the data contract: a zero byte, n^2, the cohort
        address data;
        uint32 lane;
        uint8 inquirer;
        /// which of the inquirer's due times is this inquiry's
        uint8 due;
        uint8 blocks;
        /// bytes of one ciphertext
        uint16 width;
    }

    struct Inquiry {
        Progress progress;
        Place place;
        bytes32 aggregateHash;
        bytes32 reportCommitment;
        /// members that stated that they never sent anything
        uint256 stated;
    }

    /// What a member that inquires has used up.
    struct Inquirer {
        uint64 lastNonce;
        /// when the report of each unfinished inquiry is due, eight times of 32 bits to a word; zero: a free place
        uint256[DUE_WORDS] due;
    }

    struct Lanes {
        uint32 made;
        uint32 free;
    }

    mapping(bytes32 inquiry => Inquiry) private _inquiries;
    mapping(uint8 member => Inquirer) private _inquirers;
    Lanes private _lanes;
    /// The free lanes, last freed last, up to `_lanes.free`; what stands above is stale.
    mapping(uint256 place => uint32 lane) private _freeLanes;

    constructor() {
        consortium = IConsortium(msg.sender);
    }

    // ---------------------------------------------------------------- inquirer

    /// @inheritdoc IJointCredit
    function open(Opening calldata opening) external returns (bytes32 inquiry) {
        IConsortium.Terms memory terms = consortium.openingTerms(msg.sender, opening.group, opening.schema);
        Inquirer storage inquirer = _inquirers[terms.member];
        uint256 width = 2 * opening.n.length;

        require(opening.roster == terms.roster, RosterMoved(terms.roster));
        require(opening.cohort == terms.cohort, CohortMoved(terms.cohort));
        require(opening.nonce > inquirer.lastNonce, NonceUsed(opening.nonce, inquirer.lastNonce));
        require(opening.blocks >= 1 && opening.blocks <= MAXIMUM_BLOCKS, BlocksOutOfRange(opening.blocks));
        require(
            Paillier.isWidthOfModulus(opening.n.length, terms.minimumModulusBits),
            ModulusWidth(opening.n.length, terms.minimumModulusBits)
        );
        require(Paillier.isFormOfModulus(opening.n), ModulusForm());
        require(opening.consents.length > 0, ConsentsMissing());
        _checkLength(opening.payload, opening.blocks, width);

        bytes32 q0;
        (q0, inquiry) = _identify(opening, terms.member);
        // Checked: sums of seconds up to the year 2106, and the Consortium bounds the terms.
        uint32 deadline = uint32(block.timestamp) + terms.answerSeconds;
        Workspace space = Paillier.workspaceFor(opening.n);

        inquirer.lastNonce = opening.nonce;
        Inquiry storage record = _inquiries[inquiry];
        record.progress = Progress(uint216(terms.cohort.without(terms.member)), deadline, Stage.Open);
        Place memory place = Place({
            data: _publish(space, terms.cohort),
            lane: _takeLane(),
            inquirer: terms.member,
            due: _takeDue(inquirer, deadline + terms.reportSeconds),
            blocks: opening.blocks,
            width: uint16(width)
        });
        record.place = place;
        for (uint256 i = 0; i < place.blocks; ++i) {
            space.takeCiphertext(_ciphertext(opening.payload, i, width), i);
            _writeLane(_slotOf(place, i), space.factorOf(), width);
        }

        emit Opened(inquiry, terms.member, q0, msg.sender, deadline, opening);
    }

    /// @inheritdoc IJointCredit
    function report(bytes32 inquiry, bytes32 commitment, bytes calldata sealedReport, bytes32 anchor) external {
        uint8 member = consortium.memberOf(msg.sender);
        Inquiry storage record = _inquiries[inquiry];
        Stage stage = record.progress.stage;
        uint8 inquirer = record.place.inquirer;

        require(stage == Stage.Complete, WrongStage(stage));
        require(member == inquirer, NotInquirer(member, inquirer));

        record.progress.stage = Stage.Reported;
        record.reportCommitment = commitment;
        _close(inquiry, record);

        emit Reported(inquiry, commitment, sealedReport, anchor);
    }

    // ---------------------------------------------------------------- furnisher

    /// @inheritdoc IJointCredit
    function contribute(bytes32 inquiry, bytes calldata payload) external {
        uint8 member = consortium.memberOf(msg.sender);
        Inquiry storage record = _inquiries[inquiry];
        Progress memory progress = record.progress;
        Place memory place = record.place;

        _checkAwaited(progress, place, member);
        _checkLength(payload, place.blocks, place.width);

        Workspace space = _workspaceOf(place);
        progress.awaited = uint216(uint256(progress.awaited).without(member));
        bool complete = progress.awaited == 0;
        if (complete) progress.stage = Stage.Complete;

        record.progress = progress;
        for (uint256 i = 0; i < place.blocks; ++i) {
            space.takeCiphertext(_ciphertext(payload, i, place.width), i);
            uint256 slot = _slotOf(place, i);
            _readLane(slot, space.baseOf(), place.width);
            _writeLane(slot, space.multiply(), place.width);
        }

        emit Contributed(inquiry, member, payload);
        if (complete) emit Completed(inquiry);
    }

    /// @inheritdoc IJointCredit
    function refuse(bytes32 inquiry, uint8 code) external {
        uint8 member = consortium.memberOf(msg.sender);
        Inquiry storage record = _inquiries[inquiry];

        _checkAwaited(record.progress, record.place, member);
        require(code != 0, RefusalCode());

        record.progress.stage = Stage.Refused;
        _close(inquiry, record);

        emit Refused(inquiry, member, code);
    }

    /// @inheritdoc IJointCredit
    function notSent(bytes32 inquiry) external {
        uint8 member = consortium.memberOf(msg.sender);
        Inquiry storage record = _inquiries[inquiry];
        Progress memory progress = record.progress;

        require(
            progress.stage == Stage.Refused || progress.stage == Stage.Expired || progress.stage == Stage.Void,
            WrongStage(progress.stage)
        );
        _checkMissing(progress, record.place, member);
        require(!record.stated.has(member), AlreadyStated(member));

        record.stated = record.stated.with(member);

        emit NotSent(inquiry, member);
    }

    /// @inheritdoc IJointCredit
    function revokeConsent(bytes32 consent) external {
        uint8 member = consortium.memberOf(msg.sender);

        emit ConsentRevoked(consent, member);
    }

    // ---------------------------------------------------------------- anyone

    /// @inheritdoc IJointCredit
    function expire(bytes32 inquiry) external {
        Inquiry storage record = _inquiries[inquiry];
        Progress memory progress = record.progress;

        require(progress.stage == Stage.Open, WrongStage(progress.stage));
        require(block.timestamp >= progress.deadline, TooEarly(progress.deadline));

        record.progress.stage = Stage.Expired;
        _close(inquiry, record);

        emit Expired(inquiry, progress.awaited);
        consortium.lapse(progress.awaited);
    }

    // ---------------------------------------------------------------- supervisor

    /// @inheritdoc IJointCredit
    function attest(bytes32 inquiry, bool valid, uint256 culprits, bytes32 anchor) external {
        Inquiry storage record = _inquiries[inquiry];
        Stage stage = record.progress.stage;

        require(consortium.isSupervisor(msg.sender), NotSupervisor(msg.sender));
        if (valid) {
            require(stage == Stage.Reported, WrongStage(stage));
            require(culprits == 0, CulpritsNamed());
        } else {
            require(stage == Stage.Open || stage == Stage.Complete || stage == Stage.Reported, WrongStage(stage));
            require(culprits != 0, CulpritsMissing());
            uint256 outside = culprits & ~_cohortIn(record.place);
            require(outside == 0, CulpritsOutsideCohort(outside));
        }

        record.progress.stage = valid ? Stage.Valid : Stage.Void;
        if (stage != Stage.Reported) _close(inquiry, record);

        emit Attested(inquiry, msg.sender, valid, culprits, anchor);
        if (!valid) consortium.suspendCulprits(culprits);
    }

    // ---------------------------------------------------------------- views

    /// @inheritdoc IJointCredit
    function status(bytes32 inquiry) external view returns (Status memory) {
        Inquiry storage record = _inquiries[inquiry];
        Progress memory progress = record.progress;
        Place memory place = record.place;

        return Status({
            stage: progress.stage,
            inquirer: place.inquirer,
            blocks: place.blocks,
            deadline: progress.deadline,
            cohort: _cohortIn(place),
            awaited: progress.awaited,
            width: place.width,
            aggregateHash: record.aggregateHash,
            reportCommitment: record.reportCommitment
        });
    }

    /// @inheritdoc IJointCredit
    function aggregate(bytes32 inquiry) external view returns (bytes memory) {
        Inquiry storage record = _inquiries[inquiry];
        Stage stage = record.progress.stage;

        require(stage != Stage.None, WrongStage(stage));
        require(stage == Stage.Open || stage == Stage.Complete, AggregateGone(record.aggregateHash));

        return _aggregateOf(record.place);
    }

    /// @inheritdoc IJointCredit
    function cohort(bytes32 inquiry) external view returns (uint256 members, uint256 awaited) {
        Inquiry storage record = _inquiries[inquiry];

        return (_cohortIn(record.place), record.progress.awaited);
    }

    /// @inheritdoc IJointCredit
    function lastNonce(uint8 member) external view returns (uint64) {
        return _inquirers[member].lastNonce;
    }

    /// @inheritdoc IJointCredit
    function lanes() external view returns (uint256 made, uint256 free) {
        return (_lanes.made, _lanes.free);
    }

    /// @inheritdoc IJointCredit
    function version() external pure returns (string memory) {
        return "1";
    }

    // ---------------------------------------------------------------- checks

    /// The inquiry takes contributions, and the member owes one.
    function _checkAwaited(Progress memory progress, Place memory place, uint8 member) private view {
        require(progress.stage == Stage.Open, WrongStage(progress.stage));
        _checkMissing(progress, place, member);
    }

    /// The member is in the cohort and has not contributed.
    function _checkMissing(Progress memory progress, Place memory place, uint8 member) private view {
        if (uint256(progress.awaited).has(member)) return;
        require(_cohortIn(place).has(member), NotInCohort(member));
        revert NotAwaited(member);
    }

    function _checkLength(bytes calldata payload, uint256 blocks, uint256 width) private pure {
        uint256 expected = DISCLOSURE + blocks * width;
        require(payload.length == expected, PayloadLength(payload.length, expected));
    }

    // ---------------------------------------------------------------- an inquiry's parts

    function _identify(Opening calldata opening, uint8 inquirer) private view returns (bytes32 q0, bytes32 inquiry) {
        q0 = keccak256(
            abi.encode(
                ID_LABEL, block.chainid, address(this), inquirer, keccak256(opening.n), opening.roster, opening.nonce
            )
        );
        inquiry = keccak256(
            abi.encode(
                q0,
                keccak256(opening.sealedSubject),
                opening.subjectCommitment,
                opening.cohort,
                opening.schema,
                opening.currency,
                opening.blocks,
                keccak256(abi.encode(opening.consents))
            )
        );
    }

    function _ciphertext(bytes calldata payload, uint256 block_, uint256 width) private pure returns (bytes calldata) {
        uint256 start = DISCLOSURE + block_ * width;
        return payload[start:start + width];
    }

    /// End the life of the aggregate: hash to storage, bytes to an event, lane and due time back.
    function _close(bytes32 inquiry, Inquiry storage record) private {
        Place memory place = record.place;
        bytes memory product = _aggregateOf(place);

        record.aggregateHash = keccak256(product);
        _freeLane(place.lane);
        _freeDue(_inquirers[place.inquirer], place.due);

        emit AggregateClosed(inquiry, product);
    }

    // ---------------------------------------------------------------- data contracts

    /// Put n^2 and the cohort on the ledger as code.
    function _publish(Workspace space, uint256 members) private returns (address data) {
        uint256 width = space.widthOf();
        uint256 modulus = space.modulusOf();

        // Memory-safe: writes behind the free memory pointer only. Init code of 10 bytes that returns what follows it:
        //
        //     0x00   61 LLLL 80 600a 3d 39 3d f3   push length, twice; copy code from 10 on to 0; return length bytes
        //     0x0a   00: code that begins with STOP runs nothing, and does not begin with 0xef (EIP-3541)
        //     0x0b   n^2 (w)
        //     0x0b+w the cohort (32)
        assembly ("memory-safe") {
            let code := mload(0x40)
            let length := add(width, 0x21)
            mstore(code, or(shl(176, 0x61000080600a3d393df3), shl(232, length)))
            for { let i := 0 } lt(i, width) { i := add(i, 0x20) } {
                mstore(add(add(code, 0x0b), i), mload(add(modulus, i)))
            }
            mstore(add(add(code, 0x0b), width), members)
            data := create(0, code, add(length, 0x0a))
        }
        require(data != address(0), DataNotStored());
    }

    /// A workspace with the inquiry's n^2 as its modulus.
    function _workspaceOf(Place memory place) private view returns (Workspace space) {
        space = ModMath.workspace(place.width);
        uint256 modulus = space.modulusOf();
        address data = place.data;
        uint256 width = place.width;

        // Memory-safe: writes to the modulus, inside the workspace. The code begins with one byte STOP.
        assembly ("memory-safe") {
            extcodecopy(data, modulus, 1, width)
        }
    }

    /// Zero if there is no such inquiry: account zero has no code.
    function _cohortIn(Place memory place) private view returns (uint256 members) {
        address data = place.data;
        uint256 start = 1 + uint256(place.width);

        // Memory-safe: 0x00 is scratch space.
        assembly ("memory-safe") {
            extcodecopy(data, 0x00, start, 0x20)
            members := mload(0x00)
        }
    }

    // ---------------------------------------------------------------- lanes

    /// The lane that was freed last, or a new one.
    function _takeLane() private returns (uint32 lane) {
        Lanes memory count = _lanes;

        if (count.free == 0) {
            lane = count.made++;
        } else {
            lane = _freeLanes[--count.free];
        }
        _lanes = count;
    }

    function _freeLane(uint32 lane) private {
        _freeLanes[_lanes.free++] = lane;
    }

    /// The first slot of a block. The slots of a lane are in a row from a hash on, 512 at most, so two lanes do not meet.
    function _slotOf(Place memory place, uint256 block_) private pure returns (uint256 slot) {
        // Unchecked: slots are counted modulo 2^256.
        unchecked {
            slot = uint256(keccak256(abi.encode(LANE_LABEL, place.lane))) + (block_ * place.width) / WORD;
        }
    }

    function _readLane(uint256 slot, uint256 pointer, uint256 width) private view {
        // Memory-safe: writes `width` bytes from `pointer` on, which the caller owns.
        assembly ("memory-safe") {
            for { let end := add(pointer, width) } lt(pointer, end) { pointer := add(pointer, 0x20) } {
                mstore(pointer, sload(slot))
                slot := add(slot, 1)
            }
        }
    }

    function _writeLane(uint256 slot, uint256 pointer, uint256 width) private {
        // Memory-safe: reads `width` bytes from `pointer` on. The slots are the lane's own.
        assembly ("memory-safe") {
            for { let end := add(pointer, width) } lt(pointer, end) { pointer := add(pointer, 0x20) } {
                sstore(slot, mload(pointer))
                slot := add(slot, 1)
            }
        }
    }

    /// All blocks.
    function _aggregateOf(Place memory place) private view returns (bytes memory product) {
        product = new bytes(uint256(place.blocks) * place.width);
        uint256 pointer;

        // Safe: the address of the bytes behind the length.
        assembly ("memory-safe") {
            pointer := add(product, 0x20)
        }
        _readLane(_slotOf(place, 0), pointer, product.length);
    }

    // ---------------------------------------------------------------- due times

    /// Note when the report is due, in the first free place; none of the inquirer's others may have passed.
    function _takeDue(Inquirer storage inquirer, uint32 due) private returns (uint8 place) {
        uint256 firstFree = DUES;
        for (uint256 word = 0; word < DUE_WORDS; ++word) {
            uint256 times = inquirer.due[word];
            for (uint256 i = 0; i < DUES_PER_WORD; ++i) {
                uint256 other = (times >> (i * DUE_BITS)) & DUE_MASK;
                require(other == 0 || block.timestamp < other, ReportOverdue(other));
                if (other == 0 && firstFree == DUES) firstFree = word * DUES_PER_WORD + i;
            }
        }
        require(firstFree < DUES, TooManyOpen());

        place = uint8(firstFree);
        inquirer.due[place / DUES_PER_WORD] |= uint256(due) << ((place % DUES_PER_WORD) * DUE_BITS);
    }

    function _freeDue(Inquirer storage inquirer, uint8 place) private {
        inquirer.due[place / DUES_PER_WORD] &= ~(DUE_MASK << ((place % DUES_PER_WORD) * DUE_BITS));
    }
}
