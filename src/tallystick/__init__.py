"""Tallystick: the data layer for lending and credit in Python.

Importing this package loads nothing heavy; each public name is resolved when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tallystick._names import HOME as _HOME

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tallystick.adoption import adopt
    from tallystick.app import Tallystick
    from tallystick.assets import Asset, asset, register
    from tallystick.audit.entries import AuditEntry, AuditEvent
    from tallystick.audit.export import ExportReport, LogPart
    from tallystick.audit.history import Version
    from tallystick.audit.log import InclusionProof
    from tallystick.audit.reconcile import Discrepancy, ReconcileReport
    from tallystick.audit.sealer import SealReport
    from tallystick.audit.status import AuditStatus, LogStatus
    from tallystick.claims import Claimed
    from tallystick.clock import Clock, FixedClock, SystemClock
    from tallystick.domains.chain_logs import ChainLog
    from tallystick.domains.community.communities import Community, CommunityStatus
    from tallystick.domains.community.endorsements import Endorsement, EndorsementStatus
    from tallystick.domains.community.governance import Governance, MemberRole, TrustPolicy
    from tallystick.domains.community.memberships import CommunityMembership, MembershipStatus
    from tallystick.domains.community.trust_edges import TrustEdge
    from tallystick.domains.idempotency import idempotent
    from tallystick.domains.identity.authenticators import Authenticator
    from tallystick.domains.identity.consents import Consent, LegalBasis, Purpose
    from tallystick.domains.identity.custom_fields import CustomField, CustomFields, CustomFieldType
    from tallystick.domains.identity.erasures import (
        ErasureGround,
        ErasureRequest,
        ErasureStatus,
        ErasureStep,
        RefusalGround,
    )
    from tallystick.domains.identity.external_identities import ExternalIdentity, ExternalSubject
    from tallystick.domains.identity.holds import LegalHold, Restriction, RestrictionGround
    from tallystick.domains.identity.login_policy import Delay, LoginPolicy
    from tallystick.domains.identity.login_throttle import LoginThrottle, ThrottleScope
    from tallystick.domains.identity.login_tokens import LoginToken, TokenUse
    from tallystick.domains.identity.logins import Login, Logins
    from tallystick.domains.identity.mfa import Enrolment
    from tallystick.domains.identity.profiles import EmploymentStatus, HomeOwnership, UserProfile
    from tallystick.domains.identity.recovery_codes import RecoveryCode
    from tallystick.domains.identity.retention import RetentionPolicy
    from tallystick.domains.identity.tenants import Plan, Tenant, TenantInfo
    from tallystick.domains.identity.users import User, UserRole, UserStatus
    from tallystick.domains.identity.wallets import Wallet
    from tallystick.domains.ledger.accounts import Account, AccountKind, FloorRule
    from tallystick.domains.ledger.journals import Journal
    from tallystick.domains.ledger.posting import Receipt
    from tallystick.domains.ledger.transfers import Transfer, transfer
    from tallystick.domains.lending.boarding import Boarding, Overdue, Planned
    from tallystick.domains.lending.buckets import Buckets, DayRange
    from tallystick.domains.lending.calendar import BusinessDay, Frequency, HolidayCalendar, MonthEnd
    from tallystick.domains.lending.daycount import DayCount
    from tallystick.domains.lending.fundings import FundingStatus, LenderPayout, LoanFunding
    from tallystick.domains.lending.installments import LoanInstallment, LoanSchedule
    from tallystick.domains.lending.loans import Loan, LoanStatus
    from tallystick.domains.lending.periods import make_periods, periods_to
    from tallystick.domains.lending.products import BusinessCalendar, LoanProduct
    from tallystick.domains.lending.provisioning import ProvisionRates
    from tallystick.domains.lending.receipts import LoanReceipt
    from tallystick.domains.lending.schedule import Installment, Schedule, make_schedule
    from tallystick.domains.lending.servicing import (
        AllocationStyle,
        ChargeBasis,
        ChargeKind,
        Component,
        FeeRule,
        FutureAllocation,
        LateFee,
        Overpayment,
        Servicing,
    )
    from tallystick.domains.lending.settling import Payoff
    from tallystick.domains.lending.terms import Amortization, EmiAdjustment, InterestCalc, InterestMethod, Terms
    from tallystick.domains.lending.transactions import LoanAllocation, LoanCharge, LoanTransaction, TransactionKind
    from tallystick.domains.outbox.message import Message
    from tallystick.domains.outbox.messages import OutboxMessage, OutboxState
    from tallystick.domains.outbox.outbox import TopicStatus
    from tallystick.domains.outbox.retry import Retry
    from tallystick.domains.outbox.workers import Handled, Handling
    from tallystick.domains.proofs.circuits import Circuit, ProofProtocol, ProofType, VerifyingKey
    from tallystick.domains.proofs.proofs import Proof, ProofEvent, ProofEventKind, VerificationStatus
    from tallystick.domains.proofs.signals import Signal, SignalRole
    from tallystick.domains.proofs.verifier import Attestor, Verdict, Verifier
    from tallystick.domains.reputation.analyses import AIAnalysis
    from tallystick.domains.reputation.analytics import BehaviorAnalyticsSummary
    from tallystick.domains.reputation.beta import Beta, ReputationPolicy, decayed
    from tallystick.domains.reputation.evidence import ReputationEvidence
    from tallystick.domains.reputation.inputs import BehaviorInput, InputSource, InputType
    from tallystick.domains.reputation.records import ReputationRecord, ReputationStatus, ScoringPeriod
    from tallystick.domains.reputation.reputation import Standing
    from tallystick.domains.reputation.scores import Score, ScoringCategory, input_set_hash
    from tallystick.domains.reputation.sessions import BehaviorSession, SessionStatus, SessionType
    from tallystick.domains.reputation.summary import UserReputationSummary
    from tallystick.domains.rights.erasure import Erasure
    from tallystick.domains.rights.export import check_export
    from tallystick.domains.rights.replay import replay_erasures
    from tallystick.domains.savings.contributions import Contribution, ContributionKind, ContributionStatus
    from tallystick.domains.savings.groups import GroupStatus, OrderKind, SavingsGroup
    from tallystick.domains.savings.members import GroupMember, GroupMemberStatus
    from tallystick.domains.savings.ordering import commitment
    from tallystick.domains.savings.payouts import Bid, Payout, PayoutKind, PayoutStatus
    from tallystick.domains.savings.rounds import GroupRound, RoundStatus
    from tallystick.domains.savings.views import Circle
    from tallystick.domains.underwriting.applications import Application, ApplicationStatus
    from tallystick.domains.underwriting.counter_offers import CounterOffer, OfferState
    from tallystick.domains.underwriting.decisions import Decision, DecisionKind, DecisionReason, Outcome
    from tallystick.domains.underwriting.device_tasks import DeviceTask, TaskState
    from tallystick.domains.underwriting.devices import Device, DeviceStatus
    from tallystick.domains.underwriting.fairness import BiasFlag, FlagState, Monitored
    from tallystick.domains.underwriting.fairness_metrics import (
        GroupOutcome,
        Impact,
        Interval,
        Spread,
        demographic_parity,
        equalized_odds,
        generalized_entropy,
        impacts,
        outcomes,
        reweighing,
        wilson,
    )
    from tallystick.domains.underwriting.notices import AdverseActionNotice, NoticeBasis, NoticeChannel
    from tallystick.domains.underwriting.reasons import DenialGroup, ReasonCode, denial_groups, hmda_denial_codes
    from tallystick.domains.underwriting.reviews import ReviewState, ReviewTask
    from tallystick.domains.underwriting.statistics import Comparison, GroupRate, Statistics, compare
    from tallystick.domains.vaults.agents import Agent, AgentStatus, CredibilityTier
    from tallystick.domains.vaults.alerts import AlertKind, AlertSeverity, AlertState, RiskAlert, VaultMetric
    from tallystick.domains.vaults.assets import VaultAsset, VaultAssetChange
    from tallystick.domains.vaults.liquidations import LiquidationEvent, LiquidationOrigin
    from tallystick.domains.vaults.observations import VaultObservation
    from tallystick.domains.vaults.prices import AssetPrice
    from tallystick.domains.vaults.protection import ProtectionKind, ProtectionRule, RuleFiring
    from tallystick.domains.vaults.repository import Protection
    from tallystick.domains.vaults.ticking import TickReceipt
    from tallystick.domains.vaults.ticks import PriceTick
    from tallystick.domains.vaults.vaults import Vault, VaultPosition, VaultSide, VaultStatus
    from tallystick.entity import Entity
    from tallystick.errors import (
        CommitUnknown,
        Conflict,
        ConsentMissing,
        Declaration,
        Denied,
        Duplicate,
        Erased,
        InsufficientFunds,
        Invalid,
        InvalidTransition,
        KeyReused,
        LeaseLost,
        LoginRefused,
        MigrationUnsafe,
        NotFound,
        NotMigrated,
        NotProvisioned,
        OnHold,
        QuotaExceeded,
        RoleMissing,
        Serialization,
        StaleVersion,
        StillReferenced,
        StorageFull,
        TallystickError,
        Tampered,
        TenantMissing,
        TlsFailed,
        Unavailable,
        UnknownReference,
        Unsupported,
        WrongTenant,
    )
    from tallystick.extension import added
    from tallystick.fields import (
        ChainAmount,
        Custom,
        Fraction,
        Internal,
        Json,
        LedgerAmount,
        Length,
        Maintained,
        Mask,
        Numeric,
        Once,
        OwnAsset,
        Personal,
        PersonalCustom,
        Price,
        Rate,
        Ref,
        Retain,
        Search,
    )
    from tallystick.ids import uuid7
    from tallystick.loading import backref
    from tallystick.money import Money, Rounding, eur, gbp, kes, money, ngn, sum_of, usd
    from tallystick.page import Offset, Page, PageQuery
    from tallystick.plan import PlanStep, QueryPlan
    from tallystick.privacy.key_store import KeyFolder, KeyStore
    from tallystick.privacy.keys import KeyProvider, LocalKeys, RootKey, StoredKeys
    from tallystick.privacy.kms import TinkRoot
    from tallystick.privacy.redact import RedactingFilter, redacting_processor
    from tallystick.privacy.sealed import Secret, secret
    from tallystick.query import (
        all_of,
        any_of,
        asc,
        at_least,
        at_most,
        between,
        contains,
        desc,
        ends_with,
        key,
        less_than,
        missing,
        more_than,
        not_,
        one_of,
        order_by,
        prefix,
        present,
    )
    from tallystick.repository import Repository
    from tallystick.rules import (
        Check,
        Foreign,
        Guard,
        Index,
        Queue,
        Readable,
        Rules,
        Statuses,
        Transitions,
        Unique,
        append_only,
        kept,
    )
    from tallystick.schema.adopt import Adoption
    from tallystick.schema.bi import BiReader, BiReport, bi_readers, grant_bi, refresh_bi, revoke_bi
    from tallystick.schema.host import AlembicHooks, beside
    from tallystick.session import Session
    from tallystick.settings import Settings
    from tallystick.stores.postgres.meter import Metrics, PoolUse, StatementTimes
    from tallystick.stores.postgres.seeing import StatementRun

# fmt: off
__all__ = [
    "AIAnalysis", "Account", "AccountKind", "Adoption", "AdverseActionNotice", "Agent", "AgentStatus", "AlembicHooks",
    "AlertKind", "AlertSeverity", "AlertState", "AllocationStyle", "Amortization", "Application", "ApplicationStatus",
    "Asset", "AssetPrice", "Attestor", "AuditEntry", "AuditEvent", "AuditStatus", "Authenticator",
    "BehaviorAnalyticsSummary", "BehaviorInput", "BehaviorSession", "Beta", "BiReader", "BiReport", "BiasFlag", "Bid",
    "Boarding", "Buckets", "BusinessCalendar", "BusinessDay", "ChainAmount", "ChainLog", "ChargeBasis", "ChargeKind",
    "Check", "Circle", "Circuit", "Claimed", "Clock", "CommitUnknown", "Community", "CommunityMembership",
    "CommunityStatus", "Comparison", "Component", "Conflict", "Consent", "ConsentMissing", "Contribution",
    "ContributionKind", "ContributionStatus", "CounterOffer", "CredibilityTier", "Custom", "CustomField",
    "CustomFieldType", "CustomFields", "DayCount", "DayRange", "Decision", "DecisionKind", "DecisionReason",
    "Declaration", "Delay", "DenialGroup", "Denied", "Device", "DeviceStatus", "DeviceTask", "Discrepancy", "Duplicate",
    "EmiAdjustment", "EmploymentStatus", "Endorsement", "EndorsementStatus", "Enrolment", "Entity", "Erased", "Erasure",
    "ErasureGround", "ErasureRequest", "ErasureStatus", "ErasureStep", "ExportReport", "ExternalIdentity",
    "ExternalSubject", "FeeRule", "FixedClock", "FlagState", "FloorRule", "Foreign", "Fraction", "Frequency",
    "FundingStatus", "FutureAllocation", "Governance", "GroupMember", "GroupMemberStatus", "GroupOutcome", "GroupRate",
    "GroupRound", "GroupStatus", "Guard", "Handled", "Handling", "HolidayCalendar", "HomeOwnership", "Impact",
    "InclusionProof", "Index", "InputSource", "InputType", "Installment", "InsufficientFunds", "InterestCalc",
    "InterestMethod", "Internal", "Interval", "Invalid", "InvalidTransition", "Journal", "Json", "KeyFolder",
    "KeyProvider", "KeyReused", "KeyStore", "LateFee", "LeaseLost", "LedgerAmount", "LegalBasis", "LegalHold",
    "LenderPayout", "Length", "LiquidationEvent", "LiquidationOrigin", "Loan", "LoanAllocation", "LoanCharge",
    "LoanFunding", "LoanInstallment", "LoanProduct", "LoanReceipt", "LoanSchedule", "LoanStatus", "LoanTransaction",
    "LocalKeys", "LogPart", "LogStatus", "Login", "LoginPolicy", "LoginRefused", "LoginThrottle", "LoginToken",
    "Logins", "Maintained", "Mask", "MemberRole", "MembershipStatus", "Message", "Metrics", "MigrationUnsafe", "Money",
    "Monitored", "MonthEnd", "NotFound", "NotMigrated", "NotProvisioned", "NoticeBasis", "NoticeChannel", "Numeric",
    "OfferState", "Offset", "OnHold", "Once", "OrderKind", "OutboxMessage", "OutboxState", "Outcome", "Overdue",
    "Overpayment", "OwnAsset", "Page", "PageQuery", "Payoff", "Payout", "PayoutKind", "PayoutStatus", "Personal",
    "PersonalCustom", "Plan", "PlanStep", "Planned", "PoolUse", "Price", "PriceTick", "Proof", "ProofEvent",
    "ProofEventKind", "ProofProtocol", "ProofType", "Protection", "ProtectionKind", "ProtectionRule", "ProvisionRates",
    "Purpose", "QueryPlan", "Queue", "QuotaExceeded", "Rate", "Readable", "ReasonCode", "Receipt", "ReconcileReport",
    "RecoveryCode", "RedactingFilter", "Ref", "RefusalGround", "Repository", "ReputationEvidence", "ReputationPolicy",
    "ReputationRecord", "ReputationStatus", "Restriction", "RestrictionGround", "Retain", "RetentionPolicy", "Retry",
    "ReviewState", "ReviewTask", "RiskAlert", "RoleMissing", "RootKey", "RoundStatus", "Rounding", "RuleFiring",
    "Rules", "SavingsGroup", "Schedule", "Score", "ScoringCategory", "ScoringPeriod", "SealReport", "Search", "Secret",
    "Serialization", "Servicing", "Session", "SessionStatus", "SessionType", "Settings", "Signal", "SignalRole",
    "Spread", "StaleVersion", "Standing", "StatementRun", "StatementTimes", "Statistics", "Statuses", "StillReferenced",
    "StorageFull", "StoredKeys", "SystemClock", "Tallystick", "TallystickError", "Tampered", "TaskState", "Tenant",
    "TenantInfo", "TenantMissing", "Terms", "ThrottleScope", "TickReceipt", "TinkRoot", "TlsFailed", "TokenUse",
    "TopicStatus", "TransactionKind", "Transfer", "Transitions", "TrustEdge", "TrustPolicy", "Unavailable", "Unique",
    "UnknownReference", "Unsupported", "User", "UserProfile", "UserReputationSummary", "UserRole", "UserStatus",
    "Vault", "VaultAsset", "VaultAssetChange", "VaultMetric", "VaultObservation", "VaultPosition", "VaultSide",
    "VaultStatus", "Verdict", "VerificationStatus", "Verifier", "VerifyingKey", "Version", "Wallet", "WrongTenant",
    "added", "adopt", "all_of", "any_of", "append_only", "asc", "asset", "at_least", "at_most", "backref", "beside",
    "between", "bi_readers", "check_export", "commitment", "compare", "contains", "decayed", "demographic_parity",
    "denial_groups", "desc", "ends_with", "equalized_odds", "eur", "gbp", "generalized_entropy", "grant_bi",
    "hmda_denial_codes", "idempotent", "impacts", "input_set_hash", "kept", "kes", "key", "less_than", "make_periods",
    "make_schedule", "missing", "money", "more_than", "ngn", "not_", "one_of", "order_by", "outcomes", "periods_to",
    "prefix", "present", "redacting_processor", "refresh_bi", "register", "replay_erasures", "revoke_bi", "reweighing",
    "secret", "sum_of", "transfer", "usd", "uuid7", "wilson",
]
# fmt: on


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(ModuleType):
    """The import of ``tallystick.money`` by anybody would put the module in the place of the public function."""

    def __setattr__(self, name: str, value: Any) -> None:
        own = isinstance(value, ModuleType) and _HOME.get(name) == name
        super().__setattr__(name, getattr(value, name) if own else value)


sys.modules[__name__].__class__ = _Package
