"""The audit log: what was changed and by whom, sealed so that somebody who does not trust us can check it."""
