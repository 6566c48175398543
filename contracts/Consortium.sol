// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IConsortium} from "./interfaces/IConsortium.sol";
import {Bitmap} from "./libraries/Bitmap.sol";
import {InstitutionKey} from "./libraries/InstitutionKey.sol";

/// @title The consortium: who belongs to it, under which keys and rules
/// @notice See `IConsortium` for what each function does and for whom.
/// @dev Invariants after every transaction once founded: at least `minimumCohort` members and one supervisor; any two
/// groups, and each group and the whole, are equal or differ by at least `minimumCohort` members; an owner account owns one party.
// Every change emits its event in _record, or at its end, which slither's events-maths does not follow into; loops that
// write (costly-loop) are over the founders, once, or over the culprits of one inquiry.
// slither-disable-start events-maths,costly-loop
contract Consortium is IConsortium {
    using Bitmap for uint256;
    using InstitutionKey for bytes32;

    /// What the ledger keeps of a member beside the bitmaps. Owner, version and time share a slot.
    struct Record {
        address owner;
        uint32 keyVersion;
        /// when the key was replaced last; zero before
        uint64 rotatedAt;
        bytes32 key;
        string name;
    }

    /// A party's service account, one slot: all that `contribute` reads of the roster.
    struct Account {
        address account;
        /// when it was named last with another tenure
        uint32 since;
        uint32 namedAt;
        uint16 namings;
    }

    struct Supervisor {
        /// when the account was added; zero for all others
        uint64 since;
        uint64 announcedAt;
    }

    /// One slot: the members that are ready in this period of readiness, and its number.
    struct Readiness {
        uint216 members;
        uint40 period;
    }

    // ---------------------------------------------------------------- limits

    /// @notice Most members that are ever invited: the bitmaps of `JointCredit` share their word with deadline and stage.
    uint256 public constant MAXIMUM_MEMBERS = 216;
    /// @notice Highest number of a group; 0 stands for all members.
    uint256 public constant MAXIMUM_GROUPS = 16;
    /// @notice Below three, a cohort leaves nobody to hide among.
    uint256 public constant LEAST_COHORT = 3;
    /// @notice Least time between a supervisor's approval and the execution, so that members see what comes.
    uint256 public constant MINIMUM_DELAY = 1 hours;
    /// @notice Longest time that any parameter in seconds about answers, reports and delays may name.
    uint256 public constant LONGEST_TERM = 30 days;
    /// @notice Least time between two rotations of a key, two namings of an account, two announcements of one party.
    uint256 public constant PAUSE = 24 hours;
    /// @notice How long an announced period key waits for members that are not audited for it.
    uint256 public constant PERIOD_KEY_WAIT = 7 days;
    /// @notice How long a proposal lives.
    uint256 public constant PROPOSAL_LIFE = 60 days;
    /// @notice How long a change of supervisors waits that no supervisor approves.
    uint256 public constant UNAPPROVED_DELAY = 30 days;

    /// @notice Most bytes of a sealed message.
    uint256 public constant MAXIMUM_NOTICE = 4_096;

    uint256 private constant LONGEST_NAME = 64;
    uint256 private constant SHORTEST_TERM = 60;
    uint256 private constant FIELDS = 11;
    /// Stands for a supervisor where a member index is asked for.
    uint8 private constant SUPERVISOR = 255;
    bytes32 private constant ROSTER_LABEL = "mpcredit/roster/2";
    bytes32 private constant KEY_LABEL = "mpcredit/key/2";
    bytes32 private constant ACCOUNT_LABEL = "mpcredit/account/2";

    // ---------------------------------------------------------------- storage

    /// @inheritdoc IConsortium
    string public name;
    /// @inheritdoc IConsortium
    bytes32 public roster;

    /// Two slots; `openingTerms` reads the first.
    Parameters private _parameters;
    // Not immutable: every consortium has the same runtime code, which readers compare with the code that shipped.
    // slither-disable-start immutable-states
    /// @inheritdoc IConsortium
    uint64 public opensFrom;
    /// @inheritdoc IConsortium
    uint8 public periodSeconds;
    // slither-disable-end immutable-states

    /// Invited so far; the next index.
    uint8 private _invited;
    /// Confirmed and not removed.
    uint256 private _members;
    uint256 private _removed;
    uint256 private _suspended;
    Readiness private _ready;
    /// Ready from the period after that of `_ready` on.
    uint256 private _readyNext;
    mapping(uint8 index => Record) private _records;
    /// Index + 1, so that zero means none.
    mapping(address account => uint8) private _memberOfOwner;
    /// By index, or for a supervisor by `_slotOf` its owner account.
    mapping(uint256 party => Account) private _accounts;
    /// The tenure that was named last, and every one that was ever named.
    mapping(uint8 index => bytes32) private _tenure;
    mapping(uint8 index => mapping(bytes32 tenure => bool)) private _tenureUsed;
    /// Every key that was ever registered, by a member or a supervisor.
    mapping(bytes32 key => bool) private _keyUsed;

    mapping(address owner => Supervisor) private _supervisors;
    uint256 private _supervisorCount;
    /// Of version 0 while there is none.
    PeriodKey private _inForce;
    PeriodKey private _announced;
    /// The newest ever, whatever became of it: the next statement names it as the previous one.
    bytes32 private _newestPeriodKey;
    uint32 private _newestPeriod;
    uint32 private _tagKeyVersion;
    /// Members audited for a period key; the bit goes when the audited key is compromised.
    mapping(uint32 period => uint256) private _audited;
    mapping(uint32 period => mapping(uint8 index => uint32)) private _auditedVersion;

    /// @inheritdoc IConsortium
    mapping(uint16 schema => bytes32) public schemaHash;
    /// As set; members that were removed or have not confirmed yet count only in `groupMembers`'s intersection.
    mapping(uint8 group => uint256) private _groups;

    Proposal[] private _proposals;
    // Written through the reference that `_approvalsOf` gives.
    // slither-disable-next-line uninitialized-state
    mapping(uint256 proposal => mapping(uint32 round => mapping(address supervisor => uint64))) private _approvals;

    /// @inheritdoc IConsortium
    address public jointCredit;
    /// @notice Whether this contract created the account as a `JointCredit`, now or earlier.
    mapping(address account => bool) public isJointCredit;
    /// @notice Hash of the init code that `createJointCredit` takes next; zero if none is approved.
    bytes32 public approvedInitCodeHash;

    // ---------------------------------------------------------------- founding

    /// @notice Invite the founders. Each confirms its record from its own account; the deployer keeps no right.
    constructor(Founding memory founding) {
        require(bytes(founding.name).length != 0, BadParameter("name"));
        require(founding.supervisors.length != 0, BadParameter("supervisors"));
        require(founding.schemas.length != 0, BadParameter("schemas"));
        require(founding.periodSeconds != 0, BadParameter("periodSeconds"));
        require(founding.founders.length >= founding.parameters.minimumCohort, BadParameter("founders"));

        name = founding.name;
        roster = keccak256(abi.encode(ROSTER_LABEL, block.chainid, address(this)));
        opensFrom = founding.opensFrom;
        periodSeconds = founding.periodSeconds;
        _record(Change.Founded, abi.encode(founding.opensFrom, founding.periodSeconds));
        _setParameters(founding.parameters);
        for (uint256 i = 0; i < founding.supervisors.length; ++i) _addSupervisor(founding.supervisors[i]);
        for (uint256 i = 0; i < founding.founders.length; ++i) _invite(founding.founders[i].owner, founding.founders[i].name);
        for (uint256 i = 0; i < founding.schemas.length; ++i)
            _registerSchema(founding.schemas[i].id, founding.schemas[i].definition);
        _setTagKey(1, founding.tagKeyCommitment);
        _approveJointCredit(founding.jointCreditInitCodeHash);
    }

    // ---------------------------------------------------------------- modifiers

    // Each modifier calls a function, which stands in the code once.

    modifier onlyOwnerOf(uint8 index) {
        _checkOwner(index);
        _;
    }

    modifier onlySupervisorOwner() {
        _checkSupervisor(msg.sender);
        _;
    }

    /// The supervisor's owner or service account.
    modifier onlySupervisor(address supervisor) {
        _checkSupervisor(supervisor);
        if (msg.sender != supervisor) _checkSender(_slotOf(supervisor));
        _;
    }

    modifier onlyAccountOf(uint8 index) {
        _checkSender(index);
        _;
    }

    modifier onlyPartyOf(address owner) {
        uint8 successor = _memberOfOwner[owner];
        _checkSender(successor == 0 ? _slotOf(owner) : successor - 1);
        _;
    }

    modifier onlyByProposal() {
        _checkByProposal();
        _;
    }

    modifier onlyJointCredit() {
        require(isJointCredit[msg.sender], NotJointCredit(msg.sender));
        _;
    }

    // ---------------------------------------------------------------- a member's owner

    /// @inheritdoc IConsortium
    function confirm(
        uint8 index,
        bytes32 key,
        bytes calldata keySignature,
        address account,
        bytes32 tenure,
        bytes calldata accountSignature
    ) external onlyOwnerOf(index) {
        require(!_members.has(index), AlreadyConfirmed(index));

        _members = _members.with(index);
        _record(Change.MemberConfirmed, abi.encode(index));
        _setKey(index, key, false, keySignature);
        _nameAccount(index, index, account, tenure, accountSignature);
        // A member more can bring a group and the whole too close together; a proposal then puts it into the group first.
        _checkGroups(_members, _parameters.minimumCohort);
    }

    /// @inheritdoc IConsortium
    function rotateKey(uint8 index, bytes32 key, bool compromised, bytes calldata signature)
        external
        onlyOwnerOf(index)
    {
        Record storage record = _records[index];
        _checkMember(index);
        _checkPause(record.rotatedAt);

        record.rotatedAt = uint64(block.timestamp);
        if (compromised) {
            _audited[_inForce.version] = _audited[_inForce.version].without(index);
            _audited[_announced.version] = _audited[_announced.version].without(index);
        }
        _setKey(index, key, compromised, signature);
    }

    // ---------------------------------------------------------------- any owner

    /// @inheritdoc IConsortium
    function nameAccount(uint8 party, address account, bytes32 tenure, bytes calldata signature) external {
        _nameAccount(party, _ownParty(party), account, tenure, signature);
    }

    /// @inheritdoc IConsortium
    function takeAccount(uint8 party) external {
        uint256 own = _ownParty(party);
        require(_accounts[own].account != address(0), NothingChanges());

        _accounts[own].account = address(0);
        if (party != SUPERVISOR) _switchOff(party);

        _record(Change.AccountTaken, abi.encode(party, msg.sender));
    }

    // ---------------------------------------------------------------- a member's service account

    /// @inheritdoc IConsortium
    function setReady(uint8 index, bool ready) external onlyAccountOf(index) {
        uint256 next = _readyNext;
        require(next.has(index) != ready, NothingChanges());

        _setReadyNext(ready ? next.with(index) : next.without(index));

        emit ReadinessSet(index, ready);
    }

    /// @inheritdoc IConsortium
    function sealMaskKeys(uint8 index, uint32 keyVersion, uint32 period, bytes calldata sealedKeys)
        external
        onlyAccountOf(index)
    {
        emit MaskKeysSealed(index, keyVersion, period, sealedKeys);
    }

    // ---------------------------------------------------------------- any service account

    /// @inheritdoc IConsortium
    function anchor(address owner, bytes32 head) external onlyPartyOf(owner) {
        emit Anchored(owner, head);
    }

    /// @inheritdoc IConsortium
    function notify(address owner, bytes calldata message) external onlyPartyOf(owner) {
        require(
            message.length != 0 && message.length <= MAXIMUM_NOTICE, NoticeLength(message.length, MAXIMUM_NOTICE)
        );

        emit Noticed(owner, message);
    }

    // ---------------------------------------------------------------- a supervisor's owner

    /// @inheritdoc IConsortium
    function announcePeriodKey(bytes32 key, bytes calldata signature) external onlySupervisorOwner {
        uint32 version = _newestPeriod + 1;
        Supervisor storage supervisor = _supervisors[msg.sender];
        _checkPause(supervisor.announcedAt);
        _useKey(key, keyStatement(SUPERVISOR, version, key, _newestPeriodKey), signature);

        supervisor.announcedAt = uint64(block.timestamp);
        _newestPeriodKey = key;
        _newestPeriod = version;
        _announced = PeriodKey(key, msg.sender, version, uint64(block.timestamp));

        _record(Change.PeriodKeyAnnounced, abi.encode(version, key, msg.sender, signature));
    }

    /// @inheritdoc IConsortium
    function reinstate(uint8 index) external onlySupervisorOwner {
        _checkMember(index);
        require(_suspended.has(index), NothingChanges());

        _suspended = _suspended.without(index);

        _record(Change.MemberReinstated, abi.encode(index));
    }

    /// @inheritdoc IConsortium
    /// @dev The votes come first, so that members have the whole delay to see what will happen.
    function approve(uint256 proposal, bytes32 callsHash) external onlySupervisorOwner {
        Proposal storage proposed = _living(proposal);
        mapping(address => uint64) storage approvals = _approvalsOf(proposal);
        require(callsHash == proposed.callsHash, CallsDiffer(callsHash, proposed.callsHash));
        // An approval given again does not start the delay again; one from before a removal does not count any more.
        require(approvals[msg.sender] < _supervisors[msg.sender].since, NothingChanges());
        _checkVotes(proposed, _twoThirds(_members.count()));

        approvals[msg.sender] = uint64(block.timestamp);

        emit Approved(proposal, msg.sender, true);
    }

    /// @inheritdoc IConsortium
    function withdrawApproval(uint256 proposal) external {
        mapping(address => uint64) storage approvals = _approvalsOf(proposal);
        require(approvals[msg.sender] != 0, ApprovalMissing(proposal, msg.sender));

        delete approvals[msg.sender];

        emit Approved(proposal, msg.sender, false);
    }

    // ---------------------------------------------------------------- a supervisor's service account

    /// @inheritdoc IConsortium
    // Versions count up by one and nobody can shift them, so both functions mean exactly this one.
    // slither-disable-start incorrect-equality
    function auditOk(address supervisor, uint8 index, uint32 keyVersion, uint32 period) external {
        uint32 current = _records[index].keyVersion;
        PeriodKey storage key = period == _inForce.version ? _inForce : _announced;
        require(period != 0 && period == key.version && key.holder == supervisor, UnknownPeriodKey(period));
        _checkSender(_slotOf(supervisor));
        _checkMember(index);
        require(keyVersion == current, KeyVersion(keyVersion, current));
        require(_auditedVersion[period][index] != current, NothingChanges());

        _audited[period] = _audited[period].with(index);
        _auditedVersion[period][index] = current;

        _record(Change.MemberAudited, abi.encode(index, current, period));
    }

    /// @inheritdoc IConsortium
    function putPeriodKeyInForce(address supervisor, uint32 version) external {
        PeriodKey memory key = _announced;
        require(version != 0 && key.version == version && key.holder == supervisor, UnknownPeriodKey(version));
        _checkSender(_slotOf(supervisor));
        uint256 wanted = _members & ~_suspended;
        uint256 audited = wanted & _audited[version];
        require(
            audited.count() >= _parameters.minimumCohort
                && (audited == wanted || block.timestamp >= key.announcedAt + PERIOD_KEY_WAIT),
            PeriodKeyNotAccepted(wanted & ~audited, audited)
        );

        _inForce = key;
        delete _announced;

        _record(Change.PeriodKeyInForce, abi.encode(version));
    }
    // slither-disable-end incorrect-equality

    /// @inheritdoc IConsortium
    function suspend(address supervisor, uint8 index) external onlySupervisor(supervisor) {
        _checkMember(index);
        require(!_suspended.has(index), NothingChanges());

        _suspend(index);
    }

    /// @inheritdoc IConsortium
    function endPeriodKey(address supervisor, uint32 version) external onlySupervisor(supervisor) {
        require(version != 0, UnknownPeriodKey(version));
        if (_inForce.version == version) delete _inForce;
        else if (_announced.version == version) delete _announced;
        else revert UnknownPeriodKey(version);

        _record(Change.PeriodKeyEnded, abi.encode(version));
    }

    // ---------------------------------------------------------------- proposals

    /// @inheritdoc IConsortium
    function propose(bytes[] calldata calls, string calldata reason) external returns (uint256 proposal) {
        uint8 index = _ownedBy(msg.sender);
        uint256 members = _members;
        require(
            members.count() >= _parameters.minimumCohort, NotFounded(members.count(), _parameters.minimumCohort)
        );

        bytes32 callsHash = keccak256(abi.encode(calls));
        Proposal storage proposed = _proposals.push();
        proposed.proposer = index;
        proposed.callsHash = callsHash;
        proposed.electorate = members;
        proposed.proposedAt = uint64(block.timestamp);
        proposal = _proposals.length;

        emit Proposed(proposal, index, callsHash, calls, reason);
    }

    /// @inheritdoc IConsortium
    function vote(uint256 proposal, bytes32 callsHash) external {
        uint8 index = _ownedBy(msg.sender);
        Proposal storage proposed = _living(proposal);
        require(callsHash == proposed.callsHash, CallsDiffer(callsHash, proposed.callsHash));
        require(proposed.electorate.has(index), NotInElectorate(index, proposal));
        require(!proposed.votes.has(index), AlreadyVoted(index, proposal));

        proposed.votes = proposed.votes.with(index);
        _voteMoves(proposed);

        emit Voted(proposal, index, true);
    }

    /// @inheritdoc IConsortium
    function withdrawVote(uint256 proposal) external {
        uint8 index = _ownedBy(msg.sender);
        Proposal storage proposed = _living(proposal);
        require(proposed.votes.has(index), NotVoted(index, proposal));

        _voteMoves(proposed);
        proposed.votes = proposed.votes.without(index);

        emit Voted(proposal, index, false);
    }

    /// @inheritdoc IConsortium
    function withdrawProposal(uint256 proposal) external {
        uint8 index = _ownedBy(msg.sender);
        Proposal storage proposed = _living(proposal);
        require(index == proposed.proposer, NotProposer(index, proposed.proposer));

        proposed.withdrawn = true;

        emit Withdrawn(proposal);
    }

    /// @inheritdoc IConsortium
    /// @dev R34: votes are counted over today's members: a removed one counts neither for nor against, a suspended one still
    /// does, because a supervisor that could take votes away could shape a majority.
    function execute(uint256 proposal, bytes[] calldata calls, address supervisor) external {
        Proposal storage proposed = _living(proposal);
        bytes32 callsHash = keccak256(abi.encode(calls));
        uint64 since = _supervisors[supervisor].since;
        require(callsHash == proposed.callsHash, CallsDiffer(callsHash, proposed.callsHash));
        if (supervisor == address(0)) _checkUnapproved(proposed, calls);
        else _checkApproved(proposal, proposed, supervisor, since);

        proposed.executed = true;
        _carryOut(calls);
        // The approval of a supervisor that these calls remove does not count.
        require(_supervisors[supervisor].since == since, ApprovalMissing(proposal, supervisor));

        emit Executed(proposal);
    }

    /// @inheritdoc IConsortium
    function tryOut(bytes[] calldata calls) external {
        _carryOut(calls);
        revert WouldPass();
    }

    /// @inheritdoc IConsortium
    function inviteMember(address owner, string calldata memberName) external onlyByProposal {
        _invite(owner, memberName);
    }

    /// @inheritdoc IConsortium
    function removeMember(uint8 index) external onlyByProposal {
        _checkStands(index);

        _members = _members.without(index);
        _removed = _removed.with(index);
        delete _memberOfOwner[_records[index].owner];
        _accounts[index].account = address(0);
        _switchOff(index);

        _record(Change.MemberRemoved, abi.encode(index));
    }

    /// @inheritdoc IConsortium
    function replaceOwner(uint8 index, address owner) external onlyByProposal {
        _checkStands(index);
        _checkFree(owner);

        delete _memberOfOwner[_records[index].owner];
        _setOwner(index, owner);

        _record(Change.OwnerReplaced, abi.encode(index, owner));
    }

    /// @inheritdoc IConsortium
    function addSupervisor(address supervisor) external onlyByProposal {
        _addSupervisor(supervisor);
    }

    /// @inheritdoc IConsortium
    function removeSupervisor(address supervisor) external onlyByProposal {
        _checkSupervisor(supervisor);

        delete _supervisors[supervisor].since;
        _accounts[_slotOf(supervisor)].account = address(0);
        --_supervisorCount;
        // What is sealed from now on must not open with a key that only a removed supervisor answers for.
        if (_announced.holder == supervisor) {
            _record(Change.PeriodKeyEnded, abi.encode(_announced.version));
            delete _announced;
        }
        if (_inForce.holder == supervisor) {
            _record(Change.PeriodKeyEnded, abi.encode(_inForce.version));
            delete _inForce;
        }

        _record(Change.SupervisorRemoved, abi.encode(supervisor));
    }

    /// @inheritdoc IConsortium
    function setTerms(uint16 named, Parameters calldata values) external onlyByProposal {
        Parameters memory changed = _parameters;
        Parameters memory given = values;
        bool same = true;
        require(named >> FIELDS == 0, BadParameter("named"));
        for (uint256 i = 0; i < FIELDS; ++i) {
            uint256 value;
            uint256 before;
            // Safe: a struct in memory has one word a field.
            assembly ("memory-safe") {
                value := mload(add(given, shl(5, i)))
                before := mload(add(changed, shl(5, i)))
            }
            if ((named >> i) & 1 == 0) {
                require(value == 0, BadParameter("named"));
                continue;
            }
            same = same && value == before;
            assembly ("memory-safe") {
                mstore(add(changed, shl(5, i)), value)
            }
        }
        require(!same, NothingChanges());

        _setParameters(changed);
    }

    /// @inheritdoc IConsortium
    function registerSchema(uint16 schema, bytes calldata definition) external onlyByProposal {
        _registerSchema(schema, definition);
    }

    /// @inheritdoc IConsortium
    function setGroup(uint8 group, uint256 members) external onlyByProposal {
        require(group != 0 && group <= MAXIMUM_GROUPS, UnknownGroup(group));
        require(members >> _invited == 0 && members & _removed == 0, BadParameter("members"));
        require(members != _groups[group], NothingChanges());

        _groups[group] = members;

        _record(Change.GroupSet, abi.encode(group, members));
    }

    /// @inheritdoc IConsortium
    function setTagKey(uint32 version, bytes32 commitment) external onlyByProposal {
        _setTagKey(version, commitment);
    }

    /// @inheritdoc IConsortium
    function approveJointCredit(bytes32 initCodeHash) external onlyByProposal {
        _approveJointCredit(initCodeHash);
    }

    /// @inheritdoc IConsortium
    function createJointCredit(bytes calldata initCode) external returns (address created) {
        bytes32 given = keccak256(initCode);
        address previous = jointCredit;
        require(given == approvedInitCodeHash, InitCodeDiffers(given, approvedInitCodeHash));

        approvedInitCodeHash = 0;
        bytes memory code = initCode;
        // Safe: reads only `code`: its length at `code`, its bytes from `code` + 32.
        assembly ("memory-safe") {
            created := create(0, add(code, 32), mload(code))
        }
        require(created.code.length != 0, CreationFailed());

        isJointCredit[created] = true;
        jointCredit = created;

        _record(Change.JointCreditSet, abi.encode(created));
        emit JointCreditReplaced(previous, created);
    }

    // ---------------------------------------------------------------- JointCredit

    /// @inheritdoc IConsortium
    function openingTerms(uint8 index, address sender, uint8 group, uint16 schema)
        external
        view
        returns (Terms memory terms)
    {
        require(msg.sender == jointCredit, NotCurrentJointCredit(msg.sender, jointCredit));
        require(sender == _accounts[index].account, NotAccount(sender, _accounts[index].account));
        Parameters storage current = _parameters;
        uint256 members = _members;
        terms.ready = _readySet() & _serving() & _groupOf(group, members);
        terms.roster = roster;
        terms.schemaHash = schemaHash[schema];
        terms.minimumCohort = current.minimumCohort;
        terms.minimumModulusBits = current.minimumModulusBits;
        terms.answerSeconds = current.answerSeconds;
        terms.reportSeconds = current.reportSeconds;
        terms.silenceSeconds = current.silenceSeconds;

        uint256 size = terms.ready.count();
        uint256 least = terms.minimumCohort;
        require(block.timestamp >= opensFrom, TooEarly(opensFrom));
        require(members.count() >= least, NotFounded(members.count(), least));
        require(_inForce.version != 0, NoPeriodKey());
        require(terms.schemaHash != 0, UnknownSchema(schema));
        require(size >= least, CohortTooSmall(size, least));
        require(terms.ready.has(index), NotServing(index));
    }

    /// @inheritdoc IConsortium
    function lapse(uint256 silent) external onlyJointCredit returns (uint256 off) {
        off = _readyNext & silent;
        if (off == 0) return 0;

        _setReadyNext(_readyNext & ~silent);

        emit ReadinessLapsed(off);
    }

    /// @inheritdoc IConsortium
    function suspendCulprits(uint256 culprits) external onlyJointCredit {
        uint256 left = culprits & _members & ~_suspended;
        for (uint8 index = 0; left >> index != 0; ++index) if (left.has(index)) _suspend(index);
    }

    // ---------------------------------------------------------------- views

    /// @inheritdoc IConsortium
    function accountOf(uint8 index) external view returns (address account, uint32 since) {
        Account storage named = _accounts[index];
        return (named.account, named.since);
    }

    /// @inheritdoc IConsortium
    function supervisorAccount(address supervisor) external view returns (address account) {
        return _accounts[_slotOf(supervisor)].account;
    }

    /// @inheritdoc IConsortium
    function isSupervisor(address owner) public view returns (bool) {
        return _supervisors[owner].since != 0;
    }

    /// @inheritdoc IConsortium
    function member(uint8 index) external view returns (Member memory shown) {
        require(index < _invited, UnknownMember(index));

        Record storage record = _records[index];
        Account storage named = _accounts[index];
        shown.owner = record.owner;
        shown.account = named.account;
        shown.since = named.since;
        shown.namings = named.namings;
        shown.name = record.name;
        shown.key = record.key;
        shown.keyVersion = record.keyVersion;
        if (_audited[_inForce.version].has(index)) shown.auditedVersion = _auditedVersion[_inForce.version][index];
        shown.ready = _readySet().has(index);
        shown.confirmed = record.key != 0;
        shown.suspended = _suspended.has(index);
        shown.removed = _removed.has(index);
    }

    /// @inheritdoc IConsortium
    function memberCount() external view returns (uint8 invited) {
        return _invited;
    }

    /// @inheritdoc IConsortium
    function memberSets() external view returns (uint256 members, uint256 serving, uint256 ready) {
        members = _members;
        serving = _serving();
        ready = serving & _readySet();
    }

    /// @inheritdoc IConsortium
    function cohortOf(uint8 group) external view returns (uint256 cohort) {
        return _readySet() & _serving() & _groupOf(group, _members);
    }

    /// @inheritdoc IConsortium
    function groupMembers(uint8 group) external view returns (uint256 members) {
        return _groupOf(group, _members);
    }

    /// @inheritdoc IConsortium
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IConsortium
    function periodKeys() external view returns (PeriodKey memory inForce, PeriodKey memory announced) {
        return (_inForce, _announced);
    }

    /// @inheritdoc IConsortium
    function proposalAt(uint256 proposal) external view returns (Proposal memory) {
        return _proposalAt(proposal);
    }

    /// @inheritdoc IConsortium
    function approvedAt(uint256 proposal, address supervisor) external view returns (uint64) {
        return _approvalsOf(proposal)[supervisor];
    }

    /// @inheritdoc IConsortium
    function keyStatement(uint8 index, uint32 version, bytes32 key, bytes32 previousKey)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(KEY_LABEL, block.chainid, address(this), index, version, key, previousKey));
    }

    /// @inheritdoc IConsortium
    function accountStatement(uint8 party, address owner, address account, uint16 number, bytes32 tenure)
        public
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(ACCOUNT_LABEL, block.chainid, address(this), party, owner, account, number, tenure)
        );
    }

    // ---------------------------------------------------------------- parties, inside

    function _invite(address owner, string memory memberName) internal {
        uint8 index = _invited;
        require(index < MAXIMUM_MEMBERS, TooManyMembers());
        require(bytes(memberName).length != 0 && bytes(memberName).length <= LONGEST_NAME, BadParameter("name"));
        _checkFree(owner);

        _invited = index + 1;
        _setOwner(index, owner);
        _records[index].name = memberName;

        _record(Change.MemberInvited, abi.encode(index, owner, memberName));
    }

    function _setOwner(uint8 index, address owner) internal {
        _records[index].owner = owner;
        _memberOfOwner[owner] = index + 1;
    }

    /// Name the sender's service account; `own` is where its slot stands.
    function _nameAccount(uint8 party, uint256 own, address account, bytes32 tenure, bytes calldata signature) internal {
        Account memory named = _accounts[own];
        require(account != address(0), ZeroAccount());
        require(party == SUPERVISOR ? tenure == 0 : tenure != 0, ZeroTenure());
        bool begins = party != SUPERVISOR && tenure != _tenure[party];
        require(begins || account != named.account, NothingChanges());
        _checkPause(named.namedAt);
        _checkSignature(accountStatement(party, msg.sender, account, ++named.namings, tenure), signature);

        if (begins) {
            require(!_tenureUsed[party][tenure], TenureUsed(tenure));
            _tenureUsed[party][tenure] = true;
            _tenure[party] = tenure;
            named.since = uint32(block.timestamp);
        }
        named.account = account;
        named.namedAt = uint32(block.timestamp);
        _accounts[own] = named;

        _record(Change.AccountNamed, abi.encode(party, msg.sender, account, named.namings, tenure, signature));
    }

    function _setKey(uint8 index, bytes32 key, bool compromised, bytes calldata signature) internal {
        Record storage record = _records[index];
        uint32 version = record.keyVersion + 1;
        _useKey(key, keyStatement(index, version, key, record.key), signature);

        record.key = key;
        record.keyVersion = version;

        _record(Change.KeySet, abi.encode(index, version, key, compromised, signature));
    }

    /// Check a new key and its signature by the sender, and keep it from ever being registered again.
    function _useKey(bytes32 key, bytes32 statement, bytes calldata signature) internal {
        require(key.isAcceptable(), BadKey());
        require(!_keyUsed[key], KeyInUse(key));
        _checkSignature(statement, signature);

        _keyUsed[key] = true;
    }

    /// Change readiness from the next period on.
    function _setReadyNext(uint256 members) internal {
        uint40 period = uint40(block.timestamp / periodSeconds);
        // What was for the next period holds in this one, if that has come.
        if (period > _ready.period) _ready = Readiness(uint216(_readyNext), period);
        _readyNext = members;
    }

    /// Not ready any more, at once.
    function _switchOff(uint8 index) internal {
        _ready.members = uint216(uint256(_ready.members).without(index));
        _readyNext = _readyNext.without(index);
    }

    function _suspend(uint8 index) internal {
        _suspended = _suspended.with(index);

        _record(Change.MemberSuspended, abi.encode(index));
    }

    // ---------------------------------------------------------------- changes, inside

    /// A vote of a present member has come, or goes now. If no more are there than needed, too few are there without it. Then
    /// approvals are void and the delay without approval begins anew, so that no delay passes while votes are missing (R34.1).
    function _voteMoves(Proposal storage proposed) internal {
        uint256 members = _members.count();
        uint256 votes = _votes(proposed);
        if (votes <= _twoThirds(members)) ++proposed.round;
        if (votes <= _fiveSixths(members)) proposed.unapprovedSince = uint64(block.timestamp);
    }

    function _addSupervisor(address supervisor) internal {
        _checkFree(supervisor);

        _supervisors[supervisor].since = uint64(block.timestamp);
        ++_supervisorCount;

        _record(Change.SupervisorAdded, abi.encode(supervisor));
    }

    function _setParameters(Parameters memory changed) internal {
        require(
            changed.minimumCohort >= LEAST_COHORT && changed.minimumCohort <= MAXIMUM_MEMBERS,
            BadParameter("minimumCohort")
        );
        require(
            changed.minimumModulusBits >= 2048 && changed.minimumModulusBits <= 4096
                && changed.minimumModulusBits % 256 == 0,
            BadParameter("minimumModulusBits")
        );
        require(_isTerm(changed.answerSeconds, SHORTEST_TERM), BadParameter("answerSeconds"));
        require(_isTerm(changed.reportSeconds, SHORTEST_TERM), BadParameter("reportSeconds"));
        require(_isTerm(changed.delaySeconds, MINIMUM_DELAY), BadParameter("delaySeconds"));
        require(
            changed.silenceSeconds != 0 && changed.silenceSeconds <= changed.answerSeconds, BadParameter("silenceSeconds")
        );
        require(
            changed.repeatSeconds >= changed.answerSeconds && changed.repeatSeconds <= changed.cooldownSeconds,
            BadParameter("repeatSeconds")
        );
        require(changed.subjectsPerDay != 0, BadParameter("subjectsPerDay"));
        require(changed.bookAgeSeconds != 0, BadParameter("bookAgeSeconds"));

        _parameters = changed;

        _record(Change.TermsChanged, abi.encode(changed));
        emit TermsSet(changed);
    }

    function _registerSchema(uint16 schema, bytes memory definition) internal {
        require(definition.length != 0, BadParameter("definition"));
        require(schemaHash[schema] == 0, SchemaExists(schema));

        bytes32 definitionHash = keccak256(definition);
        schemaHash[schema] = definitionHash;

        _record(Change.SchemaSet, abi.encode(schema, definitionHash));
        emit SchemaRegistered(schema, definition);
    }

    function _setTagKey(uint32 version, bytes32 commitment) internal {
        uint32 next = _tagKeyVersion + 1;
        require(commitment != 0, BadParameter("tagKeyCommitment"));
        // Of two proposals for one version, the second must not put its key in force as a version that nobody made it for.
        require(version == next, KeyVersion(version, next));

        _tagKeyVersion = next;

        _record(Change.TagKeySet, abi.encode(next, commitment));
    }

    function _approveJointCredit(bytes32 initCodeHash) internal {
        require(initCodeHash != 0, BadParameter("jointCreditInitCodeHash"));
        require(initCodeHash != approvedInitCodeHash, NothingChanges());

        approvedInitCodeHash = initCodeHash;

        _record(Change.JointCreditApproved, abi.encode(initCodeHash));
    }

    /// Run the calls of a proposal, and check what must hold after them.
    function _carryOut(bytes[] calldata calls) internal {
        for (uint256 i = 0; i < calls.length; ++i) {
            // The only code that runs here is this contract's own: what a proposal may call is behind onlyByProposal, and
            // what belongs to people knows this contract as nobody. Hence no reentrancy, and calls in a loop are the point.
            // slither-disable-next-line low-level-calls,calls-loop,reentrancy-events
            (bool done, bytes memory reason) = address(this).call(calls[i]);
            require(done, CallFailed(i, reason));
        }
        _checkStanding();
    }

    /// Add a link to the hash chain over everything that happened to the roster.
    function _record(Change kind, bytes memory data) internal {
        bytes32 next = keccak256(abi.encode(roster, kind, data));

        roster = next;

        emit RosterChanged(next, kind, data);
    }

    // ---------------------------------------------------------------- checks, inside

    /// The member was invited and has not been removed.
    function _checkStands(uint8 index) internal view {
        require(index < _invited && !_removed.has(index), UnknownMember(index));
    }

    /// The account owns no party yet.
    function _checkFree(address owner) internal view {
        require(owner != address(0), ZeroAccount());
        require(
            owner != address(this) && !isSupervisor(owner) && _memberOfOwner[owner] == 0, AccountInUse(owner)
        );
    }

    /// The sender is the party's service account, starts the transaction itself, and has no code: an account that EIP-7702
    /// delegated could send a payload that the signature of its transaction does not cover.
    function _checkSender(uint256 party) internal view {
        address account = _accounts[party].account;
        require(msg.sender == account, NotAccount(msg.sender, account));
        // slither-disable-next-line tx-origin
        require(msg.sender == tx.origin && msg.sender.code.length == 0, NotPlainAccount(msg.sender));
    }

    function _checkOwner(uint8 index) internal view {
        _checkStands(index);
        require(_records[index].owner == msg.sender, NotOwner(msg.sender, index));
    }

    function _checkSupervisor(address owner) internal view {
        require(isSupervisor(owner), NotSupervisor(owner));
    }

    function _checkMember(uint8 index) internal view {
        require(_members.has(index), UnknownMember(index));
    }

    function _checkByProposal() internal view {
        require(msg.sender == address(this), OnlyByProposal());
    }

    function _checkSignature(bytes32 statement, bytes calldata signature) internal view {
        address signer = statement.signerOf(signature);
        require(signer == msg.sender, BadSignature(signer, msg.sender));
    }

    /// A day has passed since `last`; the first time, with zero, it always has.
    function _checkPause(uint256 last) internal view {
        require(block.timestamp >= last + PAUSE, TooEarly(last + PAUSE));
    }

    /// The supervisor's approval stands and is old enough, and two thirds of the members agree.
    function _checkApproved(uint256 proposal, Proposal storage proposed, address supervisor, uint64 since)
        internal
        view
    {
        require(since != 0, NotSupervisor(supervisor));
        uint64 approved = _approvalsOf(proposal)[supervisor];
        require(approved >= since, ApprovalMissing(proposal, supervisor));
        uint256 permittedAt = uint256(approved) + _parameters.delaySeconds;
        require(block.timestamp >= permittedAt, TooEarly(permittedAt));
        _checkVotes(proposed, _twoThirds(_members.count()));
    }

    /// Only supervisors change, and five sixths of the members, or all but one, have agreed for long enough (R35).
    function _checkUnapproved(Proposal storage proposed, bytes[] calldata calls) internal view {
        for (uint256 i = 0; i < calls.length; ++i) {
            bytes4 selector = calls[i].length < 4 ? bytes4(0) : bytes4(calls[i][0:4]);
            require(
                selector == this.addSupervisor.selector || selector == this.removeSupervisor.selector,
                OnlySupervisorChanges()
            );
        }
        _checkVotes(proposed, _fiveSixths(_members.count()));
        uint256 permittedAt = uint256(proposed.unapprovedSince) + UNAPPROVED_DELAY;
        require(block.timestamp >= permittedAt, TooEarly(permittedAt));
    }

    function _checkVotes(Proposal storage proposed, uint256 needed) internal view {
        uint256 votes = _votes(proposed);
        require(votes >= needed, VotesMissing(votes, needed));
    }

    /// What must hold after every proposal.
    function _checkStanding() internal view {
        uint256 members = _members;
        uint256 least = _parameters.minimumCohort;
        require(_supervisorCount != 0, LastSupervisor());
        require(members.count() >= least, CohortTooSmall(members.count(), least));
        _checkGroups(members, least);
    }

    /// Each group is large enough; any two, and each and the whole, are equal or far enough apart.
    function _checkGroups(uint256 members, uint256 least) internal view {
        uint256[] memory sets = new uint256[](MAXIMUM_GROUPS + 1);
        sets[0] = members;
        for (uint8 second = 1; second <= MAXIMUM_GROUPS; ++second) {
            if (_groups[second] == 0) continue;
            uint256 set = _groups[second] & members;
            require(set.count() >= least, CohortTooSmall(set.count(), least));
            sets[second] = set;
            for (uint8 first = 0; first < second; ++first) {
                if (sets[first] == 0) continue;
                uint256 difference = (sets[first] ^ set).count();
                require(difference == 0 || difference >= least, GroupsTooClose(first, second, difference));
            }
        }
    }

    // ---------------------------------------------------------------- look-ups, inside

    /// Where the account of a party of the sender stands.
    function _ownParty(uint8 party) internal view returns (uint256) {
        if (party == SUPERVISOR) {
            _checkSupervisor(msg.sender);
            return _slotOf(msg.sender);
        }
        _checkOwner(party);
        _checkMember(party);
        return party;
    }

    /// The confirmed member that an account owns.
    function _ownedBy(address owner) internal view returns (uint8 index) {
        uint8 successor = _memberOfOwner[owner];
        require(successor != 0, NotMember(owner));
        index = successor - 1;
        _checkMember(index);
    }

    function _proposalAt(uint256 proposal) internal view returns (Proposal storage) {
        require(proposal != 0 && proposal <= _proposals.length, UnknownProposal(proposal));

        return _proposals[proposal - 1];
    }

    /// By supervisor, those that are not void.
    function _approvalsOf(uint256 proposal) internal view returns (mapping(address => uint64) storage) {
        return _approvals[proposal][_proposalAt(proposal).round];
    }

    /// A proposal that was not executed or withdrawn and has not expired.
    function _living(uint256 proposal) internal view returns (Proposal storage proposed) {
        proposed = _proposalAt(proposal);
        require(!proposed.executed, AlreadyExecuted(proposal));
        require(!proposed.withdrawn, ProposalWithdrawn(proposal));
        require(block.timestamp <= uint256(proposed.proposedAt) + PROPOSAL_LIFE, ProposalExpired(proposal));
    }

    /// Members of the roster that are audited for the key in force and not suspended.
    function _serving() internal view returns (uint256) {
        return _members & _audited[_inForce.version] & ~_suspended;
    }

    /// Those that are ready in this period, whether they serve or not.
    function _readySet() internal view returns (uint256) {
        return block.timestamp / periodSeconds > _ready.period ? _readyNext : _ready.members;
    }

    /// Where the account of a supervisor stands: above every member index, whatever the owner account is.
    function _slotOf(address owner) internal pure returns (uint256) {
        return (1 << 160) | uint160(owner);
    }

    /// Votes that count: only members of the electorate can vote, and those that were removed since are left out.
    function _votes(Proposal storage proposed) internal view returns (uint256) {
        return (proposed.votes & _members).count();
    }

    function _twoThirds(uint256 members) internal pure returns (uint256) {
        return (members * 2 + 2) / 3;
    }

    /// Five sixths, or all but one where that is fewer.
    function _fiveSixths(uint256 members) internal pure returns (uint256) {
        uint256 sixths = (members * 5 + 5) / 6;
        return sixths < members ? sixths : members - 1;
    }

    function _groupOf(uint8 group, uint256 members) internal view returns (uint256 set) {
        set = group == 0 ? members : _groups[group] & members;
        require(group == 0 || set != 0, UnknownGroup(group));
    }

    function _isTerm(uint256 term, uint256 shortest) internal pure returns (bool) {
        return term >= shortest && term <= LONGEST_TERM;
    }
}
// slither-disable-end events-maths,costly-loop
