// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Joint credit inquiries
/// @notice An inquirer opens an inquiry with a Paillier key and its own encrypted figures; every other member of the cohort
/// adds its ciphertexts once; the contract keeps the running product, which encrypts the sums.
/// @dev Rule numbers (R1, R2, ...) are those of docs/spec.md.
/// What the chain checks: who acts for whom, the cohort and its order of stages, once per member, and that each ciphertext
/// has the exact width of n^2, 0 < c < n^2, and is not a multiple of n. What it leaves to the institutions and the
/// supervisor: that n is well formed (its proof is in `Opened`), that c is coprime to n, that masks, figures, sealed parts
/// and reports are right.
/// Needed for correctness: MODEXP as of EIP-198. Needed for progress: every awaited member sends one transaction.
interface IJointCredit {
    /// Open takes contributions; Complete has them all; Reported awaits the verdict; the others are ends.
    enum Stage {
        None,
        Open,
        Complete,
        Reported,
        Valid,
        Void,
        Refused,
        Expired
    }

    struct Opening {
        /// any number; with the rest it gives an id that this contract has not seen (R15)
        uint64 nonce;
        /// the group whose ready members are the cohort; 0: all members
        uint8 group;
        /// the cohort repeats an earlier one: not all ready members, but at least two thirds of them (R14)
        bool repeats;
        uint16 schema;
        /// number of ciphertexts in each contribution, 1 to 16
        uint8 blocks;
        /// ISO 4217
        bytes3 currency;
        /// the roster and the cohort for which the inquirer made its masks; open reverts if either has moved
        bytes32 roster;
        uint256 cohort;
        /// the modulus, big-endian, 256 to 512 bytes in steps of 32, no leading zero bit, odd
        bytes n;
        /// proof that gcd(n, phi(n)) = 1, checked off the ledger
        bytes keyProof;
        /// hashes of the consent receipts
        bytes32[] consents;
        /// wraps of the content key and the sealed subjects
        bytes sealedSubject;
        /// commitment to content key and subjects (R16)
        bytes32 subjectCommitment;
        /// the inquirer's own contribution: disclosure (80 bytes), then the ciphertexts
        bytes payload;
    }

    /// @notice What the ledger knows of an inquiry.
    struct Status {
        Stage stage;
        uint8 inquirer;
        uint8 blocks;
        uint32 opened;
        uint32 deadline;
        /// when members that are silent can be switched off
        uint32 silentFrom;
        uint256 cohort;
        uint256 awaited;
        /// bytes of one ciphertext
        uint256 width;
        /// keccak256 of the final aggregate (all blocks), zero until the inquiry has ended
        bytes32 aggregateHash;
        /// commitment of the report, zero until reported
        bytes32 reportCommitment;
    }

    // ---------------------------------------------------------------- events
    /// @param q0 the id without sealed subject and cohort, which keys the wraps
    event Opened(
        bytes32 indexed inquiry,
        uint8 indexed inquirer,
        bytes32 indexed q0,
        address account,
        uint32 deadline,
        Opening opening
    );
    /// @notice The last one awaited completes the inquiry; readers count, so that it costs no event of its own.
    /// @param payload disclosure (80 bytes), then the ciphertexts
    event Contributed(bytes32 indexed inquiry, uint8 indexed member, bytes payload);
    /// @param sealedCohort with code WINDOW: the cohort to repeat, sealed to the inquirer; empty with every other code
    event Refused(bytes32 indexed inquiry, uint8 indexed member, uint8 code, bytes sealedCohort);
    event Expired(bytes32 indexed inquiry, uint256 silent);
    /// @notice The product of all contributions received, when the inquiry gives its lane back.
    event AggregateClosed(bytes32 indexed inquiry, bytes aggregate);
    /// @param anchor head of the inquirer's audit log, or zero
    event Reported(bytes32 indexed inquiry, bytes32 commitment, bytes sealedReport, bytes32 anchor);
    /// @param supervisor owner account; `account` is the service account that gave the verdict
    /// @param commitment of the report that was judged, zero where there was none
    event Attested(
        bytes32 indexed inquiry,
        address indexed supervisor,
        address account,
        bool valid,
        uint256 culprits,
        bytes32 commitment,
        bytes32 anchor
    );
    /// @notice The member states that a consent receipt was revoked; it counts if it is the receipt's inquirer.
    event ConsentRevoked(bytes32 indexed consent, uint8 indexed member);

    // ---------------------------------------------------------------- errors
    error WrongStage(Stage actual);
    error NotInCohort(uint8 member);
    error NotAwaited(uint8 member);
    /// @notice The sender is not the service account of the party that the call names.
    error NotAccount(address sender, address account);
    /// @notice A service account acts for itself: it has no code and starts the transaction.
    error NotPlainAccount(address sender);
    /// @notice The member's store began its tenure at or after the opening: the one before it may have answered.
    error OpenedBeforeTenure(uint256 opened, uint256 since);
    error RosterMoved(bytes32 current);
    error CohortMoved(uint256 current);
    error NotRepeatable(uint256 cohort, uint256 ready);
    error InquiryExists(bytes32 inquiry);
    error ReportOverdue(uint256 due);
    error TooManyOpen();
    error BlocksOutOfRange(uint8 blocks);
    error ModulusWidth(uint256 length, uint256 minimum);
    error ModulusForm();
    error PayloadLength(uint256 length, uint256 expected);
    error CiphertextRange(uint256 block_);
    error CiphertextMultipleOfModulus(uint256 block_);
    error ConsentsMissing();
    error TooEarly(uint256 permittedAt);
    error RefusalCode();
    error SealedLength(uint256 length);
    error CommitmentDiffers(bytes32 given, bytes32 stored);
    error NothingChanges();
    error CulpritsNamed();
    error CulpritsOutsideCohort(uint256 culprits);
    error AggregateGone(bytes32 aggregateHash);
    error PrecompileFailed();
    error DataNotStored();

    // Every call comes from the service account of the party that it names, or that the inquiry names.

    // ---------------------------------------------------------------- inquirer
    /// @notice Open an inquiry over the ready members, or over an earlier cohort, and contribute your own figures.
    /// @return inquiry q = keccak256(abi.encode(q0, keccak256(sealedSubject), subjectCommitment, cohort, group, repeats,
    /// schema, currency, blocks, keccak256(abi.encode(consents)))) with q0 = keccak256(abi.encode(bytes32("mpcredit/q0/2"),
    /// chainid, address(this), member, keccak256(n), roster, nonce))
    function open(uint8 member, Opening calldata opening) external returns (bytes32 inquiry);
    /// @notice Report the opened totals, sealed to the supervisor. Gives the lane back.
    function report(bytes32 inquiry, bytes32 commitment, bytes calldata sealedReport, bytes32 anchor) external;

    // ---------------------------------------------------------------- furnisher
    /// @notice Add your ciphertexts: once, as a member of the cohort, until the inquiry has ended.
    function contribute(bytes32 inquiry, uint8 member, bytes calldata payload) external;
    /// @notice Refuse with a code (R26); this ends the inquiry.
    /// @param sealedCohort with code WINDOW the cohort to repeat, at most 64 bytes; else empty
    function refuse(bytes32 inquiry, uint8 member, uint8 code, bytes calldata sealedCohort) external;
    /// @notice State that a consent was revoked; it counts if you are its inquirer.
    function revokeConsent(uint8 member, bytes32 consent) external;

    // ---------------------------------------------------------------- anyone
    /// @notice Switch off the members of an open inquiry that are still silent `silenceSeconds` after its opening. The
    /// inquiry stays open.
    function lapse(bytes32 inquiry) external;
    /// @notice End an inquiry whose deadline has passed; members that stayed silent are switched off.
    function expire(bytes32 inquiry) external;

    // ---------------------------------------------------------------- supervisor
    /// @notice Put the verdict on the ledger. Invalid voids the inquiry and suspends the culprits, if any are named.
    /// @param supervisor owner account of the supervisor
    /// @param commitment of the report that was judged, zero if there is none; reverts if another one is stored
    function attest(
        bytes32 inquiry,
        address supervisor,
        bool valid,
        uint256 culprits,
        bytes32 commitment,
        bytes32 anchor
    ) external;

    // ---------------------------------------------------------------- views
    function status(bytes32 inquiry) external view returns (Status memory);
    /// @notice The running product of all blocks. Reverts with AggregateGone once the inquiry has ended.
    function aggregate(bytes32 inquiry) external view returns (bytes memory);
    function cohort(bytes32 inquiry) external view returns (uint256 members, uint256 awaited);
    /// @notice Lanes made so far, and how many of them are free to be used again.
    function lanes() external view returns (uint256 made, uint256 free);
    function version() external pure returns (string memory);
}
