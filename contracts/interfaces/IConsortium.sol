// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The consortium: who belongs to it, under which keys and rules
/// @notice Members, supervisors, schemas, groups, parameters and the current `JointCredit` contract. Everything here
/// changes by proposal (votes of the members, approval of a supervisor, a delay, execution), except what belongs to one
/// party alone: confirming its own record, its keys, its service account and readiness; a supervisor's keys, audits and suspensions.
/// Each member and each supervisor has one owner account (cold) and one service account (hot), which its owner names.
/// @dev Rule numbers (R1, R2, ...) are those of docs/spec.md. Members are named by an index from 0 to 215 that is never used
/// again; sets of members are bitmaps (bit i = member i). After the constructor the deployer has no right.
interface IConsortium {
    /// @notice One thing that happened to the roster. `roster` is a hash chain over all of them, so one value names the
    /// whole history of membership, accounts, keys, groups, terms, schemas and contracts (R39). The `data` of each kind is
    /// the `abi.encode` of:
    enum Change {
        /// (uint64 opensFrom, uint8 periodSeconds): the first link; nothing opens before `opensFrom`
        Founded,
        /// (uint8 member, address owner, string name): invited, not yet a member
        MemberInvited,
        /// (uint8 member): the owner confirmed the record; followed by KeySet and AccountNamed for its first ones
        MemberConfirmed,
        /// (uint8 member): its account is taken away too
        MemberRemoved,
        /// (uint8 member, address owner): its service account stays
        OwnerReplaced,
        /// (uint8 party, address owner, address account, uint16 number, bytes32 tenure, bytes signature): the one service
        /// account of a member, or with party 255 of the supervisor `owner`, signed by the owner
        AccountNamed,
        /// (uint8 party, address owner)
        AccountTaken,
        /// (uint8 member, uint32 version, bytes32 key, bool compromised, bytes signature): X25519 institution key, signed by
        /// the owner; the old key leaves the cohorts at once if it is compromised, else when the new one is audited
        KeySet,
        /// (uint8 member, uint32 version, uint32 period): both ends of each pair of this key agree under this period key
        MemberAudited,
        /// (uint8 member)
        MemberSuspended,
        /// (uint8 member)
        MemberReinstated,
        /// (uint8 group, uint256 members)
        GroupSet,
        /// (address supervisor): its owner account
        SupervisorAdded,
        /// (address supervisor): follows PeriodKeyEnded for each of its keys that was announced or in force
        SupervisorRemoved,
        /// (uint32 version, bytes32 key, address supervisor, bytes signature): takes the place of a key announced before
        PeriodKeyAnnounced,
        /// (uint32 version): the announced key succeeds the one in force
        PeriodKeyInForce,
        /// (uint32 version): the announced key, or the one in force; nobody answers under it any more
        PeriodKeyEnded,
        /// (uint32 version, bytes32 commitment): commitment to the key of the subject tags
        TagKeySet,
        /// (Parameters): the terms, in full; followed by TermsSet
        TermsChanged,
        /// (uint16 schema, bytes32 definitionHash): followed by SchemaRegistered with the definition
        SchemaSet,
        /// (bytes32 initCodeHash): the code of the next JointCredit
        JointCreditApproved,
        /// (address jointCredit): the only contract on which inquiries open from now on
        JointCreditSet
    }

    /// @notice Terms that hold for every inquiry; read at `open` or by the members' answer policy.
    struct Parameters {
        /// least number of institutions in a cohort, at least 3 (R14)
        uint8 minimumCohort;
        /// least size of n in bits, 2048 to 4096
        uint16 minimumModulusBits;
        /// seconds from `open` until `expire` is permitted
        uint32 answerSeconds;
        /// seconds after that until an unreported inquiry stops its inquirer from opening
        uint32 reportSeconds;
        /// seconds from `open` until members that are silent can be switched off, at most answerSeconds
        uint32 silenceSeconds;
        /// W: a member answers a subject again within it only over the identical cohort, the two inquirers apart
        uint32 windowSeconds;
        /// least time between two inquiries of one inquirer on one subject
        uint32 cooldownSeconds;
        /// life of a consent from its first opening, at least answerSeconds, at most cooldownSeconds
        uint32 repeatSeconds;
        /// seconds between a supervisor's approval and the execution of a proposal, at least MINIMUM_DELAY
        uint32 delaySeconds;
        /// most subjects one inquirer may ask about in 24 hours
        uint32 subjectsPerDay;
        /// oldest loan book an institution may answer from
        uint32 bookAgeSeconds;
    }

    struct Founder {
        address owner;
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
        /// owner accounts
        address[] supervisors;
        Schema[] schemas;
        Parameters parameters;
        /// unix time before which nothing opens: the window of an earlier consortium of the same members, or 0
        uint64 opensFrom;
        /// length of the periods of readiness, 1 to 255 seconds
        uint8 periodSeconds;
        bytes32 jointCreditInitCodeHash;
        bytes32 tagKeyCommitment;
    }

    struct Member {
        address owner;
        /// the service account; zero if none is named
        address account;
        /// unix time of the last naming with another tenure: inquiries opened until then are not answered
        uint32 since;
        /// namings so far
        uint16 namings;
        string name;
        /// newest X25519 public key; zero until confirmed
        bytes32 key;
        uint32 keyVersion;
        /// the key version that was audited for the period key in force; zero: none
        uint32 auditedVersion;
        bool ready;
        bool confirmed;
        bool suspended;
        bool removed;
    }

    struct Proposal {
        /// the member whose owner proposed it, and alone can withdraw it
        uint8 proposer;
        bool executed;
        bool withdrawn;
        uint64 proposedAt;
        /// approvals of an earlier round are void
        uint32 round;
        /// the time from which UNAPPROVED_DELAY counts: the last vote, given or withdrawn, without which too few are there
        uint64 unapprovedSince;
        bytes32 callsHash;
        /// members at the time of the proposal: only they may vote
        uint256 electorate;
        uint256 votes;
    }

    /// @notice A key of a supervisor for a period.
    struct PeriodKey {
        bytes32 key;
        address holder;
        uint32 version;
        uint64 announcedAt;
    }

    /// @notice What `JointCredit.open` needs to know, in one call.
    struct Terms {
        /// members of the group that serve and are ready now
        uint256 ready;
        bytes32 roster;
        bytes32 schemaHash;
        uint8 minimumCohort;
        uint16 minimumModulusBits;
        uint32 answerSeconds;
        uint32 reportSeconds;
        uint32 silenceSeconds;
    }

    // ---------------------------------------------------------------- events
    event RosterChanged(bytes32 indexed roster, Change kind, bytes data);
    event SchemaRegistered(uint16 indexed schema, bytes definition);
    event TermsSet(Parameters parameters);
    /// @notice A member's readiness from the next full period on.
    event ReadinessSet(uint8 indexed member, bool ready);
    /// @notice `JointCredit` switched off members that stayed silent, from the next full period on.
    event ReadinessLapsed(uint256 members);
    /// @notice `sealedKeys`: the sender's pair mask keys, sealed to the period key `period`.
    event MaskKeysSealed(uint8 indexed member, uint32 keyVersion, uint32 period, bytes sealedKeys);
    /// @notice `head` of a party's audit log, on days without a report or verdict. A party is named by its owner account.
    event Anchored(address indexed owner, bytes32 head);
    /// @notice A sealed message of the party with this owner account; docs/spec.md says which there are.
    event Noticed(address indexed owner, bytes message);
    event JointCreditReplaced(address indexed previous, address indexed current);
    event Proposed(uint256 indexed proposal, uint8 indexed proposer, bytes32 callsHash, bytes[] calls, string reason);
    event Voted(uint256 indexed proposal, uint8 indexed member, bool inFavour);
    event Approved(uint256 indexed proposal, address indexed supervisor, bool given);
    event Withdrawn(uint256 indexed proposal);
    event Executed(uint256 indexed proposal);

    // ---------------------------------------------------------------- errors
    error NotMember(address account);
    error NotOwner(address account, uint8 member);
    /// @notice The sender is not the service account of the party that the call names.
    error NotAccount(address sender, address account);
    /// @notice A service account acts for itself: it has no code and starts the transaction.
    error NotPlainAccount(address sender);
    error NotSupervisor(address account);
    error NotJointCredit(address account);
    error NotCurrentJointCredit(address account, address current);
    error OnlyByProposal();
    error NothingChanges();
    error NotFounded(uint256 confirmed, uint256 needed);
    error AccountInUse(address account);
    error ZeroAccount();
    error ZeroTenure();
    error TenureUsed(bytes32 tenure);
    error UnknownMember(uint8 member);
    error AlreadyConfirmed(uint8 member);
    error TooManyMembers();
    error BadKey();
    error KeyInUse(bytes32 key);
    error BadSignature(address signer, address owner);
    error KeyVersion(uint32 given, uint32 expected);
    error NotServing(uint8 member);
    error CohortTooSmall(uint256 size, uint256 minimum);
    error UnknownGroup(uint8 group);
    error UnknownSchema(uint16 schema);
    error SchemaExists(uint16 schema);
    error GroupsTooClose(uint8 first, uint8 second, uint256 difference);
    error BadParameter(string name);
    error LastSupervisor();
    error NoPeriodKey();
    error UnknownPeriodKey(uint32 version);
    error PeriodKeyNotAccepted(uint256 missing, uint256 audited);
    error NoticeLength(uint256 length, uint256 most);
    error UnknownProposal(uint256 proposal);
    error CallsDiffer(bytes32 given, bytes32 proposed);
    error NotInElectorate(uint8 member, uint256 proposal);
    error AlreadyVoted(uint8 member, uint256 proposal);
    error NotVoted(uint8 member, uint256 proposal);
    error NotProposer(uint8 member, uint8 proposer);
    error ProposalExpired(uint256 proposal);
    error ProposalWithdrawn(uint256 proposal);
    error AlreadyExecuted(uint256 proposal);
    error VotesMissing(uint256 votes, uint256 needed);
    error ApprovalMissing(uint256 proposal, address supervisor);
    error TooEarly(uint256 permittedAt);
    error OnlySupervisorChanges();
    error CallFailed(uint256 index, bytes reason);
    /// @notice `tryOut` found nothing against the calls; nothing was changed.
    error WouldPass();
    error InitCodeDiffers(bytes32 given, bytes32 approved);
    error CreationFailed();

    // ---------------------------------------------------------------- a member's owner
    /// @notice Confirm your record, register your first institution key and name your service account.
    /// @param keySignature EIP-191 signature of `keyStatement(index, 1, key, 0)` by the owner account (R9).
    /// @param accountSignature the same of `accountStatement(index, owner, account, 1, tenure)`.
    function confirm(
        uint8 index,
        bytes32 key,
        bytes calldata keySignature,
        address account,
        bytes32 tenure,
        bytes calldata accountSignature
    ) external;
    /// @notice Replace your institution key, once in 24 hours. Cohorts use the new one when the supervisor has audited it;
    /// until then they use the old one, unless that is compromised.
    function rotateKey(uint8 index, bytes32 key, bool compromised, bytes calldata signature) external;

    // ---------------------------------------------------------------- any owner
    /// @notice Name your one service account; from the second time on at least 24 hours after the last.
    /// @param party member index; 255: a supervisor, from its owner account.
    /// @param tenure of the member's store, never one of an earlier tenure; zero for a supervisor.
    /// @param signature EIP-191 signature of `accountStatement` by the owner account, with the number of the naming.
    function nameAccount(uint8 party, address account, bytes32 tenure, bytes calldata signature) external;
    /// @notice Take your service account away, at once: it can do nothing any more and a member is not ready.
    function takeAccount(uint8 party) external;

    // ---------------------------------------------------------------- a member's service account
    /// @notice Be in cohorts or not, from the next full period of readiness on.
    function setReady(uint8 index, bool ready) external;
    /// @notice Publish your pair mask keys, sealed to a period key (R11).
    /// @param keyVersion of your key to which they belong, as you state it: the seal is bound to it.
    function sealMaskKeys(uint8 index, uint32 keyVersion, uint32 period, bytes calldata sealedKeys) external;

    // ---------------------------------------------------------------- any service account
    /// @notice Put the head of your audit log on the ledger. `owner` is your party's owner account.
    function anchor(address owner, bytes32 head) external;
    /// @notice Send a sealed message of 1 to MAXIMUM_NOTICE bytes. `owner` is your party's owner account.
    function notify(address owner, bytes calldata message) external;

    // ---------------------------------------------------------------- a supervisor's owner
    /// @notice Announce your key for the next period, at most once in 24 hours.
    /// @param signature EIP-191 signature of `keyStatement(255, version, key, newest key ever)` by the owner account.
    function announcePeriodKey(bytes32 key, bytes calldata signature) external;
    function reinstate(uint8 index) external;
    /// @notice Approve a proposal that has the votes it needs.
    function approve(uint256 proposal, bytes32 callsHash) external;
    /// @notice Take back your own approval. Nobody can take back another supervisor's.
    function withdrawApproval(uint256 proposal) external;

    // ---------------------------------------------------------------- a supervisor's service account
    /// @notice Both ends of each pair of this member's newest key agree under your period key.
    function auditOk(address supervisor, uint8 index, uint32 keyVersion, uint32 period) external;
    /// @notice Put your announced key in force, when every member that is not suspended is audited for it, or after 7 days.
    function putPeriodKeyInForce(address supervisor, uint32 version) external;
    /// @notice Keep a member out of new cohorts, at once. It keeps its vote. The supervisor's owner account may do so too.
    function suspend(address supervisor, uint8 index) external;
    /// @notice End the announced key or the key in force, of whichever supervisor, at once. Owner accounts may do so too.
    function endPeriodKey(address supervisor, uint32 version) external;

    // ---------------------------------------------------------------- proposals
    /// @param calls ABI-encoded calls of the functions below, executed in order, all or none.
    function propose(bytes[] calldata calls, string calldata reason) external returns (uint256 proposal);
    /// @notice Vote for a proposal. A vote without which too few would be there begins both delays anew (R34.1).
    function vote(uint256 proposal, bytes32 callsHash) external;
    /// @notice Take your vote back. If too few are left, the approvals are void and both delays begin anew (R34.1).
    function withdrawVote(uint256 proposal) external;
    /// @notice Withdraw a proposal of your institution, by its present owner.
    function withdrawProposal(uint256 proposal) external;
    /// @param supervisor whose approval, at least `delaySeconds` old, this rests on. The zero address: without approval,
    /// five sixths of the members or all but one, 30 days after the last vote that was needed, for changes of supervisors only.
    function execute(uint256 proposal, bytes[] calldata calls, address supervisor) external;
    /// @notice Run calls and the checks after them as `execute` does, and always revert: with WouldPass, or the reason.
    function tryOut(bytes[] calldata calls) external;

    // The calls that a proposal may carry; each reverts with OnlyByProposal for any other sender.
    function inviteMember(address owner, string calldata memberName) external;
    function removeMember(uint8 index) external;
    function replaceOwner(uint8 index, address owner) external;
    function addSupervisor(address supervisor) external;
    function removeSupervisor(address supervisor) external;
    /// @param named bit i names field i of `values`; fields that are not named are zero and stay as they are.
    function setTerms(uint16 named, Parameters calldata values) external;
    function registerSchema(uint16 schema, bytes calldata definition) external;
    function setGroup(uint8 group, uint256 members) external;
    /// @param version that the key was made for and the commitment is of; reverts unless it is the next one (R4.5).
    function setTagKey(uint32 version, bytes32 commitment) external;
    function approveJointCredit(bytes32 initCodeHash) external;

    /// @notice Create the approved `JointCredit` from its init code and make it the current one. Anyone may call.
    function createJointCredit(bytes calldata initCode) external returns (address created);

    // ---------------------------------------------------------------- JointCredit
    /// @notice The terms on which `sender` may open an inquiry now for `index`, over the members of `group` (0: all).
    /// Reverts unless the caller is the current JointCredit and the sender the member's service account.
    function openingTerms(uint8 index, address sender, uint8 group, uint16 schema) external view returns (Terms memory);
    /// @notice Switch off members that stayed silent. Only a JointCredit that this contract created.
    /// @return off those of them that were ready for the next period
    function lapse(uint256 silent) external returns (uint256 off);
    /// @notice Suspend the culprits of a voided inquiry. Only a JointCredit that this contract created.
    function suspendCulprits(uint256 culprits) external;

    // ---------------------------------------------------------------- views
    function name() external view returns (string memory);
    function opensFrom() external view returns (uint64);
    function periodSeconds() external view returns (uint8);
    /// @notice The service account of a member, zero if there is none, and the time of its last naming with another tenure.
    function accountOf(uint8 index) external view returns (address account, uint32 since);
    /// @notice The service account of a supervisor, zero if there is none.
    function supervisorAccount(address supervisor) external view returns (address account);
    function isSupervisor(address owner) external view returns (bool);
    function member(uint8 index) external view returns (Member memory);
    function memberCount() external view returns (uint8 invited);
    /// @notice Bitmaps: confirmed and not removed | of these, audited and not suspended | of these, ready now.
    function memberSets() external view returns (uint256 members, uint256 serving, uint256 ready);
    /// @notice The members of a group (0: all) that serve and are ready now.
    function cohortOf(uint8 group) external view returns (uint256 cohort);
    function groupMembers(uint8 group) external view returns (uint256 members);
    function roster() external view returns (bytes32);
    function parameters() external view returns (Parameters memory);
    function schemaHash(uint16 schema) external view returns (bytes32);
    /// @notice The period keys in force and announced; version zero where there is none.
    function periodKeys() external view returns (PeriodKey memory inForce, PeriodKey memory announced);
    function jointCredit() external view returns (address);
    function proposalAt(uint256 proposal) external view returns (Proposal memory);
    /// @notice When the supervisor approved; zero if it did not, or if that approval is void.
    function approvedAt(uint256 proposal, address supervisor) external view returns (uint64);
    /// @notice The 32 bytes that an owner (with index 255: of a supervisor) signs (EIP-191, personal_sign) for a key.
    /// @dev keccak256(abi.encode("mpcredit/key/2", chainid, consortium, index, version, key, previousKey)), the label a bytes32.
    function keyStatement(uint8 index, uint32 version, bytes32 key, bytes32 previousKey) external view returns (bytes32);
    /// @notice The 32 bytes that an owner signs in the same form for the naming of its service account.
    /// @dev keccak256(abi.encode("mpcredit/account/2", chainid, consortium, party, owner, account, number, tenure)).
    function accountStatement(uint8 party, address owner, address account, uint16 number, bytes32 tenure)
        external
        view
        returns (bytes32);
}
