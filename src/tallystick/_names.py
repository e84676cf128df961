"""Where each public name lives, without importing it."""

from __future__ import annotations

_HOMES = {
    "app": "Tallystick",
    "assets": "Asset asset register",
    "audit.entries": "AuditEntry AuditEvent",
    "audit.export": "ExportReport LogPart",
    "audit.history": "Version",
    "audit.log": "InclusionProof",
    "audit.reconcile": "Discrepancy ReconcileReport",
    "audit.sealer": "SealReport",
    "audit.status": "AuditStatus LogStatus",
    "claims": "Claimed",
    "clock": "Clock FixedClock SystemClock",
    "domains.chain_logs": "ChainLog",
    "domains.community.communities": "Community CommunityStatus",
    "domains.community.endorsements": "Endorsement EndorsementStatus",
    "domains.community.governance": "Governance MemberRole TrustPolicy",
    "domains.community.memberships": "CommunityMembership MembershipStatus",
    "domains.community.trust_edges": "TrustEdge",
    "domains.idempotency": "idempotent",
    "domains.identity.consents": "Consent LegalBasis Purpose",
    "domains.identity.profiles": "EmploymentStatus HomeOwnership UserProfile",
    "domains.identity.tenants": "Plan Tenant TenantInfo",
    "domains.identity.users": "User UserRole UserStatus",
    "domains.identity.wallets": "Wallet",
    "domains.ledger.accounts": "Account AccountKind FloorRule",
    "domains.ledger.journals": "Journal",
    "domains.ledger.posting": "Receipt",
    "domains.ledger.transfers": "Transfer transfer",
    "domains.lending.boarding": "Boarding Overdue Planned",
    "domains.lending.buckets": "Buckets DayRange",
    "domains.lending.calendar": "BusinessDay Frequency HolidayCalendar MonthEnd",
    "domains.lending.daycount": "DayCount",
    "domains.lending.fundings": "FundingStatus LenderPayout LoanFunding",
    "domains.lending.installments": "LoanInstallment LoanSchedule",
    "domains.lending.loans": "Loan LoanStatus",
    "domains.lending.periods": "make_periods periods_to",
    "domains.lending.products": "BusinessCalendar LoanProduct",
    "domains.lending.provisioning": "ProvisionRates",
    "domains.lending.receipts": "LoanReceipt",
    "domains.lending.schedule": "Installment Schedule make_schedule",
    "domains.lending.servicing": (
        "AllocationStyle ChargeBasis ChargeKind Component FeeRule FutureAllocation LateFee Overpayment Servicing "
    ),
    "domains.lending.settling": "Payoff",
    "domains.lending.terms": "Amortization EmiAdjustment InterestCalc InterestMethod Terms",
    "domains.lending.transactions": "LoanAllocation LoanCharge LoanTransaction TransactionKind",
    "domains.proofs.circuits": "Circuit ProofProtocol ProofType VerifyingKey",
    "domains.proofs.proofs": "Proof ProofEvent ProofEventKind VerificationStatus",
    "domains.proofs.signals": "Signal SignalRole",
    "domains.proofs.verifier": "Attestor Verdict Verifier",
    "domains.reputation.analyses": "AIAnalysis",
    "domains.reputation.analytics": "BehaviorAnalyticsSummary",
    "domains.reputation.beta": "Beta ReputationPolicy decayed",
    "domains.reputation.evidence": "ReputationEvidence",
    "domains.reputation.inputs": "BehaviorInput InputSource InputType",
    "domains.reputation.records": "ReputationRecord ReputationStatus ScoringPeriod",
    "domains.reputation.reputation": "Standing",
    "domains.reputation.scores": "Score ScoringCategory input_set_hash",
    "domains.reputation.sessions": "BehaviorSession SessionStatus SessionType",
    "domains.reputation.summary": "UserReputationSummary",
    "domains.savings.contributions": "Contribution ContributionKind ContributionStatus",
    "domains.savings.groups": "GroupStatus OrderKind SavingsGroup",
    "domains.savings.members": "GroupMember GroupMemberStatus",
    "domains.savings.ordering": "commitment",
    "domains.savings.payouts": "Bid Payout PayoutKind PayoutStatus",
    "domains.savings.rounds": "GroupRound RoundStatus",
    "domains.savings.views": "Circle",
    "domains.underwriting.applications": "Application ApplicationStatus",
    "domains.underwriting.counter_offers": "CounterOffer OfferState",
    "domains.underwriting.decisions": "Decision DecisionKind DecisionReason Outcome",
    "domains.underwriting.devices": "Device DeviceStatus DeviceTask TaskState",
    "domains.underwriting.fairness": "BiasFlag FlagState Monitored",
    "domains.underwriting.fairness_metrics": (
        "GroupOutcome Impact Interval Spread demographic_parity equalized_odds generalized_entropy impacts outcomes "
        "reweighing wilson "
    ),
    "domains.underwriting.notices": "AdverseActionNotice NoticeChannel",
    "domains.underwriting.reasons": "DenialGroup ReasonCode denial_groups",
    "domains.underwriting.reviews": "ReviewState ReviewTask",
    "domains.underwriting.statistics": "Comparison GroupRate Statistics compare",
    "domains.vaults.agents": "Agent AgentStatus CredibilityTier",
    "domains.vaults.alerts": "AlertKind AlertSeverity AlertState RiskAlert VaultMetric",
    "domains.vaults.assets": "VaultAsset VaultAssetChange",
    "domains.vaults.liquidations": "LiquidationEvent LiquidationOrigin",
    "domains.vaults.observations": "VaultObservation",
    "domains.vaults.prices": "AssetPrice",
    "domains.vaults.protection": "ProtectionKind ProtectionRule RuleFiring",
    "domains.vaults.repository": "Protection",
    "domains.vaults.ticking": "TickReceipt",
    "domains.vaults.ticks": "PriceTick",
    "domains.vaults.vaults": "Vault VaultPosition VaultSide VaultStatus",
    "entity": "Entity",
    "errors": (
        "CommitUnknown Conflict ConsentMissing Declaration Denied Duplicate Erased InsufficientFunds Invalid "
        "InvalidTransition KeyReused LeaseLost LoginRefused MigrationUnsafe NotFound NotMigrated NotProvisioned "
        "OnHold QuotaExceeded RoleMissing Serialization StaleVersion StillReferenced StorageFull TallystickError "
        "Tampered TenantMissing TlsFailed Unavailable UnknownReference Unsupported WrongTenant "
    ),
    "fields": (
        "ChainAmount Fraction Json LedgerAmount Length Maintained Mask Numeric Once OwnAsset Personal Price Rate Ref "
        "Search "
    ),
    "ids": "uuid7",
    "loading": "backref",
    "money": "Money Rounding eur gbp kes money ngn sum_of usd",
    "page": "Offset Page PageQuery",
    "privacy.keys": "KeyProvider LocalKeys",
    "privacy.sealed": "Secret secret",
    "query": (
        "all_of any_of asc at_least at_most between contains desc key less_than missing more_than not_ one_of "
        "order_by prefix present "
    ),
    "repository": "Repository",
    "rules": "Check Foreign Guard Index Queue Rules Transitions Unique append_only kept",
    "session": "Session",
    "settings": "Settings",
}
HOME = {name: module for module, names in _HOMES.items() for name in names.split()}
"""Public names and their modules."""
