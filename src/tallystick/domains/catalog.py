"""Which entities each domain installs, in the order their tables are made."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from tallystick.errors import Invalid

if TYPE_CHECKING:
    from tallystick.entity import Entity

_ENTITIES: dict[str, tuple[tuple[str, str], ...]] = {
    "identity": (
        ("tallystick.domains.identity.users", "User"),
        ("tallystick.domains.identity.wallets", "Wallet"),
        ("tallystick.domains.identity.profiles", "UserProfile"),
        ("tallystick.domains.identity.consents", "Consent"),
        ("tallystick.domains.identity.disclosures", "Disclosure"),
        ("tallystick.domains.identity.login_throttle", "LoginThrottle"),
        ("tallystick.domains.identity.login_tokens", "LoginToken"),
        ("tallystick.domains.identity.authenticators", "Authenticator"),
        ("tallystick.domains.identity.recovery_codes", "RecoveryCode"),
        ("tallystick.domains.identity.external_identities", "ExternalIdentity"),
        ("tallystick.domains.identity.holds", "LegalHold"),
        ("tallystick.domains.identity.holds", "Restriction"),
        ("tallystick.domains.identity.retention", "RetentionPolicy"),
        ("tallystick.domains.identity.erasures", "ErasureRequest"),
        ("tallystick.domains.identity.erasures", "ErasureStep"),
        ("tallystick.domains.identity.custom_fields", "CustomField"),
    ),
    "underwriting": (
        ("tallystick.domains.underwriting.applications", "Application"),
        ("tallystick.domains.underwriting.decisions", "Decision"),
        ("tallystick.domains.underwriting.decisions", "DecisionReason"),
        ("tallystick.domains.underwriting.notices", "AdverseActionNotice"),
        ("tallystick.domains.underwriting.reviews", "ReviewTask"),
        ("tallystick.domains.underwriting.counter_offers", "CounterOffer"),
        ("tallystick.domains.underwriting.fairness", "BiasFlag"),
        ("tallystick.domains.underwriting.devices", "Device"),
        ("tallystick.domains.underwriting.device_tasks", "DeviceTask"),
    ),
    "ledger": (
        ("tallystick.domains.idempotency", "CommandKey"),
        ("tallystick.domains.ledger.accounts", "Account"),
        ("tallystick.domains.ledger.accounts", "Stripe"),
        ("tallystick.domains.ledger.periods", "Period"),
        ("tallystick.domains.ledger.proposals", "Proposal"),
        ("tallystick.domains.ledger.journals", "Journal"),
        ("tallystick.domains.ledger.transfers", "Transfer"),
    ),
    "community": (
        ("tallystick.domains.community.communities", "Community"),
        ("tallystick.domains.community.memberships", "CommunityMembership"),
        ("tallystick.domains.community.trust_edges", "TrustEdge"),
        ("tallystick.domains.community.endorsements", "Endorsement"),
    ),
    "lending": (
        ("tallystick.domains.lending.products", "BusinessCalendar"),
        ("tallystick.domains.lending.products", "LoanProduct"),
        ("tallystick.domains.lending.loans", "LoanNumber"),
        ("tallystick.domains.lending.loans", "Loan"),
        ("tallystick.domains.lending.loans", "LoanStatusChange"),
        ("tallystick.domains.lending.pauses", "DelinquencyPause"),
        ("tallystick.domains.lending.fundings", "LoanFunding"),
        ("tallystick.domains.lending.fundings", "LenderPayout"),
        ("tallystick.domains.lending.installments", "LoanSchedule"),
        ("tallystick.domains.lending.installments", "LoanInstallment"),
        ("tallystick.domains.lending.transactions", "LoanTransaction"),
        ("tallystick.domains.lending.transactions", "LoanAllocation"),
        ("tallystick.domains.lending.transactions", "LoanCharge"),
    ),
    "savings": (
        ("tallystick.domains.savings.groups", "SavingsGroup"),
        ("tallystick.domains.savings.members", "GroupMember"),
        ("tallystick.domains.savings.rounds", "GroupRound"),
        ("tallystick.domains.savings.contributions", "Contribution"),
        ("tallystick.domains.savings.payouts", "Payout"),
        ("tallystick.domains.savings.payouts", "Bid"),
    ),
    "reputation": (
        ("tallystick.domains.reputation.sessions", "BehaviorSession"),
        ("tallystick.domains.reputation.inputs", "BehaviorInput"),
        ("tallystick.domains.reputation.scores", "Score"),
        ("tallystick.domains.reputation.analyses", "AIAnalysis"),
        ("tallystick.domains.reputation.evidence", "ReputationEvidence"),
        ("tallystick.domains.reputation.reputation", "ReputationRecord"),
    ),
    "proofs": (
        ("tallystick.domains.proofs.circuits", "Circuit"),
        ("tallystick.domains.proofs.circuits", "VerifyingKey"),
        ("tallystick.domains.proofs.repository", "Proof"),
        ("tallystick.domains.proofs.proofs", "ProofEvent"),
    ),
    "vaults": (
        ("tallystick.domains.vaults.agents", "Agent"),
        ("tallystick.domains.vaults.assets", "VaultAsset"),
        ("tallystick.domains.vaults.assets", "VaultAssetChange"),
        ("tallystick.domains.vaults.vaults", "Vault"),
        ("tallystick.domains.vaults.vaults", "VaultPosition"),
        ("tallystick.domains.vaults.alerts", "RiskAlert"),
        ("tallystick.domains.vaults.protection", "ProtectionRule"),
        ("tallystick.domains.vaults.protection", "RuleFiring"),
        ("tallystick.domains.vaults.ticks", "PriceTick"),
        ("tallystick.domains.vaults.liquidations", "LiquidationEvent"),
        ("tallystick.domains.vaults.observations", "VaultObservation"),
    ),
    "outbox": (
        ("tallystick.domains.outbox.messages", "OutboxLane"),
        ("tallystick.domains.outbox.messages", "OutboxMessage"),
    ),
}
# Idempotency keys are kept beside the ledger, so whatever takes one needs it.
_NEEDS = {
    "underwriting": ("ledger",),
    "community": ("ledger",),
    "lending": ("ledger", "community"),
    "savings": ("ledger",),
    "proofs": ("ledger",),
    "vaults": ("ledger",),
}
DOMAINS = tuple(_ENTITIES)


def chosen(domains: Iterable[str] | None) -> tuple[str, ...]:
    """The domains to install: those named, what they need, and identity, which every application has."""
    if domains is None:
        return DOMAINS
    wanted = [domains] if isinstance(domains, str) else list(domains)
    unknown = [d for d in wanted if not isinstance(d, str) or d not in _ENTITIES]
    if unknown:
        raise Invalid(
            f"There is no domain {str(unknown[0])[:40]!r}.",
            field="domains",
            remedy=f"Domains are: {', '.join(DOMAINS)}.",
        )
    needed = {"identity", *wanted, *(n for d in wanted for n in _NEEDS.get(d, ()))}
    return tuple(d for d in DOMAINS if d in needed)


def entities_of(domains: Iterable[str]) -> tuple[type[Entity], ...]:
    """The entities of domains."""
    return tuple(getattr(import_module(module), name) for d in domains for module, name in _ENTITIES[d])
