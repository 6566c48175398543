// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IConsortium} from "./interfaces/IConsortium.sol";
import {Bitmap} from "./libraries/Bitmap.sol";
import {InstitutionKey} from "./libraries/InstitutionKey.sol";

/// @title The consortium: who belongs to it, under which keys and rules
/// @notice See `IConsortium` for what each function does and for whom.
/// @dev Invariants after every transaction once founded: at least `minimumCohort` members and one supervisor; any two
/// groups, and each group and the whole, are equal or differ by at least `minimumCohort` members; an account plays one part.
// Every change emits its event in _record, or at its end, which slither's events-maths does not follow into; loops that
// write (costly-loop) are over the founders, once, over at most 8 operators, or over the culprits of one inquiry.
// slither-disable-start events-maths,costly-loop
contract Consortium is IConsortium {
    using Bitmap for uint256;
    using InstitutionKey for bytes32;

    /// What the ledger keeps of a member beside the bitmaps. Owner and the two versions share a slot.
    struct Record {
        address owner;
        uint32 keyVersion;
        uint32 auditedVersion;
        bytes32 key;
        string name;
        address[] operators;
    }

    // ---------------------------------------------------------------- limits

    /// @notice Most members that are ever invited: the bitmaps of `JointCredit` share their word with deadline and stage.
    uint256 public constant MAXIMUM_MEMBERS = 216;
    /// @notice Highest number of a group; 0 stands for all members.
    uint256 public constant MAXIMUM_GROUPS = 16;
    /// @notice Most accounts that act for one member, so that removing it fits into a transaction.
    uint256 public constant MAXIMUM_OPERATORS = 8;
    /// @notice Below three, a cohort leaves nobody to hide among.
    uint256 public constant LEAST_COHORT = 3;
    /// @notice Least time between a supervisor's approval and the execution, so that members see what comes.
    uint256 public constant MINIMUM_DELAY = 1 hours;
    /// @notice Longest time that any parameter in seconds about answers, reports and delays may name.
    uint256 public constant LONGEST_TERM = 30 days;
    /// @notice How far ahead a member may declare itself ready.
    uint256 public constant LONGEST_READINESS = 7 days;
    /// @notice How long a proposal lives.
    uint256 public constant PROPOSAL_LIFE = 60 days;
    /// @notice How long a change of supervisors waits that no supervisor approves.
    uint256 public constant UNAPPROVED_DELAY = 30 days;

    /// @notice Most bytes of a sealed message.
    uint256 public constant MAXIMUM_NOTICE = 4_096;

    /// Members whose readiness shares one word, 32 bits each.
    uint256 private constant LANES = 8;
    uint256 private constant WORDS = MAXIMUM_MEMBERS / LANES;
    uint256 private constant LANE_BITS = 32;
    uint256 private constant LANE_MASK = type(uint32).max;
    uint256 private constant LONGEST_NAME = 64;
    uint256 private constant SHORTEST_TERM = 60;
    /// Stands for a supervisor in `keyStatement`, and for "no member" when an account is checked.
    uint8 private constant NOBODY = 255;
    bytes32 private constant ROSTER_LABEL = "mpcredit/roster/2";
    bytes32 private constant KEY_LABEL = "mpcredit/key/2";

    // ---------------------------------------------------------------- storage

    /// @inheritdoc IConsortium
    string public name;
    /// @inheritdoc IConsortium
    bytes32 public roster;

    /// One slot.
    Parameters private _parameters;

    /// Invited so far; the next index.
    uint8 private _invited;
    /// Confirmed and not removed.
    uint256 private _members;
    uint256 private _removed;
    /// The current key passed the mask audit.
    uint256 private _audited;
    uint256 private _suspended;
    uint256[WORDS] private _readiness;
    mapping(uint8 index => Record) private _records;
    /// Index + 1, so that zero means none.
    mapping(address account => uint8) private _memberOfOwner;
    mapping(address account => uint8) private _memberOfOperator;
    /// Every key that was ever registered, by a member or a supervisor.
    mapping(bytes32 key => bool) private _keyUsed;

    /// When the account was added; zero for all others.
    mapping(address account => uint64) private _supervisorSince;
    uint256 private _supervisorCount;
    /// The key that was registered last. It serves while its holder is set, which ends when the holder is removed.
    bytes32 private _supervisorKey;
    address private _supervisorKeyHolder;
    uint32 private _supervisorKeyVersion;
    uint32 private _tagKeyVersion;

    /// @inheritdoc IConsortium
    mapping(uint16 schema => bytes32) public schemaHash;
    /// As set; members that were removed or have not confirmed yet count only in `groupMembers`'s intersection.
    mapping(uint8 group => uint256) private _groups;

    Proposal[] private _proposals;
    mapping(uint256 proposal => mapping(address supervisor => uint64)) private _approvals;

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
        require(founding.founders.length >= founding.parameters.minimumCohort, BadParameter("founders"));

        name = founding.name;
        roster = keccak256(abi.encode(ROSTER_LABEL, block.chainid, address(this)));
        _setParameters(founding.parameters);
        for (uint256 i = 0; i < founding.supervisors.length; ++i) _addSupervisor(founding.supervisors[i]);
        for (uint256 i = 0; i < founding.founders.length; ++i)
            _invite(founding.founders[i].owner, founding.founders[i].operator, founding.founders[i].name);
        for (uint256 i = 0; i < founding.schemas.length; ++i)
            _registerSchema(founding.schemas[i].id, founding.schemas[i].definition);
        _setTagKey(founding.tagKeyCommitment);
        _approveJointCredit(founding.jointCreditInitCodeHash);
    }

    // ---------------------------------------------------------------- modifiers

    modifier onlyOwnerOf(uint8 index) {
        _checkStands(index);
        require(_records[index].owner == msg.sender, NotOwner(msg.sender, index));
        _;
    }

    modifier onlySupervisor() {
        require(isSupervisor(msg.sender), NotSupervisor(msg.sender));
        _;
    }

    modifier onlyParty() {
        if (!isSupervisor(msg.sender)) _confirmedMemberOf(msg.sender);
        _;
    }

    modifier onlyByProposal() {
        require(msg.sender == address(this), OnlyByProposal());
        _;
    }

    modifier onlyJointCredit() {
        require(isJointCredit[msg.sender], NotJointCredit(msg.sender));
        _;
    }

    // ---------------------------------------------------------------- a member's own

    /// @inheritdoc IConsortium
    function confirm(uint8 index, bytes32 key, bytes calldata signature) external onlyOwnerOf(index) {
        require(!_members.has(index), AlreadyConfirmed(index));

        _members = _members.with(index);
        _record(Change.MemberConfirmed, abi.encode(index));
        _setKey(index, key, signature);
        // A member more can bring a group and the whole too close together; a proposal then puts it into the group first.
        _checkGroups(_members, _parameters.minimumCohort);
    }

    /// @inheritdoc IConsortium
    function rotateKey(uint8 index, bytes32 key, bytes calldata signature) external onlyOwnerOf(index) {
        require(_members.has(index), UnknownMember(index));

        _audited = _audited.without(index);
        _setKey(index, key, signature);
    }

    /// @inheritdoc IConsortium
    function setOperator(uint8 index, address operator, bool allowed) external onlyOwnerOf(index) {
        if (allowed) _allowOperator(index, operator);
        else _forbidOperator(index, operator);

        _record(Change.OperatorSet, abi.encode(index, operator, allowed));
    }

    /// @inheritdoc IConsortium
    function declareReady(uint32 until) external {
        uint8 index = _confirmedMemberOf(msg.sender);
        uint256 latest = block.timestamp + LONGEST_READINESS;
        require(until <= latest, ReadyTooLong(until, latest));

        uint256 shift = (index % LANES) * LANE_BITS;
        uint256 others = _readiness[index / LANES] & ~(LANE_MASK << shift);
        _readiness[index / LANES] = others | (uint256(until) << shift);

        emit ReadinessDeclared(index, until);
    }

    /// @inheritdoc IConsortium
    function sealMaskKeys(bytes calldata sealedKeys) external {
        uint8 index = _confirmedMemberOf(msg.sender);
        require(_supervisorKeyHolder != address(0), NoSupervisorKey());

        emit MaskKeysSealed(index, _records[index].keyVersion, _supervisorKeyVersion, sealedKeys);
    }

    // ---------------------------------------------------------------- members and supervisors

    /// @inheritdoc IConsortium
    function anchor(bytes32 head) external onlyParty {
        emit Anchored(msg.sender, head);
    }

    /// @inheritdoc IConsortium
    function notify(bytes calldata message) external onlyParty {
        require(
            message.length != 0 && message.length <= MAXIMUM_NOTICE, NoticeLength(message.length, MAXIMUM_NOTICE)
        );

        emit Noticed(msg.sender, message);
    }

    // ---------------------------------------------------------------- supervisor

    /// @inheritdoc IConsortium
    function rotateSupervisorKey(bytes32 key, bytes calldata signature) external onlySupervisor {
        uint32 version = _supervisorKeyVersion + 1;
        _useKey(key, keyStatement(NOBODY, version, key, _supervisorKey), signature);

        _supervisorKey = key;
        _supervisorKeyHolder = msg.sender;
        _supervisorKeyVersion = version;

        _record(Change.SupervisorKeySet, abi.encode(version, key, msg.sender, signature));
    }

    /// @inheritdoc IConsortium
    function auditOk(uint8 index, uint32 keyVersion) external onlySupervisor {
        Record storage record = _records[index];
        require(_members.has(index), UnknownMember(index));
        require(keyVersion == record.keyVersion, KeyVersion(keyVersion, record.keyVersion));
        if (_audited.has(index)) return;

        _audited = _audited.with(index);
        record.auditedVersion = keyVersion;

        _record(Change.MemberAudited, abi.encode(index, keyVersion));
    }

    /// @inheritdoc IConsortium
    function suspend(uint8 index) external onlySupervisor {
        require(_members.has(index), UnknownMember(index));

        _suspend(index);
    }

    /// @inheritdoc IConsortium
    function reinstate(uint8 index) external onlySupervisor {
        require(_members.has(index), UnknownMember(index));
        if (!_suspended.has(index)) return;

        _suspended = _suspended.without(index);

        _record(Change.MemberReinstated, abi.encode(index));
    }

    /// @inheritdoc IConsortium
    function approve(uint256 proposal, bytes32 callsHash) external onlySupervisor {
        Proposal storage proposed = _living(proposal);
        require(callsHash == proposed.callsHash, CallsDiffer(callsHash, proposed.callsHash));
        // An approval given again does not start the delay again; one from before a removal does not count any more.
        if (_approvals[proposal][msg.sender] >= _supervisorSince[msg.sender]) return;

        _approvals[proposal][msg.sender] = uint64(block.timestamp);

        emit Approved(proposal, msg.sender, true);
    }

    /// @inheritdoc IConsortium
    function withdrawApproval(uint256 proposal) external {
        require(_approvals[proposal][msg.sender] != 0, ApprovalMissing(proposal, msg.sender));

        delete _approvals[proposal][msg.sender];

        emit Approved(proposal, msg.sender, false);
    }

    // ---------------------------------------------------------------- proposals

    /// @inheritdoc IConsortium
    function propose(bytes[] calldata calls, string calldata reason) external returns (uint256 proposal) {
        _ownedBy(msg.sender);
        uint256 members = _members;
        require(
            members.count() >= _parameters.minimumCohort, NotFounded(members.count(), _parameters.minimumCohort)
        );

        bytes32 callsHash = keccak256(abi.encode(calls));
        Proposal storage proposed = _proposals.push();
        proposed.proposer = msg.sender;
        proposed.callsHash = callsHash;
        proposed.electorate = members;
        proposed.proposedAt = uint64(block.timestamp);
        proposal = _proposals.length;

        emit Proposed(proposal, msg.sender, callsHash, calls, reason);
    }

    /// @inheritdoc IConsortium
    function vote(uint256 proposal, bytes32 callsHash) external {
        uint8 index = _ownedBy(msg.sender);
        Proposal storage proposed = _living(proposal);
        require(callsHash == proposed.callsHash, CallsDiffer(callsHash, proposed.callsHash));
        require(proposed.electorate.has(index), NotInElectorate(index, proposal));
        require(!proposed.votes.has(index), AlreadyVoted(index, proposal));

        proposed.votes = proposed.votes.with(index);

        emit Voted(proposal, index, true);
    }

    /// @inheritdoc IConsortium
    function withdrawVote(uint256 proposal) external {
        uint8 index = _ownedBy(msg.sender);
        Proposal storage proposed = _living(proposal);
        require(proposed.votes.has(index), NotVoted(index, proposal));

        proposed.votes = proposed.votes.without(index);

        emit Voted(proposal, index, false);
    }

    /// @inheritdoc IConsortium
    /// @dev R34: votes are counted over today's members: a removed one counts neither for nor against, a suspended one still
    /// does, because a supervisor that could take votes away could shape a majority.
    function execute(uint256 proposal, bytes[] calldata calls, address supervisor) external {
        Proposal storage proposed = _living(proposal);
        bytes32 callsHash = keccak256(abi.encode(calls));
        uint64 since = _supervisorSince[supervisor];
        require(callsHash == proposed.callsHash, CallsDiffer(callsHash, proposed.callsHash));
        if (supervisor == address(0)) _checkUnapproved(proposed, calls);
        else _checkApproved(proposal, proposed, supervisor, since);

        proposed.executed = true;
        for (uint256 i = 0; i < calls.length; ++i) {
            // The only code that runs here is this contract's own: what a proposal may call is behind onlyByProposal, and
            // what belongs to people knows this contract as nobody. Hence no reentrancy, and calls in a loop are the point.
            // slither-disable-next-line low-level-calls,calls-loop,reentrancy-events
            (bool done, bytes memory reason) = address(this).call(calls[i]);
            require(done, CallFailed(i, reason));
        }

        // The approval of a supervisor that these calls remove does not count.
        require(_supervisorSince[supervisor] == since, ApprovalMissing(proposal, supervisor));
        _checkStanding();

        emit Executed(proposal);
    }

    /// @inheritdoc IConsortium
    function inviteMember(address owner, address operator, string calldata memberName) external onlyByProposal {
        _invite(owner, operator, memberName);
    }

    /// @inheritdoc IConsortium
    function removeMember(uint8 index) external onlyByProposal {
        _checkStands(index);

        Record storage record = _records[index];
        _members = _members.without(index);
        _removed = _removed.with(index);
        delete _memberOfOwner[record.owner];
        for (uint256 i = 0; i < record.operators.length; ++i) delete _memberOfOperator[record.operators[i]];
        delete record.operators;

        _record(Change.MemberRemoved, abi.encode(index));
    }

    /// @inheritdoc IConsortium
    function replaceOwner(uint8 index, address owner) external onlyByProposal {
        _checkStands(index);
        _checkFree(owner, index);

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
        require(isSupervisor(supervisor), NotSupervisor(supervisor));

        delete _supervisorSince[supervisor];
        --_supervisorCount;
        // What is sealed from now on must not open with a key that only a removed supervisor answers for.
        if (_supervisorKeyHolder == supervisor) _supervisorKeyHolder = address(0);

        _record(Change.SupervisorRemoved, abi.encode(supervisor));
    }

    /// @inheritdoc IConsortium
    function setParameters(Parameters calldata changed) external onlyByProposal {
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

        _groups[group] = members;

        _record(Change.GroupSet, abi.encode(group, members));
    }

    /// @inheritdoc IConsortium
    function setTagKey(bytes32 commitment) external onlyByProposal {
        _setTagKey(commitment);
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
    function openingTerms(address operator, uint8 group, uint16 schema) external view returns (Terms memory terms) {
        require(msg.sender == jointCredit, NotCurrentJointCredit(msg.sender, jointCredit));
        Parameters memory current = _parameters;
        uint256 members = _members;
        terms.member = memberOf(operator);
        terms.cohort = _readyOf(_serving(members) & _groupOf(group, members));
        terms.roster = roster;
        terms.schemaHash = schemaHash[schema];
        terms.minimumModulusBits = current.minimumModulusBits;
        terms.answerSeconds = current.answerSeconds;
        terms.reportSeconds = current.reportSeconds;

        uint256 size = terms.cohort.count();
        uint256 least = current.minimumCohort;
        require(members.count() >= least, NotFounded(members.count(), least));
        require(_supervisorKeyHolder != address(0), NoSupervisorKey());
        require(terms.schemaHash != 0, UnknownSchema(schema));
        require(size >= least, CohortTooSmall(size, least));
        require(terms.cohort.has(terms.member), NotServing(terms.member));
    }

    /// @inheritdoc IConsortium
    function lapse(uint256 silent) external onlyJointCredit {
        for (uint256 word = 0; word < WORDS; ++word) {
            uint256 lanes = (silent >> (word * LANES)) & 0xff;
            uint256 kept = type(uint256).max;
            for (uint256 lane = 0; lanes >> lane != 0; ++lane)
                if ((lanes >> lane) & 1 != 0) kept &= ~(LANE_MASK << (lane * LANE_BITS));
            if (lanes != 0) _readiness[word] &= kept;
        }

        emit ReadinessLapsed(silent);
    }

    /// @inheritdoc IConsortium
    function suspendCulprits(uint256 culprits) external onlyJointCredit {
        uint256 left = culprits & _members;
        for (uint8 index = 0; left >> index != 0; ++index) if (left.has(index)) _suspend(index);
    }

    // ---------------------------------------------------------------- views

    /// @inheritdoc IConsortium
    function memberOf(address operator) public view returns (uint8) {
        uint8 successor = _memberOfOperator[operator];
        require(successor != 0, NotMember(operator));

        return successor - 1;
    }

    /// @inheritdoc IConsortium
    function isSupervisor(address account) public view returns (bool) {
        return _supervisorSince[account] != 0;
    }

    /// @inheritdoc IConsortium
    function member(uint8 index) external view returns (Member memory shown) {
        require(index < _invited, UnknownMember(index));

        Record storage record = _records[index];
        shown.owner = record.owner;
        shown.name = record.name;
        shown.key = record.key;
        shown.keyVersion = record.keyVersion;
        shown.auditedVersion = record.auditedVersion;
        shown.readyUntil = uint32(_readiness[index / LANES] >> ((index % LANES) * LANE_BITS));
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
        serving = _serving(members);
        ready = _readyOf(serving);
    }

    /// @inheritdoc IConsortium
    function cohortOf(uint8 group) external view returns (uint256 cohort) {
        uint256 members = _members;

        return _readyOf(_serving(members) & _groupOf(group, members));
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
    function supervisorKey() external view returns (bytes32 key, uint32 version) {
        return (_supervisorKeyHolder == address(0) ? bytes32(0) : _supervisorKey, _supervisorKeyVersion);
    }

    /// @inheritdoc IConsortium
    function proposalAt(uint256 proposal) external view returns (Proposal memory) {
        return _proposalAt(proposal);
    }

    /// @inheritdoc IConsortium
    function approvedAt(uint256 proposal, address supervisor) external view returns (uint64) {
        return _approvals[proposal][supervisor];
    }

    /// @inheritdoc IConsortium
    function keyStatement(uint8 index, uint32 version, bytes32 key, bytes32 previousKey)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(KEY_LABEL, block.chainid, address(this), index, version, key, previousKey));
    }

    // ---------------------------------------------------------------- members, inside

    function _invite(address owner, address operator, string memory memberName) internal {
        uint8 index = _invited;
        require(index < MAXIMUM_MEMBERS, TooManyMembers());
        require(bytes(memberName).length != 0 && bytes(memberName).length <= LONGEST_NAME, BadParameter("name"));
        _checkFree(owner, index);

        _invited = index + 1;
        _setOwner(index, owner);
        _allowOperator(index, operator);
        _records[index].name = memberName;

        _record(Change.MemberInvited, abi.encode(index, owner, operator, memberName));
    }

    function _setOwner(uint8 index, address owner) internal {
        _records[index].owner = owner;
        _memberOfOwner[owner] = index + 1;
    }

    function _allowOperator(uint8 index, address operator) internal {
        address[] storage operators = _records[index].operators;
        require(operators.length < MAXIMUM_OPERATORS, TooManyOperators(index));
        require(_memberOfOperator[operator] == 0, AccountInUse(operator));
        _checkFree(operator, index);

        operators.push(operator);
        _memberOfOperator[operator] = index + 1;
    }

    function _forbidOperator(uint8 index, address operator) internal {
        require(_memberOfOperator[operator] == index + 1, NotMember(operator));

        address[] storage operators = _records[index].operators;
        uint256 place = 0;
        while (operators[place] != operator) ++place;
        operators[place] = operators[operators.length - 1];
        operators.pop();
        delete _memberOfOperator[operator];
    }

    function _setKey(uint8 index, bytes32 key, bytes calldata signature) internal {
        Record storage record = _records[index];
        uint32 version = record.keyVersion + 1;
        _useKey(key, keyStatement(index, version, key, record.key), signature);

        record.key = key;
        record.keyVersion = version;

        _record(Change.KeySet, abi.encode(index, version, key, signature));
    }

    /// Check a new key and its signature by the sender, and keep it from ever being registered again.
    function _useKey(bytes32 key, bytes32 statement, bytes calldata signature) internal {
        require(key.isAcceptable(), BadKey());
        require(!_keyUsed[key], KeyInUse(key));
        address signer = statement.signerOf(signature);
        require(signer == msg.sender, BadKeySignature(signer, msg.sender));

        _keyUsed[key] = true;
    }

    function _suspend(uint8 index) internal {
        if (_suspended.has(index)) return;

        _suspended = _suspended.with(index);

        _record(Change.MemberSuspended, abi.encode(index));
    }

    // ---------------------------------------------------------------- changes, inside

    function _addSupervisor(address supervisor) internal {
        _checkFree(supervisor, NOBODY);

        _supervisorSince[supervisor] = uint64(block.timestamp);
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
        require(changed.subjectsPerDay != 0, BadParameter("subjectsPerDay"));
        require(changed.bookAgeSeconds != 0, BadParameter("bookAgeSeconds"));

        _parameters = changed;

        _record(Change.TermsSet, abi.encode(changed));
        emit ParametersSet(changed);
    }

    function _registerSchema(uint16 schema, bytes memory definition) internal {
        require(definition.length != 0, BadParameter("definition"));
        require(schemaHash[schema] == 0, SchemaExists(schema));

        bytes32 definitionHash = keccak256(definition);
        schemaHash[schema] = definitionHash;

        _record(Change.SchemaSet, abi.encode(schema, definitionHash));
        emit SchemaRegistered(schema, definition);
    }

    function _setTagKey(bytes32 commitment) internal {
        require(commitment != 0, BadParameter("tagKeyCommitment"));

        uint32 version = ++_tagKeyVersion;

        _record(Change.TagKeySet, abi.encode(version, commitment));
    }

    function _approveJointCredit(bytes32 initCodeHash) internal {
        require(initCodeHash != 0, BadParameter("jointCreditInitCodeHash"));

        approvedInitCodeHash = initCodeHash;

        emit JointCreditApproved(initCodeHash);
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

    /// The account plays no part yet, other than for this one member.
    function _checkFree(address account, uint8 index) internal view {
        require(account != address(0), ZeroAccount());
        uint256 own = uint256(index) + 1;
        uint256 owned = _memberOfOwner[account];
        uint256 operated = _memberOfOperator[account];
        require(
            account != address(this) && !isSupervisor(account) && (owned == 0 || owned == own)
                && (operated == 0 || operated == own),
            AccountInUse(account)
        );
    }

    /// The supervisor's approval stands and is old enough, and two thirds of the members agree.
    function _checkApproved(uint256 proposal, Proposal storage proposed, address supervisor, uint64 since)
        internal
        view
    {
        require(since != 0, NotSupervisor(supervisor));
        uint64 approved = _approvals[proposal][supervisor];
        require(approved >= since, ApprovalMissing(proposal, supervisor));
        uint256 permittedAt = uint256(approved) + _parameters.delaySeconds;
        require(block.timestamp >= permittedAt, TooEarly(permittedAt));
        _checkVotes(proposed, 2, 3);
    }

    /// Only supervisors change, the proposal is old enough, and five sixths of the members agree.
    function _checkUnapproved(Proposal storage proposed, bytes[] calldata calls) internal view {
        for (uint256 i = 0; i < calls.length; ++i) {
            bytes4 selector = calls[i].length < 4 ? bytes4(0) : bytes4(calls[i][0:4]);
            require(
                selector == this.addSupervisor.selector || selector == this.removeSupervisor.selector,
                OnlySupervisorChanges()
            );
        }
        uint256 permittedAt = uint256(proposed.proposedAt) + UNAPPROVED_DELAY;
        require(block.timestamp >= permittedAt, TooEarly(permittedAt));
        _checkVotes(proposed, 5, 6);
    }

    function _checkVotes(Proposal storage proposed, uint256 part, uint256 whole) internal view {
        uint256 members = _members;
        // Only members of the electorate can vote, so the votes need no second look at it.
        uint256 votes = (proposed.votes & members).count();
        uint256 needed = (members.count() * part + whole - 1) / whole;
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

    /// The confirmed member for which an operator account acts.
    function _confirmedMemberOf(address operator) internal view returns (uint8 index) {
        index = memberOf(operator);
        require(_members.has(index), UnknownMember(index));
    }

    /// The confirmed member that an account owns.
    function _ownedBy(address owner) internal view returns (uint8 index) {
        uint8 successor = _memberOfOwner[owner];
        require(successor != 0, NotMember(owner));
        index = successor - 1;
        require(_members.has(index), UnknownMember(index));
    }

    function _proposalAt(uint256 proposal) internal view returns (Proposal storage) {
        require(proposal != 0 && proposal <= _proposals.length, UnknownProposal(proposal));

        return _proposals[proposal - 1];
    }

    /// A proposal that was not executed and has not expired.
    function _living(uint256 proposal) internal view returns (Proposal storage proposed) {
        proposed = _proposalAt(proposal);
        require(!proposed.executed, AlreadyExecuted(proposal));
        require(block.timestamp <= uint256(proposed.proposedAt) + PROPOSAL_LIFE, ProposalExpired(proposal));
    }

    function _serving(uint256 members) internal view returns (uint256) {
        return members & _audited & ~_suspended;
    }

    /// Those of the set that declared themselves ready beyond this moment: one word is read for eight members.
    function _readyOf(uint256 set) internal view returns (uint256 ready) {
        for (uint256 word = 0; word < WORDS; ++word) {
            uint256 lanes = (set >> (word * LANES)) & 0xff;
            if (lanes == 0) continue;
            uint256 readiness = _readiness[word];
            for (uint256 lane = 0; lane < LANES; ++lane)
                if (((readiness >> (lane * LANE_BITS)) & LANE_MASK) > block.timestamp)
                    ready |= (lanes & (1 << lane)) << (word * LANES);
        }
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
