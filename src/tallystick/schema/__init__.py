"""From entities to tables, policies, roles and migrations."""
