// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The consortium: who belongs to it, under which keys and rules
/// @notice Members, supervisors, schemas, groups, parameters and the current `JointCredit` contract. Everything here
/// changes by proposal (votes of the members, approval of a supervisor, a delay, execution), except what belongs to one
/// party alone: confirming its own record, its own keys and operators, its own readiness, a supervisor's audit and suspension.
/// @dev Rule numbers (R1, R2, ...) are those of docs/spec.md. Members are named by an index from 0 to 215 that is never used
/// again; sets of members are bitmaps (bit i = member i). After the constructor the deployer has no right.
interface IConsortium {
    /// @notice One thing that happened to the roster. `roster` is a hash chain over all of them, so one value names the
    /// whole history of membership, keys, groups, terms, schemas and contracts (R39). The `data` of each kind is the
    /// `abi.encode` of:
    enum Change {
        /// (uint8 member, address owner, address operator, string name): invited, not yet a member
        MemberInvited,
        /// (uint8 member): the owner confirmed the record; followed by KeySet for its first key
        MemberConfirmed,
        /// (uint8 member)
        MemberRemoved,
        /// (uint8 member, address owner)
        OwnerReplaced,
        /// (uint8 member, address operator, bool allowed)
        OperatorSet,
        /// (uint8 member, uint32 version, bytes32 key, bytes signature): X25519 institution key, signed by the owner
        KeySet,
        /// (uint8 member, uint32 version): both ends of each pair of this key agree
        MemberAudited,
        /// (uint8 member)
        MemberSuspended,
        /// (uint8 member)
        MemberReinstated,
        /// (uint8 group, uint256 members)
        GroupSet,
        /// (address supervisor)
        SupervisorAdded,
        /// (address supervisor): if the newest supervisor key is its own, that key serves no more
        SupervisorRemoved,
        /// (uint32 version, bytes32 key, address supervisor, bytes signature): X25519 key of the supervisor for a period
        SupervisorKeySet,
        /// (uint32 version, bytes32 commitment): commitment to the key of the subject tags
        TagKeySet,
        /// (Parameters): the terms, in full; followed by ParametersSet
        TermsSet,
        /// (uint16 schema, bytes32 definitionHash): followed by SchemaRegistered with the definition
        SchemaSet,
        /// (address jointCredit): the only contract on which inquiries open from now on; followed by JointCreditReplaced
        JointCreditSet
    }

    /// @notice Terms that hold for every inquiry; read at `open` or by the members' disclosure policy.
    struct Parameters {
        /// least number of institutions in a cohort, at least 3 (R14)
        uint8 minimumCohort;
        /// least size of n in bits, 2048 to 4096
        uint16 minimumModulusBits;
        /// seconds from `open` until `expire` is permitted
        uint32 answerSeconds;
        /// seconds after that until an unreported inquiry stops its inquirer from opening
        uint32 reportSeconds;
        /// W: a subject is answered again within it only over the identical cohort
        uint32 windowSeconds;
        /// least time between two inquiries of one inquirer on one subject
        uint32 cooldownSeconds;
        /// most subjects one inquirer may ask about in 24 hours
        uint32 subjectsPerDay;
        /// oldest loan book an institution may answer from
        uint32 bookAgeSeconds;
        /// seconds between a supervisor's approval and the execution of a proposal, at least MINIMUM_DELAY
        uint32 delaySeconds;
    }

    struct Founder {
        address owner;
        address operator;
        string name;
    }

    struct Schema {
        uint16 id;
        /// canonical JSON (RFC 8785) as docs/spec.md describes it
        bytes definition;
    }

    struct Founding {
        string name;
        Founder[] founders;
        address[] supervisors;
        Schema[] schemas;
        Parameters parameters;
        bytes32 jointCreditInitCodeHash;
        bytes32 tagKeyCommitment;
    }

    struct Member {
        address owner;
        string name;
        /// X25519 public key; zero until confirmed
        bytes32 key;
        uint32 keyVersion;
        /// the key version that passed the mask audit; the member serves in cohorts only while it equals keyVersion
        uint32 auditedVersion;
        /// unix time until which the member declared itself ready
        uint32 readyUntil;
        bool confirmed;
        bool suspended;
        bool removed;
    }

    struct Proposal {
        address proposer;
        bytes32 callsHash;
        /// members at the time of the proposal: only they may vote
        uint256 electorate;
        uint256 votes;
        uint64 proposedAt;
        bool executed;
    }

    /// @notice What `JointCredit.open` needs to know, in one call.
    struct Terms {
        uint8 member;
        uint256 cohort;
        bytes32 roster;
        bytes32 schemaHash;
        uint16 minimumModulusBits;
        uint32 answerSeconds;
        uint32 reportSeconds;
    }

    // ---------------------------------------------------------------- events
    event RosterChanged(bytes32 indexed roster, Change kind, bytes data);
    event SchemaRegistered(uint16 indexed schema, bytes definition);
    event ParametersSet(Parameters parameters);
    /// @notice A member declared itself ready until `until` (0: not ready any more).
    event ReadinessDeclared(uint8 indexed member, uint32 until);
    /// @notice `JointCredit` took away the readiness of members that stayed silent.
    event ReadinessLapsed(uint256 members);
    /// @notice `sealedKeys`: the sender's pair mask keys, sealed to the supervisor's key `supervisorKeyVersion`.
    event MaskKeysSealed(uint8 indexed member, uint32 keyVersion, uint32 supervisorKeyVersion, bytes sealedKeys);
    /// @notice `head` of the audit log of a member's operator or a supervisor, on days without a report or verdict.
    event Anchored(address indexed by, bytes32 head);
    /// @notice A sealed message from a member's operator or a supervisor; docs/spec.md says which there are.
    event Noticed(address indexed by, bytes message);
    event JointCreditApproved(bytes32 initCodeHash);
    event JointCreditReplaced(address indexed previous, address indexed current);
    event Proposed(uint256 indexed proposal, address indexed proposer, bytes32 callsHash, bytes[] calls, string reason);
    event Voted(uint256 indexed proposal, uint8 indexed member, bool inFavour);
    event Approved(uint256 indexed proposal, address indexed supervisor, bool given);
    event Executed(uint256 indexed proposal);

    // ---------------------------------------------------------------- errors
    error NotMember(address account);
    error NotOwner(address account, uint8 member);
    error NotSupervisor(address account);
    error NotJointCredit(address account);
    error NotCurrentJointCredit(address account, address current);
    error OnlyByProposal();
    error NotFounded(uint256 confirmed, uint256 needed);
    error AccountInUse(address account);
    error ZeroAccount();
    error UnknownMember(uint8 member);
    error AlreadyConfirmed(uint8 member);
    error TooManyMembers();
    error TooManyOperators(uint8 member);
    error BadKey();
    error KeyInUse(bytes32 key);
    error BadKeySignature(address signer, address owner);
    error KeyVersion(uint32 given, uint32 expected);
    error ReadyTooLong(uint32 until, uint256 latest);
    error NotServing(uint8 member);
    error CohortTooSmall(uint256 size, uint256 minimum);
    error UnknownGroup(uint8 group);
    error UnknownSchema(uint16 schema);
    error SchemaExists(uint16 schema);
    error GroupsTooClose(uint8 first, uint8 second, uint256 difference);
    error BadParameter(string name);
    error LastSupervisor();
    error NoSupervisorKey();
    error NoticeLength(uint256 length, uint256 most);
    error UnknownProposal(uint256 proposal);
    error CallsDiffer(bytes32 given, bytes32 proposed);
    error NotInElectorate(uint8 member, uint256 proposal);
    error AlreadyVoted(uint8 member, uint256 proposal);
    error NotVoted(uint8 member, uint256 proposal);
    error ProposalExpired(uint256 proposal);
    error AlreadyExecuted(uint256 proposal);
    error VotesMissing(uint256 votes, uint256 needed);
    error ApprovalMissing(uint256 proposal, address supervisor);
    error TooEarly(uint256 permittedAt);
    error OnlySupervisorChanges();
    error CallFailed(uint256 index, bytes reason);
    error InitCodeDiffers(bytes32 given, bytes32 approved);
    error CreationFailed();

    // ---------------------------------------------------------------- a member's own
    /// @notice Confirm your record and register your first institution key. Only the owner account of an invited member.
    /// @param signature EIP-191 signature of `keyStatement(index, 1, key, 0)` by the owner account (R9).
    function confirm(uint8 index, bytes32 key, bytes calldata signature) external;
    /// @notice Replace your institution key. Later inquiries use it once the supervisor has audited its masks.
    function rotateKey(uint8 index, bytes32 key, bytes calldata signature) external;
    /// @notice Allow or forbid an account to act for your institution in inquiries.
    function setOperator(uint8 index, address operator, bool allowed) external;
    /// @notice Declare from an operator account that you will answer until `until`; 0 withdraws it.
    function declareReady(uint32 until) external;
    /// @notice Publish your pair mask keys, sealed to the supervisor (R11). From an operator account.
    function sealMaskKeys(bytes calldata sealedKeys) external;

    // ---------------------------------------------------------------- members and supervisors
    /// @notice Put the head of your audit log on the ledger. From an operator or supervisor account.
    function anchor(bytes32 head) external;
    /// @notice Send a sealed message of 1 to MAXIMUM_NOTICE bytes. From an operator or supervisor account.
    function notify(bytes calldata message) external;

    // ---------------------------------------------------------------- supervisor
    function rotateSupervisorKey(bytes32 key, bytes calldata signature) external;
    /// @notice Both ends of each pair of this member's key agree; it serves in cohorts from now on.
    function auditOk(uint8 index, uint32 keyVersion) external;
    /// @notice Keep a member out of new cohorts, at once. It keeps its vote.
    function suspend(uint8 index) external;
    function reinstate(uint8 index) external;
    function approve(uint256 proposal, bytes32 callsHash) external;
    /// @notice Take back your own approval. Nobody can take back another supervisor's.
    function withdrawApproval(uint256 proposal) external;

    // ---------------------------------------------------------------- proposals
    /// @param calls ABI-encoded calls of the functions below, executed in order, all or none.
    function propose(bytes[] calldata calls, string calldata reason) external returns (uint256 proposal);
    function vote(uint256 proposal, bytes32 callsHash) external;
    function withdrawVote(uint256 proposal) external;
    /// @param supervisor whose approval, at least `delaySeconds` old, this rests on. The zero address: without approval,
    /// five sixths of the members, 30 days after the proposal, for changes of supervisors only.
    function execute(uint256 proposal, bytes[] calldata calls, address supervisor) external;

    // The calls that a proposal may carry; each reverts with OnlyByProposal for any other sender.
    function inviteMember(address owner, address operator, string calldata memberName) external;
    function removeMember(uint8 index) external;
    function replaceOwner(uint8 index, address owner) external;
    function addSupervisor(address supervisor) external;
    function removeSupervisor(address supervisor) external;
    function setParameters(Parameters calldata changed) external;
    function registerSchema(uint16 schema, bytes calldata definition) external;
    function setGroup(uint8 group, uint256 members) external;
    function setTagKey(bytes32 commitment) external;
    function approveJointCredit(bytes32 initCodeHash) external;

    /// @notice Create the approved `JointCredit` from its init code and make it the current one. Anyone may call.
    function createJointCredit(bytes calldata initCode) external returns (address created);

    // ---------------------------------------------------------------- JointCredit
    /// @notice The terms on which `operator` may open an inquiry now, over the members of `group` (0: all).
    /// Reverts unless the caller is the current JointCredit and the inquirer itself is in the cohort.
    function openingTerms(address operator, uint8 group, uint16 schema) external view returns (Terms memory);
    /// @notice Take away the readiness of members that stayed silent. Only a JointCredit that this contract created.
    function lapse(uint256 silent) external;
    /// @notice Suspend the culprits of a voided inquiry. Only a JointCredit that this contract created.
    function suspendCulprits(uint256 culprits) external;

    // ---------------------------------------------------------------- views
    function name() external view returns (string memory);
    /// @notice The member for which an operator account acts. Reverts with NotMember.
    function memberOf(address operator) external view returns (uint8);
    function isSupervisor(address account) external view returns (bool);
    function member(uint8 index) external view returns (Member memory);
    function memberCount() external view returns (uint8 invited);
    /// @notice Bitmaps: confirmed and not removed | of these, audited and not suspended | of these, ready now.
    function memberSets() external view returns (uint256 members, uint256 serving, uint256 ready);
    function cohortOf(uint8 group) external view returns (uint256 cohort);
    function groupMembers(uint8 group) external view returns (uint256 members);
    function roster() external view returns (bytes32);
    function parameters() external view returns (Parameters memory);
    function schemaHash(uint16 schema) external view returns (bytes32);
    /// @notice Zero while there is none: nobody registered one, or the supervisor that registered the newest was removed.
    /// The statement for the next key names the newest key as the previous one in the second case too.
    function supervisorKey() external view returns (bytes32 key, uint32 version);
    function jointCredit() external view returns (address);
    function proposalAt(uint256 proposal) external view returns (Proposal memory);
    function approvedAt(uint256 proposal, address supervisor) external view returns (uint64);
    /// @notice The 32 bytes that an owner (or a supervisor, with index 255) signs (EIP-191, personal_sign) for a key.
    /// @dev keccak256(abi.encode("mpcredit/key/2", chainid, consortium, index, version, key, previousKey)), the label a bytes32.
    function keyStatement(uint8 index, uint32 version, bytes32 key, bytes32 previousKey) external view returns (bytes32);
}
