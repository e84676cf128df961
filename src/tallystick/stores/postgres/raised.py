"""The conditions that functions and triggers of our own raise, each with the error and the remedy it stands for.

They stand apart from the server's SQLSTATEs because they are the domains' words: each new rule in the database adds one
here, and none changes how errors are told apart.
"""

from __future__ import annotations

from tallystick import errors as e

RAISED: dict[str, tuple[type[e.TallystickError], str, str]] = {
    "TSA01": (
        e.Tampered,
        "The audit log did not take the change, so nothing was changed.",
        "Somebody has altered the log's tables; `tallystick schema lint` says where.",
    ),
    "TS302": (
        e.Conflict,
        "The accounting period of this date is closing or closed.",
        "Post on a date of an open period; a closed one is never reopened.",
    ),
    "TS303": (
        e.Conflict,
        "The transfer does not fit the pending transfer that it resolves.",
        "Resolve a pending transfer with its own accounts, for its amount or less.",
    ),
    "TS304": (
        e.Conflict,
        "The ledger could not reach every account of the journal; nothing was posted.",
        "Check that the tenant is the accounts' own and that every stripe of a striped account is there.",
    ),
    "TS311": (
        e.Serialization,
        "The key epoch was closed while a key was made in it.",
        "Try again: the next key is wrapped in the epoch that is open; db.atomic(fn) does that for you.",
    ),
    "TS312": (
        e.Serialization,
        "The keys of blind indexes were rotated since this process looked.",
        "Try again: the keys of now are asked for; db.atomic(fn) does that for you.",
    ),
    "TS313": (
        e.Conflict,
        "The column's index key was rotated minutes ago, or the step does not follow the one before it.",
        "Run `tallystick keys rotate-index` again in five minutes; processes have to hear of one rotation at a time.",
    ),
    "TS305": (e.Conflict, "The accounting period overlaps another.", "Start it after the one before has ended."),
    "TS501": (
        e.Conflict,
        "The rows do not fit the loan: another loan's, another asset's, or parts that are not the amount.",
        "Use the commands of db.loans, which write transactions and allocations together.",
    ),
    "TS502": (
        e.Conflict,
        "The loan is written off.",
        "After a write-off only loans.recover() takes money.",
    ),
    "TS503": (
        e.Denied,
        "The history of loans is written by the database alone.",
        "Change the loan's status; the history follows.",
    ),
    "TS504": (
        e.Conflict,
        "The loan takes no funding.",
        "Lenders fund a loan that is in funding, in its own asset.",
    ),
    "TS611": (
        e.Conflict,
        "The terms of a savings group are frozen once it no longer recruits.",
        "Found another group with other terms.",
    ),
    "TS612": (
        e.Conflict,
        "Membership of the savings group is frozen, or collateral is not what joining asks for.",
        "Members come and go while a group recruits; the order is settled before it starts.",
    ),
    "TS613": (
        e.Conflict,
        "The round is not that far, contributions are open or its pot unpaid; or it has another recipient.",
        "Collect or give up what is open, pay out, then advance: see db.circles.",
    ),
    "TS614": (
        e.Conflict,
        "A contribution is of the amount that was agreed on, and what was paid stands in the ledger.",
        "Use db.circles.contribute().",
    ),
    "TS615": (
        e.Conflict,
        "The payout does not fit its round: not payable, another's turn, not what was collected or not in the ledger.",
        "Use db.circles.pay_out(), which computes it.",
    ),
    "TS901": (
        e.ConsentMissing,
        "The person did not agree to this, or took it back.",
        "Ask them, and record it: db.consents.grant(user, purpose, policy_version=...).",
    ),
    "TS902": (e.Conflict, "The verifying key takes no new requests.", "Ask with a key that is not retired."),
    "TS903": (
        e.Conflict,
        "The request takes no proof: it was answered, or it is over.",
        "Ask for a new one with db.proofs.request().",
    ),
    "TS904": (
        e.Unavailable,
        "No verifier of that name is enrolled with this database.",
        "Enroll it with tallystick.schema.verifiers.enroll(...).",
    ),
    "TS905": (
        e.Denied,
        "The verdict carries no attestation of its verifier that fits the proof.",
        "Let the enrolled verifier judge: db.proofs.verify(); nothing is marked verified by hand.",
    ),
    "TS907": (
        e.Invalid,
        "The attributions and the base do not add up to the model's output.",
        "Give all of them, with their base value; they add up within a millionth.",
    ),
    "TS906": (
        e.Conflict,
        "The proof is not in the state for that, or has expired.",
        "Read it again: db.proofs.get().",
    ),
    "TS711": (
        e.Denied,
        "Rows of this kind are written by the database alone.",
        "Give reasons with their decision: Decision(..., reasons=[...]).",
    ),
    "TS712": (
        e.Denied,
        "Four eyes are missing: the applicant, who entered the application or who decided before decides nothing here.",
        "Let another reviewer take it.",
    ),
    "TS713": (
        e.Denied,
        "The status of the application follows from a decision, and none says so, or an offer still stands.",
        "Use applications.decide(), reviews.resolve() or counter_offers, which record the decision.",
    ),
    "TS621": (
        e.Denied,
        "Rows of this kind are written by the database alone.",
        "Alerts, firings and histories follow from prices, positions and parameters.",
    ),
    "TS622": (
        e.Conflict,
        "The asset has no price in the quote of the vault.",
        "Record one and apply it: db.vaults.tick(AssetPrice(...)).",
    ),
    "TS623": (e.Conflict, "The vault has ended.", "Open another one."),
    "TS624": (
        e.Conflict,
        "The vault is healthy, or does not run: it may not be liquidated.",
        "A vault may be liquidated while its health factor is below 1; read it again.",
    ),
    "TS625": (e.Conflict, "The vault has no such debt or no such collateral.", "Look at its positions."),
    "TS626": (
        e.Conflict,
        "The liquidation is of more than the close factor allows.",
        "Leave repay out for as much as is allowed.",
    ),
    "TS627": (
        e.Conflict,
        "The liquidation would leave a position too small to be liquidated later.",
        "Repay all of the debt, take all of the collateral, or leave more of both.",
    ),
    "TS407": (
        e.Denied,
        "The journal is above the tenant's limit and was not approved by a second person.",
        "Propose it with db.ledger.approval.propose(...) and let another actor approve it.",
    ),
}
