// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IConsortium} from "./interfaces/IConsortium.sol";
import {IJointCredit} from "./interfaces/IJointCredit.sol";
import {Bitmap} from "./libraries/Bitmap.sol";
import {ModMath, Workspace} from "./libraries/ModMath.sol";
import {Paillier} from "./libraries/Paillier.sol";
import {Progress, Terms, progressOf, termsOf} from "./libraries/Words.sol";

/// @title Joint credit inquiries
/// @notice See `IJointCredit` for what each function does and for whom.
/// @dev What an inquiry keeps, and where:
/// - who is awaited and the stage in one word (`Progress`), so that "once" and "complete" cost one write;
/// - what never changes (`Terms`, the cohort, n^2) as the code of a small data contract, the cheapest thing to read much of;
///   its address follows from its number, which is in that word too, so nothing else is read to find it;
/// - the running product in a lane: slots that are used again by later inquiries, so that they are written over and the
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
    /// 32 due times: so many inquiries of one member may be unfinished.
    uint256 private constant DUE_WORDS = 4;
    uint256 private constant DUES_PER_WORD = 8;
    uint256 private constant DUES = DUE_WORDS * DUES_PER_WORD;
    uint256 private constant DUE_BITS = 32;
    uint256 private constant DUE_MASK = type(uint32).max;
    /// Longest cohort sealed into a refusal.
    uint256 private constant SEALED_COHORT = 64;
    bytes32 private constant ID_LABEL = "mpcredit/q0/2";
    bytes32 private constant LANE_LABEL = "mpcredit/lane/2";

    /// The Consortium that created this contract.
    IConsortium public immutable consortium;

    // ---------------------------------------------------------------- storage

    struct Inquiry {
        /// every contribution writes it
        Progress progress;
        bytes32 aggregateHash;
        bytes32 reportCommitment;
    }

    /// One slot.
    struct Counts {
        uint32 data;
        uint32 lanes;
        uint32 freeLanes;
    }

    mapping(bytes32 inquiry => Inquiry) private _inquiries;
    /// When the report of each unfinished inquiry of a member is due, eight times of 32 bits to a word; zero: a free place.
    mapping(uint8 inquirer => uint256[DUE_WORDS]) private _due;
    Counts private _counts;
    /// The free lanes, last freed last, up to `_counts.freeLanes`; what stands above is stale.
    mapping(uint256 place => uint32 lane) private _freeLanes;

    constructor() {
        consortium = IConsortium(msg.sender);
    }

    // ---------------------------------------------------------------- inquirer

    /// @inheritdoc IJointCredit
    function open(uint8 member, Opening calldata opening) external returns (bytes32 inquiry) {
        IConsortium.Terms memory terms = consortium.openingTerms(member, msg.sender, opening.group, opening.schema);

        _checkPlain();
        _checkForm(opening, terms);
        _checkCohort(member, opening, terms);

        bytes32 q0;
        (q0, inquiry) = _identify(opening, member);
        require(_inquiries[inquiry].progress.stage() == Stage.None, InquiryExists(inquiry));
        Terms agreed = _agree(member, opening, terms);
        Workspace space = Paillier.workspaceFor(opening.n);

        uint32 number = _publish(agreed, opening.cohort, space);
        _inquiries[inquiry].progress = progressOf(opening.cohort.without(member), number, Stage.Open);
        for (uint256 i = 0; i < opening.blocks; ++i) {
            space.takeCiphertext(_ciphertext(opening.payload, i, agreed.width()), i);
            _startLane(space, _slotOf(agreed, i));
        }

        emit Opened(inquiry, member, q0, msg.sender, agreed.deadline(), opening);
    }

    /// @inheritdoc IJointCredit
    function report(bytes32 inquiry, bytes32 commitment, bytes calldata sealedReport, bytes32 anchor) external {
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;
        Terms terms = _termsAt(_dataContract(progress.number()));

        require(progress.stage() == Stage.Complete, WrongStage(progress.stage()));
        _checkAccount(terms.inquirer());

        record.progress = progress.into(Stage.Reported);
        record.reportCommitment = commitment;
        _close(inquiry, record, progress, terms);

        emit Reported(inquiry, commitment, sealedReport, anchor);
    }

    // ---------------------------------------------------------------- furnisher

    /// @inheritdoc IJointCredit
    function contribute(bytes32 inquiry, uint8 member, bytes calldata payload) external {
        uint256 since = _checkAccount(member);
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;
        address data = _dataContract(progress.number());
        Terms terms = _termsAt(data);
        uint256 width = terms.width();

        _checkAwaited(progress, member);
        require(terms.opened() > since, OpenedBeforeTenure(terms.opened(), since));
        _checkLength(payload, terms.blocks(), width);

        progress = progress.without(member);
        if (progress.awaited() == 0) progress = progress.into(Stage.Complete);
        Workspace space = _workspaceAt(data, width);

        record.progress = progress;
        for (uint256 i = 0; i < terms.blocks(); ++i) {
            space.takeCiphertext(_ciphertext(payload, i, width), i);
            space.doubleProduct(_slotOf(terms, i));
        }
        space.release();

        emit Contributed(inquiry, member, payload);
    }

    /// @inheritdoc IJointCredit
    function refuse(bytes32 inquiry, uint8 member, uint8 code, bytes calldata sealedCohort) external {
        _checkAccount(member);
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;

        _checkAwaited(progress, member);
        require(code != 0, RefusalCode());
        require(sealedCohort.length <= SEALED_COHORT, SealedLength(sealedCohort.length));

        record.progress = progress.into(Stage.Refused);
        _close(inquiry, record, progress, _termsAt(_dataContract(progress.number())));

        emit Refused(inquiry, member, code, sealedCohort);
    }

    /// @inheritdoc IJointCredit
    function revokeConsent(uint8 member, bytes32 consent) external {
        _checkAccount(member);

        emit ConsentRevoked(consent, member);
    }

    // ---------------------------------------------------------------- anyone

    /// @inheritdoc IJointCredit
    function lapse(bytes32 inquiry) external {
        Progress progress = _inquiries[inquiry].progress;
        Terms terms = _termsAt(_dataContract(progress.number()));

        require(progress.stage() == Stage.Open, WrongStage(progress.stage()));
        require(block.timestamp >= terms.silentFrom(), TooEarly(terms.silentFrom()));
        require(consortium.lapse(progress.awaited()) != 0, NothingChanges());
    }

    /// @inheritdoc IJointCredit
    function expire(bytes32 inquiry) external {
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;
        Terms terms = _termsAt(_dataContract(progress.number()));

        require(progress.stage() == Stage.Open, WrongStage(progress.stage()));
        require(block.timestamp >= terms.deadline(), TooEarly(terms.deadline()));

        record.progress = progress.into(Stage.Expired);
        _close(inquiry, record, progress, terms);

        emit Expired(inquiry, progress.awaited());
        // slither-disable-next-line unused-return
        consortium.lapse(progress.awaited());
    }

    // ---------------------------------------------------------------- supervisor

    /// @inheritdoc IJointCredit
    function attest(
        bytes32 inquiry,
        address supervisor,
        bool valid,
        uint256 culprits,
        bytes32 commitment,
        bytes32 anchor
    ) external {
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;
        Stage stage = progress.stage();

        _checkSender(consortium.supervisorAccount(supervisor));
        // A verdict is on one report: after a reorganisation another one can stand here.
        require(commitment == record.reportCommitment, CommitmentDiffers(commitment, record.reportCommitment));
        if (valid) {
            require(stage == Stage.Reported, WrongStage(stage));
            require(culprits == 0, CulpritsNamed());
        } else {
            require(stage == Stage.Open || stage == Stage.Complete || stage == Stage.Reported, WrongStage(stage));
            uint256 outside = culprits & ~_cohortAt(_dataContract(progress.number()));
            require(outside == 0, CulpritsOutsideCohort(outside));
        }

        record.progress = progress.into(valid ? Stage.Valid : Stage.Void);
        if (stage != Stage.Reported) _close(inquiry, record, progress, _termsAt(_dataContract(progress.number())));

        emit Attested(inquiry, supervisor, msg.sender, valid, culprits, commitment, anchor);
        if (culprits != 0) consortium.suspendCulprits(culprits);
    }

    // ---------------------------------------------------------------- views

    /// @inheritdoc IJointCredit
    function status(bytes32 inquiry) external view returns (Status memory) {
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;
        Terms terms = _termsAt(_dataContract(progress.number()));

        return Status({
            stage: progress.stage(),
            inquirer: terms.inquirer(),
            blocks: uint8(terms.blocks()),
            opened: uint32(terms.opened()),
            deadline: terms.deadline(),
            silentFrom: uint32(terms.silentFrom()),
            cohort: _cohortAt(_dataContract(progress.number())),
            awaited: progress.awaited(),
            width: terms.width(),
            aggregateHash: record.aggregateHash,
            reportCommitment: record.reportCommitment
        });
    }

    /// @inheritdoc IJointCredit
    function aggregate(bytes32 inquiry) external view returns (bytes memory) {
        Inquiry storage record = _inquiries[inquiry];
        Progress progress = record.progress;

        require(progress.stage() != Stage.None, WrongStage(progress.stage()));
        require(
            progress.stage() == Stage.Open || progress.stage() == Stage.Complete, AggregateGone(record.aggregateHash)
        );

        return _aggregateOf(progress, _termsAt(_dataContract(progress.number())));
    }

    /// @inheritdoc IJointCredit
    function cohort(bytes32 inquiry) external view returns (uint256 members, uint256 awaited) {
        Progress progress = _inquiries[inquiry].progress;

        return (_cohortAt(_dataContract(progress.number())), progress.awaited());
    }

    /// @inheritdoc IJointCredit
    function lanes() external view returns (uint256 made, uint256 free) {
        return (_counts.lanes, _counts.freeLanes);
    }

    /// @inheritdoc IJointCredit
    function version() external pure returns (string memory) {
        return "2";
    }

    // ---------------------------------------------------------------- checks

    /// The sender is the member's service account.
    /// @return since when its store began its tenure
    function _checkAccount(uint8 member) private view returns (uint256) {
        (address account, uint32 since) = consortium.accountOf(member);
        _checkSender(account);

        return since;
    }

    function _checkSender(address account) private view {
        require(msg.sender == account, NotAccount(msg.sender, account));
        _checkPlain();
    }

    /// The sender starts the transaction and has no code: an account that EIP-7702 delegated could send a payload that the
    /// signature of its transaction does not cover.
    function _checkPlain() private view {
        // slither-disable-next-line tx-origin
        require(msg.sender == tx.origin && msg.sender.code.length == 0, NotPlainAccount(msg.sender));
    }

    function _checkForm(Opening calldata opening, IConsortium.Terms memory terms) private pure {
        require(opening.roster == terms.roster, RosterMoved(terms.roster));
        require(opening.blocks >= 1 && opening.blocks <= MAXIMUM_BLOCKS, BlocksOutOfRange(opening.blocks));
        require(
            Paillier.isWidthOfModulus(opening.n.length, terms.minimumModulusBits),
            ModulusWidth(opening.n.length, terms.minimumModulusBits)
        );
        require(Paillier.isFormOfModulus(opening.n), ModulusForm());
        require(opening.consents.length > 0, ConsentsMissing());
        _checkLength(opening.payload, opening.blocks, 2 * opening.n.length);
    }

    /// The cohort is all ready members, or repeats one: ready members, the inquirer among them, two thirds at least.
    function _checkCohort(uint8 member, Opening calldata opening, IConsortium.Terms memory terms) private pure {
        uint256 cohort_ = opening.cohort;
        if (!opening.repeats) {
            require(cohort_ == terms.ready, CohortMoved(terms.ready));
            return;
        }
        uint256 size = cohort_.count();
        require(
            cohort_ & ~terms.ready == 0 && cohort_.has(member) && size >= terms.minimumCohort
                && 3 * size >= 2 * terms.ready.count(),
            NotRepeatable(cohort_, terms.ready)
        );
    }

    /// The inquiry takes contributions, and the member owes one.
    function _checkAwaited(Progress progress, uint8 member) private view {
        if (progress.isOpenFor(member)) return;
        require(progress.stage() == Stage.Open, WrongStage(progress.stage()));
        _checkMissing(progress, member);
    }

    /// The member is in the cohort and has not contributed.
    function _checkMissing(Progress progress, uint8 member) private view {
        if (progress.has(member)) return;
        require(_cohortAt(_dataContract(progress.number())).has(member), NotInCohort(member));
        revert NotAwaited(member);
    }

    function _checkLength(bytes calldata payload, uint256 blocks, uint256 width) private pure {
        // Unchecked: 16 ciphertexts of 1,024 bytes at most.
        unchecked {
            uint256 expected = DISCLOSURE + blocks * width;
            require(payload.length == expected, PayloadLength(payload.length, expected));
        }
    }

    // ---------------------------------------------------------------- an inquiry's parts

    /// What `open` fixes; takes a lane and a due time.
    function _agree(uint8 member, Opening calldata opening, IConsortium.Terms memory terms) private returns (Terms) {
        // Checked: sums of seconds up to the year 2106, and the Consortium bounds the terms.
        uint32 opened = uint32(block.timestamp);
        uint32 deadline = opened + terms.answerSeconds;

        return termsOf(
            deadline,
            _takeLane(),
            member,
            _takeDue(_due[member], deadline + terms.reportSeconds),
            opening.blocks,
            uint16(2 * opening.n.length),
            opened,
            opened + terms.silenceSeconds
        );
    }

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
                opening.group,
                opening.repeats,
                opening.schema,
                opening.currency,
                opening.blocks,
                keccak256(abi.encode(opening.consents))
            )
        );
    }

    /// Offset and length are two things, and both are written once.
    // slither-disable-start write-after-write
    function _ciphertext(bytes calldata payload, uint256 block_, uint256 width)
        private
        pure
        returns (bytes calldata ciphertext)
    {
        // Safe: `_checkLength` has found the payload to be as long as all its blocks.
        assembly ("memory-safe") {
            ciphertext.offset := add(add(payload.offset, DISCLOSURE), mul(block_, width))
            ciphertext.length := width
        }
    }
    // slither-disable-end write-after-write

    /// End the life of the aggregate: hash to storage, bytes to an event, lane and due time back.
    function _close(bytes32 inquiry, Inquiry storage record, Progress progress, Terms terms) private {
        bytes memory product = _aggregateOf(progress, terms);

        record.aggregateHash = keccak256(product);
        _freeLane(terms.lane());
        _freeDue(_due[terms.inquirer()], terms.due());

        emit AggregateClosed(inquiry, product);
    }

    // ---------------------------------------------------------------- data contracts

    /// Put what never changes on the ledger as code, in the contract of the next number.
    function _publish(Terms terms, uint256 members, Workspace space) private returns (uint32 number) {
        number = ++_counts.data;
        uint256 modulus = space.modulusOf();
        uint256 width = terms.width();
        address made;

        // Memory-safe: writes behind the free memory pointer only. Init code of 10 bytes that returns what follows it:
        //
        //     0x00   61 LLLL 80 600a 3d 39 3d f3   push length, twice; copy code from 10 on to 0; return length bytes
        //     0x0a   00: code that begins with STOP runs nothing, and does not begin with 0xef (EIP-3541)
        //     0x0b   the terms
        //     0x2b   the cohort
        //     0x4b   n^2 (w)
        assembly ("memory-safe") {
            let code := mload(0x40)
            let length := add(width, 0x41)
            mstore(code, or(shl(176, 0x61000080600a3d393df3), shl(232, length)))
            mstore(add(code, 0x0b), terms)
            mstore(add(code, 0x2b), members)
            for { let i := 0 } lt(i, width) { i := add(i, 0x20) } {
                mstore(add(add(code, 0x4b), i), mload(add(modulus, i)))
            }
            made := create(0, code, add(length, 0x0a))
        }
        // Zero, of a creation that failed, is no such address either.
        require(made == _dataContract(number), DataNotStored());
    }

    /// The address of the contract that this one created as its `nonce`-th: the hash of the RLP list of this address
    /// and its nonce then (EIP-161: nonces of contracts begin with 1).
    function _dataContract(uint256 nonce) private view returns (address data) {
        // Memory-safe: 0x00 is scratch space. The list, of 22 bytes and the nonce's:
        //
        //     0xc0 + length of the rest | 0x94, this address (20) | nonce, from 0x80 on behind 0x80 + its length
        assembly ("memory-safe") {
            let size := add(add(1, gt(nonce, 0xff)), add(gt(nonce, 0xffff), gt(nonce, 0xffffff)))
            let prefixed := gt(nonce, 0x7f)
            let length := add(22, add(size, prefixed))
            let list := or(shl(168, add(0xbf, length)), or(shl(160, 0x94), address()))
            if prefixed { list := or(shl(8, list), add(0x80, size)) }
            list := or(shl(mul(8, size), list), nonce)
            mstore(0x00, shl(sub(256, mul(8, length)), list))
            data := and(keccak256(0x00, length), 0xffffffffffffffffffffffffffffffffffffffff)
        }
    }

    /// All zero if there is no such inquiry: nobody creates a contract with the number zero.
    function _termsAt(address data) private view returns (Terms) {
        return Terms.wrap(_wordAt(data, 0x01));
    }

    /// Zero if there is no such inquiry.
    function _cohortAt(address data) private view returns (uint256) {
        return _wordAt(data, 0x21);
    }

    function _wordAt(address data, uint256 start) private view returns (uint256 word) {
        // Memory-safe: 0x00 is scratch space.
        assembly ("memory-safe") {
            extcodecopy(data, 0x00, start, 0x20)
            word := mload(0x00)
        }
    }

    /// A workspace with the inquiry's n^2 as its modulus.
    function _workspaceAt(address data, uint256 width) private view returns (Workspace space) {
        space = ModMath.workspace(width);
        uint256 modulus = space.modulusOf();

        // Memory-safe: writes to the modulus, inside the workspace.
        assembly ("memory-safe") {
            extcodecopy(data, modulus, 0x41, width)
        }
    }

    // ---------------------------------------------------------------- lanes

    /// The lane that was freed last, or a new one.
    function _takeLane() private returns (uint32 lane) {
        Counts memory counts = _counts;

        lane = counts.freeLanes == 0 ? counts.lanes++ : _freeLanes[--counts.freeLanes];
        _counts = counts;
    }

    function _freeLane(uint32 lane) private {
        _freeLanes[_counts.freeLanes++] = lane;
    }

    /// The first slot of a block. The slots of a lane are numbered by bytes from a hash on, so two lanes do not meet.
    function _slotOf(Terms terms, uint256 block_) private pure returns (uint256 slot) {
        uint256 lane = terms.lane();

        // Memory-safe: 0x00 to 0x3f is scratch space.
        assembly ("memory-safe") {
            mstore(0x00, LANE_LABEL)
            mstore(0x20, lane)
            slot := keccak256(0x00, 0x40)
        }
        // Unchecked: slots are counted modulo 2^256.
        unchecked {
            slot += block_ * terms.width();
        }
    }

    /// The ciphertext that the inquirer opens with.
    function _startLane(Workspace space, uint256 slot) private {
        uint256 factor = space.factorOf();

        // Memory-safe: reads the factor, inside the workspace. The slots are the lane's own.
        assembly ("memory-safe") {
            for { let i := 0 } lt(i, mload(space)) { i := add(i, 0x20) } { sstore(add(slot, i), mload(add(factor, i))) }
        }
    }

    /// The product, all blocks. In the lane, every contribution but the inquirer's own left a factor of 2.
    function _aggregateOf(Progress progress, Terms terms) private view returns (bytes memory product) {
        address data = _dataContract(progress.number());
        uint256 contributions = _cohortAt(data).count() - progress.awaited().count();
        Workspace space = _workspaceAt(data, terms.width());
        product = new bytes(uint256(terms.blocks()) * terms.width());
        uint256 pointer;

        // Memory-safe: the address of the bytes behind the length.
        assembly ("memory-safe") {
            pointer := add(product, 0x20)
        }
        for (uint256 i = 0; i < terms.blocks(); ++i) {
            space.halve(_slotOf(terms, i), contributions - 1, pointer + i * terms.width());
        }
    }

    // ---------------------------------------------------------------- due times

    /// Note when the report is due, in the first free place; none of the inquirer's others may have passed.
    function _takeDue(uint256[DUE_WORDS] storage dues, uint32 due) private returns (uint8 place) {
        uint256 firstFree = DUES;
        for (uint256 word = 0; word < DUE_WORDS; ++word) {
            uint256 times = dues[word];
            for (uint256 i = 0; i < DUES_PER_WORD; ++i) {
                uint256 other = (times >> (i * DUE_BITS)) & DUE_MASK;
                require(other == 0 || block.timestamp < other, ReportOverdue(other));
                if (other == 0 && firstFree == DUES) firstFree = word * DUES_PER_WORD + i;
            }
        }
        require(firstFree < DUES, TooManyOpen());

        place = uint8(firstFree);
        dues[place / DUES_PER_WORD] |= uint256(due) << ((place % DUES_PER_WORD) * DUE_BITS);
    }

    function _freeDue(uint256[DUE_WORDS] storage dues, uint8 place) private {
        dues[place / DUES_PER_WORD] &= ~(DUE_MASK << ((place % DUES_PER_WORD) * DUE_BITS));
    }
}
