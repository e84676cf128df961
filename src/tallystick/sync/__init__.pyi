# pyright: reportOverlappingOverload=false
"""Written by tools/sync_facade.py from the asynchronous classes; change those, and run it again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from decimal import Decimal
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tallystick.audit.anchors import Announcement
from tallystick.audit.entries import AuditEntry, AuditEvent
from tallystick.audit.export import ExportReport, LogPart
from tallystick.audit.history import Version
from tallystick.audit.log import InclusionProof
from tallystick.audit.reconcile import ReconcileReport
from tallystick.audit.retention import Retention
from tallystick.audit.sealer import SealReport
from tallystick.audit.status import AuditStatus
from tallystick.clock import Clock
from tallystick.conditions import Lock
from tallystick.domains.chain_logs import ChainLog
from tallystick.domains.community.borrowing import Borrowing
from tallystick.domains.community.communities import Community
from tallystick.domains.community.endorsements import Endorsement
from tallystick.domains.community.governance import MemberRole
from tallystick.domains.community.graph import TrustGraph
from tallystick.domains.community.memberships import CommunityMembership
from tallystick.domains.community.trust_edges import TrustEdge
from tallystick.domains.community.trust_score import TrustScore
from tallystick.domains.identity.consents import Consent, LegalBasis, Purpose
from tallystick.domains.identity.custom_fields import CustomField, CustomFieldType
from tallystick.domains.identity.erasures import ErasureGround, ErasureRequest, RefusalGround
from tallystick.domains.identity.external_identities import ExternalIdentity, ExternalSubject
from tallystick.domains.identity.holds import LegalHold, Restriction, RestrictionGround
from tallystick.domains.identity.login_desk import Proof as _LoginDeskProof
from tallystick.domains.identity.login_policy import LoginPolicy
from tallystick.domains.identity.logins import Login
from tallystick.domains.identity.mfa import Enrolment
from tallystick.domains.identity.profiles import UserProfile
from tallystick.domains.identity.retention import RetentionPolicy
from tallystick.domains.identity.tenants import Tenant, TenantInfo
from tallystick.domains.identity.users import User, UserLike
from tallystick.domains.identity.wallets import Wallet
from tallystick.domains.ledger import export, reports
from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule
from tallystick.domains.ledger.ledger import JournalLike, Source, TransferLike
from tallystick.domains.ledger.periods import Period
from tallystick.domains.ledger.posting import Draft, Receipt
from tallystick.domains.ledger.proposals import Proposal
from tallystick.domains.ledger.transfers import AccountLike, Leg
from tallystick.domains.lending.boarding import Boarding
from tallystick.domains.lending.buckets import Buckets
from tallystick.domains.lending.calendar import Frequency, HolidayCalendar
from tallystick.domains.lending.checks import Exact
from tallystick.domains.lending.delinquency import Delinquency
from tallystick.domains.lending.expected import ExpectedCash
from tallystick.domains.lending.fundings import LenderPayout, LoanFunding
from tallystick.domains.lending.installments import LoanInstallment
from tallystick.domains.lending.loans import Loan, LoanStatusChange
from tallystick.domains.lending.pauses import DelinquencyPause
from tallystick.domains.lending.products import LoanProduct
from tallystick.domains.lending.provisioning import ProvisionRates, Provisions
from tallystick.domains.lending.receipts import LoanLike, LoanReceipt, TransactionLike
from tallystick.domains.lending.risk import PortfolioAtRisk
from tallystick.domains.lending.servicing import ChargeKind, Component
from tallystick.domains.lending.settling import Payoff
from tallystick.domains.lending.spans import Span
from tallystick.domains.lending.standing import Standing
from tallystick.domains.lending.transactions import LoanAllocation, LoanCharge, LoanTransaction
from tallystick.domains.lending.vintages import Measure, Vintages
from tallystick.domains.lending.worklist import LateLoan
from tallystick.domains.outbox.messages import OutboxMessage
from tallystick.domains.outbox.outbox import TopicStatus
from tallystick.domains.outbox.retry import Retry
from tallystick.domains.outbox.workers import Handled, Handling
from tallystick.domains.proofs.circuits import Circuit, ProofProtocol, ProofType, VerifyingKey
from tallystick.domains.proofs.proofs import Proof, ProofEvent
from tallystick.domains.proofs.signals import Signal
from tallystick.domains.proofs.verifier import Claim, Verdict
from tallystick.domains.proofs.verifier import Verifier as _VerifierVerifier
from tallystick.domains.reputation.analyses import AIAnalysis
from tallystick.domains.reputation.analytics import BehaviorAnalyticsSummary
from tallystick.domains.reputation.beta import ReputationPolicy
from tallystick.domains.reputation.evidence import ReputationEvidence
from tallystick.domains.reputation.inputs import BehaviorInput
from tallystick.domains.reputation.records import ReputationRecord, ScoringPeriod
from tallystick.domains.reputation.reputation import Standing as _ReputationStanding
from tallystick.domains.reputation.scores import Score, ScoringCategory
from tallystick.domains.reputation.sessions import BehaviorSession, SessionStatus
from tallystick.domains.reputation.summary import UserReputationSummary
from tallystick.domains.rights.erasure import Erasure
from tallystick.domains.rights.export import Manifest
from tallystick.domains.rights.offboard import Offboarded
from tallystick.domains.rights.policies import Policy
from tallystick.domains.rights.retention import Batch, Line
from tallystick.domains.savings.contributions import Contribution, ContributionKind, ContributionStatus
from tallystick.domains.savings.groups import SavingsGroup
from tallystick.domains.savings.members import GroupMember
from tallystick.domains.savings.overview import Overview
from tallystick.domains.savings.payouts import Bid, Payout, PayoutStatus
from tallystick.domains.savings.views import Circle
from tallystick.domains.underwriting.applications import Application, ApplicationStatus
from tallystick.domains.underwriting.counter_offers import CounterOffer
from tallystick.domains.underwriting.decisions import Decision, Outcome
from tallystick.domains.underwriting.device_tasks import DeviceTask
from tallystick.domains.underwriting.devices import Device, DeviceStatus
from tallystick.domains.underwriting.fairness import BiasFlag, Monitored
from tallystick.domains.underwriting.fairness_metrics import GroupOutcome, Impact
from tallystick.domains.underwriting.notices import AdverseActionNotice, NoticeChannel
from tallystick.domains.underwriting.reasons import ReasonCode
from tallystick.domains.underwriting.reviews import ReviewTask
from tallystick.domains.underwriting.statistics import GroupRate, Statistics
from tallystick.domains.vaults.agents import Agent
from tallystick.domains.vaults.alerts import RiskAlert
from tallystick.domains.vaults.assets import VaultAsset
from tallystick.domains.vaults.liquidations import LiquidationEvent
from tallystick.domains.vaults.observations import VaultObservation
from tallystick.domains.vaults.overview import Overview as _OverviewOverview
from tallystick.domains.vaults.positions import Quantities
from tallystick.domains.vaults.prices import AssetPrice, Recorded
from tallystick.domains.vaults.protection import ProtectionRule
from tallystick.domains.vaults.repository import Protection, VaultLike
from tallystick.domains.vaults.ticking import TickReceipt
from tallystick.domains.vaults.vaults import Vault, VaultPosition
from tallystick.entity import Entity
from tallystick.fields import Rate, Ref
from tallystick.loading import Backref
from tallystick.money import Money
from tallystick.page import Offset, Page
from tallystick.plan import QueryPlan
from tallystick.privacy.keys import KeyProvider
from tallystick.privacy.sealed import Secret
from tallystick.reader import Where
from tallystick.repository import Where as _RepositoryWhere
from tallystick.schema.budget import Budget
from tallystick.schema.migrate import MigrationReport
from tallystick.settings import Settings
from tallystick.spec import EntitySpec
from tallystick.stores.base import Isolation
from tallystick.stores.postgres.meter import Metrics
from tallystick.stores.postgres.seeing import OnStatement

E = TypeVar("E", bound=Entity)
E2 = TypeVar("E2")
P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")

class Accounts(Repository[Account]):
    """The tenant's accounts."""

    def by_code(self, code: str) -> Account | None:
        """The account with this code."""

class AdverseActionNotices(Guarded[AdverseActionNotice]):
    """The notices that the tenant owes or has sent.

    A final decline, an offer that was not taken and ``applications.incomplete`` make them.
    """

    def due(self, on: date | None = ..., *, limit: int | None = ...) -> list[AdverseActionNotice]:
        """Notices not sent whose last day is ``on`` (today when left out) or before, the most urgent first."""
    def sent(
        self,
        notice: AdverseActionNotice | UUID,
        channel: NoticeChannel,
        *,
        bureau: str | None = ...,
        credit_score: Secret[int] | None = ...,
    ) -> AdverseActionNotice:
        """Record that a notice went out, once. Needs the permission "applications.review".

        Raises ``Conflict`` when it went out before or is moot, ``NotFound``.
        """

class Agents(Repository[Agent]):
    """The tenant's agents."""

    ...

class Analyses(Repository[AIAnalysis]):
    """AI analyses of the tenant's users, each behind a consent and none for ever."""

    def add(self, entity: AIAnalysis, *, consent: Consent | None = ...) -> AIAnalysis:
        """Store an analysis under the person's consent; the model's earlier one of them is superseded.

        ``expires_at`` is ``analysed_at`` and ninety days where it is not given, and ``analysed_at`` is now. Raises
        ``ConsentMissing`` when the consent was taken back meanwhile, ``Invalid`` for one that is not theirs.
        """
    def current(self, user: UserLike, *, model: str | None = ...) -> AIAnalysis | None:
        """The newest analysis of a person that has not expired, of one model where it is named.

        None once they took their consent to AI analysis back, until they give it again, and while they are restricted.
        """
    def purge_expired(self) -> int:
        """Remove for good every analysis that has expired; answers how many."""

class Anchor(Protocol):
    """Keeps checkpoints where the database's owner cannot change them."""

    def publish(self, announcement: Announcement) -> None:
        """Keep a checkpoint for good; again does nothing. Raises ``Tampered`` when another of that size is kept."""
    def latest(self, origin: str) -> Announcement | None:
        """The largest checkpoint that is kept of a log, or None."""
    def origins(self, installation: str) -> list[str]:
        """The logs of an installation of which something is kept."""

class Applications(Repository[Application]):
    """The tenant's loan applications."""

    def submit(self, application: Application, *, key: str | None = ...) -> Application:
        """Store a new application and submit it, counted against the month's quota; all or nothing.

        Raises ``QuotaExceeded``, and ``Duplicate`` for an ``idempotency_key`` of its own used before. A repetition
        with its ``key`` answers the application that is there.
        """
    def update(self, entity: Application, /, **changes: Any) -> Application:
        """``Repository.update``; a first submission is counted, and what only operations set is refused.

        To bring an application further than submitted or withdrawn takes the permission "applications.review".
        """
    def update_where(self, *where: _RepositoryWhere, **changes: Any) -> int:
        """``Repository.update_where``; a first submission is counted, and what only operations set is refused."""
    def upsert(self, entity: Application, *, on: Any) -> Application:
        """``Repository.upsert``, of applications in their first status."""
    def move(self, applications: Iterable[UUID], to: ApplicationStatus) -> int:
        """Bring many applications to the next status, all or none; the state machine judges each.

        Answers how many moved: those that were there already, or are not the tenant's, do not. Raises
        ``InvalidTransition``, ``QuotaExceeded``, ``Invalid`` for a status that only an operation sets.
        """
    def incomplete(self, id: Application | UUID, needed: str, *, answer_by: datetime) -> Application:
        """Say what a submitted application lacks, and until when the applicant may add it.

        They are owed a notice of it within thirty days of the application, see ``db.notices``. Submitting again
        (``move`` or ``update``) takes it up; ``expire`` ends it when the time is over. Needs the permission
        "applications.review". Raises ``Conflict`` when they were asked already, ``InvalidTransition``, ``Invalid``,
        ``NotFound``.
        """
    def expire(self) -> int:
        """End incomplete applications whose time to answer is over; answers how many. Run it daily.

        Needs the permission "applications.review".
        """
    def withdraw(self, id: Application | UUID) -> Application:
        """The applicant takes the application back before it is decided; a review that stands for it is over.

        The applicant does it in a session of their own, anybody else with the permission "applications.review".
        Raises ``InvalidTransition`` once it is decided, ``Conflict`` while an offer stands, ``NotFound``.
        """
    def decide(self, id: Application | UUID, decision: Decision, *, key: str | None = ...) -> Application:
        """Record a decision and, when it is final, bring the application to its outcome; all or nothing.

        Needs the permission "applications.decide". The row is locked first, so of two final decisions one wins and
        the other raises ``Conflict``. A final decline needs reasons and owes the applicant a notice, see
        ``db.notices``; the outcome "review" brings it to review. What a person decides in a session of their own they
        sign; to sign for somebody else takes "applications.assign". A repetition with its ``key`` answers what was
        done. Raises ``NotFound``, ``Invalid``, ``Denied`` where four eyes are missing, ``KeyReused``.
        """
    def statistics(self, since: datetime | None = ..., until: datetime | None = ...) -> Statistics:
        """Total, approved, declined and average risk of the applications created in [since, until)."""
    def rates_by(self, attribute: str) -> list[GroupRate]:
        """Approval by group of a monitored attribute ("sex", "age_band", ...), groups in order of name."""

class Approval:
    """Proposals of journals, and what becomes of them."""

    def propose(
        self,
        legs: Sequence[Leg],
        *,
        op: str,
        key: str | None,
        on: date | None = ...,
        source: Entity | tuple[str, UUID] | None = ...,
        description: str | None = ...,
        reverses: UUID | None = ...,
    ) -> Proposal:
        """Record a journal to be posted when somebody else approves it; without ``on``, on the day of the approval.

        To reverse a journal above the limit, give ``legs=db.ledger.reversal_of(id), reverses=id``.
        """
    def approve(self, proposal: UUID, *, key: str | None) -> Receipt:
        """Post what was proposed. Needs the permission "ledger.approve" and another actor than the maker.

        Raises ``RoleMissing``, ``Denied`` for the maker, ``Conflict`` when it is decided already, and what
        ``ledger.post`` raises.
        """
    def reject(self, proposal: UUID) -> Proposal:
        """Close a proposal without posting it; its maker may, others need the permission "ledger.approve"."""

class AuditLog:
    """What the sealing role does, over connections of its own; they are opened when they are first needed.

    ``TALLYSTICK_SEAL_URL`` names the role's URL; the embedded server has one. Only ``seal`` needs the key and the
    anchor. Raises ``NotProvisioned`` where one of them is missing, ``Unsupported`` on Citus, where transaction ids are
    counted on each node.
    """

    def seal(self, *, adopt: bool = ..., whole: bool = ...) -> SealReport:
        """Seal what can be sealed now and sign what grew; see ``Sealer.run``. Raises ``Tampered``, ``Conflict``."""
    def status(self, *, deep: bool = ..., max_age: float = ...) -> AuditStatus:
        """How the trail is. ``deep`` reads all of it; ``max_age`` (seconds) is when waiting becomes a problem.

        Where the anchor is known here, logs that are shorter than what it keeps are problems too.
        """
    def unsealed_age(self) -> float:
        """How long the oldest entry that is not sealed has waited, in seconds; 0.0 when all are. For metrics."""
    def prove(self, tenant: str | UUID | TenantInfo, entry: AuditEntry | int) -> InclusionProof:
        """Prove that an entry (or the one of a number) is in its tenant's log, against the log's last checkpoint.

        A few hundred rows are read, however long the log is. Raises ``NotFound`` for an entry that is not sealed, or
        of which no checkpoint was signed yet.
        """
    def export(
        self, tenant: str | UUID | TenantInfo, path: str | os.PathLike[str], part: LogPart | None = ...
    ) -> ExportReport:
        """Write a tenant's log, or a part of it, to a new file that anybody can verify with the public key.

        ``part`` is the whole log by default; ``LogPart(since=..., until=...)`` is a span of time, ``LogPart(table=...,
        key=...)`` the life of one row. Raises ``NotFound``, ``Invalid``, ``Conflict``, ``StorageFull``.
        """
    def reconcile(
        self,
        tenant: str | UUID | TenantInfo,
        *,
        tables: Iterable[str] | None = ...,
        deep: bool = ...,
        after: str | None = ...,
        batches: int | None = ...,
        batch: int = ...,
        told: Callable[[ReconcileReport], None | None] | None = ...,
    ) -> ReconcileReport:
        """Compare a tenant's rows with the last image that the log has of each: what was changed past the capture?

        It runs as the application's role in the tenant's wall. ``tables`` are names as in the log, all by default.
        ``deep`` also holds each entry against the one before it, and finds rows that were edited between the two.
        ``batches`` bounds the work of one call, and the report's ``next`` is the ``after`` of the next one. ``told``
        hears of the report after each batch. Raises ``NotFound``, ``Invalid``.
        """
    def retention(self, months: int | None = ...) -> Retention:
        """How long bodies are kept and which months are past it, or would be with ``months``. Raises ``Invalid``."""
    def set_retention(self, months: int, basis: str) -> None:
        """Keep bodies for so many months, on a legal basis in words; needs the admin's URL. Raises ``Invalid``."""
    def drop_bodies(self, month: date) -> int:
        """Drop the bodies of a month that is past the policy; answers how many. See ``partitions.drop_bodies``."""
    def vkey(self) -> str:
        """The public key as auditors need it, in one line. Raises ``NotProvisioned`` without a key file."""
    def key(self, *, make: bool = ...) -> Ed25519PrivateKey:
        """The signing key. ``make`` lets the embedded server have one made. Raises ``NotProvisioned``, ``Invalid``."""
    def anchor(self) -> Anchor:
        """Where checkpoints are kept. Raises ``NotProvisioned`` when no directory is named."""
    def close(self) -> None:
        """Close the connections."""

class BehaviorSessions(Repository[BehaviorSession]):
    """The users' sessions."""

    def end(self, session: UUID, status: SessionStatus = ...) -> BehaviorSession:
        """End an open session: closed, expired or abandoned. Raises ``NotFound``, ``InvalidTransition``, ``Conflict``.

        A session is ended once; whoever comes second is told how it ended.
        """

class Circles(Guarded[SavingsGroup]):
    """The tenant's savings groups.

    A group is led by its organizer; members act for themselves; the permission "circles.manage" does both. Commands
    hold the group while they run, so no two things happen in one group at once. ``key`` makes a repetition answer what
    the first made; ``on`` is the business date, today unless given. A group that is not mirrored moves its money
    through the ledger, from and to the account "circles.clearing:<asset>".
    """

    def create(self, group: SavingsGroup, *, key: str | None) -> SavingsGroup:
        """Found a group; the acting user organizes it, unless it names another organizer.

        Raises ``Invalid`` for terms that no group can have, amounts among them whose pot the ledger could not hold (a
        token's above 10^38-1 units are only mirrored), ``Duplicate`` for a chain's group that is there already,
        ``RoleMissing``.
        """
    def mirror(self, group: SavingsGroup) -> SavingsGroup:
        """Put in a group that mirrors one on a chain, or its terms as the chain has them now; takes "circles.manage".

        Groups are told apart by chain, contract and external id. Raises ``Conflict`` when the terms of one that no
        longer recruits differ, ``Invalid`` for a group that mirrors nothing.
        """
    def invite(self, group: UUID, user: UserLike) -> GroupMember:
        """Invite a user while the group recruits; takes its organizer."""
    def join(
        self,
        group: UUID,
        user: UserLike | None = ...,
        *,
        target: Money | None = ...,
        on: date | None = ...,
        key: str | None,
    ) -> GroupMember:
        """Become a member, and leave the collateral that the group asks for.

        Raises ``Conflict`` with rule "full", "member" for who is one already, "status" once it no longer recruits.
        """
    def leave(self, group: UUID, user: UserLike | None = ..., *, on: date | None = ..., key: str | None) -> GroupMember:
        """Leave, or decline an invitation, while the group recruits; the collateral comes back."""
    def set_order(self, group: UUID, users: Sequence[UserLike]) -> list[GroupMember]:
        """Say who receives when, in a group of fixed order: every member once. Without it, as they joined."""
    def ready(self, group: UUID) -> SavingsGroup:
        """Close membership; takes two members at least, and the organizer."""
    def draw(self, group: UUID, seed: bytes) -> list[GroupMember]:
        """Draw the order of a random group from the seed whose hash it was founded with; once.

        Ascending by HMAC-SHA-256 with the seed for a key, of the 16 bytes of the group's id and the 16 of the user's.
        Raises ``Invalid`` for another seed, ``Conflict`` with rule "revealed" the second time and "status" while
        members can still join.
        """
    def start(self, group: UUID, *, rounds: int | None = ..., on: date | None = ..., key: str | None) -> SavingsGroup:
        """Freeze membership and order, and open the first round; a circle has as many rounds as members.

        ``rounds`` is for a group without pots. Raises ``Conflict`` unless it is ready (and its seed revealed).
        """
    def contribute(
        self,
        group: UUID,
        user: UserLike | None = ...,
        amount: Money | None = ...,
        *,
        round: int | None = ...,
        kind: ContributionKind = ...,
        log: ChainLog | None = ...,
        pending: bool = ...,
        on: date | None = ...,
        key: str | None,
    ) -> Contribution:
        """Take a member's contribution: the oldest that they owe, or that of a round, whole.

        It is accepted however late, after the end of the group too; what comes after its pot was paid is passed on
        to who received it short. Call it when the money is there: it is posted. In a mirrored group members only give
        notice, ``pending`` and with its ``log``; that it is settled is said with "circles.manage". Raises
        ``Conflict`` with rule "contributed" when nothing is owed, ``Duplicate`` for a log that is known, ``Invalid``
        for another amount, ``Denied`` for who is not a member.
        """
    def mark_late(self, group: UUID, *, on: date | None = ..., key: str | None) -> list[Contribution]:
        """Mark what is not paid after the days of grace as late, each with the group's late fee."""
    def default(self, group: UUID, user: UserLike, *, on: date | None = ..., key: str | None) -> Contribution:
        """Give up a member's overdue contribution for now: collateral pays what it can, the rest becomes a claim.

        A member who received the pot already has defaulted for good, and owes all later contributions from then on.
        Raises ``Conflict`` with rule "grace" before the days of grace are over, "contributed" when nothing is open.
        """
    def waive(self, contribution: UUID, *, on: date | None = ..., key: str | None) -> Contribution:
        """Forgive a contribution, a claim or a late fee; takes "circles.manage". The pot is short by it."""
    def bid(self, group: UUID, user: UserLike | None = ..., *, amount: Money, key: str | None) -> Bid:
        """Say what one would take for the pot of the round; the rest of it goes to the other members.

        Raises ``Invalid`` below the group's floor or above the pot, ``Conflict`` with rule "order_kind" in a group
        without bids and "lower" for one not below the bid before, ``Denied`` for who has received or owes.
        """
    def pay_out(self, group: UUID, *, log: ChainLog | None = ..., on: date | None = ..., key: str | None) -> Payout:
        """Pay the pot of the round: what was paid in and what collateral paid, without the service fee.

        Who is behind with contributions receives it all the same, where the order is settled; it is marked. Raises
        ``Conflict`` with rule "not_funded" while contributions are open, "paid_out" the second time.
        """
    def advance(self, group: UUID, *, on: date | None = ..., key: str | None) -> SavingsGroup:
        """Close the round whose pot was paid and open the next; after the last, end and give collateral back.

        Raises ``Conflict`` with rule "not_paid_out", and "submitted" until a mirrored pot is confirmed.
        """
    def share_out(self, group: UUID, user: UserLike | None = ..., *, on: date | None = ..., key: str | None) -> Payout:
        """Pay a member what they saved in a group without pots, after its end too.

        In a mirrored group it is said with "circles.manage". Raises ``Conflict`` when nothing is left.
        """
    def pause(self, group: UUID) -> SavingsGroup:
        """Stop a group for now: nothing is late, paid out or advanced; contributions are taken."""
    def resume(self, group: UUID) -> SavingsGroup:
        """Go on after a pause."""
    def cancel(self, group: UUID, *, on: date | None = ..., key: str | None = ...) -> SavingsGroup:
        """End a group that has not started; collateral comes back."""
    def dissolve(self, group: UUID, *, on: date | None = ..., key: str | None = ...) -> SavingsGroup:
        """End a group early; collateral comes back, and nobody owes contributions to rounds that never come.

        What is owed to rounds that were paid out stays owed. In a group without pots members take out their own with
        ``share_out``. Raises ``Conflict`` with rule "pot_held" while the round under way holds contributions to a pot.
        """
    def settle_contribution(
        self, contribution: UUID, status: ContributionStatus, *, log: ChainLog | None = ..., on: date | None = ...
    ) -> Contribution:
        """Say what became of a mirrored contribution on its chain: confirmed, failed or orphaned by a reorganisation.

        Takes "circles.manage". A round that was payable is open again when one of its contributions is orphaned.
        """
    def settle_payout(self, payout: UUID, status: PayoutStatus, *, log: ChainLog | None = ...) -> Payout:
        """Say what became of a mirrored payout on its chain; a void pot can be paid again. Takes "circles.manage".

        Raises ``Conflict`` with rule "closed" for a pot that becomes void after its round was closed.
        """
    def circle(self, group: UUID) -> Circle:
        """A group with its members and their users, rounds, contributions and payouts, in one snapshot."""
    def overview(self) -> list[Overview]:
        """Every group of the tenant with what was paid in and out, what is held and what is owed, oldest first."""
    def members(self, group: UUID) -> list[GroupMember]:
        """The members of a group, in their order."""
    def contributions(self, group: UUID, *, round: int | None = ..., user: UserLike | None = ...) -> list[Contribution]:
        """The contributions to a group, of one round or of one member where they are named."""
    def of_user(self, user: UserLike) -> list[SavingsGroup]:
        """The groups that a user is or was a member of, or is invited to."""

class Circuits(Guarded[Circuit]):
    """What can be proved. Registering circuits and keys takes the permission "proofs.manage"."""

    def register(
        self, name: str, type: ProofType, *, signals: list[Signal] | None = ..., modulus: int = ...
    ) -> Circuit:
        """Register a circuit with its public signals, in order. Raises ``Duplicate``, ``RoleMissing``, ``Invalid``."""
    def add_key(
        self,
        circuit: Circuit | UUID,
        document: bytes,
        protocol: ProofProtocol,
        *,
        version: int = ...,
        ceremony: str | None = ...,
    ) -> VerifyingKey:
        """Register a verifying key; its bytes are kept as they are, and hashed. Raises as ``register``."""
    def key(self, hash: bytes) -> VerifyingKey | None:
        """The verifying key with this SHA-256."""
    def newest_key(self, circuit: Circuit | UUID) -> VerifyingKey | None:
        """The key of a circuit's newest version that is not retired."""
    def retire(self, key: VerifyingKey) -> VerifyingKey:
        """Take no more requests for a key, for good; what was verified with it stays verified."""

class Claimed(Generic[E2]):
    """One work item of this worker. Enter it to work: normal exit marks it done, an exception gives it back.

    ``attempt`` counts claims of the item, this one included, so a worker can set poison aside.
    """

    @property
    def value(self) -> E2: ...
    @property
    def attempt(self) -> int: ...
    @property
    def token(self) -> UUID:
        """What the lease is held by; the items of one claim share it."""
    def done(self) -> None:
        """Mark the item done for good. Raises ``LeaseLost`` when the lease ran out and somebody else has it."""
    def release(self) -> None:
        """Give the item back; a lease that is already lost is no error."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class Communities(Guarded[Community]):
    """The tenant's communities.

    Whoever acts is the user of the session's actor ("user:<id>"), by their role in the community, or anybody with the
    permission "communities.manage". Every operation holds the community while it runs, so that roles, sanctions and
    gates cannot change under it.
    """

    def create(self, community: Community, *, founder: UserLike | None = ...) -> Community:
        """Add a community that is forming, with its founder, the acting user unless given, as its first admin.

        Raises ``Duplicate`` for a slug that is taken, ``RoleMissing`` for a founder who is somebody else, ``Invalid``.
        """
    def change(self, community: UUID, **changes: Any) -> Community:
        """Change name, governance, min_reputation_to_borrow or max_loan_amount; takes an admin."""
    def activate(self, community: UUID) -> Community:
        """Let a forming community begin (takes an admin), or a suspended one go on (takes "communities.manage")."""
    def suspend(self, community: UUID) -> Community:
        """Stop everything in a community for now; takes the permission "communities.manage"."""
    def dissolve(self, community: UUID) -> Community:
        """End a community for good; takes an admin. Raises ``Conflict`` while stakes are held or loans are open."""
    def by_slug(self, slug: str) -> Community | None:
        """The community with this slug."""
    def invite(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Invite a user, or one who left; they are in when they join. Takes the role that governance names."""
    def join(self, community: UUID, user: UserLike | None = ...) -> CommunityMembership:
        """Accept an invitation, or walk in where anybody may. Raises ``Denied`` without an invitation, or banned."""
    def leave(self, community: UUID, user: UserLike | None = ...) -> CommunityMembership:
        """Leave, or decline an invitation; the role is gone with it.

        Raises ``Conflict`` for the last admin, ``Denied`` for somebody who is suspended or was never in.
        """
    def ban(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Put a user out for good, whether member or not yet; takes a role above theirs."""
    def lift_ban(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Let a user who was banned be invited again."""
    def suspend_member(self, community: UUID, user: UserLike) -> CommunityMembership:
        """Take a member's rights for a while; takes a role above theirs."""
    def reinstate_member(self, community: UUID, user: UserLike) -> CommunityMembership:
        """End a member's suspension; takes a role above theirs."""
    def set_role(self, community: UUID, user: UserLike, role: MemberRole) -> CommunityMembership:
        """Give an active member another role; takes an admin. Raises ``Conflict`` when no admin would be left."""
    def rate(self, community: UUID, user: UserLike, reputation: Decimal) -> CommunityMembership:
        """Set a member's reputation, 0 to 1,000; nobody sets their own. Takes the role that governance names."""
    def require(self, community: UUID, role: MemberRole) -> None:
        """Raise ``RoleMissing`` unless the acting user is an active member with this role or a higher one.

        In a transaction neither the role nor the community can change until it ends. The permission
        "communities.manage" passes too. Raises ``Denied`` in a community that is suspended or dissolved.
        """
    def may_borrow(self, community: UUID, user: UserLike, amount: Money) -> Borrowing:
        """Whether a member may borrow an amount in the community now, and if not, which gate is closed."""
    def check_borrowing(self, community: UUID, user: UserLike, amount: Money) -> None:
        """Raise ``Denied`` (``Invalid`` for an amount of another asset) naming the gate that is closed to a borrower.

        In a transaction what was looked at stays so until it ends.
        """
    def locked(self, community: UUID, lock: Lock) -> Community:
        """The community, read under a lock of the open transaction.

        Raises ``NotFound``.
        """

class Consents(Guarded[Consent]):
    """The persons' consents. A person grants and withdraws their own; for others it takes "consents.manage"."""

    def grant(
        self,
        user: UserLike,
        purpose: Purpose,
        *,
        policy_version: str,
        legal_basis: LegalBasis = ...,
        evidence: dict[str, Any] | None = ...,
    ) -> Consent:
        """Record that a user agreed; on the same terms twice, the consent that stands already is the answer.

        Other terms (a newer policy, another basis) end the one that stands at the moment the new one begins. Raises
        ``RoleMissing`` for somebody else's consent, ``NotFound`` for a user there is not, ``Erased``, ``Invalid``.
        """
    def withdraw(self, user: UserLike, purpose: Purpose) -> Consent:
        """Take a consent back, from now on; operations behind its gate that are under way end first.

        Raises ``NotFound`` when none stands, ``RoleMissing`` for somebody else's.
        """
    def require(self, user: UserLike, purpose: Purpose) -> Consent:
        """The consent that stands. Raises ``ConsentMissing`` when there is none, ``OnHold`` for a restricted person.

        In a transaction it is kept from being withdrawn until the transaction ends; outside one, where nothing can be
        held, it is only what stands now: ask again in the transaction that writes.
        """
    def given(self, user: UserLike, purpose: Purpose | None = ...) -> list[Consent]:
        """Every consent of a user, taken back or not, oldest first; of one purpose where it is given."""

class CounterOffers(Guarded[CounterOffer]):
    """The tenant's counter-offers. Each step takes the application with it; all or nothing."""

    def offer(
        self,
        decision: Decision,
        amount: Money,
        months: int,
        *,
        rate: Rate | None = ...,
        good_for: timedelta = ...,
        key: str | None = ...,
    ) -> CounterOffer:
        """Offer other terms on an application in review. Needs the permission "applications.decide".

        ``decision`` has the outcome "counter_offer" and is not final. A repetition with its ``key`` answers the offer.
        Raises ``Conflict`` for an application that is not in review, ``Invalid``, ``NotFound``, ``KeyReused``.
        """
    def accept(self, offer: CounterOffer | UUID, *, key: str | None = ...) -> Application:
        """The applicant takes the offer: the application is approved, finally. Raises ``Conflict`` once it ran out.

        A repetition with its ``key`` answers what was done.
        """
    def withdraw(self, offer: CounterOffer | UUID, *, key: str | None = ...) -> Application:
        """The applicant does not want it: offer and application are withdrawn, and a notice is owed.

        A repetition with its ``key`` answers what was done. Raises ``Conflict`` once it was answered.
        """
    def expire(self, offer: CounterOffer | UUID, *, key: str | None = ...) -> Application:
        """End an offer whose time is over, and its application; a notice is owed. Raises ``Conflict`` before that."""
    def expire_due(self) -> int:
        """End every offer whose time is over, each as ``expire`` does; answers how many. Run it daily."""

class CustomFields(Guarded[CustomField]):
    """The tenant's custom fields; to define them takes the permission "custom_fields.define"."""

    def defined(self, entity: type[Entity]) -> list[CustomField]:
        """The fields of an entity that values may be given for now, by name."""
    def define(
        self,
        entity: type[Entity],
        name: str,
        type: CustomFieldType,
        *,
        required: bool = ...,
        personal: bool = ...,
        choices: Iterable[str] = ...,
        minimum: int | None = ...,
        maximum: int | None = ...,
    ) -> CustomField:
        """Add a field to an entity of this tenant.

        Rows that are there need no value until their document is written again. Of callers that race one defines it
        and the others get ``Duplicate``. Raises ``RoleMissing``, ``Invalid``, and ``QuotaExceeded`` beyond 100 fields.
        """
    def change(
        self,
        field: CustomField,
        *,
        required: bool | None = ...,
        choices: Iterable[str] | None = ...,
        minimum: int | None = ...,
        maximum: int | None = ...,
    ) -> CustomField:
        """Ask something else of values to come; what is stored stays. Name, type and secrecy never change.

        Bounds are replaced together: one that is not given is none. Raises ``StaleVersion``, ``RoleMissing``,
        ``Invalid``.
        """
    def retire(self, field: CustomField) -> CustomField:
        """Take no more values for it; those that are stored stay, and may stay when their document is written."""

class Decisions(Guarded[Decision]):
    """Decisions on the tenant's applications; add them through ``applications.decide``."""

    ...

class DeviceTasks(Guarded[DeviceTask]):
    """What devices have to do. Each task is one device's; taking and finishing needs "devices.operate"."""

    def enqueue(
        self,
        name: str,
        payload: Mapping[str, Any] | None = ...,
        *,
        application: Application | UUID | None = ...,
        key: str | None = ...,
    ) -> DeviceTask:
        """Put a task in the queue. A repetition with its ``key`` answers the task that is there.

        Raises ``Invalid``, ``UnknownReference``, ``KeyReused``.
        """
    def take(self, device: Device | UUID, task: DeviceTask | UUID | None = ...) -> DeviceTask | None:
        """Give a device a task, or the oldest of the queue; None when the queue is empty.

        Two devices never get one task, and one that is busy gets none. Raises ``Conflict`` when the device is not
        online or is compromised, or the task is no longer in the queue.
        """
    def finish(
        self, task: DeviceTask | UUID, error: str | None = ..., *, device: Device | UUID | None = ...
    ) -> DeviceTask:
        """End a running task, failed where there is an error; its device is free again.

        Give the ``device`` that reports: one that lost the task to another, because nothing was heard of it, is told
        ``LeaseLost``. Raises ``Conflict`` for a task that is not running.
        """
    def retry(self, task: DeviceTask | UUID) -> DeviceTask:
        """Put a failed task back in the queue, behind nothing: it keeps its place. Raises ``Conflict``."""
    def cancel(self, task: DeviceTask | UUID) -> DeviceTask:
        """Take a task out of the queue. Raises ``Conflict`` once a device has it."""

class Devices(Guarded[Device]):
    """The tenant's devices. Everything that changes one needs the permission "devices.operate"."""

    def provision(self, device: Device) -> Device:
        """Register a device, counted against the tenant's quota; all or nothing.

        Raises ``QuotaExceeded``, ``Duplicate`` for an external id the tenant has already (a decommissioned one keeps
        its own), and ``Invalid`` for what only operations tell.
        """
    def by_external_id(self, external_id: str) -> Device:
        """The device its provider calls so. Raises ``NotFound``."""
    def heartbeat(
        self, device: Device | UUID, vitals: Mapping[str, Any] | None = ..., *, at: datetime | None = ...
    ) -> Device:
        """Note that a device is alive, with its vitals by field name; one that was offline is online.

        ``at`` is when it beat, by its own clock; left out it is now. One that arrives after a newer one says that the
        device was heard, and nothing else: its vitals are old. Raises ``Conflict`` for a decommissioned device,
        ``Invalid`` for vitals that are none and for a clock more than five minutes ahead.
        """
    def set_status(self, device: Device | UUID, status: DeviceStatus) -> Device:
        """Bring a device to maintenance, online or offline. Raises ``Conflict`` while it works."""
    def inspect(self, device: Device | UUID, *, compromised: bool, event: Mapping[str, Any] | None = ...) -> Device:
        """Note a security scan: whether the device is compromised, and what was found; the last hundred are kept.

        A compromised device takes no task until a later scan clears it.
        """
    def sweep(self, silent_for: timedelta) -> int:
        """Take devices offline that nothing was heard of for so long; answers how many. Run it every few minutes.

        A task of theirs goes back to the queue, and fails once it was lost ``MOST_ATTEMPTS`` times.
        """
    def decommission(self, device: Device | UUID) -> Device:
        """Retire a device for good, which frees its place in the tenant's limit.

        Raises ``InvalidTransition`` while it works, ``Conflict`` when it is retired already.
        """

class Endorsements(Guarded[Endorsement]):
    """Who vouches for whom, and the stakes behind it.

    Commands take ``key``, which makes a repetition answer what the first made; ``on`` is the business date, today
    unless given. Stakes are journals of the ledger, from the account "stakes.clearing:<asset>".
    """

    def endorse(
        self,
        endorser: UserLike,
        endorsee: UserLike,
        *,
        community: UUID,
        stake: Money | None = ...,
        text: str | None = ...,
        loan: UUID | None = ...,
        on: date | None = ...,
        key: str | None,
    ) -> Endorsement:
        """Vouch for another active member; the stake, where there is one, is held until the endorsement ends.

        The endorser does it themselves, or somebody with the permission "communities.manage". Raises ``Invalid`` for
        oneself and for a stake that is not money of the community's asset, ``Duplicate`` where one stands already,
        ``Conflict`` with rule "circular_endorsement" where the other one vouches for the endorser, ``UnknownReference``
        for a loan that is not the endorsee's in this community, ``RoleMissing``, ``Denied`` for who is no active
        member, and the ledger's errors.
        """
    def withdraw(self, endorsement: UUID, *, on: date | None = ..., key: str | None) -> Endorsement:
        """End one's own endorsement and get the stake back.

        Raises ``Conflict`` when it was withdrawn or slashed already, and with rule "loan_at_risk" while the loan that
        it is about is promised, not repaid or lost; ``RoleMissing`` for somebody else's.
        """
    def slash(self, endorsement: UUID, *, on: date | None = ..., key: str | None) -> Endorsement:
        """End an endorsement that went wrong; the stake becomes the community's income.

        Takes the role that governance names, in somebody who is neither side of it. Raises ``Conflict`` when it was
        withdrawn or slashed already, ``RoleMissing``, ``Denied``.
        """

class ExternalIdentities(Guarded[ExternalIdentity]):
    """Which person an identity provider's subject is."""

    def link(self, user: UserLike, who: ExternalSubject) -> ExternalIdentity:
        """Let a person in by what an identity provider says; their password and open tokens are gone from then on.

        A person does it for themselves, for others it takes "logins.manage". Raises ``Duplicate`` for a subject that
        is linked already, ``RoleMissing``, ``NotFound``, ``Invalid``.
        """
    def unlink(self, identity: ExternalIdentity) -> None:
        """End that. The person needs another identity or ``db.logins.passwords.set`` to log in again."""
    def of_user(self, user: UserLike) -> list[ExternalIdentity]:
        """A person's identities."""
    def owner(self, who: ExternalSubject) -> UUID | None:
        """The id of the person that a subject is."""

class Fairness(Guarded[BiasFlag]):
    """Fairness over the tenant's decisions, and its flags. To open, close or answer flags takes "fairness.manage"."""

    def groups(
        self,
        attribute: str,
        *,
        since: datetime | None = ...,
        until: datetime | None = ...,
        model_version: str | None = ...,
        truth: Mapping[UUID, bool] | None = ...,
    ) -> list[GroupOutcome]:
        """How the groups of a monitored attribute were decided in [since, until), in order of name.

        It counts final decisions, of one model version where that is given. ``truth`` says of applications how they
        turned out (True: was worth approving), which equalized odds needs. Raises ``Invalid``.
        """
    def impacts(
        self,
        attribute: str,
        *,
        since: datetime | None = ...,
        until: datetime | None = ...,
        model_version: str | None = ...,
    ) -> list[Impact]:
        """Each group beside the one that was selected most; ``adverse`` says which are below four fifths."""
    def monitor(
        self,
        attribute: str,
        *,
        since: datetime | None = ...,
        until: datetime | None = ...,
        model_version: str | None = ...,
        minimum: int = ...,
    ) -> Monitored:
        """Open a flag for each group that is selected too rarely, and close flags whose group no longer is.

        A flag is closed as mitigated. Groups of fewer than ``minimum`` are left as they are. What somebody dismissed
        within the window is not raised again. Needs "fairness.manage"; monitors at the same time open one flag.
        """
    def acknowledge(self, flag: BiasFlag | UUID) -> BiasFlag:
        """Say that somebody looks into it. Raises ``InvalidTransition``."""
    def mitigate(self, flag: BiasFlag | UUID, note: str) -> BiasFlag:
        """Close a flag because of what was done about it. Raises ``Conflict`` when it is closed."""
    def dismiss(self, flag: BiasFlag | UUID, note: str) -> BiasFlag:
        """Close a flag because there is a reason for it, which is kept. Raises ``Conflict`` when it is closed."""

class Guarded(Repository[E]):
    """A repository whose plain writing verbs ask for a permission.

    Its operations judge who may do what, and a plain ``update`` would go round them. ``permission`` is what it takes,
    ``instead`` the operations that everybody else uses. Reading is as everywhere.
    """

    def add(self, entity: E) -> E:
        """``Repository.add``, with the permission."""
    def add_many(self, entities: Iterable[E]) -> list[E]:
        """``Repository.add_many``, with the permission."""
    def upsert(self, entity: E, *, on: Any) -> E:
        """``Repository.upsert``, with the permission."""
    def update(self, entity: E, /, **changes: Any) -> E:
        """``Repository.update``, with the permission."""
    def update_where(self, *where: _RepositoryWhere, **changes: Any) -> int:
        """``Repository.update_where``, with the permission."""
    def purge(self, entity: E | UUID, *, reason: str) -> None:
        """``Repository.purge``, with the permission."""
    def purge_where(self, *where: _RepositoryWhere, reason: str) -> int:
        """``Repository.purge_where``, with the permission."""

class Inputs(Repository[BehaviorInput]):
    """The tenant's behaviour inputs; workers take them with ``claim``."""

    def receive(self, entity: BehaviorInput) -> BehaviorInput:
        """Store an input, or answer the one that was delivered before: a repeated delivery is no second input.

        Raises ``Conflict`` when the same user, source and id came before with another payload, type or time.
        """
    def of_user(self, user: UserLike, *, limit: int | None = ...) -> list[BehaviorInput]:
        """A user's inputs, oldest first."""
    def of_session(self, session: UUID | str, *, limit: int | None = ...) -> list[BehaviorInput]:
        """The inputs of a session, oldest first: ours by its id, an outside one by its name."""
    def unprocessed(self, *, limit: int | None = ...) -> list[BehaviorInput]:
        """Inputs that nobody has processed, oldest first, to look at. To work on them, ``claim`` them."""
    def mark_processed(self, inputs: Iterable[BehaviorInput | UUID]) -> int:
        """Mark inputs processed without a claim, all or none, in one statement; answers how many.

        Raises ``Conflict`` when one was processed before, is leased by a worker, or does not exist: none is marked.
        """
    def finish(self, items: Iterable[Claimed[BehaviorInput]]) -> int:
        """Mark claimed inputs done in one statement, all or none; answers how many.

        For workers that take many at a time, where ``with item`` would be a round trip each. Raises
        ``LeaseLost`` when the lease on any of them is over: then none is marked, and those still held can be finished.
        """
    def analytics(
        self, *, user: UserLike | None = ..., start: datetime | None = ..., end: datetime | None = ...
    ) -> BehaviorAnalyticsSummary:
        """How many inputs of each type and source there are, and how many wait, from ``start`` until before ``end``."""

class Ledger:
    """The tenant's books.

    Commands take ``key``, which makes a repetition answer the first receipt again (``replayed``); None is for a
    command that is part of a larger one with a key of its own. ``on`` is the business date, today unless given.
    """

    @property
    def accounts(self) -> Accounts: ...
    @property
    def periods(self) -> Periods:
        """The tenant's accounting periods."""
    @property
    def approval(self) -> Approval:
        """Journals that need a second person."""
    def open_account(
        self,
        code: str,
        asset: str,
        kind: AccountKind,
        *,
        floor: FloorRule = ...,
        stripes: int = ...,
        name: str | None = ...,
    ) -> Account:
        """Add an account; ``stripes`` (up to 64) is for one that many callers post to at once and that has no floor.

        Raises ``Duplicate`` for a code that is taken, ``Invalid`` for stripes on an account with a floor.
        """
    def conversion_account(self, asset: str) -> Account:
        """The account through which an asset is exchanged for others, opened when it is first asked for."""
    def post(
        self,
        legs: Sequence[Leg],
        *,
        op: str,
        key: str | None,
        on: date | None = ...,
        source: Source | None = ...,
        description: str | None = ...,
    ) -> Receipt:
        """Write a journal of transfers, all or nothing: ``post([transfer(cash, loan, usd("85"))], op="repay", ...)``.

        Raises ``InsufficientFunds``, ``UnknownReference`` (no such account, or not of this asset), ``KeyReused``,
        ``Conflict`` in a period that is closing or closed, ``Denied`` above the tenant's limits, ``Invalid``.
        """
    def pend(
        self,
        legs: Sequence[Leg],
        *,
        op: str,
        key: str | None,
        on: date | None = ...,
        source: Source | None = ...,
        description: str | None = ...,
    ) -> Receipt:
        """Reserve transfers until each is settled or void; errors are those of ``post``."""
    def post_many(self, drafts: Sequence[Draft], *, key: str | None) -> list[Receipt]:
        """Write many journals in one statement, all or nothing: the way to post a batch to a hot account.

        At most 1,000 transfers in all. Errors are those of ``post``.
        """
    def settle(
        self, pending: TransferLike, amount: Money | None = ..., *, key: str | None, on: date | None = ...
    ) -> Receipt:
        """Make a pending transfer final, for its whole amount or less; the rest is given back.

        Raises ``Conflict`` when it is settled or void already, ``Invalid`` for more than is pending.
        """
    def void(self, pending: TransferLike, *, key: str | None, on: date | None = ...) -> Receipt:
        """Give a pending transfer back. Raises ``Conflict`` when it is settled or void already."""
    def reverse(
        self, journal: JournalLike, *, key: str | None, on: date | None = ..., description: str | None = ...
    ) -> Receipt:
        """Write the opposite of a journal, once: every account stands as if it had not been.

        Raises ``Conflict`` when it was reversed before, ``InsufficientFunds`` when the money is gone, ``Invalid`` for a
        journal with pending transfers, which are settled or void instead.
        """
    def exchange(
        self,
        debit: AccountLike,
        credit: AccountLike,
        *,
        debited: Money,
        credited: Money,
        op: str,
        key: str | None,
        on: date | None = ...,
        source: Source | None = ...,
        description: str | None = ...,
    ) -> Receipt:
        """Debit one asset and credit another, each against its conversion account, whose balances are the position.

        Raises ``Invalid`` when both are of one asset; else the errors of ``post``.
        """
    def reversal_of(self, journal: JournalLike) -> list[Leg]:
        """The transfers that undo a journal. Raises ``NotFound``, and ``Invalid`` when nothing of it is final."""
    def receipt(self, journal: UUID, *, replayed: bool = ...) -> Receipt:
        """A journal with its transfers. Raises ``NotFound``."""
    def balance(self, account: AccountLike, on: date | None = ...) -> Money:
        """What an account has on its normal side, without what is pending: now, or as of the end of a date."""
    def balances(self, account: AccountLike, on: date | None = ...) -> reports.Balances:
        """The four totals of an account, its stripes summed: now, or as of the end of a business date."""
    def trial_balance(self, on: date | None = ...) -> reports.TrialBalance:
        """Every account's totals in one snapshot: now, or as of the end of a business date."""
    def statement(self, account: AccountLike, *, after: str | None = ..., limit: int = ...) -> Page[reports.Line]:
        """A page of an account's transfers in the order they were recorded; ``after`` is the ``next`` of the last."""
    def entries(self, since: date, until: date) -> Iterator[export.Entry]:
        """Every final transfer of a span of business dates, for ``csv_lines`` and other exports."""

class Loans(Repository[Loan]):
    """The tenant's loans.

    Every command takes ``on``, the business date (default: the tenant's today), and ``key``, by which a repeated call
    is known: it is answered with what the first one did. ``key=None`` is for a command inside a larger keyed one.
    All commands on one loan wait for each other, so each sees what the one before it did. They raise ``NotFound``,
    ``Invalid`` for amounts and dates that cannot be, ``Conflict`` for what the loan's state forbids, ``KeyReused`` for
    a key that came with another request, and write all or nothing.
    """

    def request(
        self,
        *,
        product: LoanProduct | Ref[LoanProduct] | UUID,
        borrower: User | Ref[User] | UUID,
        principal: Money,
        annual_rate: Exact | None = ...,
        installments: int | None = ...,
        first_due: date | None = ...,
        community: Community | Ref[Community] | UUID | None = ...,
        purpose: str | None = ...,
        external_id: str | None = ...,
        on: date | None = ...,
        key: str | None,
    ) -> Loan:
        """Ask for a loan within a product's bounds; rate and number of installments default to the product's.

        In a community its gates are checked: membership, reputation, largest amount. Raises ``ConsentMissing`` where
        the product asks for consents, ``Denied`` at a community's gate.
        """
    def open_funding(self, loan: LoanLike, *, on: date | None = ..., key: str | None) -> Loan:
        """Let lenders fund a requested loan."""
    def fund(
        self, loan: LoanLike, lender: User | Ref[User] | UUID, amount: Money, *, on: date | None = ..., key: str | None
    ) -> LoanFunding:
        """Take a lender's money for a loan in funding. Raises ``Conflict`` for more than is left to fund."""
    def fundings(self, loan: LoanLike) -> list[LoanFunding]:
        """Who funds a loan."""
    def approve(
        self,
        loan: LoanLike,
        *,
        principal: Money | None = ...,
        reason: str | None = ...,
        on: date | None = ...,
        key: str | None,
    ) -> Loan:
        """Approve a requested loan, or one that is funded whole; ``principal`` approves less than was asked for.

        Needs the permission "loans.decide", or a treasurer's role in the loan's community.
        """
    def reject(self, loan: LoanLike, *, reason: str, on: date | None = ..., key: str | None) -> Loan:
        """Decline a requested loan. Needs what ``approve`` needs."""
    def withdraw(self, loan: LoanLike, *, reason: str | None = ..., on: date | None = ..., key: str | None) -> Loan:
        """The borrower no longer wants it; lenders get their money back."""
    def expire(self, loan: LoanLike, *, on: date | None = ..., key: str | None) -> Loan:
        """Lenders did not fund it in time; they get their money back."""
    def cancel(self, loan: LoanLike, *, reason: str, on: date | None = ..., key: str | None) -> Loan:
        """An approved loan is not paid out after all; lenders get their money back."""
    def disburse(
        self,
        loan: LoanLike,
        amount: Money | None = ...,
        *,
        on: date | None = ...,
        key: str | None,
        external_id: str | None = ...,
    ) -> LoanReceipt:
        """Pay out all that was approved, or a tranche; the loan is active and has its schedule from then on.

        A later tranche makes the next version of the schedule. Upfront fees of the product are kept back.
        """
    def begin_disbursement(
        self, loan: LoanLike, amount: Money | None = ..., *, on: date | None = ..., key: str | None
    ) -> Loan:
        """Reserve the payout while an external rail carries it; nothing is owed until it is confirmed."""
    def confirm_disbursement(
        self, loan: LoanLike, *, on: date | None = ..., key: str | None, external_id: str | None = ...
    ) -> LoanReceipt:
        """The rail paid out: the loan is active from that date on."""
    def fail_disbursement(
        self, loan: LoanLike, *, reason: str | None = ..., on: date | None = ..., key: str | None
    ) -> Loan:
        """The rail did not pay out: the loan is approved as before."""
    def repay(
        self, loan: LoanLike, amount: Money, *, on: date | None = ..., key: str | None, external_id: str | None = ...
    ) -> LoanReceipt:
        """Take a payment: partial, whole, early, late, or dated back; more than is owed is kept for the borrower.

        It goes to the installments by the product's order. Dated before other payments, those move up. Raises
        ``Duplicate`` for an ``external_id`` that was taken before.
        """
    def pay_off(self, loan: LoanLike, *, on: date | None = ..., key: str | None) -> LoanReceipt:
        """Take exactly what settles the loan on a day: interest that is not earned by then is waived."""
    def payoff(self, loan: LoanLike, *, on: date | None = ...) -> Payoff:
        """What would settle the loan on a day, by component."""
    def goodwill(
        self, loan: LoanLike, amount: Money, *, on: date | None = ..., key: str | None, reason: str | None = ...
    ) -> LoanReceipt:
        """Pay for the borrower, at the lender's expense. Needs the permission "loans.adjust"."""
    def waive(
        self,
        loan: LoanLike,
        amount: Money,
        components: Iterable[Component],
        *,
        on: date | None = ...,
        key: str | None,
        reason: str | None = ...,
    ) -> LoanReceipt:
        """No longer ask for interest, fees or penalties. Needs the permission "loans.adjust"."""
    def refund(
        self, loan: LoanLike, amount: Money | None = ..., *, on: date | None = ..., key: str | None
    ) -> LoanReceipt:
        """Give back what was paid too much, all of it unless an amount is named."""
    def chargeback(
        self,
        payment: TransactionLike,
        amount: Money | None = ...,
        *,
        on: date | None = ...,
        key: str | None,
        reason: str | None = ...,
    ) -> LoanReceipt:
        """The payer's bank took a payment back: what was paid too much covers it first, the rest is owed again."""
    def reverse(
        self, transaction: TransactionLike, *, on: date | None = ..., key: str | None, reason: str | None = ...
    ) -> LoanReceipt:
        """Take a payment, waiver, refund, charge-off or recovery back, once: the loan stands as if it had not been.

        Later payments move up; what that changes is written beside them. Raises ``Conflict`` when it was reversed
        before, was charged back, or the loan is written off; ``Unsupported`` for other kinds.
        """
    def charge(
        self,
        loan: LoanLike,
        kind: ChargeKind,
        amount: Money,
        *,
        code: str,
        due: date | None = ...,
        on: date | None = ...,
        key: str | None,
    ) -> LoanCharge:
        """Add a fee or penalty; it falls due on ``due`` (default: ``on``) with the installment whose period holds that.

        Payments see it from ``on`` on, or from ``due`` where that is earlier: later ones move up, as after a payment
        that is dated back. What was paid too much covers it. A closed loan is open again.
        """
    def charge_late_fees(self, loan: LoanLike, *, on: date | None = ..., key: str | None) -> list[LoanCharge]:
        """Charge the product's late fee for each installment that is late enough, once for each."""
    def charge_off(
        self, loan: LoanLike, *, on: date | None = ..., key: str | None, fraud: bool = ..., reason: str | None = ...
    ) -> LoanReceipt:
        """Take the principal out of the books as a loss; the loan stays active and owed. Needs "loans.adjust"."""
    def write_off(
        self, loan: LoanLike, *, on: date | None = ..., key: str | None, reason: str | None = ...
    ) -> LoanReceipt:
        """Ask for nothing more; afterwards only ``recover`` takes money. Needs the permission "loans.adjust"."""
    def recover(
        self, loan: LoanLike, amount: Money, *, on: date | None = ..., key: str | None, external_id: str | None = ...
    ) -> LoanReceipt:
        """Take money that came in after a write-off."""
    def distribute(self, loan: LoanLike, *, on: date | None = ..., key: str | None) -> list[LenderPayout]:
        """Pay the lenders of a loan their part of what came in since the last time; recoveries too.

        Where a payment that was distributed is taken back, nobody is paid until as much came in again. Raises
        ``Conflict`` for a loan that nobody funded.
        """
    def payouts(self, loan: LoanLike) -> list[LenderPayout]:
        """What the lenders of a loan were paid."""
    def reschedule(
        self,
        loan: LoanLike,
        *,
        since: date | None = ...,
        first_due: date | None = ...,
        installments: int | None = ...,
        annual_rate: Exact | None = ...,
        on: date | None = ...,
        key: str | None,
        reason: str | None = ...,
    ) -> LoanReceipt:
        """Plan anew what is not repaid from the installment due on ``since`` on (default: the first unsettled).

        Dates, number and rate are what is given, else as before. Needs the permission "loans.adjust".
        """
    def reamortize(
        self, loan: LoanLike, *, on: date | None = ..., key: str | None, reason: str | None = ...
    ) -> LoanReceipt:
        """Spread the principal that is past due over the installments to come. Needs "loans.adjust"."""
    def reage(
        self,
        loan: LoanLike,
        *,
        first_due: date,
        installments: int,
        frequency: Frequency | None = ...,
        every: int | None = ...,
        on: date | None = ...,
        key: str | None,
        reason: str | None = ...,
    ) -> LoanReceipt:
        """Ask for all outstanding principal in new installments from ``first_due`` on. Needs "loans.adjust"."""
    def board(self, boarding: Boarding, *, key: str | None) -> Loan:
        """Take in a loan that lives elsewhere at its present state, with its opening balances as a journal."""
    def board_many(self, boardings: Sequence[Boarding], *, key: str | None) -> list[Loan]:
        """Take in many loans in few statements, all or none."""
    def by_number(self, number: int) -> Loan:
        """The loan with a number of the tenant's. Raises ``NotFound``."""
    def schedule(self, loan: LoanLike, edition: int | None = ...) -> list[LoanInstallment]:
        """The installments of a loan by due date: of the current version, or of the one that is named."""
    def transactions(self, loan: LoanLike) -> list[LoanTransaction]:
        """Everything that happened to a loan's money, in the order in which it was recorded."""
    def allocations(self, transaction: TransactionLike) -> list[LoanAllocation]:
        """Every row of where a transaction's money went; sum those of the current version to know where it is."""
    def steps(self, loan: LoanLike) -> list[LoanStatusChange]:
        """The steps of a loan's life, oldest first."""

class Logins:
    """Logins of the tenant's users. ``source`` is the client's address, as your web server sees it.

    Logins run in a session of the application's own ("web:login"), outside a transaction. Raises ``Unavailable`` when
    more passwords are being checked than may stand in line.
    """

    @property
    def passwords(self) -> Passwords:
        """Setting, changing and resetting passwords."""
    @property
    def mfa(self) -> Mfa:
        """Second factors: enrolling, confirming, removing."""
    @property
    def identities(self) -> ExternalIdentities:
        """Subjects of identity providers, instead of passwords."""
    def password(self, email: str, password: str, *, source: str) -> Login:
        """Log somebody in by e-mail address and password. Raises ``LoginRefused``."""
    def external(self, who: ExternalSubject, *, source: str) -> Login:
        """Log somebody in whom an identity provider vouches for, by a token that you have verified.

        A second factor of ours stays due. Raises ``LoginRefused`` for a subject that is nobody's.
        """
    def second_factor(self, challenge: str, code: str, *, source: str) -> Login:
        """Finish a login by a code of the person's app, or one of their recovery codes. Raises ``LoginRefused``.

        A challenge holds once and for some minutes; a wrong code leaves it, and counts like a wrong password.
        """
    def sweep(self, *, older: timedelta = ...) -> int:
        """Remove counts and tokens that have been over for a time; answers how many. For a nightly job."""

class Memberships(Guarded[CommunityMembership]):
    """Who belongs to which community. They change through ``db.communities``."""

    def held(self, community: UUID, user: UserLike) -> CommunityMembership | None:
        """The membership of a user in a community, whatever its status."""
    def locked(self, community: UUID, user: UserLike, lock: Lock) -> CommunityMembership | None:
        """The same, read under a lock ("shared" keeps it from changing until the transaction ends)."""

class Message(Generic[P]):
    """One delivery of a message. Enter it to work: normal exit marks it done, an exception sends it back to wait.

    ``attempt`` counts its deliveries, this one included; ``redelivered`` says that an earlier one may have been
    handled, wholly or in part. An effect outside this database is repeated only if whoever receives it does not know
    ``id`` already; effects inside it happen once in ``transaction()``.
    """

    @property
    def id(self) -> UUID:
        """What stays the same in every delivery; give it to others as their idempotency key."""
    @property
    def topic(self) -> str:
        """What it is about."""
    @property
    def key(self) -> str | None:
        """What it is in order with, where there is an order."""
    @property
    def payload(self) -> P:
        """What it says, as the type that ``claim`` was given. Raises ``Invalid`` where it does not fit."""
    @property
    def personal(self) -> dict[str, Any] | None:
        """What it says of its subject; None once that person was erased."""
    @property
    def subject(self) -> UUID | None:
        """The user whose data ``personal`` is."""
    @property
    def attempt(self) -> int:
        """The how many-th delivery this is."""
    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before."""
    @property
    def added_at(self) -> datetime:
        """When the transaction that added it began, UTC."""
    @property
    def actor(self) -> str:
        """Who added it."""
    @property
    def reason(self) -> str | None:
        """Why, as the session that added it said."""
    @property
    def request_id(self) -> str | None:
        """In which request it was added."""
    def done(self) -> None:
        """Mark it handled. Raises ``LeaseLost`` when the lease ran out and somebody else has it."""
    def fail(self, error: BaseException | type[BaseException] | None = ...) -> None:
        """Send it back to wait for its next delivery, or set it aside as a dead letter when it had enough of them.

        The name of the error's class is kept and never its text, which may quote a person. A lease that is already
        lost is no error.
        """
    def release(self) -> None:
        """Give it back at once, for anybody; a lease that is already lost is no error."""
    def extend(self, lease: timedelta | None = ...) -> None:
        """Hold it, and what else this claim still holds, for so long from now. Raises ``LeaseLost``."""
    def transaction(self) -> AbstractContextManager[Session]:
        """A transaction that handles the message: what is written in it stands exactly if the message is done.

        Raises ``LeaseLost`` at its end, and keeps nothing, when somebody else has the message by then.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class Mfa:
    """Second factors of the tenant's users. What changes one asks again who the person is, and is counted."""

    def enrol(self, user: UserLike, proof: _LoginDeskProof, *, source: str, issuer: str | None = ...) -> Enrolment:
        """Begin: a secret for the person's app, which ``confirm`` puts into force.

        ``proof`` is their password, or an ``ExternalSubject`` that was verified a moment ago. ``issuer`` is the name
        that the app shows, by default the tenant's. Raises ``LoginRefused``, ``Conflict`` where one is in force.
        """
    def confirm(self, user: UserLike, code: str, *, source: str) -> list[str]:
        """Put the second factor into force by a first code; answers the recovery codes, this once.

        That code is used up with it. Raises ``LoginRefused`` for a wrong one, ``Conflict`` where nothing was begun.
        """
    def remove(self, user: UserLike, proof: _LoginDeskProof, code: str, *, source: str) -> None:
        """End the second factor by password (or identity) and a code of the app or a recovery code.

        Raises ``LoginRefused`` for anything wrong.
        """
    def renew_codes(self, user: UserLike, proof: _LoginDeskProof, code: str, *, source: str) -> list[str]:
        """New recovery codes, this once; the old ones work no more. Asks what ``remove`` asks."""
    def reset(self, user: UserLike) -> None:
        """End somebody's second factor who has lost it with all codes, as an administrator; takes "logins.manage".

        Make sure who asks: whoever can have it ended does not need it. Raises ``RoleMissing``, ``NotFound``.
        """
    def codes_left(self, user: UserLike) -> int:
        """How many recovery codes of a person still work."""
    def take(self, user: User, code: str) -> str | None:
        """Use a code up in the open transaction: what it was, "totp" or "recovery code"; None for a wrong one."""

class Outbox:
    """The tenant's messages to the outside and to its own background work."""

    def add(
        self,
        topic: str,
        payload: Any = ...,
        *,
        key: str | None = ...,
        dedupe: str | None = ...,
        subject: User | UUID | None = ...,
        personal: Any = ...,
        not_before: datetime | None = ...,
    ) -> OutboxMessage:
        """Add a message in the open transaction: it is delivered if that commits, and never if it does not.

        ``payload`` is a JSON value or a Struct of up to 64 KiB that is about nobody. ``personal`` is an object about
        the user ``subject``, sealed under that person's key. Messages of one topic and ``key`` are delivered in the
        order of their commits; whoever adds to a key waits for transactions that added to it before. A message with
        the ``dedupe`` of one that is still kept is not added again: the earlier one is answered.

        Raises ``Invalid``, ``UnknownReference``, ``Erased``, and ``KeyReused`` for the same ``dedupe`` with another
        key, payload, subject or personal part.
        """
    @overload
    def claim(
        self, topic: str, *, into: type[T], limit: int = ..., lease: timedelta = ..., retry: Retry | None = ...
    ) -> Iterator[Message[T]]: ...
    @overload
    def claim(
        self, topic: str, *, into: None = ..., limit: int = ..., lease: timedelta = ..., retry: Retry | None = ...
    ) -> Iterator[Message[Any]]: ...
    def dead(self, topic: str | None = ..., *, limit: int = ...) -> list[OutboxMessage]:
        """Dead letters, oldest first: messages given up, whether their key went on or is stuck behind them."""
    def retry(self, id: UUID) -> OutboxMessage:
        """Deliver a dead letter again, with all its attempts. Needs "outbox.manage".

        Where its key went on meanwhile it comes out of order; where the key is stuck it comes in its place. Raises
        ``NotFound``, ``Conflict``.
        """
    def discard(self, id: UUID, reason: str) -> OutboxMessage:
        """Give a message up for good; its key goes on. Needs "outbox.manage", and the reason goes to the audit log.

        Raises ``NotFound``, ``Conflict`` for one that is over already.
        """
    def purge(self, *, older_than: timedelta = ..., batch: int = ...) -> int:
        """Remove messages that were over for so long, a batch a transaction; answers how many. Needs "outbox.manage".

        With a message goes the memory of its ``dedupe``.
        """
    def status(self) -> list[TopicStatus]:
        """What is not over, by topic."""

class OutboxWorkers:
    """The outboxes of all tenants, for programs that handle messages."""

    def run(
        self,
        handlers: Mapping[str, Callable[[Message[Any]], None] | Handling],
        *,
        concurrency: int = ...,
        stop: threading.Event | None = ...,
        until_empty: bool = ...,
        poll: timedelta = ...,
        actor: str = ...,
    ) -> Handled:
        """Hand messages to handlers, by topic, until ``stop`` is set, or with ``until_empty`` until none is due.

        Tenants and topics take turns, a claim each, so that one with a backlog does not hold up the others. A handler
        is called with one message at a time, and ``concurrency`` of them run side by side; what it raises sends its
        message back. After a round that found nothing the next begins when ``poll`` is over. On ``stop`` whoever is at
        work finishes the message in hand, and what was claimed beyond it goes back. Raises ``Invalid``, and with
        ``until_empty`` what kept the last round from seeing whether something is due.
        """

class Passwords:
    """The passwords of the tenant's users. A new one ends open challenges and resets of its person."""

    def set(self, user: UserLike, password: str) -> None:
        """Give an account a password, as an administrator or a registration does; takes "logins.manage".

        Raises ``RoleMissing``, ``NotFound``, ``Invalid`` for an unusable password, ``Conflict`` for an account that an
        identity provider vouches for.
        """
    def change(self, user: UserLike, present: str, new: str, *, source: str) -> None:
        """Change a password by who knows the present one. Raises ``LoginRefused``, ``Invalid`` for an unusable one."""
    def request_reset(self, email: str, *, source: str) -> str | None:
        """A token with which the owner of an address may set a new password, to be sent there and nowhere else.

        None where there is no such account, or one that cannot have a password. Answer your visitor the same in
        both cases, and send the message after that: sending takes time. Requests are counted like logins, apart from
        them, and raise ``LoginRefused``, which says nothing of the account either.
        """
    def reset(self, token: str, new: str) -> None:
        """Set a new password by a token, which holds once and not for long. A second factor stays as it is.

        Raises ``LoginRefused`` for a token that is none, was used or is over; ``Invalid`` for an unusable password,
        which uses nothing up.
        """

class Periods(Repository[Period]):
    """The tenant's accounting periods."""

    def open(self, starts_on: date, ends_on: date, *, name: str | None = ...) -> Period:
        """Add a period that can be posted into. Raises ``Conflict`` where it overlaps another."""
    def covering(self, day: date) -> Period | None:
        """The period of a date."""
    def begin_closing(self, period: UUID) -> Period:
        """Refuse postings from now on, once those under way have ended; needs the permission "ledger.close"."""
    def close(self, period: UUID) -> Period:
        """Close an open or closing period for good; needs the permission "ledger.close"."""

class Portfolio:
    """The tenant's loans as a whole.

    Nothing is computed ahead: every answer is a query, exact at any moment, with no nightly job to wait for and no lock
    to hold up a payment. ``on`` is the business date, today unless given. For a past date an answer is what was
    effective by then as it is known now: a payment that was recorded late counts from its business date, one that was
    taken back never did. A date to come shows who will be late if nobody pays. A boarded loan counts from its boarding.
    While an earlier version of a schedule was in force, its plan is what a loan is measured by; a payment that is dated
    back behind a later version belongs to that one only, and counts from when it came into force.
    """

    def standing(self, loan: LoanLike, on: date | None = ..., *, buckets: Buckets = ...) -> Standing:
        """How late a loan is, and what it has overdue. Raises ``NotFound``, ``Invalid``.

        Days past due are days since the due date with which what is unpaid passed the product's
        ``arrears_tolerance``, less its ``arrears_grace_days``, less the paused days after that date.
        """
    def pause(
        self, loan: LoanLike, starts_on: date, ends_on: date, reason: str | None = ..., *, key: str | None
    ) -> DelinquencyPause:
        """Do not count the days from ``starts_on`` to ``ends_on``, both included, as late; they may be past or to come.

        Needs the permission "loans.adjust". Raises ``Conflict`` where the loan is not active or has a pause on one of
        the days, ``Invalid`` for days before it was paid out.
        """
    def resume(self, loan: LoanLike, on: date | None = ..., *, key: str | None) -> DelinquencyPause:
        """End the pause of a day: that day counts again. Needs "loans.adjust". Raises ``Conflict`` without a pause."""
    def par(self, on: date | None = ..., thresholds: Sequence[int] = ..., *, by: str | None = ...) -> PortfolioAtRisk:
        """Portfolio at risk: the whole outstanding principal of loans that are late, and its part of the portfolio.

        After the Microfinance Consensus Guidelines (CGAP and SEEP, 3rd edition, September 2003): the entire unpaid
        principal, installments to come included and interest not, of loans with anything past due for more than so many
        days; loans that were restructured are at risk however punctual they are, and shown apart. "PAR 1" is, as
        everywhere, a day or more; any other threshold is more days than it says, so that PAR 30 begins with day 31.
        Written-off loans are in neither part; charged-off ones are in both, and shown.

        ``by`` "product" makes a line for each product code, "community" one for each community by its slug, and one
        with the group None for loans outside of any. For today it is one query on ``loan``; a past date is added up
        from history.
        """
    def by_community(self, on: date | None = ...) -> PortfolioAtRisk:
        """The portfolio of each community, and what of it is at risk: ``par`` with its usual thresholds."""
    def delinquency(self, on: date | None = ..., *, buckets: Buckets = ...) -> Delinquency:
        """What is overdue, sorted into buckets by the age of each installment and by the days of each loan."""
    def vintages(
        self,
        on: date | None = ...,
        *,
        by: Span | str = ...,
        measure: Measure | str = ...,
        since: date | None = ...,
        months: int = ...,
    ) -> Vintages:
        """Curves of loss or lateness by when loans were paid out and by months on book; ``since`` skips older cohorts.

        "loss" is one query; the others ask for every month once, by the same rules as ``par``.
        """
    def cash_flow(self, since: date | None = ..., until: date | None = ..., *, by: Span | str = ...) -> ExpectedCash:
        """What active loans are still to pay between two dates, by when it is due, from today's plans.

        What was due before today is overdue and apart from it, so a ``since`` before today begins today. Charged-off
        loans are left out: nothing is expected of them.
        """
    def provisions(self, on: date | None = ..., rates: ProvisionRates = ...) -> Provisions:
        """What is to be set aside for losses: each bucket's principal by its rate, rounded half to even."""
    def worklist(
        self, on: date | None = ..., *, min_days: int = ..., after: str | None = ..., limit: int = ...
    ) -> Page[LateLoan]:
        """A page of late loans, most days past due first. Raises ``Invalid`` for a cursor of another day or tenant."""

class Prices:
    """The market data that all tenants read. Writing takes the permission "prices.record"."""

    def record(self, prices: AssetPrice | Iterable[AssetPrice]) -> Recorded:
        """Keep observations. What a source said of a moment, or of a round then, stands; the latest never goes back.

        An observation whose time, or whose round of the same source, is older than the latest is kept as a fact and
        does not become the latest. Partitions are made as they are needed. Raises ``Invalid``, ``RoleMissing``.
        """
    def latest(self, asset: str, *, quote: str = ...) -> AssetPrice:
        """The latest price of an asset, of all sources. Raises ``NotFound``."""
    def as_of(
        self, asset: str, at: datetime, *, quote: str = ..., source: str | None = ..., max_age: timedelta | None = ...
    ) -> AssetPrice:
        """The last price observed at or before a moment, of one source or of any.

        Weekends and gaps answer the last price before them; with ``max_age`` one that is older is no answer. Raises
        ``NotFound`` where there is none, ``Invalid`` for a moment without a time zone.
        """
    def history(
        self, asset: str, since: datetime, until: datetime, *, quote: str = ..., source: str | None = ...
    ) -> Iterator[AssetPrice]:
        """Every price from ``since`` to before ``until``, oldest first, read in batches."""

class Privacy:
    """The rights of persons within a session's tenant."""

    def request_erasure(self, user: UserLike, *, ground: ErasureGround = ...) -> ErasureRequest:
        """Record that a person asks to be erased; nothing is erased yet. A request that is open is the answer.

        The person asks for themselves, or somebody with "privacy.erase". Raises ``NotFound``, ``RoleMissing``,
        ``Erased`` for a person of whom nothing is left.
        """
    def erase(self, request: ErasureRequest | UUID) -> Erasure:
        """Carry a request out, for every class of data that no hold and no minimum keeps; needs "privacy.erase".

        What is kept comes back with its day and its ground, and the sweep erases it then. Commits by itself. Raises
        ``OnHold`` while a legal hold stands, ``Conflict`` for a request that is done, ``NotFound``, ``Unsupported``
        for keys without a folder and for an application that knows fewer entities than its database.
        """
    def refuse_erasure(self, request: ErasureRequest | UUID, ground: RefusalGround) -> ErasureRequest:
        """Refuse a request, on a ground of Art. 17(3) or 12(5); needs "privacy.erase"."""
    def hold(self, user: UserLike, *, matter: str) -> LegalHold:
        """Keep a person's data from being erased for a matter (its number); needs "privacy.hold".

        The same matter twice is one hold, and what an erasure had to keep is held too. Raises ``NotFound``, ``Erased``
        for a person of whom nothing is left.
        """
    def release(self, hold: LegalHold | UUID) -> LegalHold:
        """End a hold; with the last one a request that waited for it may be carried out. Needs "privacy.hold"."""
    def holds(self, user: UserLike) -> list[LegalHold]:
        """The holds that stand on a person."""
    def restrict(self, user: UserLike, ground: RestrictionGround) -> Restriction:
        """Stop the use of a person's data: every operation behind a consent is refused (``OnHold``) until it is lifted.

        Operations that are under way end first. Needs "privacy.restrict". One that stands is the answer.
        """
    def lift(self, user: UserLike) -> Restriction:
        """End a restriction, after which the person is told (Art. 18(3)). Raises ``NotFound``."""
    def restriction(self, user: UserLike) -> Restriction | None:
        """The restriction that stands on a person."""
    def policies(self) -> dict[str, Policy]:
        """What holds for each retention class: the tenant's own policies over the shipped examples."""
    def set_policy(
        self,
        data_class: str,
        *,
        basis: LegalBasis,
        reason: str,
        citation: str = ...,
        minimum_months: int = ...,
        maximum_months: int | None = ...,
        hold: bool = ...,
    ) -> RetentionPolicy:
        """Decide how long a class is kept, with the ground; needs "privacy.policies".

        Raises ``Invalid``, for a class too that neither an entity nor an example has.
        """
    def explain(self) -> list[Line]:
        """What ``sweep`` would do now: how many, of which class and entity, and why; nothing is changed.

        Raises like ``sweep``.
        """
    def sweep(self, *, batch: int = ...) -> Iterator[Batch]:
        """Erase what is due, a batch at a time, each committed: stopped anywhere it is simply run again.

        Raises ``Unsupported`` for an application that knows fewer entities than its database.
        """
    def export(
        self, user: UserLike, path: str | PathLike[str], *, reason: str, key: Any = ..., over_limit: bool = ...
    ) -> Manifest:
        """Write everything that is held about a person to a new folder, signed; see ``export.py``.

        The person asks for themselves, or somebody with "privacy.export"; the reason is recorded, and so is every
        secret that was opened for it. ``key`` signs (Ed25519), by default the sealing key. The data of one person is
        exported three times a day (UTC) at most, attempts that failed half way included; with "privacy.export_tenant",
        ``over_limit`` lifts that, which is recorded, and is not counted. Raises ``RoleMissing``, ``NotFound``,
        ``QuotaExceeded``, ``Invalid`` for a folder that is there, ``NotProvisioned`` without a key.
        """
    def export_tenant(self, path: str | PathLike[str], *, reason: str, key: Any = ...) -> Manifest:
        """Write everything the tenant has to a new folder, opened and signed; see ``export.py``."""
    def offboard(self, path: str | PathLike[str], *, confirm: str, reason: str, key: Any = ...) -> Offboarded:
        """Export the tenant, close it and end every epoch of its keys; cannot be undone. See ``offboard.py``."""

class Products(Repository[LoanProduct]):
    """The tenant's loan products."""

    def add(self, entity: LoanProduct) -> LoanProduct:
        """Store a product and open the accounts that its loans post to, where they are not open yet."""
    def current(self, code: str) -> LoanProduct:
        """The edition of a product that new loans use. Raises ``NotFound``."""
    def revise(self, product: LoanProduct | UUID, **changes: Any) -> LoanProduct:
        """Make the next edition of a product and retire this one; loans made with it keep it.

        Raises ``Conflict`` when it was revised already, ``Invalid`` for fields that are not policies.
        """
    def calendar_of(self, product: LoanProduct) -> HolidayCalendar:
        """The days off of a product's calendar; none where it has no calendar."""

class Profiles(Repository[UserProfile]):
    """The users' profiles."""

    def of_user(self, user: UserLike) -> UserProfile | None:
        """The profile of a user."""
    def with_ssn(self, ssn: str) -> list[UserProfile]:
        """Every profile with this number, whatever its punctuation: more than one is the same person twice."""

class Proofs(Guarded[Proof]):
    """Proofs and the requests for them. Their status is moved by the database alone, whoever asks."""

    def request(
        self,
        circuit: Circuit | str,
        *,
        scope: str,
        purpose: str,
        user: UserLike | None = ...,
        expected: Mapping[str, int | str] | None = ...,
        answer_within: timedelta = ...,
        good_for: timedelta = ...,
    ) -> Proof:
        """Ask for one proof. The challenge and the context that binds the proof to it are made here, never outside.

        A request about a user takes their consent to ``Purpose.ZK_PROOF``. ``expected`` says what signals have to be,
        by name; ``scope`` is in what one person may prove once. Raises ``ConsentMissing``, ``NotFound`` for an unknown
        circuit or one without a key, ``Invalid``.
        """
    def receive(
        self, request: Proof | UUID, proof: bytes, public_signals: Sequence[str], *, nullifier: int | None = ...
    ) -> Proof:
        """Take in the proof that answers a request, once; it is checked for form and not yet for truth.

        Signals are decimal text, each below the circuit's modulus, in the circuit's order; those that the server fixed
        have to be what it fixed. ``nullifier`` is for circuits that show none among their signals. Raises ``Invalid``,
        ``Conflict`` for a request that was answered or is over, ``NotFound``, ``ConsentMissing``.
        """
    def verify(self, proof: Proof | UUID, *, verifier: _VerifierVerifier | None = ...) -> Proof:
        """Have a received proof judged by the verifier that is installed, or the one that is given.

        The check itself runs outside any transaction. What it finds is attested by the verifier, and the database
        takes it from nobody else. A proof whose nullifier was used in its scope before is rejected. When the check
        could not be made the proof is in ``error`` and may be tried again. Raises ``Unavailable`` without a verifier or
        when it cannot sign, ``Conflict`` for a proof that is not waiting for a verdict, ``Denied`` for an attestation
        that does not fit, ``Invalid``.
        """
    def consume(self, proof: Proof | UUID, *, reason: str, key: str | None = ...) -> Proof:
        """Use a verified proof, for the one time that it can be used.

        A repetition with its ``key`` is answered with what was done (that needs the ledger domain, which remembers
        keys). Raises ``Conflict`` for a proof that is not verified, was used or revoked, or has expired.
        """
    def revoke(self, proof: Proof | UUID, *, reason: str) -> Proof:
        """Take a verified proof back before it was used; its nullifier stays taken.

        Raises ``Conflict`` for a proof that is not verified, ``RoleMissing`` without "proofs.manage".
        """
    def events(self, proof: Proof | UUID) -> list[ProofEvent]:
        """What happened to a proof since it was received, in order."""
    def purge_unanswered(self) -> int:
        """Remove for good requests that were never answered and are over; answers how many."""

class ProtectionRules(Repository[ProtectionRule]):
    """The protection rules of the tenant's vaults."""

    ...

class Reader(Generic[E]):
    """What can be read of one kind of entity within a session's tenant; ``Repository`` adds what changes it."""

    def get(self, id: UUID, *, load: Sequence[Any] = ...) -> E:
        """The entity with that id. Raises ``NotFound``; archived entities are found too."""
    def get_or_none(self, id: UUID, *, load: Sequence[Any] = ...) -> E | None:
        """The entity with that id, or None."""
    def one(self, *where: Where, load: Sequence[Any] = ...) -> E:
        """The only entity that matches. Raises ``NotFound`` for none and ``Conflict`` for several."""
    def find(self, *where: Where, order: Any = ..., limit: int | None = ..., load: Sequence[Any] = ...) -> list[E]:
        """The entities that match, oldest id first unless ``order`` says otherwise.

        Without a limit it stops at 10,000 with ``Invalid``: a list that long belongs in ``stream``.
        """
    def page(
        self, *where: Where, order: Any = ..., after: str | Offset | None = ..., limit: int = ..., count: bool = ...
    ) -> Page[E]:
        """One page: keyset by default, so page 500 costs what page 1 does and concurrent inserts shift nothing.

        ``after`` is the ``next`` of the page before, or an ``Offset``. ``limit`` is 1 to 1,000. ``count`` also
        counts all matches. Raises ``Invalid`` for a cursor of another tenant, query or order.
        """
    def explain(self, *where: Where, order: Any = ..., limit: int | None = ..., analyze: bool = ...) -> QueryPlan:
        """How the database reads what ``find`` asks for, and no value; ``analyze`` runs it. Raises like ``find``."""
    def stream(self, *where: Where, order: Any = ..., batch: int = ...) -> Iterator[E]:
        """Every match, a batch at a time by keyset, holding no connection and no snapshot between batches.

        Inside a repeatable-read transaction the whole stream sees one snapshot.
        """
    def count(self, *where: Where) -> int:
        """How many match."""
    def exists(self, *where: Where) -> bool:
        """Whether any matches."""

class Repositories:
    """The entities of the application, as one session may read and write them."""

    def __getitem__(self, entity: type[E]) -> Repository[E]:
        """The repository of an entity that this application was opened with."""
    @property
    def entities(self) -> frozenset[type[Entity]]:
        """Every entity of the application, built in or its own."""
    def actual(self, entity: type[Entity]) -> type[Entity]:
        """The class that this application has rows of an entity in: its extension, where there is one."""
    @overload
    def load(self, items: Iterable[Entity], ref: Backref[E], /) -> dict[UUID, list[E]]: ...
    @overload
    def load(self, items: Iterable[E], ref: Any, /, *more: Any) -> list[E]: ...
    @property
    def audit(self) -> Trail:
        """The tenant's audit log: record events of the application's own, read what happened."""
    @property
    def privacy(self) -> Privacy:
        """The persons' rights: erasure, legal hold, restriction, export, retention."""
    @property
    def users(self) -> Users:
        """The tenant's user accounts."""
    @property
    def wallets(self) -> Wallets:
        """The users' blockchain wallets."""
    @property
    def profiles(self) -> Profiles:
        """The persons behind the accounts."""
    @property
    def consents(self) -> Consents:
        """What persons agreed to, and the gate that operations ask."""
    @property
    def custom_fields(self) -> CustomFields:
        """What this tenant adds to entities that take custom fields."""
    @property
    def logins(self) -> Logins:
        """Who somebody is: passwords, second factors, identity providers."""
    @property
    def applications(self) -> Applications:
        """Loan applications."""
    @property
    def decisions(self) -> Decisions:
        """Decisions on loan applications; append-only."""
    @property
    def notices(self) -> AdverseActionNotices:
        """What declined applicants have to be told, and by when."""
    @property
    def reviews(self) -> Reviews:
        """Applications that a person looks at."""
    @property
    def counter_offers(self) -> CounterOffers:
        """Other terms than applicants asked for."""
    @property
    def fairness(self) -> Fairness:
        """How groups fare in decisions, and flags where one is selected too rarely."""
    @property
    def devices(self) -> Devices:
        """The tenant's cloud devices."""
    @property
    def device_tasks(self) -> DeviceTasks:
        """What devices have to do."""
    @property
    def products(self) -> Products:
        """Loan products: what may be lent, and by which rules."""
    @property
    def loans(self) -> Loans:
        """Loans, and everything that happens to them."""
    @property
    def portfolio(self) -> Portfolio:
        """All loans together: who is late, what is at risk, what is to come in."""
    @property
    def communities(self) -> Communities:
        """Communities: their members, roles and gates."""
    @property
    def memberships(self) -> Memberships:
        """Who belongs to which community, as what; they change through ``communities``."""
    @property
    def trust(self) -> Trust:
        """Who trusts whom, and the scores that follow from it."""
    @property
    def endorsements(self) -> Endorsements:
        """Who vouches for whom, and the stakes behind it."""
    @property
    def circles(self) -> Circles:
        """Savings circles: groups whose members pay in each round, and each receive the pot once."""
    @property
    def behavior(self) -> BehaviorSessions:
        """Sessions in which users' behaviour came in."""
    @property
    def inputs(self) -> Inputs:
        """What users did, to be processed into scores."""
    @property
    def scores(self) -> Scores:
        """What models made of users' inputs; append-only, each behind a consent."""
    @property
    def analyses(self) -> Analyses:
        """AI analyses of users, each behind a consent and for a limited time."""
    @property
    def reputation(self) -> Reputations:
        """How well users are thought of, worked out from the evidence when somebody asks."""
    @property
    def circuits(self) -> Circuits:
        """What can be proved, and the keys by which proofs are checked."""
    @property
    def proofs(self) -> Proofs:
        """Proofs: asked for, received, judged, used once."""
    @property
    def verifier(self) -> Verifier | None:
        """Who judges proofs here, where a verifier is installed."""
    @property
    def ledger(self) -> Ledger:
        """The tenant's books: accounts, journals, balances."""
    @property
    def agents(self) -> Agents:
        """Who runs vaults."""
    @property
    def vault_assets(self) -> VaultAssets:
        """What vaults may hold and owe, with its risk parameters."""
    @property
    def vaults(self) -> Vaults:
        """Vaults: positions, prices applied to them, liquidations."""
    @property
    def risk_alerts(self) -> RiskAlerts:
        """What is wrong with vaults."""
    @property
    def protection_rules(self) -> ProtectionRules:
        """What is done for vaults when they get worse."""
    @property
    def prices(self) -> Prices:
        """The market data that all tenants share."""
    @property
    def outbox(self) -> Outbox:
        """Messages that leave with the transaction that adds them."""

class Repository(Reader[E]):
    """One kind of entity within a session's tenant.

    ``db[Visit]`` makes one; a domain subclasses it to add its operations, and ``db[Loan]`` then answers that
    subclass. Conditions are positional and all must hold; a bool is accepted only because that is what type
    checkers see in ``Visit.status == ...``.
    """

    def history(self, id: UUID) -> list[Version[E]]:
        """Every version of one row, oldest first: who made it, when, why, what it changed; "audit.read" is needed.

        Versions whose bodies were dropped by policy are not there. Raises ``RoleMissing``, and ``Invalid`` for an
        entity that is not audited or beyond 10,000 versions.
        """
    def as_of(self, id: UUID, moment: datetime) -> E | None:
        """The row as it was at a moment, None when it did not exist then; "audit.read" is needed.

        A change counts from when it was made, which is shortly before it was committed. Raises like ``history``.
        """
    def add(self, entity: E) -> E:
        """Store a new entity; answers it with its tenant, version and stamps.

        Raises ``Invalid``, ``Duplicate``, ``UnknownReference``, ``WrongTenant``.
        """
    def add_many(self, entities: Iterable[E]) -> list[E]:
        """Store new entities, all or none, in one statement per 10,000."""
    def upsert(self, entity: E, *, on: Any) -> E:
        """Store the entity, or replace the one that has the same values in a declared unique rule.

        ``on`` is the rule's field, or its fields. One atomic statement: callers that race all get the one row.
        """
    def update(self, entity: E, /, **changes: Any) -> E:
        """Change fields of an entity if nobody else has changed it since; answers the new one.

        Only fields that differ are written; when none does, nothing is. Raises ``StaleVersion``, ``NotFound``,
        ``InvalidTransition``, ``Invalid``.
        """
    def update_where(self, *where: Where, **changes: Any) -> int:
        """Set fields on every match, whatever its version; answers how many. At least one condition is required."""
    def archive(self, entity: E) -> E:
        """Set the entity aside: finds and unique rules no longer see it, ``get`` still does."""
    def restore(self, entity: E) -> E:
        """Bring an archived entity back. Raises ``Duplicate`` when its unique values were taken meanwhile."""
    def purge(self, entity: E | UUID, *, reason: str) -> None:
        """Remove one row for good. The reason goes with the change to whoever records it."""
    def purge_where(self, *where: Where, reason: str) -> int:
        """Remove every match for good, archived ones included; answers how many."""
    def lock(self, id: UUID, *, wait: bool = ..., skip: bool = ...) -> E:
        """Read the entity and keep others from changing it until the transaction ends.

        Raises ``NotFound`` (also for a row that ``skip`` passes over) and ``Conflict`` when ``wait`` is False and
        somebody else holds it. Needs an open transaction, because a lock ends with one.
        """
    def claim(self, *, limit: int = ..., lease: timedelta = ...) -> Iterator[Claimed[E]]:
        """Lease up to ``limit`` work items that nobody else holds, oldest first.

        Iterate, and enter each item: leaving normally marks it done, leaving by an exception gives it back. Two
        workers never hold one item; a worker that dies loses its lease when ``lease`` is over.
        """
    def reveal(self, id: UUID, field: Any, *, reason: str) -> Any:
        """Open one sealed field of one row, for a stated reason, in a session that may; the opening is recorded.

        Raises ``RoleMissing``, ``NotFound``, ``Tampered``.
        """

class Reputations(Guarded[ReputationRecord]):
    """The users' reputation: ``observe`` experiences, ask for a ``standing``, ``publish`` what it was in a period."""

    def observe(
        self,
        user: UserLike,
        category: ScoringCategory = ...,
        *,
        good: bool,
        count: int = ...,
        weight: Decimal = ...,
        at: datetime | None = ...,
        external_id: str | None = ...,
        score: Score | None = ...,
    ) -> ReputationEvidence:
        """Record ``count`` experiences with a user at a moment; a batch comes to the same as one by one.

        Raises ``Duplicate`` for an ``external_id`` that was counted before, ``UnknownReference``, ``Invalid``.
        """
    def cancel(self, evidence: ReputationEvidence | UUID, *, reason: str) -> ReputationEvidence:
        """Take a mistaken experience back, from now on; reputations as of before still count it.

        Raises ``Duplicate`` when it was cancelled before, ``NotFound``, ``Invalid`` for what is itself a cancellation,
        and ``RoleMissing`` without "reputation.manage".
        """
    def standing(
        self,
        user: UserLike,
        category: ScoringCategory = ...,
        *,
        as_of: datetime | None = ...,
        policy: ReputationPolicy = ...,
    ) -> _ReputationStanding:
        """A user's reputation as of a moment, decay included: worked out from the evidence, nothing is written.

        Somebody unknown has what the policy assumes of them. Raises ``Invalid``.
        """
    def publish(
        self,
        user: UserLike,
        category: ScoringCategory = ...,
        period: ScoringPeriod = ...,
        *,
        at: datetime | None = ...,
        policy: ReputationPolicy = ...,
    ) -> ReputationRecord:
        """Add what a user's reputation is at a moment to the series, as the record of the period it lies in.

        A period has one record; ``revise`` corrects it. Raises ``Duplicate`` for a period that has one, ``Invalid``.
        """
    def revise(
        self, record: ReputationRecord, *, policy: ReputationPolicy = ..., at: datetime | None = ...
    ) -> ReputationRecord:
        """Work a period's record out again, from the evidence there is now; the new row supersedes the last.

        ``at`` is a moment of the period, by default that of the record. Raises ``Conflict`` when the record is not the
        last of its period or was revoked, ``RoleMissing`` without "reputation.manage".
        """
    def dispute(self, record: ReputationRecord, *, reason: str) -> ReputationRecord:
        """Mark a record as disputed, by a further row. Raises ``Conflict`` unless it is active and the last."""
    def uphold(self, record: ReputationRecord) -> ReputationRecord:
        """End a dispute in favour of the record. Raises ``Conflict`` unless it is disputed and the last."""
    def revoke(self, record: ReputationRecord, *, reason: str) -> ReputationRecord:
        """Take a record back for good, by a further row. Raises ``Conflict`` when that was done, or it is not the last.

        Disputing, upholding and revoking take the permission "reputation.manage".
        """
    def series(
        self, user: UserLike, category: ScoringCategory = ..., period: ScoringPeriod = ..., *, superseded: bool = ...
    ) -> list[ReputationRecord]:
        """A user's records, period by period, oldest first; those that were superseded only where they are asked for.

        A superseded row is answered with that status, which follows from the row after it.
        """
    def summary(
        self, user: UserLike, *, as_of: datetime | None = ..., policy: ReputationPolicy = ...
    ) -> UserReputationSummary:
        """Everything that is known of a user's reputation: by category and overall, with scores and activity."""

class Reviews(Guarded[ReviewTask]):
    """The tenant's reviews. Reviewers need the permission "applications.review", and "applications.assign" for others.

    An escalated task is claimed only with the permission "applications.decide".
    """

    def open(self, application: Application | UUID, reason: str) -> ReviewTask:
        """Ask for a person's look at an application in scoring or review; it is in review then.

        Raises ``Duplicate`` while one stands, ``Conflict`` for another status, ``NotFound``.
        """
    def take(self, task: ReviewTask | UUID, reviewer: UserLike, *, lease: timedelta = ...) -> ReviewTask:
        """Take a task for a reviewer until the lease is over.

        Whoever has it takes it again to keep it for longer. Raises ``Conflict`` while another holds it or when the
        application is no longer in review, ``Denied`` for the applicant and who entered it, ``RoleMissing``.
        """
    def take_next(self, reviewer: UserLike, *, lease: timedelta = ...) -> ReviewTask | None:
        """Take the oldest task that nobody holds and the reviewer may resolve; None when there is none.

        One whose lease ran out comes before those that nobody had yet; an escalated one is taken by name. Two
        reviewers who ask at once get different tasks, and neither waits.
        """
    def release(self, task: ReviewTask | UUID, reviewer: UserLike) -> ReviewTask:
        """Give a claimed task back. Raises ``LeaseLost``."""
    def escalate(self, task: ReviewTask | UUID, reviewer: UserLike, reason: str) -> ReviewTask:
        """Hand a claimed task to somebody who may decide any application. Raises ``LeaseLost``."""
    def resolve(
        self,
        task: ReviewTask | UUID,
        reviewer: UserLike,
        outcome: Outcome,
        *,
        reasons: Iterable[ReasonCode] | None = ...,
        other_reason: str | None = ...,
        key: str | None = ...,
    ) -> Application:
        """Approve or decline the application of a claimed task, which is the final decision on it.

        Raises ``LeaseLost`` when the claim is over or another's, ``Denied`` where four eyes are missing, ``Conflict``
        when it is decided already, ``Invalid`` for a decline without reasons. A repetition with its ``key`` answers
        what was done.
        """
    def expire(self, before: datetime) -> int:
        """End tasks that were opened before a moment and still stand; answers how many.

        Their applications stay in review, where another can be opened. Needs the permission "applications.manage".
        """

class RiskAlerts(Repository[RiskAlert]):
    """The alerts of the tenant's vaults."""

    def acknowledge(self, alert: RiskAlert) -> RiskAlert:
        """Say that somebody looks after it. Raises ``InvalidTransition``, ``StaleVersion``."""
    def suppress(self, alert: RiskAlert) -> RiskAlert:
        """Keep it from being looked at, and from being raised again, until it is right by itself."""
    def resolve(self, alert: RiskAlert) -> RiskAlert:
        """Close it by hand; the next tick raises it again if it still holds."""

class Scores(Repository[Score]):
    """Scores of the tenant's users; each stands behind a consent, which the database asks for again."""

    def add(
        self, entity: Score, *, consent: Consent | None = ..., inputs: Iterable[BehaviorInput | UUID] | None = ...
    ) -> Score:
        """Store a score under the consent that the person gave before it was made.

        Run the model between ``db.consents.require(...)`` and this, outside a transaction: here the consent is asked
        for again and held until the score is stored. ``inputs`` are the inputs it was made of: one or more of the
        user's, in any order. Raises ``ConsentMissing`` when it was taken back meanwhile, ``Duplicate`` when the model
        scored this set before, ``UnknownReference`` for inputs that are not there, ``Invalid``.
        """
    def latest(self, user: UserLike, category: ScoringCategory = ..., *, model: str | None = ...) -> Score | None:
        """The newest score of a user in a category, of one model where it is named."""

class Session(Repositories):
    """What an application works through: everything it reads and writes is this tenant's, by this actor.

    A session is cheap and belongs to one task: one per request or job. Outside ``transaction()`` each call commits.
    """

    @property
    def tenant(self) -> TenantInfo: ...
    @property
    def tenant_id(self) -> UUID: ...
    @property
    def actor(self) -> str: ...
    def transaction(self, isolation: Isolation | None = ..., *, read_only: bool = ...) -> Transaction:
        """A block that commits or rolls back as one and never runs twice; nested, a savepoint.

        ``isolation`` is "read committed" (PostgreSQL's default), "repeatable read" or "serializable". Raises
        ``CommitUnknown`` when the connection is lost while committing.
        """
    def atomic(self, fn: Callable[[Session], R], *, attempts: int = ..., isolation: Isolation | None = ...) -> R:
        """Run ``fn(db)`` in a transaction and replay it when it lost a race that the server proved rolled back.

        ``fn`` may run several times, so it must do nothing but database work. A ``CommitUnknown`` is never
        replayed. Raises ``Serialization`` when all attempts lost.
        """
    def require(self, permission: str) -> None:
        """Raise ``RoleMissing`` unless this session's actor holds the permission (say, "applications.decide")."""
    def tenant_record(self) -> Tenant:
        """The tenant's own record: settings, flags, plan, limits."""
    def consume(self, metric: str, amount: int = ..., *, period: date | None = ...) -> int:
        """Count towards a quota of the tenant, race-free; answers what is used now. Raises ``QuotaExceeded``."""
    def has(self, domain: str) -> bool:
        """Whether the application has a built-in domain ("lending", "community", ...)."""
    def now(self) -> datetime:
        """The present moment, UTC, by the application's clock."""
    def today(self) -> date:
        """The tenant's business date: its time zone and cut-off decide when the day turns."""
    def fetch(self, statement: Any, *, into: type[R]) -> list[R]:
        """Run a SELECT of your own (SQLAlchemy Core) inside the tenant's wall; rows become ``into``.

        The tenant's predicate is added to every tenant table of the statement. ``into`` is a msgspec Struct,
        dataclass, TypedDict, or ``dict``. Raises ``Unsupported`` for anything but a SELECT, and for raw text.
        """
    def explain(self, statement: Any, *, analyze: bool = ...) -> QueryPlan:
        """How the database would read a SELECT of your own; see ``Repository.explain``. Raises like ``fetch``."""
    def close(self) -> None:
        """End the session; an open transaction is rolled back, one that was joined stays the application's."""

class SessionContext:
    """``with tally.session(...) as db``."""

    def __enter__(self) -> Session: ...
    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class Tallystick:
    """An application's hold on its database: one per process and event loop.

    Make it with ``Tallystick.open(...)`` and enter it. Without a database URL (argument, ``DATABASE_URL`` and its
    relatives) it runs on an embedded PostgreSQL in ``TALLYSTICK_DATA_DIR`` or ``.tallystick/``.
    """

    @property
    def settings(self) -> Settings: ...
    @property
    def verifier(self) -> Verifier | None: ...
    @property
    def login_policy(self) -> LoginPolicy: ...
    @property
    def domains(self) -> tuple[str, ...]: ...
    @property
    def entities(self) -> tuple[type[Entity], ...]: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def keys(self) -> KeyProvider | None: ...
    @property
    def tenants(self) -> Tenants: ...
    @property
    def extensions(self) -> dict[type[Entity], type[Entity]]: ...
    @classmethod
    def open(
        cls,
        url: str | None = ...,
        *,
        domains: Iterable[str] | None = ...,
        entities: Iterable[type[Entity]] = ...,
        settings: Settings | None = ...,
        keys: KeyProvider | None = ...,
        clock: Clock | None = ...,
        version_locations: Sequence[str | Path] = ...,
        verifier: _VerifierVerifier | None = ...,
        logins: LoginPolicy | None = ...,
        on_statement: OnStatement | None = ...,
    ) -> Self:
        """Describe an application; nothing is touched until it is entered.

        ``domains`` chooses the built-in domains (all by default), ``entities`` are your own. ``keys`` is the key
        provider of sealed fields; without it ``TALLYSTICK_KEY_FILE`` is used, and on the embedded server a
        development key. ``version_locations`` are folders with Alembic revisions of your own entities.
        ``verifier`` judges proofs; without one ``db.proofs.verify`` answers ``Unavailable``. ``logins`` are the rules
        of ``db.logins``, what a password's hash costs first of all. ``on_statement`` is called with a ``StatementRun``
        after every statement, on the event loop: for tracing, so it should be quick; what it raises is logged.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def start(self) -> None:
        """Start the embedded server when it is the one to use, and check who we are on any other.

        Raises ``Unavailable``, ``NotProvisioned``, and ``Denied`` for a role that the tenant wall would not hold or a
        hardened database without its key, ``Invalid`` for a tenant key on a database that is not hardened.
        """
    def close(self) -> None:
        """Close every connection; the embedded server stops when its last user leaves."""
    def migrate(self, **options: Any) -> MigrationReport:
        """Bring the schema to what this code and its entities need, as the admin role.

        On the embedded server it provisions first. Raises ``MigrationUnsafe`` with the corrected migration when a
        step would block or lose something, ``NotProvisioned`` without ``TALLYSTICK_ADMIN_URL``.
        """
    def ready(self) -> None:
        """Check once that the schema is at what this code needs. Raises ``NotMigrated``."""
    def metrics(self) -> Metrics:
        """How this process uses its database: connections, times and errors of statements, whether it is migrated.

        ``metrics().text()`` is what Prometheus reads. Asks the server for its revisions; raises ``Unavailable``.
        """
    def connections(self) -> Budget:
        """How what the worker processes may open together fits in what the server has now. Raises ``Unavailable``."""
    def session(
        self,
        tenant: str | UUID | TenantInfo,
        *,
        actor: str,
        permissions: Iterable[str] | None = ...,
        reason: str | None = ...,
        request_id: str | None = ...,
    ) -> SessionContext:
        """A session for one tenant (slug, id or info) and one actor: ``with tally.session(...) as db``.

        ``actor`` is free text that every write records ("user:<id>", "job:nightly"). ``permissions`` are what it
        may do; by default those of the user account that "user:<id>" names. ``reason`` (why, up to 500 characters)
        and ``request_id`` go into the audit log with every change. ``connection`` is asyncpg's or SQLAlchemy's with
        a transaction of the application's own open on it, which the session then joins (docs/joining.md); whether
        that commits is the application's affair. Raises ``NotFound`` for an unknown tenant, ``Denied`` for an
        inactive one, ``NotMigrated``; of a connection, ``Invalid``, ``NotProvisioned`` and ``Unsupported``.
        """
    def system(self, *, actor: str = ..., reason: str | None = ..., request_id: str | None = ...) -> Iterator[Session]:
        """One session after another, for every active tenant: ``for db in tally.system(): ...``.

        There is no session that sees several tenants; work across them is a loop.
        """
    @property
    def audit(self) -> AuditLog:
        """The audit logs of all tenants: ``seal()``, ``status()``, ``prove()``, ``export()``, by the sealing role."""
    @property
    def outbox(self) -> OutboxWorkers:
        """The outboxes of all tenants: ``run()`` hands their messages to handlers."""
    @property
    def admin_url(self) -> str:
        """The URL that provisions and migrates. Raises ``NotProvisioned`` when none is configured."""
    @property
    def known(self) -> frozenset[type[Entity]]:
        """Every entity of this application, built in or its own."""
    @property
    def version_locations(self) -> tuple[str | Path, ...]:
        """The folders with revisions of the application's own entities."""
    @property
    def specs(self) -> tuple[EntitySpec, ...]:
        """What the entities that this application was opened with are made of."""
    @property
    def is_ready(self) -> bool:
        """Whether role and schema were checked."""
    def check_known(self, entity: type[Entity]) -> None:
        """Raise ``Invalid`` for an entity this application was not opened with."""

class Tenants:
    """The registry of tenants: not itself tenant data, so reached through the application and not a session."""

    def create(self, slug: str, *, name: str, **options: Any) -> TenantInfo:
        """Register a tenant. Options are the settable fields of ``Tenant``. Raises ``Duplicate``, ``Invalid``."""
    def known(self, tenant: Any) -> TenantInfo | None:
        """A tenant resolved within the last half minute; no I/O."""
    def resolve(self, tenant: str | UUID | TenantInfo | None) -> TenantInfo:
        """The tenant of a slug or id. Raises ``TenantMissing`` for none, ``NotFound``, ``Denied`` when inactive."""
    def find(self, tenant: str | UUID | TenantInfo | None) -> TenantInfo:
        """The tenant of a slug or id, active or not. Raises ``TenantMissing`` for none, ``NotFound``."""
    def all(self) -> Iterator[tuple[UUID, str, bool]]:
        """Id, slug and whether active, of every tenant, by slug."""
    def record(self, db: Session) -> Tenant:
        """The session's own tenant."""
    def update(self, db: Session, **changes: Any) -> Tenant:
        """Change the session's own tenant; needs the permission "tenant.manage".

        Give ``version`` to be told (``StaleVersion``) when somebody else changed it since.
        """
    def consume(self, db: Session, metric: str, amount: int, period: date | None) -> int:
        """Count towards a quota in one guarded statement; see ``Session.consume``."""

class Trail:
    """A tenant's audit log within a session: ``record`` events, read ``entries``."""

    def record(self, event: AuditEvent) -> int:
        """Put an event of the application's own into the log; answers its sequence number.

        It stands and falls with the open transaction, or commits by itself. Raises ``Invalid`` for an event that is
        no ``AuditEvent``, too long or of wrong types.
        """
    def entries(
        self,
        table: type[Entity] | str | None = ...,
        *,
        key: UUID | str | None = ...,
        actor: str | None = ...,
        ops: Iterable[str] = ...,
        since: datetime | None = ...,
        until: datetime | None = ...,
        after: str | None = ...,
        limit: int = ...,
    ) -> Page[AuditEntry]:
        """One page of the log, oldest first, behind the permission "audit.read".

        ``table`` is an entity or a logical table's name, ``key`` a row of it; ``ops`` are keys of ``OPS``. ``since``
        and ``until`` bound the time of the change (until itself not included); ``actor`` needs one of them or a
        table, because there is no index on it. ``after`` is the ``next`` of the page before. Entries whose bodies
        were dropped by policy are not there any more. Raises ``RoleMissing``, ``Invalid``.
        """

class Transaction:
    """``with db.transaction()``: commits at the end, rolls back when the block raises; nested, a savepoint."""

    def __enter__(self) -> None: ...
    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None: ...

class Trust(Guarded[TrustEdge]):
    """Who trusts whom, and what follows from it.

    A graph is a community's own, or, without a community, the tenant's outside of any.
    """

    def connect(
        self,
        from_user: UserLike,
        to_user: UserLike,
        weight: int,
        *,
        community: UUID | None = ...,
        on: date | None = ...,
    ) -> TrustEdge:
        """Say how much one user trusts another, -10 to 10, from a day on; what was said before ends that day.

        The same weight again changes nothing. One does it for oneself, or with the permission "communities.manage";
        in a community both are active members. Raises ``Invalid`` for oneself, for a weight that is no whole number in
        the range and for a day before the last change, ``RoleMissing``, ``Denied``, ``NotFound``.
        """
    def disconnect(
        self, from_user: UserLike, to_user: UserLike, *, community: UUID | None = ..., on: date | None = ...
    ) -> TrustEdge:
        """Say nothing of another any more, from a day on. Raises ``NotFound`` where nothing is said."""
    def scores(self, community: UUID | None = ..., *, as_of: date | None = ...) -> dict[UUID, float]:
        """How much each member of a graph is trusted by all, as of a day: EigenTrust, shares that add up to one.

        In a community those with the role that governance names are trusted beforehand; outside of any, everybody is.
        """
    def score(self, user: UserLike, community: UUID, *, as_of: date | None = ...) -> TrustScore:
        """How much a user is to be trusted in a community, 0 to 1, and what makes it: each part with its evidence.

        The parts are the trust network, endorsements with their stakes, and the repayment record; the community's
        governance weighs them. A part without evidence says why and takes no share. Raises ``NotFound``.
        """
    def graph(self, community: UUID | None = ..., *, as_of: date | None = ...) -> TrustGraph:
        """The shape of a graph as of a day: members, edges, components, how much is mutual."""

class Users(Repository[User]):
    """The tenant's user accounts. What people log in with is changed by ``db.logins``, which judges and records it."""

    def update(self, entity: User, /, **changes: Any) -> User:
        """``Repository.update``, of anything but a password or second factor. Raises ``Invalid`` for those."""
    def update_where(self, *where: _RepositoryWhere, **changes: Any) -> int:
        """``Repository.update_where``, of anything but passwords and second factors. Raises ``Invalid`` for those."""
    def upsert(self, entity: User, *, on: Any) -> User:
        """``Repository.upsert``, of accounts that nobody logs in with yet: it would replace how they do.

        Raises ``Invalid`` for a given password or second factor, ``Conflict`` for an account that has one.
        """
    def by_email(self, email: str) -> User | None:
        """The account with this e-mail address, whatever its case; found through the blind index."""

class VaultAssets(Repository[VaultAsset]):
    """The assets of the tenant's vaults. An update of a parameter revalues every vault that it touches."""

    def by_code(self, code: str) -> VaultAsset:
        """The asset of a code. Raises ``NotFound``."""

class Vaults(Guarded[Vault]):
    """The tenant's vaults. Values, LTV and health factor are read here and written by nobody but the database."""

    def open(
        self,
        *,
        agent: Agent | Ref[Agent] | UUID,
        chain_id: int,
        external_id: str,
        contract: bytes | None = ...,
        quote: str = ...,
        collateral: Quantities = ...,
        debt: Quantities = ...,
        max_ltv: Decimal | str = ...,
        warn_health: Decimal | str = ...,
        protection: Protection | None = ...,
    ) -> Vault:
        """Open a vault as the chain has it: positions in base units by asset, limits, and a protection rule.

        Raises ``Duplicate`` for a vault of the chain that is there already, ``Invalid``, ``Conflict`` for an asset
        without a price in the vault's quote.
        """
    def positions(self, vault: VaultLike) -> list[VaultPosition]:
        """What a vault holds and owes."""
    def set_positions(self, vault: VaultLike, *, collateral: Quantities = ..., debt: Quantities = ...) -> Vault:
        """Mirror what the chain says: the quantities named become what is given, the others stay.

        Facts are not judged: a vault may come out unhealthy. One statement, revalued in it.
        """
    def deposit(self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None) -> Vault:
        """Add collateral, in base units."""
    def withdraw(self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None) -> Vault:
        """Take collateral out. Raises ``Conflict`` when the health factor would fall below 1, ``InsufficientFunds``."""
    def borrow(self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None) -> Vault:
        """Owe more. Raises ``Conflict`` when it is more than the collateral's LTVs allow."""
    def repay(self, vault: VaultLike, asset: str | UUID | VaultAsset, quantity: int, *, key: str | None) -> Vault:
        """Owe less. Raises ``InsufficientFunds`` for more than is owed."""
    def tick(
        self, price: AssetPrice | None = ..., *, feed: str | None = ..., quote: str = ..., at: datetime | None = ...
    ) -> TickReceipt:
        """Apply a price to all the tenant's vaults, in one statement: values, statuses, alerts, protection rules.

        With a price it is recorded first, which takes the permission "prices.record"; with a ``feed`` the latest shared
        price of it is applied. A price that is not newer than the one applied does nothing, and says so. ``at`` is the
        moment that cooldowns are measured by; now, unless told.
        """
    def find_high_risk(self, ltv: Decimal | str, *, limit: int = ...) -> list[Vault]:
        """Open vaults whose LTV is above a fraction, the worst first: ``find_high_risk(Decimal("0.80"))``.

        Raises ``Invalid`` for a percentage: 80 is refused, because as a fraction it would find nothing.
        """
    def find_liquidatable(self, *, limit: int = ...) -> list[Vault]:
        """Vaults with a health factor below 1, the worst first."""
    def find_by_chain(self, chain_id: int, *, contract: bytes | None = ..., limit: int = ...) -> list[Vault]:
        """The vaults of a chain, or of one contract on it."""
    def overview(self) -> _OverviewOverview:
        """How all vaults stand: totals by status, bands of health, alerts that stand, the worst ones."""
    def alerts(self, vault: VaultLike | None = ...) -> list[RiskAlert]:
        """The alerts that stand, of one vault or of all, newest first."""
    def protect(self, vault: VaultLike, protection: Protection) -> ProtectionRule:
        """Add a protection rule to a vault."""
    def observe(
        self,
        vault: VaultLike,
        *,
        ltv: Decimal | str | None = ...,
        health_factor: Decimal | str | None = ...,
        source: str,
        at: datetime | None = ...,
        block: int | None = ...,
        tolerance: Decimal | str = ...,
        details: dict[str, Any] | None = ...,
    ) -> VaultObservation:
        """Write down what somebody says a vault's metrics are; ``mismatch``: they differ from the derived ones.

        Metrics are never written: this is what an update of them becomes. Raises ``Invalid`` without any metric,
        ``Duplicate`` for a second observation of one source and moment.
        """
    def liquidate(
        self,
        vault: VaultLike,
        *,
        debt: str | UUID | VaultAsset,
        collateral: str | UUID | VaultAsset,
        repay: int | None = ...,
        chain: ChainLog | None = ...,
        liquidator: bytes | None = ...,
        at: datetime | None = ...,
        on: date | None = ...,
        key: str | None,
    ) -> LiquidationEvent:
        """Repay debt for collateral with its bonus, judged again under the vault's lock at the latest price.

        ``repay`` is in base units, or None for all that the close factor allows; where the collateral ends, less is
        repaid. Raises ``Conflict`` for a healthy vault, for more than the close factor allows and for dust left behind,
        ``Duplicate`` for a chain event that was taken before.
        """
    def pause(self, vault: VaultLike) -> Vault:
        """Stop borrowing, withdrawing and rules of a vault; prices still revalue it."""
    def resume(self, vault: VaultLike) -> Vault:
        """Let a paused or pending vault run; the next tick says whether it is at risk."""
    def close(self, vault: VaultLike) -> Vault:
        """Close a vault that owes nothing. Raises ``Conflict`` while it does."""

class Verifier(Protocol):
    """Checks proofs and signs what it found. ``name`` is the one it was enrolled under with ``enroll``."""

    @property
    def name(self) -> str:
        """The name under which the database knows its key."""
    def verify(self, claim: Claim) -> Verdict:
        """Check one proof. Raise to say that it could not be checked: the proof can be tried again."""
    def attest(self, statement: bytes) -> bytes:
        """HMAC-SHA-256 of a statement under the verifier's key; see ``Attestor``."""

class Wallets(Repository[Wallet]):
    """The users' wallets."""

    def by_address(self, chain_id: int, address: str | bytes) -> Wallet | None:
        """The wallet at an address of a chain, given as bytes or as hex with or without 0x."""
    def owner(self, chain_id: int, address: str | bytes) -> User | None:
        """The user whose wallet is at an address of a chain."""
    def upsert_owner(self, chain_id: int, address: str | bytes) -> User:
        """The user whose wallet is at an address; a new active account with that wallet when there is none.

        Callers that race all get the one account. Raises ``Invalid`` for what is no address.
        """

__all__ = [
    "Accounts",
    "AdverseActionNotices",
    "Agents",
    "Analyses",
    "Anchor",
    "Applications",
    "Approval",
    "AuditLog",
    "BehaviorSessions",
    "Circles",
    "Circuits",
    "Claimed",
    "Communities",
    "Consents",
    "CounterOffers",
    "CustomFields",
    "Decisions",
    "DeviceTasks",
    "Devices",
    "Endorsements",
    "ExternalIdentities",
    "Fairness",
    "Guarded",
    "Inputs",
    "Ledger",
    "Loans",
    "Logins",
    "Memberships",
    "Message",
    "Mfa",
    "Outbox",
    "OutboxWorkers",
    "Passwords",
    "Periods",
    "Portfolio",
    "Prices",
    "Privacy",
    "Products",
    "Profiles",
    "Proofs",
    "ProtectionRules",
    "Reader",
    "Repositories",
    "Repository",
    "Reputations",
    "Reviews",
    "RiskAlerts",
    "Scores",
    "Session",
    "SessionContext",
    "Tallystick",
    "Tenants",
    "Trail",
    "Transaction",
    "Trust",
    "Users",
    "VaultAssets",
    "Vaults",
    "Verifier",
    "Wallets",
]
