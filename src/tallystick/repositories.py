"""What a session hands out: the repository of any entity, and one property for each part of the built-in domains.

It stands apart from ``Session`` because it grows with every domain, and what a session is does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload
from uuid import UUID

from tallystick.domains.identity.consents import Consents
from tallystick.domains.identity.profiles import Profiles
from tallystick.domains.identity.users import Users
from tallystick.domains.identity.wallets import Wallets
from tallystick.domains.underwriting.applications import Applications
from tallystick.domains.underwriting.decisions import Decisions
from tallystick.entity import Entity
from tallystick.loading import Backref, load_back, load_refs
from tallystick.repository import Repository

if TYPE_CHECKING:
    from tallystick.app import Tallystick
    from tallystick.audit.trail import Trail
    from tallystick.domains.community.communities import Communities
    from tallystick.domains.community.endorsements import Endorsements
    from tallystick.domains.community.memberships import Memberships
    from tallystick.domains.community.trust_edges import Trust
    from tallystick.domains.identity.custom_fields import CustomFields
    from tallystick.domains.identity.logins import Logins
    from tallystick.domains.ledger.ledger import Ledger
    from tallystick.domains.lending.portfolio import Portfolio
    from tallystick.domains.lending.products import Products
    from tallystick.domains.lending.repository import Loans
    from tallystick.domains.outbox.outbox import Outbox
    from tallystick.domains.proofs.circuits import Circuits
    from tallystick.domains.proofs.repository import Proofs
    from tallystick.domains.proofs.verifier import Verifier
    from tallystick.domains.reputation.analyses import Analyses
    from tallystick.domains.reputation.inputs import Inputs
    from tallystick.domains.reputation.reputation import Reputations
    from tallystick.domains.reputation.scores import Scores
    from tallystick.domains.reputation.sessions import BehaviorSessions
    from tallystick.domains.rights.desk import Privacy
    from tallystick.domains.savings.circles import Circles
    from tallystick.domains.underwriting.counter_offers import CounterOffers
    from tallystick.domains.underwriting.device_tasks import DeviceTasks
    from tallystick.domains.underwriting.devices import Devices
    from tallystick.domains.underwriting.fairness import Fairness
    from tallystick.domains.underwriting.notices import AdverseActionNotices
    from tallystick.domains.underwriting.reviews import Reviews
    from tallystick.domains.vaults.agents import Agents
    from tallystick.domains.vaults.alerts import RiskAlerts
    from tallystick.domains.vaults.assets import VaultAssets
    from tallystick.domains.vaults.prices import Prices
    from tallystick.domains.vaults.protection import ProtectionRules
    from tallystick.domains.vaults.repository import Vaults
    from tallystick.session import Session

E = TypeVar("E", bound=Entity)
R = TypeVar("R")


class Repositories:
    """The entities of the application, as one session may read and write them."""

    __slots__ = ()
    _app: Tallystick
    _repositories: dict[type[Entity], Repository[Any]]

    def __getitem__(self, entity: type[E]) -> Repository[E]:
        """The repository of an entity that this application was opened with."""
        found = self._repositories.get(entity)
        if found is None:
            self._app.check_known(entity)
            actual = self.actual(entity)
            found = self._repositories.get(actual) or Repository.of(self._session, actual)
            self._repositories[entity] = self._repositories[actual] = found
        return found

    @property
    def entities(self) -> frozenset[type[Entity]]:
        """Every entity of the application, built in or its own."""
        return self._app.known

    def actual(self, entity: type[Entity]) -> type[Entity]:
        """The class that this application has rows of an entity in: its extension, where there is one."""
        return self._app.extensions.get(entity, entity)

    @overload
    async def load(self, items: Iterable[Entity], ref: Backref[E], /) -> dict[UUID, list[E]]: ...
    @overload
    async def load(self, items: Iterable[E], ref: Any, /, *more: Any) -> list[E]: ...
    async def load(self, items: Any, ref: Any, /, *more: Any) -> Any:
        """Fill references of many entities at once, or collect what refers to them.

        ``db.load(visits, Visit.borrower)`` answers the visits with each borrower loaded;
        ``db.load(users, backref(Visit, Visit.borrower))`` answers a list of visits for each user's id.
        """
        if isinstance(ref, Backref):
            self._app.check_known(ref.entity)
            return await load_back(self._session, items, ref)
        found = list(items)
        await load_refs(self._session, found, (ref, *more))
        return found

    @property
    def audit(self) -> Trail:
        """The tenant's audit log: record events of the application's own, read what happened."""
        from tallystick.audit.trail import Trail

        return Trail(self._session)

    @property
    def privacy(self) -> Privacy:
        """The persons' rights: erasure, legal hold, restriction, export, retention."""
        from tallystick.domains.rights.desk import Privacy

        return Privacy(self._session, self._app)

    @property
    def users(self) -> Users:
        """The tenant's user accounts."""
        return self._built_in(Users)

    @property
    def wallets(self) -> Wallets:
        """The users' blockchain wallets."""
        return self._built_in(Wallets)

    @property
    def profiles(self) -> Profiles:
        """The persons behind the accounts."""
        return self._built_in(Profiles)

    @property
    def consents(self) -> Consents:
        """What persons agreed to, and the gate that operations ask."""
        return self._built_in(Consents)

    @property
    def custom_fields(self) -> CustomFields:
        """What this tenant adds to entities that take custom fields."""
        from tallystick.domains.identity.custom_fields import CustomFields

        return self._built_in(CustomFields)

    @property
    def logins(self) -> Logins:
        """Who somebody is: passwords, second factors, identity providers."""
        from tallystick.domains.identity.logins import Logins

        return Logins(self._session, self._app.login_policy)

    @property
    def applications(self) -> Applications:
        """Loan applications."""
        return self._built_in(Applications)

    @property
    def decisions(self) -> Decisions:
        """Decisions on loan applications; append-only."""
        return self._built_in(Decisions)

    @property
    def notices(self) -> AdverseActionNotices:
        """What declined applicants have to be told, and by when."""
        from tallystick.domains.underwriting.notices import AdverseActionNotices

        return self._built_in(AdverseActionNotices)

    @property
    def reviews(self) -> Reviews:
        """Applications that a person looks at."""
        from tallystick.domains.underwriting.reviews import Reviews

        return self._built_in(Reviews)

    @property
    def counter_offers(self) -> CounterOffers:
        """Other terms than applicants asked for."""
        from tallystick.domains.underwriting.counter_offers import CounterOffers

        return self._built_in(CounterOffers)

    @property
    def fairness(self) -> Fairness:
        """How groups fare in decisions, and flags where one is selected too rarely."""
        from tallystick.domains.underwriting.fairness import Fairness

        return self._built_in(Fairness)

    @property
    def devices(self) -> Devices:
        """The tenant's cloud devices."""
        from tallystick.domains.underwriting.devices import Devices

        return self._built_in(Devices)

    @property
    def device_tasks(self) -> DeviceTasks:
        """What devices have to do."""
        from tallystick.domains.underwriting.device_tasks import DeviceTasks

        return self._built_in(DeviceTasks)

    @property
    def products(self) -> Products:
        """Loan products: what may be lent, and by which rules."""
        from tallystick.domains.lending.products import Products

        return self._built_in(Products)

    @property
    def loans(self) -> Loans:
        """Loans, and everything that happens to them."""
        from tallystick.domains.lending.repository import Loans

        return self._built_in(Loans)

    @property
    def portfolio(self) -> Portfolio:
        """All loans together: who is late, what is at risk, what is to come in."""
        from tallystick.domains.lending.portfolio import Portfolio

        return Portfolio(self._session)

    @property
    def communities(self) -> Communities:
        """Communities: their members, roles and gates."""
        from tallystick.domains.community.communities import Communities

        return self._built_in(Communities)

    @property
    def memberships(self) -> Memberships:
        """Who belongs to which community, as what; they change through ``communities``."""
        from tallystick.domains.community.memberships import Memberships

        return self._built_in(Memberships)

    @property
    def trust(self) -> Trust:
        """Who trusts whom, and the scores that follow from it."""
        from tallystick.domains.community.trust_edges import Trust

        return self._built_in(Trust)

    @property
    def endorsements(self) -> Endorsements:
        """Who vouches for whom, and the stakes behind it."""
        from tallystick.domains.community.endorsements import Endorsements

        return self._built_in(Endorsements)

    @property
    def circles(self) -> Circles:
        """Savings circles: groups whose members pay in each round, and each receive the pot once."""
        from tallystick.domains.savings.circles import Circles

        return self._built_in(Circles)

    @property
    def behavior(self) -> BehaviorSessions:
        """Sessions in which users' behaviour came in."""
        from tallystick.domains.reputation.sessions import BehaviorSessions

        return self._built_in(BehaviorSessions)

    @property
    def inputs(self) -> Inputs:
        """What users did, to be processed into scores."""
        from tallystick.domains.reputation.inputs import Inputs

        return self._built_in(Inputs)

    @property
    def scores(self) -> Scores:
        """What models made of users' inputs; append-only, each behind a consent."""
        from tallystick.domains.reputation.scores import Scores

        return self._built_in(Scores)

    @property
    def analyses(self) -> Analyses:
        """AI analyses of users, each behind a consent and for a limited time."""
        from tallystick.domains.reputation.analyses import Analyses

        return self._built_in(Analyses)

    @property
    def reputation(self) -> Reputations:
        """How well users are thought of, worked out from the evidence when somebody asks."""
        from tallystick.domains.reputation.reputation import Reputations

        return self._built_in(Reputations)

    @property
    def circuits(self) -> Circuits:
        """What can be proved, and the keys by which proofs are checked."""
        from tallystick.domains.proofs.circuits import Circuits

        return self._built_in(Circuits)

    @property
    def proofs(self) -> Proofs:
        """Proofs: asked for, received, judged, used once."""
        from tallystick.domains.proofs.repository import Proofs

        return self._built_in(Proofs)

    @property
    def verifier(self) -> Verifier | None:
        """Who judges proofs here, where a verifier is installed."""
        return self._app.verifier

    @property
    def ledger(self) -> Ledger:
        """The tenant's books: accounts, journals, balances."""
        from tallystick.domains.ledger.ledger import Ledger

        return Ledger(self._session)

    @property
    def agents(self) -> Agents:
        """Who runs vaults."""
        from tallystick.domains.vaults.agents import Agents

        return self._built_in(Agents)

    @property
    def vault_assets(self) -> VaultAssets:
        """What vaults may hold and owe, with its risk parameters."""
        from tallystick.domains.vaults.assets import VaultAssets

        return self._built_in(VaultAssets)

    @property
    def vaults(self) -> Vaults:
        """Vaults: positions, prices applied to them, liquidations."""
        from tallystick.domains.vaults.repository import Vaults

        return self._built_in(Vaults)

    @property
    def risk_alerts(self) -> RiskAlerts:
        """What is wrong with vaults."""
        from tallystick.domains.vaults.alerts import RiskAlerts

        return self._built_in(RiskAlerts)

    @property
    def protection_rules(self) -> ProtectionRules:
        """What is done for vaults when they get worse."""
        from tallystick.domains.vaults.protection import ProtectionRules

        return self._built_in(ProtectionRules)

    @property
    def prices(self) -> Prices:
        """The market data that all tenants share."""
        from tallystick.domains.vaults.prices import Prices

        return Prices(self._session)

    @property
    def outbox(self) -> Outbox:
        """Messages that leave with the transaction that adds them."""
        from tallystick.domains.outbox.outbox import Outbox

        return Outbox(self._session, self._app)

    @property
    def _session(self) -> Session:
        # Nothing else is made of this class.
        return cast("Session", self)

    def _built_in(self, kind: type[R]) -> R:
        found: Any = self[kind.entity]  # type: ignore[attr-defined]
        if found.__class__ is not kind:
            # Asked for by its entity before the module of its operations was loaded.
            actual, held = found.spec.cls, self._repositories
            found = kind(self._session, actual)  # type: ignore[call-arg]
            held[kind.entity] = held[actual] = found  # type: ignore[attr-defined]
        return found  # type: ignore[no-any-return]
